"""A trained model, ready to use."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unrolled.cells import fingerprint, resolve
from unrolled.checkpoint import files
from unrolled.checkpoint.directory import MODEL, ModelDirectory
from unrolled.checkpoint.weights import load_weights
from unrolled.data.advice import ASKED, WHOLE, advising
from unrolled.errors import InputError
from unrolled.settings import Settings, flag
from unrolled.tasks.task import Task, task_class


@dataclass
class Trained:
    """A model with its task: what :func:`load` and training give."""

    directory: Path
    settings: Settings
    task: Task
    model: nn.Module
    """In evaluation mode; its weights are the best by validation."""
    metrics: dict[str, Any]
    """The results of the run; empty if it did not end."""

    def sample(self, prompt: str = "", **options: Any) -> Any:  # noqa: ANN401 - the task's own
        """Write on after a prompt, as the task's ``sample`` does.

        Raises:
            InputError: If the task has nothing to sample, or refuses the prompt or an option.
        """
        return self._writer("sample", options)(self.model, prompt, **options)

    def beam(self, prompt: str = "", **options: Any) -> str:  # noqa: ANN401 - the task's own
        """Find a likely continuation of a prompt, as the task's ``beam`` does.

        Raises:
            InputError: If the task has nothing to search, or refuses the prompt or an option.
        """
        return self._writer("beam", options)(self.model, prompt, **options)

    def compose(self, file: str | Path, prompt: str = "", **options: Any) -> None:  # noqa: ANN401
        """Write what :meth:`sample` draws to a file, as the task's ``compose`` does.

        Raises:
            InputError: If the task composes nothing, or refuses the file, the prompt or an option.
        """
        path = Path(file)
        content = self._writer("compose", options)(self.model, prompt, path.suffix, **options)
        files.write(path, content, durable=False)

    def predict(
        self,
        inputs: str | Sequence[str],
        **options: Any,  # noqa: ANN401 - the task's own
    ) -> Iterator[dict[str, Any]]:
        """Give one object an input, as the task's ``predict`` does.

        Raises:
            InputError: If the task refuses an input or an option, or has no options and some are given;
                if a weight is no number.
        """
        if options and not self.task.chooses:
            raise InputError(
                f"a {self.task.name} model writes no texts that could be searched for or drawn; leave out "
                + ", ".join(flag(name) for name in options)
            )
        self.check_numbers()
        predict: Any = self.task.predict
        return _advised(predict(self.model, _several(inputs), **options))

    def evaluate(self, sources: str | Sequence[str]) -> dict[str, Any]:
        """Judge the model and the baselines on other data, as the task's ``evaluate`` does.

        Raises:
            InputError: If the task refuses the data, or a weight is no number.
        """
        self.check_numbers()
        with torch.no_grad(), advising(WHOLE):
            return self.task.evaluate(self.model, _several(sources))

    def _writer(self, method: str, options: Mapping[str, Any]) -> Callable[..., Any]:
        found = getattr(self.task, method, None)
        if found is None and hasattr(self.task, "sample"):
            raise InputError(f"a {self.task.name} model has no {method}, but a sample")
        if found is None:
            raise InputError(f"a {self.task.name} model writes no samples; use predict or evaluate")
        taken = signature(found).parameters
        if unknown := [flag(name) for name in options if name not in taken]:
            raise InputError(
                f"a {self.task.name} model writes without {', '.join(unknown)}; leave it out"
            )
        self.check_numbers()
        return found

    def check_numbers(self) -> None:
        """Refuse a model whose weights are no numbers, as after a run that diverged.

        Raises:
            InputError: If a weight is not finite; the sentence names it.
        """
        if found := no_numbers(self.model):
            raise InputError(
                f"{self.directory}: {found}; the file is damaged or the run diverged, so train again with a "
                "lower --lr"
            )


def no_numbers(model: nn.Module) -> str:
    """Say which weight first holds what is no number; nothing if none does."""
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and (count := int((~weight.isfinite()).sum())):
            return f"{count:,} of the {weight.numel():,} numbers of {name} are nan or infinite"
    return ""


def load(directory: str | Path, cell: str | None = None, encoding: str | None = None) -> Trained:
    """Load a model from its directory, also while it is still being trained.

    Args:
        directory: The model directory.
        cell: For a model with a cell of your own, that cell again, as ``module:Class`` or
            ``path.py:Class``: code is never loaded from a model directory.
        encoding: Of the data to come, if not that of the training data.

    Raises:
        InputError: If a part is missing, damaged, of a newer format or does not fit the others, or
            the cell is not given or is not the one the model was trained with.
    """
    home = ModelDirectory(Path(directory))
    settings = home.settings()
    settings = with_cell(settings, cell, home.path)
    settings = Settings.from_flags(settings.task, {"encoding": encoding}, settings)
    tensors, note = home.model()
    check_cell(settings, note.get("cell"))
    artefacts = home.artefacts(baseline=bool(note.get("baseline")))
    task = task_class(settings.task).restore(settings, artefacts)
    model = task.build()
    load_weights(model, tensors, home.path / MODEL)
    last = (home.metrics() or [{}])[-1]
    metrics = last if last.pop("event", None) == "end" else {}
    return Trained(home.path, settings, task, model.eval(), metrics)


def own_cell(settings: Settings) -> bool:
    """Whether a model's cell is the user's own."""
    return ":" in settings.model.cell


def cell_hash(settings: Settings) -> str | None:
    """Hash the source of a user's own cell; ``None`` for a built-in one."""
    return fingerprint(resolve(settings.model.cell)) if own_cell(settings) else None


def with_cell(settings: Settings, cell: str | None, directory: Path) -> Settings:
    """Put the cell the user gives in the place of the one that a model directory names.

    Raises:
        InputError: If the model has a cell of the user's own and none is given, or the reverse.
    """
    named = settings.model.cell
    if cell is None:
        if own_cell(settings):
            raise InputError(
                f"{directory} has a cell of your own, {named}; give it again with --cell, "
                "as code is never loaded from a model directory"
            )
        return settings
    if cell != named and not own_cell(settings):
        raise InputError(f"{directory} was trained with the cell {named}, not {cell}")
    model = settings.model.model_copy(update={"cell": cell})
    return settings.model_copy(update={"model": model})


def check_cell(settings: Settings, trained_with: str | None) -> None:
    """Compare the source of the user's cell with the hash noted at training.

    Raises:
        InputError: If they differ.
    """
    if trained_with != cell_hash(settings):
        raise InputError(
            f"the source of {settings.model.cell} is not what the model was trained with; "
            "give the same cell, or train again"
        )


def _advised(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    with advising(ASKED):
        yield from found


def _several(values: str | Sequence[str]) -> Sequence[str]:
    return [values] if isinstance(values, str) else values
