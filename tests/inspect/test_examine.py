"""The doctor for a model: twelve planted faults are named, and healthy runs are left alone."""

import json
from types import SimpleNamespace

import pytest
import torch
from command_line import cli  # noqa: F401
from planted import Clouds, clouds

import unrolled as ur
from unrolled.inspect.diagnosis import FINDINGS
from unrolled.inspect.examine import examine
from unrolled.settings import Settings
from unrolled.tasks.task import task_class
from unrolled.train import plan

STEPS = 100
"""Of a trial training: enough for what is small."""
FAULTS = {
    "rate too high": ("rate too high", {"lr": 3.0}),
    "labels shuffled": ("labels tell nothing", {}),
    "wrong loss": ("loss unfit", {}),
    "gradient bug": ("wrong gradient", {}),
    "dead ReLUs": ("dead units", {}),
    "unscaled inputs": ("inputs unscaled", {}),
    "forgotten state reset": ("state not reset", {}),
    "target leak": ("target leak", {}),
    "too small": ("too small", {"hidden": 1}),
    "saturated start": ("saturated start", {}),
    "batch-norm with batch 1": ("batch norm of one row", {"batch_size": 1}),
    "train = test": ("same examples in two parts", {}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_named(fault):
    name, flags = FAULTS[fault]
    found = examine(clouds(fault, **flags), steps=STEPS)
    assert name in found.names, found
    for finding in found.findings:
        assert finding.name in FINDINGS
        assert finding.evidence
        assert finding.cause
        assert finding.command.startswith(("unrolled ", "python "))


@pytest.mark.parametrize("flags", [{}, {"hidden": 64, "lr": 0.003}, {"optimizer": "momentum"}])
def test_healthy_clouds(flags):
    found = examine(clouds(**flags), steps=STEPS)
    assert not found.findings, found
    assert "nothing is wrong" in str(found)


HEALTHY = {
    "digits by an mlp": ("classify", "digits", {"model": "mlp"}),
    "digits by a cnn": ("classify", "digits", {"model": "cnn"}),
    "mackey-glass": ("forecast", "mackey-glass", {}),
    "english": ("generate", "english", {"window": 16, "hidden": 32}),
    "dates": ("translate", "dates", {"hidden": 32}),
    "python-tokens": ("tag", "python-tokens", {"hidden": 32}),
}


@pytest.mark.slow
@pytest.mark.parametrize("run", HEALTHY)
def test_healthy_runs(run):
    task, source, flags = HEALTHY[run]
    settings = plan.new_run(Settings.from_flags(task, {"source": (source,), **flags}))
    prepared = task_class(task).prepare(settings)
    found = examine(prepared)
    assert not found.findings, found


def test_nothing_is_changed():
    task = clouds()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    before = task.settings
    examine(task, steps=5)
    assert task.settings == before
    assert torch.equal(torch.rand(2), expected)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "digits"
    ur.train("classify", "digits", model="mlp", hidden=16, steps=20, out=out, sample_length=0)
    return out


def test_a_model_and_a_run(digits, cli):  # noqa: F811
    found = json.loads(cli("doctor", digits, "digits", "--steps", "30", "--json").out)
    assert found["findings"] == []
    assert {"weights", "loss at start", "a step takes"} <= set(found["facts"])
    assert "the data that" in cli("doctor", digits).sentence


def test_before_a_run(tmp_path, cli):  # noqa: F811
    words = ("classify", "digits", "--model", "mlp", "--hidden", "16", "--steps", "3")
    ran = cli("train", *words, "--sample-length", "0", "--doctor", "--out", tmp_path / "run")
    assert ran.code == 0
    assert "nothing is wrong" in ran.err


def told_apart(path, count, share):
    """Write texts that one word tells apart, of which a share have one label."""
    lines = ["text\tlabel"]
    for n in range(count):
        good = n % 10 < 10 * share
        lines.append(
            f"{'nice good fine' if good else 'poor bad dull'} {n}\t{'ham' if good else 'spam'}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("count", "share"), [(200, 0.9), (60, 0.5), (600, 0.9)])
def test_a_perfect_model_is_not_blamed_on_its_labels(tmp_path, count, share):
    source = told_apart(tmp_path / "texts.tsv", count, share)
    flags = {"source": (str(source),), "hidden": 16, "steps": 60}
    settings = plan.new_run(Settings.from_flags("classify", flags))
    found = examine(task_class("classify").prepare(settings), steps=STEPS)
    assert not {"labels tell nothing", "loss unfit"} & set(found.names), found


class Small(Clouds):
    """A few clouds to be judged on, and a simple model that tells all of them."""

    def rows(self, split):
        rows = super().rows(split)
        return (
            SimpleNamespace(items=rows.items[:6], labels=rows.labels[:6])
            if split == "validation"
            else rows
        )

    def validate(self, model, split):
        return {"accuracy": 0.667}

    def baselines(self, split):
        return {"nearest": {"accuracy": 1.0}}


def test_a_simple_model_that_does_better_is_not_said_to_do_no_better():
    settings = Settings.from_flags(
        "clouds", {"hidden": 32, "batch_size": 32, "lr": 0.01, "steps": 200}
    )
    found = examine(Small(settings), steps=STEPS)
    assert "labels tell nothing" not in found.names, found
