"""A run that was killed and resumed ends as the run left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy_task
from safetensors.torch import load_file

from unrolled.checkpoint.directory import Commit
from unrolled.errors import InputError, Interrupted
from unrolled.settings import Settings
from unrolled.train import picture, plan
from unrolled.train.callbacks import Callback
from unrolled.train.run import train

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("how", ["points", "moments"])
def test_killed_runs_end_bit_for_bit_as_the_one_left_alone(how, tmp_path):
    paths = [str(HERE.parent), *sys.path]
    done = subprocess.run(
        [sys.executable, HERE / "killing.py", tmp_path, how],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said, _, count = done.stdout.strip().rpartition(" ")
    assert said in ("points", "kills"), done.stdout
    assert int(count) >= (40 if how == "points" else 1)


class StopAt(Callback):
    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number = step, number

    def on_step(self, event):
        if event.step == self.step:
            signal.raise_signal(self.number)  # in this thread, so that it is noted at once


def metrics_lines(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_resume(number, tmp_path):
    flags = {"steps": 12, "evaluate_every": 5, "nonlinearity": "relu", "dropout": 0.2}
    train("toy", "a", out=tmp_path / "alone", **flags)
    before = signal.getsignal(number)
    out = tmp_path / "stopped"
    with pytest.raises(Interrupted) as error:
        train("toy", "a", out=out, callbacks=[StopAt(3, number)], **flags)
    # The signal came while step 3 was told of, so step 4 is the one at hand.
    assert "step 4 of 12" in str(error.value)
    assert f"unrolled train toy --out {out} --resume" in str(error.value)
    assert signal.getsignal(number) is before
    assert load_file(out / "model.safetensors")  # the directory can be used at once
    train("toy", out=out, resume=True)
    for name in ("model.safetensors", "training.safetensors", "config.json"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert metrics_lines(out) == metrics_lines(tmp_path / "alone")


@pytest.fixture
def _heeded():
    """Ctrl-C as a terminal has it: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeded")
def test_a_second_signal_acts_at_once(tmp_path):
    class Twice(StopAt):
        def on_step(self, event):
            super().on_step(event)
            super().on_step(event)

    with pytest.raises(Interrupted, match="before the first checkpoint"):
        train("toy", "a", out=tmp_path / "run", evaluate_every=20, callbacks=[Twice(3)])
    with pytest.raises(Interrupted, match="step 4 of 30"):
        train("toy", "a", out=tmp_path / "other", evaluate_every=4, callbacks=[Twice(6)])


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=4, resume=True)
    assert metrics_lines(tmp_path / "run")[0] == {
        "event": "sample",
        "step": 0,
        "text": metrics_lines(tmp_path / "run")[0]["text"],
    }


def test_a_run_killed_before_its_first_checkpoint_keeps_its_settings(tmp_path, monkeypatch):
    batch = toy_task.Toy.batch

    def die(self, step, rows):
        if step == 2:
            raise SystemError("as if killed")
        return batch(self, step, rows)

    with monkeypatch.context() as patch:
        patch.setattr(toy_task.Toy, "batch", die)
        with pytest.raises(SystemError):
            train("toy", "a", out=tmp_path / "run", steps=4, hidden=3, lr=0.5, evaluate_every=4)
    # Nothing is trained yet, so that any setting may still be given anew.
    trained = train("toy", out=tmp_path / "run", resume=True, lr=0.25)
    assert trained.settings.data.source == ("a",)
    assert (trained.settings.model.hidden, trained.settings.training.steps) == (3, 4)
    assert trained.settings.training.lr == 0.25


def test_a_finished_run_can_be_prolonged(tmp_path):
    train("toy", "a", out=tmp_path / "long", steps=20, evaluate_every=5)
    train("toy", "a", out=tmp_path / "short", steps=10, evaluate_every=5)
    train("toy", "a", out=tmp_path / "short", steps=20, resume=True)
    for name in ("model.safetensors", "training.safetensors", "config.json"):
        long, short = (tmp_path / which / name for which in ("long", "short"))
        assert long.read_bytes() == short.read_bytes()
    assert metrics_lines(tmp_path / "long") == metrics_lines(tmp_path / "short")


def test_the_length_may_be_given_in_the_other_unit(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=10)
    trained = train("toy", out=tmp_path / "run", epochs=0.25, resume=True)
    assert trained.metrics["step"] == 20  # 80 windows an epoch
    assert trained.settings.training.steps == 20


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"hidden": 5}, "--hidden is 5 but the checkpoint in .* was made with 128"),
        ({"lr": 0.5}, r"--lr is 0.5 but .* with 0.01"),
        ({"evaluate_every": 7}, "--evaluate-every is 7 but .* with 1"),
        ({"batch_size": 8}, "--batch-size is 8 but .* with 4"),
        ({"symbols": "byte"}, "--symbols is byte but .* with character"),
        ({"clip_norm": 1.0}, "--clip-norm is 1.0 but .* with None"),
        ({"steps": 2}, "--steps 2: the checkpoint in .* has made 6 already"),
    ],
)
def test_resuming_with_other_settings_is_refused(flags, sentence, tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=6)
    before = (tmp_path / "run/training.safetensors").read_bytes()
    with pytest.raises(InputError, match=sentence):
        train("toy", "a", out=tmp_path / "run", resume=True, **flags)
    assert (tmp_path / "run/training.safetensors").read_bytes() == before
    assert train("toy", "a", out=tmp_path / "run", resume=True).metrics["step"] == 6


def test_settings_that_change_no_weight_may_differ(tmp_path):
    flags = {"steps": 8, "evaluate_every": 4, "nonlinearity": "relu"}
    train("toy", "a", out=tmp_path / "alone", **flags)
    with pytest.raises(Interrupted):
        train("toy", "a", out=tmp_path / "run", callbacks=[StopAt(2)], **flags)
    free = {"sample_every": 1, "sample_length": 5, "checkpoint_every": 2, "threads": 1}
    train("toy", out=tmp_path / "run", resume=True, **free)
    alone, other = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "run"))
    assert all(torch.equal(alone[name], other[name]) for name in alone)


def test_resuming_on_other_data_is_refused(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=2)
    with pytest.raises(
        InputError, match=r"the data is not what the checkpoint in .* was trained on"
    ):
        train("toy", "b", out=tmp_path / "run", steps=4, resume=True)


def test_resuming_another_task_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(toy_task.TASKS, "other", "toy_task:Toy")
    train("toy", "a", out=tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="trained for the task toy, not other"):
        train("other", "a", out=tmp_path / "run", resume=True)


def test_resume_needs_to_know_which_run():
    with pytest.raises(InputError, match="--resume needs --out"):
        train("toy", "a", resume=True)


def test_a_config_edited_by_hand_is_noticed(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=2, hidden=3)
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"hidden": 3', '"hidden": 4'))
    with pytest.raises(InputError, match=r"config.json was changed since training.safetensors"):
        train("toy", "a", out=tmp_path / "run", resume=True)


def as_an_earlier_version_wrote_it(out):
    """Leave settings out of a run, as where they did not yet exist."""
    config, commit = out / "config.json", out / "training.safetensors"
    tables = json.loads(config.read_text())
    del tables["varied"], tables["training"]["accumulate"], tables["model"]["dropout"]
    config.write_text(json.dumps(tables))
    whole = vars(Commit.unpack(commit.read_bytes(), commit))
    known = plan.digest(Settings.from_json(config.read_text(), ""), written=True)
    assert known != whole["settings_digest"]
    commit.write_bytes(Commit(**{**whole, "settings_digest": known}).pack())


def test_a_checkpoint_that_lacks_new_settings_goes_on(tmp_path):
    alone = train("toy", "a", out=tmp_path / "alone", steps=6, evaluate_every=2)
    flags = {"steps": 4, "evaluate_every": 2}
    train("toy", "a", out=tmp_path / "run", **flags)
    as_an_earlier_version_wrote_it(tmp_path / "run")
    with pytest.raises(InputError, match=r"--dropout is 0.5 but .* with 0.0"):
        train("toy", out=tmp_path / "run", resume=True, dropout=0.5)
    given = {"steps": 6, "accumulate": 1}
    assert train("toy", out=tmp_path / "run", resume=True, **given).metrics["step"] == 6
    for name in ("model.safetensors", "training.safetensors", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (alone.directory / name).read_bytes()


def test_a_setting_taken_out_by_hand_is_noticed(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=2)
    config = tmp_path / "run/config.json"
    tables = json.loads(config.read_text())
    del tables["training"]["seed"]
    config.write_text(json.dumps(tables))
    with pytest.raises(InputError, match=r"config.json was changed since training.safetensors"):
        train("toy", out=tmp_path / "run", resume=True, steps=4)


def test_metrics_cut_short_by_hand_are_noticed(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=2)
    (tmp_path / "run/metrics.jsonl").write_text("")
    with pytest.raises(InputError, match=r"metrics.jsonl has 0 lines, fewer than the \d+"):
        train("toy", "a", out=tmp_path / "run", resume=True)


def test_early_stopping_and_plateaus_survive_a_resume(tmp_path):
    flags = {
        "steps": 60,
        "evaluate_every": 2,
        "lr": 1.0,  # too high to make progress for long
        "schedule": "plateau",
        "patience": 1,
        "stop_after": 4,
        "decay": 0.5,
    }
    alone = train("toy", "a", out=tmp_path / "alone", **flags)
    assert alone.metrics["step"] < 60
    stops = [StopAt(step) for step in (3, 18, 23)]
    for stop in stops:
        with pytest.raises(Interrupted):
            train("toy", "a", out=tmp_path / "run", resume=True, callbacks=[stop], **flags)
    resumed = train("toy", "a", out=tmp_path / "run", resume=True, **flags)
    assert resumed.metrics["step"] == alone.metrics["step"]
    assert metrics_lines(tmp_path / "run") == metrics_lines(tmp_path / "alone")
    name = "training.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    # Nothing is left to do, and nothing is done.
    again = train("toy", "a", out=tmp_path / "run", resume=True, **flags)
    assert again.metrics["step"] == alone.metrics["step"]


def test_seconds_add_up_over_the_parts_of_a_run(tmp_path):
    first = train("toy", "a", out=tmp_path / "run", steps=4)
    second = train("toy", "a", out=tmp_path / "run", steps=5, resume=True)
    assert second.metrics["seconds"] >= first.metrics["seconds"] * 0.5 > 0
