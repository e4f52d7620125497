"""Averages of weights: their formula, what is judged and kept, and resuming. The task is a toy."""

import json

import numpy as np
import pytest
import torch
import toy_task
from safetensors.torch import load_file
from torch import nn

import unrolled as ur
from unrolled.engine import native
from unrolled.errors import InputError, Interrupted
from unrolled.settings import TrainingSettings
from unrolled.train import picture
from unrolled.train.average import Average
from unrolled.train.callbacks import Callback
from unrolled.train.run import train


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: b"")


def follow(path, **training):
    """Average weights that take the values of a path."""
    model = nn.Linear(1, 1, bias=False).double()
    average = Average(model, TrainingSettings(**training))
    for step, value in enumerate(path, 1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.see(step)
    return model, average


def test_swa_is_the_mean_of_the_weights_counted():
    path = [9.0, 9.0, 9.0, 1.0, 9.0, 3.0, 9.0, 8.0]
    _, average = follow(path, average="swa", average_from=2, average_every=2)
    assert average.means["weight"].item() == pytest.approx((1 + 3 + 8) / 3, rel=1e-15)
    _, average = follow([7.0, 1.0, 2.0, 6.0], average="swa", average_from=1)
    assert average.means["weight"].item() == pytest.approx(3.0, rel=1e-15)


def test_ema_is_the_mean_at_first_and_then_forgets():
    _, average = follow([4.0, 2.0, 3.0], average="ema", average_decay=0.75)
    assert average.means["weight"].item() == pytest.approx(3.0, rel=1e-15)
    path = [4.0, 2.0, 3.0, 7.0, 5.0, -1.0]
    _, average = follow(path, average="ema", average_decay=0.75)
    mean = 3.0
    for value in path[3:]:
        mean = 0.75 * mean + 0.25 * value
    assert average.means["weight"].item() == pytest.approx(mean, rel=1e-15)


def test_swa_is_that_of_torch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    own = Average(model, TrainingSettings(average="swa"))
    theirs = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(1, 7):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        own.see(step)
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    assert own.means.keys() == expected.keys() - {"1.num_batches_tracked"}
    for name, mean in own.means.items():
        torch.testing.assert_close(mean, expected[name])


def test_the_means_are_in_the_model_only_meanwhile():
    model, average = follow([2.0, 4.0], average="swa")
    with average.in_place():
        assert model.weight.item() == 3
    assert model.weight.item() == 4
    model, average = follow([2.0], average="swa", average_from=5)
    with average.in_place():
        assert model.weight.item() == 2


def test_a_checkpoint_that_lacks_a_mean_is_refused(tmp_path):
    _, average = follow([1.0], average="swa")
    with pytest.raises(InputError, match="lacks the average of 'weight'"):
        average.restore({}, 1, tmp_path / "training.safetensors")


class Weights(Callback):
    """Hears nothing, but stops the run where it is told to."""

    def __init__(self, stop):
        self.stop = stop

    def on_checkpoint(self, event):
        if event.step == self.stop:
            raise KeyboardInterrupt


def lines(out):
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


FLAGS = {
    "steps": 16,
    "evaluate_every": 4,
    "checkpoint_every": 3,
    "hidden": 3,
    "nonlinearity": "relu",
    "dropout": 0.2,
    "average_decay": 0.7,
}


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_resumed_runs_end_bit_for_bit(kind, tmp_path):
    flags = {**FLAGS, "average": kind}
    train("toy", "a", out=tmp_path / "alone", **flags)
    for stop in (6, 15):
        with pytest.raises(Interrupted):
            train("toy", "a", out=tmp_path / "run", callbacks=[Weights(stop)], resume=True, **flags)
    train("toy", out=tmp_path / "run", resume=True)
    for name in ("model.safetensors", "training.safetensors", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert lines(tmp_path / "run") == lines(tmp_path / "alone")


def test_the_mean_is_what_is_judged_and_kept(tmp_path, monkeypatch):
    path, judged = [], []

    def note(_, model):
        path.append({name: w.detach().clone() for name, w in model.state_dict().items()})

    validate = toy_task.Toy.validate

    def look(self, model, split):
        judged.append({name: w.clone() for name, w in model.state_dict().items()})
        return validate(self, model, split)

    monkeypatch.setattr(toy_task.Toy, "constrain", note)
    monkeypatch.setattr(toy_task.Toy, "validate", look)
    train("toy", "a", out=tmp_path / "run", **FLAGS, average="swa", average_from=4)
    stored = load_file(tmp_path / "run" / "training.safetensors")
    kept = load_file(tmp_path / "run" / "model.safetensors")
    for name, last in path[-1].items():
        for place, step in enumerate((4, 8, 12, 16)):
            weights = [one[name].numpy() for one in (path[3:4] if step == 4 else path[4:step])]
            np.testing.assert_allclose(judged[place][name], np.mean(weights, 0), atol=1e-6)
        assert torch.equal(stored[f"model.{name}"], last)
        assert torch.equal(stored[f"average.{name}"], judged[3][name])
        assert any(torch.equal(kept[name], one[name]) for one in judged)


def test_where_swa_begins_stays_when_a_run_is_prolonged(tmp_path):
    flags = {**FLAGS, "average": "swa"}
    first = train("toy", "a", out=tmp_path / "run", **flags)
    longer = train("toy", out=tmp_path / "run", steps=20, resume=True)
    assert first.settings.training.average_from == longer.settings.training.average_from == 12


@pytest.mark.skipif(not native.available(), reason="the core is not built")
def test_whole_steps_are_averaged_too(tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    flags = {
        **{"hidden": 5, "steps": 8, "batch_size": 2, "window": 6, "sample_length": 0},
        **{"dtype": "float64", "evaluate_every": 4, "average": "ema", "average_decay": 0.6},
    }
    found = []
    for engine in ("native", "reference"):
        with ur.engine(engine):
            trained = train("generate", str(tmp_path / "text.txt"), out=tmp_path / engine, **flags)
        found.append(trained.model.state_dict())
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=1e-9, atol=1e-11)
