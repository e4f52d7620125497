"""The loss that a run is given, in the tasks that have a choice."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.losses import hinge
from unrolled.settings import Settings
from unrolled.tasks.task import task_class
from unrolled.train import plan

SMALL = {"batch_size": 8, "hidden": 4, "dtype": "float64"}


def prepare(name, **flags):
    settings = plan.new_run(Settings.from_flags(name, {**SMALL, **flags}))
    task = task_class(name).prepare(settings)
    return task, task.build()


def loss(task, model):
    return task.loss(model, task.batch(0, slice(0, 8)), {})[0]


def outputs(task, model):
    """What a classifier gives, and the labels."""
    batch = task.batch(0, slice(0, 8))
    return task.objective(batch).outputs(model), torch.from_numpy(batch.labels)


@pytest.mark.parametrize(
    ("flags", "expected", "start"),
    [
        ({}, lambda s, y: functional.cross_entropy(s, y), np.log(10)),
        ({"loss": "hinge"}, lambda s, y: 10 * functional.multi_margin_loss(s, y), 9),
        ({"loss": "squared-hinge"}, lambda s, y: 10 * functional.multi_margin_loss(s, y, p=2), 9),
        (
            {"label_smoothing": 0.2},
            lambda s, y: functional.cross_entropy(s, y, label_smoothing=0.2),
            np.log(10),
        ),
    ],
)
def test_a_classifier_learns_by_the_loss_it_is_given(flags, expected, start):
    task, model = prepare("classify", source=("digits",), model="mlp", **flags)
    torch.testing.assert_close(loss(task, model), expected(*outputs(task, model)))
    assert task.initial_loss == pytest.approx(start)


def test_weights_of_labels_count_in_any_loss():
    weights = {str(n): 1.0 + n for n in range(10)}
    task, model = prepare(
        "classify", source=("digits",), model="mlp", loss="hinge", class_weights=weights
    )
    scores, y = outputs(task, model)
    torch.testing.assert_close(loss(task, model), ((1.0 + y) * hinge(scores, y)).mean())


def test_a_forecaster_learns_by_the_loss_it_is_given():
    found = {}
    for name in ("squared", "absolute", "huber"):
        task, model = prepare("forecast", source=("mackey-glass",), length=400, loss=name)
        found[name] = loss(task, model).item()
        (unit,) = task.progress(1.0)
        assert unit == {"squared": "mse"}.get(name, f"{name}_error")
    assert found["huber"] <= found["squared"] / 2 * (1 + 1e-9)
    assert found["absolute"] ** 2 <= found["squared"] * (1 + 1e-9)
    assert len(set(found.values())) == 3


def test_padding_counts_in_no_loss_of_a_tagger(tmp_path):
    words = (["a\tX", "b\tY", "c\tX"] * n for n in range(1, 25))
    rows = ["\n".join([*some, f"w{len(some)}\tY", ""]) for some in words]
    (tmp_path / "words.conll").write_text("\n".join(rows))
    flags = {"source": (str(tmp_path / "words.conll"),), "columns": ("1", "2"), "loss": "hinge"}
    task, model = prepare("tag", **flags)
    batch = task.batch(0, slice(0, 8))
    heard = []
    readout: Any = model.readout
    readout.v.register_forward_hook(lambda *given: heard.append(given[-1]))
    found = loss(task, model)
    (scores,) = heard
    tags = torch.as_tensor(np.asarray(batch.tags))
    there = tags >= 0
    torch.testing.assert_close(found, hinge(scores[there], tags[there]).mean())


@pytest.mark.parametrize(
    ("task", "flags", "sentence"),
    [
        ("classify", {"loss": "huber"}, "--loss huber is none of the task classify; it has cross-"),
        ("embed", {"loss": "hinge"}, "--loss hinge is none of .* embed; it has a loss of its own"),
        ("generate", {"loss": "hinge"}, "generate; it has cross-entropy"),
        (
            "classify",
            {"loss": "hinge", "label_smoothing": 0.1},
            "goes with cross-entropy, not with",
        ),
        ("forecast", {"label_smoothing": 0.1}, "--label-smoothing: the task forecast has no cross"),
        (
            "classify",
            {"loss": "hinge", "optimizer": "hessian-free"},
            "--loss hinge has no curvature",
        ),
        (
            "forecast",
            {"loss": "huber", "head": "gaussian"},
            "--head gaussian has a loss of its own",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(task, flags, sentence):
    model = {"model": "mlp"} if task in ("classify", "embed") else {}
    with pytest.raises(InputError, match=sentence):
        prepare(task, **flags, **model)


def test_settings_of_the_first_format_are_read():
    old = {
        "format_version": 1,
        "task": "translate",
        "training": {"loss": "sum", "lr": 0.1},
        "decoder": {"label_smoothing": 0.1, "beam": 3},
    }
    settings = Settings.from_json(json.dumps(old), "config.json")
    assert (settings.training.reduction, settings.training.loss) == ("sum", None)
    assert (settings.training.label_smoothing, settings.decoder.beam) == (0.1, 3)
