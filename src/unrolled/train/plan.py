"""From what was asked for to the complete settings of a run, new or resumed."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unrolled.cells import Elman, resolve
from unrolled.checkpoint.load import own_cell
from unrolled.errors import InputError
from unrolled.settings import GROUPS, Settings, flag
from unrolled.settings.belonging import check_choices, check_task, of_the_package
from unrolled.tasks.task import Task, task_class
from unrolled.train.optimisers import DEFAULT_RATES, check_optimizer
from unrolled.train.schedules import check_schedule

FREE = {
    "source",
    "validation",
    "test",
    "steps",
    "epochs",
    "sample_every",
    "sample_length",
    "checkpoint_every",
    "device",
    "threads",
}
"""Settings that may differ when a run is resumed: none changes what is computed at a given step.

The data may have moved, for its digest is compared.
"""


def asked(
    task: str | Path | Settings, source: tuple[str, ...], flags: Mapping[str, Any]
) -> Settings:
    """Put together what the user says: a task or a recipe, the data, and flags over it.

    Raises:
        InputError: If a setting is unknown or out of range, or both steps and epochs are given.
    """
    if flags.get("steps") is not None and flags.get("epochs") is not None:
        raise InputError("give --steps or --epochs, not both")
    if isinstance(task, Settings):
        base = task
    elif isinstance(task, Path) or task.endswith(".toml"):
        base = Settings.from_toml(Path(task))
    else:
        base = Settings(task=task)
    both = base.training.steps is not None and base.training.epochs is not None
    if both:
        raise InputError("the recipe gives both steps and epochs; leave one out")
    given = {**flags, **({"source": source} if source else {})}
    return Settings.from_flags(base.task, given, _without_length(base) if _length(flags) else base)


def given_fields(settings: Settings) -> dict[str, Any]:
    """Name -> value of every field that somebody set."""
    return {
        name: value
        for group in GROUPS
        for name, value in getattr(settings, group).model_dump(exclude_unset=True).items()
        if value is not None
    }


def new_run(wanted: Settings) -> Settings:
    """Fill what nobody set: by the task's defaults, then by those of the optimiser.

    Raises:
        InputError: If the settings contradict each other.
    """
    check_task(wanted)
    _check_folds(wanted)
    _check_nonlinearity(wanted)
    task = task_class(wanted.task)
    defaults = {group: dict(fields) for group, fields in task.defaults_for(wanted).items()}
    if _length(given_fields(wanted)):
        for name in ("steps", "epochs"):
            defaults.get("training", {}).pop(name, None)
    settings = wanted.with_defaults(defaults)
    check_choices(wanted, settings, task.choices_for(settings))
    if settings.training.lr is None:
        settings = _with_training(settings, lr=DEFAULT_RATES[settings.training.optimizer])
    check(settings)
    return settings


def resumed_run(wanted: Settings, stored: Settings, where: Path, *, trained: bool) -> Settings:
    """Take over the settings of an earlier run; what is left out now is as it was.

    Args:
        wanted: What the user says now.
        stored: The settings of the earlier run, complete.
        where: The model directory.
        trained: Whether there is a checkpoint: then only the settings of :data:`FREE` may differ.

    Raises:
        InputError: If a setting differs that may not.
    """
    if wanted.task != stored.task:
        raise InputError(f"{where} was trained for the task {stored.task}, not {wanted.task}")
    if own_cell(stored) and not own_cell(wanted):
        raise InputError(
            f"{where} has a cell of your own, {stored.model.cell}; give it again with --cell, "
            "as code is never loaded from a model directory"
        )
    before, given = given_fields(stored), given_fields(wanted)
    for name, value in given.items():
        if trained and name not in FREE and before.get(name) != value:
            raise InputError(
                f"{flag(name)} is {value} but the checkpoint in {where} was made with "
                f"{before.get(name)}; leave it out, or start anew with another --out"
            )
    base = _without_length(stored) if _length(given) else stored
    settings = Settings.from_flags(stored.task, given, base)
    settings = settings.model_copy(update={"target": wanted.target or stored.target})
    check(settings)
    return settings


def complete(settings: Settings, task: Task) -> Settings:
    """Fill what depends on the data: the number of steps and how often to look.

    Raises:
        InputError: If neither steps nor epochs are known.
    """
    training = settings.training
    steps = training.steps
    if training.epochs is not None:
        steps = max(1, math.ceil(training.epochs * task.steps_per_epoch))
    if task.closed_form:
        steps = 1
    if steps is None:
        raise InputError("say how long to train: --steps or --epochs")
    evaluate_every = training.evaluate_every or max(1, steps // 20)
    average_from = training.average_from
    if average_from is None and training.average == "swa":
        average_from = steps * 3 // 4
    return _with_training(
        settings,
        steps=steps,
        epochs=None,
        evaluate_every=evaluate_every,
        average_from=average_from,
    )


def digest(settings: Settings, *, written: bool = False) -> str:
    """Hash the settings that a resumed run must share with its checkpoint.

    Args:
        settings: Of the run.
        written: Only those that somebody wrote down, as `config.json` does with all there are: one of an
            earlier version has fewer, and the others are at their defaults.
    """
    groups = [name for name in GROUPS if not written or name in settings.model_fields_set]
    tables = {
        group: getattr(settings, group).model_dump(exclude=FREE, exclude_unset=written)
        for group in groups
    }
    return hashlib.sha256(repr((settings.task, tables)).encode()).hexdigest()[:16]


def check(settings: Settings) -> None:
    """Find contradictions before any data is read.

    Raises:
        InputError: If there is one.
    """
    check_optimizer(settings.training)
    check_schedule(settings)
    _check_loss(settings)
    if settings.training.precision == "bfloat16" and settings.model.dtype != "float32":
        raise InputError(
            f"--precision bfloat16 is for weights of float32, not {settings.model.dtype}"
        )
    name = settings.training.device
    if name not in ("cpu", "cuda"):
        raise InputError(f"--device {name}: unrolled is not tested there; use cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no usable GPU here; use cpu")


def _check_folds(settings: Settings) -> None:
    data = settings.data
    if data.fold and not data.folds:
        raise InputError(f"--fold {data.fold} is one of --folds: say of how many, as in --folds 10")


def _check_nonlinearity(settings: Settings) -> None:
    model = settings.model
    if not of_the_package(settings.task) or model.nonlinearity == "tanh":
        return
    cells = (model.cell, settings.decoder.decoder_cell or model.cell)
    if not any(resolve(cell) is Elman for cell in cells):
        raise InputError(
            f"--nonlinearity is for the cell rnn, not for {model.cell}; leave it out, or write "
            f"--cell-options 'nonlinearity=\"{model.nonlinearity}\"' for a cell that has one"
        )


def _check_loss(settings: Settings) -> None:
    training, known = settings.training, task_class(settings.task).losses
    if training.loss is not None and training.loss not in known:
        choice = f"it has {', '.join(known)}" if known else "it has a loss of its own"
        raise InputError(f"--loss {training.loss} is none of the task {settings.task}; {choice}")
    if training.label_smoothing and (training.loss or "cross-entropy") != "cross-entropy":
        raise InputError(f"--label-smoothing goes with cross-entropy, not with {training.loss}")
    if training.label_smoothing and "cross-entropy" not in known:
        raise InputError(f"--label-smoothing: the task {settings.task} has no cross-entropy")


def _length(fields: Mapping[str, Any]) -> bool:
    return fields.get("steps") is not None or fields.get("epochs") is not None


def _without_length(settings: Settings) -> Settings:
    """Forget how long to train, so that what is given in the other unit is all that counts."""
    return _with_training(settings, steps=None, epochs=None)


def _with_training(settings: Settings, **fields: Any) -> Settings:  # noqa: ANN401 - any field
    training = settings.training.model_copy(update=fields)
    return settings.model_copy(update={"training": training})
