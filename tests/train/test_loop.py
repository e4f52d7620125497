"""The loop: what it does to weights, what it tells, when it stops. The task is a toy."""

import errno
import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_task import Toy, ToyModel

import unrolled.train.callbacks  # so that `unrolled.train` is the room, not yet the function
from unrolled.checkpoint import files
from unrolled.checkpoint.load import load
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.train import picture
from unrolled.train.callbacks import Callback
from unrolled.train.run import train


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: b"")


class Listener(Callback):
    """Keeps every event, in order."""

    def __init__(self):
        self.events, self.closed = [], 0

    def on_start(self, event):
        self.events.append(event)

    on_step = on_evaluate = on_sample = on_checkpoint = on_end = on_start

    def close(self):
        self.closed += 1

    def of(self, kind):
        return [event for event in self.events if type(event).__name__ == kind]


def by_hand(steps, **model):
    """The same run written out: Adam on the toy, no loop, no task beyond its batches."""
    settings = Settings.from_flags(
        "toy", {"source": ("a",), "batch_size": 4, "window": 5, "lr": 0.01, **model}
    )
    task = Toy(settings)
    net = task.build()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    h, losses = None, []
    for step in range(steps):
        x, y, fresh = task.batch(step, slice(0, 4))
        predicted, h = net(x, None if fresh else h.detach())
        loss = (predicted - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def test_weights_and_losses_are_those_of_the_plain_computation(tmp_path):
    steps = 90  # the data wraps at 80
    heard = Listener()
    flags = {"hidden": 6, "dtype": "float64", "split": (1.0, 0.0, 0.0)}
    trained = train("toy", "a", out=tmp_path / "run", steps=steps, callbacks=[heard], **flags)
    net, losses = by_hand(steps, hidden=6, dtype="float64")
    assert [event.loss for event in heard.of("Step")] == losses
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, trained.model.state_dict()[name])
    smoothed = 1.0
    for event, loss in zip(heard.of("Step"), losses, strict=True):
        smoothed = 0.99 * smoothed + (1 - 0.99) * loss
        assert event.smoothed_loss == pytest.approx(smoothed, rel=1e-14)
        assert event.figures == {"error": event.smoothed_loss}


def test_events_come_in_order_and_say_what_happened(tmp_path):
    heard = Listener()
    trained = train(
        "toy", "a", out=tmp_path / "run", steps=5, evaluate_every=2, sample_every=3,
        checkpoint_every=3, clip_norm=1.0, callbacks=[heard],
    )  # fmt: skip
    names = [(type(event).__name__, event.step) for event in heard.events]
    assert names == [
        ("Start", 0), ("Sample", 0), ("Step", 1),
        ("Step", 2), ("Evaluation", 2), ("Checkpoint", 2),
        ("Step", 3), ("Sample", 3), ("Checkpoint", 3),
        ("Step", 4), ("Evaluation", 4), ("Checkpoint", 4),
        ("Step", 5), ("Evaluation", 5), ("Sample", 5), ("Checkpoint", 5), ("End", 5),
    ]  # fmt: skip
    assert heard.closed == 1
    start, step, end = heard.of("Start")[0], heard.of("Step")[-1], heard.of("End")[0]
    assert (start.steps, start.unit, start.units_per_step, start.world) == (5, "numbers", 20, 1)
    assert start.parameters == sum(w.numel() for w in trained.model.parameters())
    assert (step.learning_rate, step.seconds_left) == (0.01, 0)
    assert step.gradient_norm > 0
    assert step.units_per_second > 0
    assert end.metrics == trained.metrics
    last = heard.of("Evaluation")[-1]
    assert last.baselines == Toy(trained.settings).baselines("validation")
    assert last.value == last.metrics["error"]


def test_the_model_is_the_best_by_validation(tmp_path):
    heard = Listener()
    flags = {"steps": 40, "evaluate_every": 2, "lr": 0.3}
    trained = train("toy", "a", out=tmp_path / "run", callbacks=[heard], **flags)
    values = {event.step: event.value for event in heard.of("Evaluation")}
    best = min(values, key=values.__getitem__)
    assert best < 40, "the test needs a run whose last weights are not its best"
    assert trained.metrics["model_step"] == best
    assert trained.metrics["validation"]["error"] == values[best]
    with torch.no_grad():
        assert trained.task.validate(trained.model, "validation")["error"] == values[best]
        found = load(tmp_path / "run")
        assert found.task.validate(found.model, "validation")["error"] == values[best]
    assert not found.model.training
    assert found.metrics == trained.metrics
    improved = [event.step for event in heard.of("Evaluation") if event.improved]
    assert improved[-1] == best


def test_without_validation_the_latest_weights_are_kept(tmp_path):
    heard = Listener()
    flags = {"steps": 10, "evaluate_every": 5, "split": (0.9, 0.0, 0.1)}
    trained = train("toy", "a", out=tmp_path / "run", callbacks=[heard], **flags)
    assert not heard.of("Evaluation")
    assert len(heard.of("Checkpoint")) == 2
    assert trained.metrics["model_step"] == 10
    assert trained.metrics["held_out"] == "test"
    assert "validation" not in trained.metrics


def test_a_seed_repeats_a_run_and_another_does_not(tmp_path):
    def weights(name, seed):
        noise = {"dropout": 0.2, "nonlinearity": "relu"}
        train("toy", "a", out=tmp_path / name, steps=6, seed=seed, **noise)
        return (tmp_path / name / "training.safetensors").read_bytes()

    assert weights("a", 1) == weights("b", 1)
    assert weights("a2", 1) != weights("c", 2)


def test_looking_disturbs_nothing(tmp_path):
    def weights(name, **looks):
        flags = {"steps": 6, "nonlinearity": "relu", "split": (1.0, 0.0, 0.0), **looks}
        train("toy", "a", out=tmp_path / name, **flags)
        return load_file(tmp_path / name / "model.safetensors")

    often = weights("often", evaluate_every=1)
    never = weights("never", evaluate_every=6, sample_length=0)
    assert all(torch.equal(often[name], never[name]) for name in often)


def test_early_stopping_ends_the_run(tmp_path):
    heard = Listener()
    flags = {"steps": 200, "evaluate_every": 2, "lr": 1.0, "stop_after": 3}
    trained = train("toy", "a", out=tmp_path / "run", callbacks=[heard], **flags)
    assert trained.metrics["step"] == heard.of("Step")[-1].step < 200
    assert [event.improved for event in heard.of("Evaluation")[-4:]] == [True, False, False, False]
    assert heard.of("End")[0].steps == 200


def test_plateau_lowers_the_rate(tmp_path):
    heard = Listener()
    flags = {"steps": 40, "evaluate_every": 2, "lr": 1.0, "schedule": "plateau", "patience": 1}
    train("toy", "a", out=tmp_path / "run", callbacks=[heard], **flags)
    rate, events = 1.0, {event.step: event for event in heard.of("Evaluation")}
    for step in heard.of("Step"):
        assert step.learning_rate == rate
        if step.step in events and not events[step.step].improved:
            rate *= 0.5
    assert rate < 1


def test_the_loop_resolves_what_nobody_set(tmp_path):
    trained = train("toy", "a", out=tmp_path / "run", steps=40, optimizer="sgd")
    training = trained.settings.training
    assert (training.evaluate_every, training.lr) == (2, 0.01)  # the task's own rate
    assert training.epochs is None
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["training"]["steps"] == 40


@pytest.mark.parametrize("nan_at", [0, 7])
def test_a_loss_that_is_no_number_stops_the_run(nan_at, tmp_path, monkeypatch):
    monkeypatch.setattr(Toy, "broken_at", nan_at)
    heard = Listener()
    kept = "the checkpoint of step 6 in .* is kept" if nan_at else "no checkpoint had been written"
    with pytest.raises(RunError, match=rf"loss became nan at step {nan_at + 1};.*--lr.*{kept}"):
        train("toy", "a", out=tmp_path / "run", steps=20, evaluate_every=2, callbacks=[heard])
    assert heard.closed == 1
    if nan_at:
        model = load(tmp_path / "run").model
        assert all(w.isfinite().all() for w in model.parameters())


@pytest.mark.parametrize(("clip", "what"), [(1.0, "gradient"), (None, "weights")])
def test_a_gradient_that_overflows_reaches_no_checkpoint(clip, what, tmp_path, monkeypatch):
    loss = Toy.loss

    def steep(self, model, batch, carry):
        value, carry = loss(self, model, batch, carry)
        return value + (0 * value).sqrt(), carry  # finite, but its slope is not

    monkeypatch.setattr(Toy, "loss", steep)
    with pytest.raises(RunError, match=f"the {what} became nan at step 1;"):
        train("toy", "a", out=tmp_path / "run", steps=4, clip_norm=clip)
    assert not (tmp_path / "run/training.safetensors").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace", "fill"])
def test_a_disk_that_refuses_leaves_the_last_checkpoint(call, code, tmp_path, monkeypatch):
    out = tmp_path / "run"
    last = {}

    class Break(Callback):
        def on_checkpoint(self, event):
            if event.step == 4:
                last.update({p.name: p.read_bytes() for p in out.glob("*.safetensors")})
                owner = {"fsync": os, "replace": Path, "fill": files}[call]
                monkeypatch.setattr(owner, {"fill": "_fill"}.get(call, call), refuse)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with pytest.raises(RunError) as error:
        train("toy", "a", out=out, steps=8, evaluate_every=2, callbacks=[Break()])
    monkeypatch.undo()
    sentence = str(error.value)
    assert os.strerror(code).lower() in sentence
    assert f"the checkpoint of step 4 in {out} is kept; --resume goes on from it" in sentence
    assert {p.name: p.read_bytes() for p in out.glob("*.safetensors")} == last
    assert not list(out.glob(".*"))
    monkeypatch.setattr(picture, "curves", lambda *_: b"")
    train("toy", out=out, resume=True)
    train("toy", "a", out=tmp_path / "alone", steps=8, evaluate_every=2)
    for name in ("model.safetensors", "training.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_directory_that_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=r"cannot write .*run: permission denied"):
        train("toy", "a", out=tmp_path / "run", steps=2)


def test_a_directory_that_holds_a_run_is_not_touched_unasked(tmp_path):
    out = tmp_path / "run"
    train("toy", "a", out=out, steps=3, hidden=3)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a run; add --resume or --overwrite"):
        train("toy", "a", out=out, steps=3, hidden=4)
    with pytest.raises(InputError, match="no file missing"):
        train("toy", "missing", out=out, overwrite=True, steps=3)
    assert (out / "model.safetensors").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    assert train("toy", "a", out=out, overwrite=True, steps=2, hidden=4).metrics["step"] == 2
    assert load(out).settings.model.hidden == 4
    assert (out / "notes.txt").read_text() == "mine"


def test_the_default_directory_is_the_first_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [str(train("toy", "a", steps=1).directory) for _ in range(2)]
    assert found == ["runs/toy-1", "runs/toy-2"]


def test_the_room_can_be_called(tmp_path):
    trained = unrolled.train("toy", "a", out=tmp_path / "run", steps=1)
    assert isinstance(trained.model, ToyModel)
    assert unrolled.train.train is train


def test_threads_are_given_back(tmp_path):
    before = torch.get_num_threads()
    during = []

    class Look(Callback):
        def on_step(self, event):
            during.append(torch.get_num_threads())

    train("toy", "a", out=tmp_path / "run", steps=1, threads=before + 1, callbacks=[Look()])
    assert during == [before + 1]
    assert torch.get_num_threads() == before


def test_metrics_tell_the_whole_run(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=40, evaluate_every=20)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "train"] == list(range(1, 41))
    assert [line["event"] for line in lines if line["step"] == 20] == [
        "train", "baselines", "validation", "sample",
    ]  # fmt: skip
    assert all(math.isfinite(line["seconds"]) for line in lines)
    assert sorted(line["seconds"] for line in lines) == [line["seconds"] for line in lines]
    end = lines[-1]
    assert end["event"] == "end"
    assert end["held_out"] == "test"
    assert end["test"]["error"] < end["baselines"]["zero"]["error"]
