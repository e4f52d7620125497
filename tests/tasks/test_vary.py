"""Texts and signals that are varied: what may change, what may not, and that it repeats."""

import numpy as np
import pytest
import torch

from unrolled.settings import Settings
from unrolled.settings.varied import VariedSettings
from unrolled.tasks.task import task_class
from unrolled.tasks.vary import vary_signal, vary_text

TEXT = np.arange(1000)


def text(**how):
    return vary_text(TEXT, VariedSettings(**how), 1000, 0, 3, 5)


def test_symbols_are_left_out_in_order():
    found = text(drop_symbols=0.3)
    assert 600 < len(found) < 800
    assert (np.diff(found) > 0).all()
    for n in (1, 2, 3):  # something is left
        assert len(vary_text(TEXT[:n], VariedSettings(drop_symbols=0.99), 9, 0, 0, 0)) >= 1


def test_symbols_are_swapped_and_all_there():
    found = text(swap_symbols=0.1)
    assert sorted(found) == TEXT.tolist()
    assert 100 < (found != TEXT).sum() < 300


def test_symbols_are_replaced_where_they_stand():
    found = text(noise_symbols=0.2)
    assert len(found) == 1000
    assert 150 < (found != TEXT).sum() < 250
    assert found.min() >= 0
    assert found.max() < 1000


def test_nothing_changes_unless_asked():
    x = np.ones((5, 2))
    assert vary_text(TEXT, VariedSettings(), 1000, 0, 0, 0) is TEXT
    assert vary_signal(x, VariedSettings(), 0, 0, 0) is x
    assert len(vary_text(TEXT[:0], VariedSettings(drop_symbols=0.5), 9, 0, 0, 0)) == 0


@pytest.mark.parametrize("shape", [(50, 2), (1, 3), (2, 1), (20, 1, 4, 3)])
def test_time_is_warped_between_the_ends(shape):
    x = np.random.default_rng(0).normal(size=shape)
    found = vary_signal(x, VariedSettings(warp=0.5), 0, 1, 2)
    assert found.shape == shape
    np.testing.assert_allclose(found[[0, -1]], x[[0, -1]])
    assert found.max() <= x.max() + 1e-12
    line = np.linspace(0, 1, 50)[:, None]
    warped = vary_signal(line, VariedSettings(warp=0.5), 0, 1, 2)
    pace = np.diff(warped[:, 0]) * 49
    assert (pace > 0.3).all()
    assert pace.std() > 0.05


def test_channels_are_scaled_and_noise_is_added():
    x = np.ones((4000, 2))
    scaled = vary_signal(x, VariedSettings(amplitude=0.3), 0, 0, 0)
    assert (scaled == scaled[0]).all()
    assert scaled[0, 0] != scaled[0, 1]
    assert (abs(scaled[0] - 1) <= 0.3).all()
    noisy = vary_signal(x, VariedSettings(jitter=0.5), 0, 0, 0)
    assert (noisy - 1).std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("kind", ["text", "signal"])
def test_rows_are_varied_alike_whoever_computes_them(kind, tmp_path):
    if kind == "text":
        rows = [f"word{n} word{n + 1} of {n}\t{n % 2}" for n in range(40)]
        path = tmp_path / "texts.tsv"
        path.write_text("\n".join(["text\tlabel", *rows]))
        how = {"drop_symbols": 0.2, "swap_symbols": 0.1, "noise_symbols": 0.1, "symbols": "word"}
    else:
        values = np.random.default_rng(0).normal(size=(40, 9)).round(3)
        lines = [",".join(map(str, row)) + f":{n % 2}" for n, row in enumerate(values)]
        path = tmp_path / "signals.ts"
        head = "@problemName x\n@timeStamps false\n@univariate true\n@classLabel true 0 1\n@data\n"
        path.write_text(head + "\n".join(lines))
        how = {"jitter": 0.1, "amplitude": 0.2, "warp": 0.3}
    flags = {"source": (str(path),), "batch_size": 8, "hidden": 4, "model": "rnn"}
    task = task_class("classify").prepare(Settings.from_flags("classify", {**flags, **how}))
    plain = task_class("classify").prepare(Settings.from_flags("classify", flags))
    whole, again = (task.batch(2, slice(0, 8)) for _ in range(2))
    part = task.batch(2, slice(4, 8))
    for one, other, own in zip(whole.inputs, again.inputs, part.inputs, strict=True):
        assert np.array_equal(one, other)
        mine = one[..., 4:] if one.ndim == 1 else one[: len(own), 4:]
        assert np.array_equal(mine, own)
    assert not np.array_equal(whole.inputs[0], plain.batch(2, slice(0, 8)).inputs[0])
    model = task.build()
    found = task.validate(model, "validation")
    assert found == task.validate(model, "validation")
    assert torch.isfinite(torch.tensor(list(found.values()))).all()
