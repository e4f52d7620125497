"""The classic minimal character model, against the same computation written in NumPy from its equations."""

from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

import unrolled as ur
from unrolled.settings import Settings
from unrolled.tasks.generate import Generate
from unrolled.train.callbacks import Callback

RECIPE = Path(__file__).parents[2] / "recipes" / "minimal-char-rnn.toml"
STEPS = 5
"""From the classic start the loss climbs at once, and rounding grows ten- to thirtyfold a step: from
1e-14 to 1e-9 in five steps, and the two runs part for good soon after."""


class Losses(Callback):
    def __init__(self):
        self.losses = []
        self.smoothed = []

    def on_step(self, step):
        self.losses.append(step.loss)
        self.smoothed.append(step.smoothed_loss)


def numpy_run(ids, size, weights, steps, window=25, rate=0.1):
    """Forward, backward through time, clip, Adagrad; the state starts anew where the text wraps."""
    wx, wh, bh, wy, by = (w.copy() for w in weights)
    memory = [np.zeros_like(w) for w in (wx, wh, bh, wy, by)]
    losses, position, h_last = [], 0, np.zeros(len(bh))
    for _ in range(steps):
        if position + window + 1 > len(ids) or position == 0:
            h_last, position = np.zeros(len(bh)), 0
        inputs, targets = (
            ids[position : position + window],
            ids[position + 1 : position + window + 1],
        )
        hs, ps, loss = {-1: h_last}, {}, 0.0
        for t in range(window):
            hs[t] = np.tanh(wx[:, inputs[t]] + wh @ hs[t - 1] + bh)
            y = wy @ hs[t] + by
            ps[t] = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
            loss -= np.log(ps[t][targets[t]])
        grads = [np.zeros_like(w) for w in (wx, wh, bh, wy, by)]
        dwx, dwh, dbh, dwy, dby = grads
        dh_next = np.zeros(len(bh))
        for t in reversed(range(window)):
            dy = ps[t].copy()
            dy[targets[t]] -= 1
            dwy += np.outer(dy, hs[t])
            dby += dy
            dz = (1 - hs[t] ** 2) * (wy.T @ dy + dh_next)
            dbh += dz
            dwx[:, inputs[t]] += dz
            dwh += np.outer(dz, hs[t - 1])
            dh_next = wh.T @ dz
        for w, g, m in zip((wx, wh, bh, wy, by), grads, memory, strict=True):
            np.clip(g, -5, 5, out=g)
            m += g * g
            w -= rate * g / np.sqrt(m + 1e-8)
        losses.append(loss)
        h_last, position = hs[window - 1], position + window
    return losses, (wx, wh, bh, wy, by)


def weights_of(model):
    cell, readout = model.net.cell, model.readout
    tensors = (cell.x.weight, cell.h.weight, cell.x.bias, readout.weight, readout.bias)
    return tuple(t.detach().numpy().copy() for t in tensors)


def test_the_first_steps_equal_numpy(tmp_path):
    text = "\n".join(topics.values())[:60]
    path = tmp_path / "text.txt"
    path.write_text(text)
    changes = {"source": (str(path),), "dtype": "float64", "steps": STEPS, "sample_length": 0}
    settings = Settings.from_flags("generate", changes, Settings.from_toml(RECIPE))
    task = Generate.prepare(settings.with_defaults(Generate.defaults))
    symbols = sorted(set(text))
    assert len(task.vocabulary) == len(symbols)
    start = weights_of(task.build())
    assert not start[2].any()
    assert abs(start[1].std() - 0.01) < 0.001
    ids = np.array([symbols.index(letter) for letter in text])
    expected, final = numpy_run(ids, len(symbols), start, STEPS)

    seen = Losses()
    trained = ur.train(settings, out=tmp_path / "run", callbacks=[seen])
    np.testing.assert_allclose(seen.losses, expected, rtol=0, atol=1e-8)
    for found, wanted in zip(weights_of(trained.model), final, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)
    smooth = 25 * np.log(len(symbols))
    for loss, found in zip(expected, seen.smoothed, strict=True):
        smooth = 0.999 * smooth + 0.001 * loss
        assert abs(smooth - found) < 1e-9
