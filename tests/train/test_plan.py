"""From flags and recipes to complete settings."""

import pytest
import torch
from toy_task import Toy

from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.train import plan

RECIPE = """
task = "toy"
[data]
source = ["a"]
[training]
steps = 50
lr = 0.5
"""


def new(task, *source, **flags):
    wanted = plan.asked(task, source, flags)
    settings = plan.new_run(wanted)
    return plan.complete(settings, Toy(settings))


def test_flags_stand_over_recipe_over_task_over_optimiser(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    settings = new(path, batch_size=2)
    training = settings.training
    assert settings.data.source == ("a",)
    assert (training.steps, training.lr, training.batch_size, training.window) == (50, 0.5, 2, 5)
    settings = new(str(path), "b", steps=60, lr=0.1)
    assert (settings.data.source, settings.training.steps) == (("b",), 60)
    assert settings.training.lr == 0.1
    assert new(Settings(task="toy")).training.lr == 0.01


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 80), (0.5, 40), (0.001, 1), (2.51, 201)]
)  # 80 windows an epoch
def test_epochs_become_steps(epochs, steps):
    training = new("toy", epochs=epochs).training
    assert (training.steps, training.epochs) == (steps, None)
    assert training.evaluate_every == max(1, steps // 20)


def test_epochs_over_a_recipe_with_steps(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    assert new(path, epochs=1).training.steps == 80


def test_steps_and_epochs_together_are_refused(tmp_path):
    with pytest.raises(InputError, match="--steps or --epochs, not both"):
        new("toy", steps=3, epochs=1)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + "epochs = 2\n")
    with pytest.raises(InputError, match="both steps and epochs"):
        new(path)


def test_a_run_without_a_length_is_refused(monkeypatch):
    monkeypatch.setattr(Toy, "defaults", {})
    with pytest.raises(InputError, match="say how long to train"):
        new("toy")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"device": "mps"}, "--device mps: unrolled is not tested there; use cpu or cuda"),
        ({"optimizer": "sgd", "epsilon": 1e-3}, "sgd has none"),
        ({"schedule": "plateau", "split": (1, 0, 0)}, "plateau needs a validation split"),
        ({"stop_after": 2, "split": (0.9, 0, 0.1)}, "--stop-after needs a validation split"),
        ({"colour": 3}, "unknown setting 'colour'"),
    ],
)
def test_contradictions_are_found_before_any_data_is_read(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        plan.new_run(plan.asked("toy", ("missing",), flags))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match="--device cuda: torch finds no usable GPU"):
        plan.new_run(plan.asked("toy", (), {"device": "cuda"}))


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(InputError, match="no task 'genrate'; give one of generate, classify"):
        plan.new_run(plan.asked("genrate", (), {}))


def test_the_digest_knows_what_may_differ():
    settings = new("toy", steps=10)
    assert plan.digest(settings) == plan.digest(new("toy", "other", steps=10, threads=2))
    assert plan.digest(settings) != plan.digest(new("toy", steps=10, hidden=3))
    again = Settings.from_json(settings.model_dump_json(), "config.json")
    assert plan.digest(settings) == plan.digest(again)
