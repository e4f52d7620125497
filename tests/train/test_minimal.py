"""The classic minimal character model, against the same computation written in NumPy from its equations."""

from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from safetensors.numpy import load_file

import unrolled as ur
from unrolled.settings import Settings
from unrolled.tasks.generate import Generate
from unrolled.train.callbacks import Callback

RECIPE = Path(__file__).parents[2] / "recipes" / "minimal-char-rnn.toml"
WINDOW, RATE = 25, 0.1
WEIGHTS = (
    *("net.cells.0.x.weight", "net.cells.0.h.weight", "net.cells.0.x.bias"),
    *("readout.weight", "readout.bias"),
)


class Run(Callback):
    """What the run reports, and what every one of its checkpoints holds."""

    def __init__(self):
        self.losses, self.smoothed, self.checkpoints = [], [], []

    def on_step(self, step):
        self.losses.append(step.loss)
        self.smoothed.append(step.smoothed_loss)

    def on_checkpoint(self, checkpoint):
        tensors = load_file(checkpoint.directory / "training.safetensors")
        weights = tuple(tensors[f"model.{name}"] for name in WEIGHTS)
        memory = tuple(tensors[f"optimizer.{name}.sum"] for name in WEIGHTS)
        self.checkpoints.append((weights, memory, tensors["carry.h"].reshape(-1)))


def numpy_step(weights, memory, h, inputs, targets):
    """Forward, backward through time, clip, Adagrad with epsilon inside the root."""
    wx, wh, bh, wy, by = weights
    hs, ps, loss = {-1: h}, {}, 0.0
    for t in range(WINDOW):
        hs[t] = np.tanh(wx[:, inputs[t]] + wh @ hs[t - 1] + bh)
        y = wy @ hs[t] + by
        ps[t] = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
        loss -= np.log(ps[t][targets[t]])
    grads = [np.zeros_like(w) for w in weights]
    dwx, dwh, dbh, dwy, dby = grads
    dh_next = np.zeros(len(bh))
    for t in reversed(range(WINDOW)):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        dwy += np.outer(dy, hs[t])
        dby += dy
        dz = (1 - hs[t] ** 2) * (wy.T @ dy + dh_next)
        dbh += dz
        dwx[:, inputs[t]] += dz
        dwh += np.outer(dz, hs[t - 1])
        dh_next = wh.T @ dz
    grads = [np.clip(g, -5, 5) for g in grads]
    memory = [m + g * g for m, g in zip(memory, grads, strict=True)]
    triples = zip(weights, grads, memory, strict=True)
    weights = [w - RATE * g / np.sqrt(m + 1e-8) for w, g, m in triples]
    return loss, (tuple(weights), tuple(memory), hs[WINDOW - 1])


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """300 steps of the recipe in float64 on a text that wraps on the way, with every state between."""
    place = tmp_path_factory.mktemp("minimal")
    text = "\n".join(topics.values())[:5000]
    path = place / "text.txt"
    path.write_text(text)
    changes = {
        **{"source": (str(path),), "dtype": "float64", "steps": 300},
        **{"sample_length": 0, "checkpoint_every": 1},
    }
    settings = Settings.from_flags("generate", changes, Settings.from_toml(RECIPE))
    task = Generate.prepare(settings.with_defaults(Generate.defaults))
    symbols = sorted(set(text))
    assert len(task.vocabulary) == len(symbols)
    ids = np.array([symbols.index(letter) for letter in text])
    model = task.build().state_dict()
    start = tuple(model[name].numpy().copy() for name in WEIGHTS)
    seen = Run()
    ur.train(settings, out=place / "run", callbacks=[seen])
    return start, ids, len(symbols), seen


def windows(ids, steps):
    """Position of every window, and whether the state starts anew there."""
    position, anew = 0, True
    for _ in range(steps):
        if position + WINDOW + 1 > len(ids):
            position, anew = 0, True
        yield ids[position : position + WINDOW], ids[position + 1 : position + WINDOW + 1], anew
        position, anew = position + WINDOW, False


def beginning(start):
    return start, tuple(np.zeros_like(w) for w in start), np.zeros(len(start[2]))


def test_the_start_is_the_classic_one(case):
    start, *_ = case
    assert not start[2].any()
    assert not start[4].any()
    for weight in (start[0], start[1], start[3]):
        assert abs(weight.std() - 0.01) < 0.001


def test_each_of_300_steps_equals_numpy(case):
    """Each from the state where the last one ended: the run itself is chaotic, see below."""
    start, ids, size, seen = case
    state, smooth = beginning(start), WINDOW * np.log(size)
    for step, (inputs, targets, anew) in enumerate(windows(ids, 300)):
        weights, memory, h = state
        loss, expected = numpy_step(
            weights, memory, np.zeros_like(h) if anew else h, inputs, targets
        )
        smooth = 0.999 * smooth + 0.001 * loss
        assert seen.losses[step] == pytest.approx(loss, rel=0, abs=1e-9)
        assert seen.smoothed[step] == pytest.approx(smooth, rel=0, abs=1e-9)
        state = seen.checkpoints[step]
        for found, wanted in zip((*state[0], state[2]), (*expected[0], expected[2]), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
        for found, wanted in zip(state[1], expected[1], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def free_run(state, ids, steps):
    losses = []
    for inputs, targets, anew in windows(ids, steps):
        weights, memory, h = state
        loss, state = numpy_step(weights, memory, np.zeros_like(h) if anew else h, inputs, targets)
        losses.append(loss)
    return np.array(losses)


def test_two_runs_part_only_as_fast_as_rounding_grows(case):
    """From the classic start rounding grows ten- to thirtyfold a step, in NumPy against itself too."""
    start, ids, _, seen = case
    expected = free_run(beginning(start), ids, 20)
    nudged = tuple(w * (1 + 1e-15) for w in start)
    apart = np.abs(free_run(beginning(nudged), ids, 20) - expected)
    found = np.abs(np.array(seen.losses[:20]) - expected)
    assert apart.max() > 1e-9  # chaos, not a fault
    assert found[:4].max() < 1e-9
    assert found[:8].max() < 1e3 * apart[:8].max()
