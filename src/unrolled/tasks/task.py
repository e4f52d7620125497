"""The protocol of a task: data -> task -> trained model. The training loop knows nothing else of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.splits import Split as Split
from unrolled.engine import Chain, Declined
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.settings.belonging import Choice

DataT = TypeVar("DataT")
PartT = TypeVar("PartT", bound=Sized)
Carry = dict[str, Tensor]
"""What a window hands to the next: name -> (any, rows, ...). Rows lie along dimension 1."""


@dataclass(frozen=True)
class Criterion:
    """The figure by which the best weights are chosen."""

    metric: str
    better: Literal["lower", "higher"] = "lower"

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` beats `best`; anything beats ``None``."""
        if best is None:
            return value == value
        return value < best if self.better == "lower" else value > best


def held(data: DataT | None) -> DataT:
    """Give what a task learns from, which only one that was prepared has.

    Raises:
        RunError: If there is none.
    """
    if data is None:
        raise RunError("this task was restored from a model directory and has no training data")
    return data


def in_split(splits: Mapping[Split, PartT] | None, split: Split, unit: str = "data") -> PartT:
    """Give what is in a split.

    Args:
        splits: What a task learns from.
        split: Of these.
        unit: What there is a part of, as people call it.

    Raises:
        InputError: If the split is empty.
        RunError: If the task was restored and has no data.
    """
    part = held(splits)[split]
    if not len(part):
        raise InputError(f"the {split} split is empty; give it a part of the {unit} with --split")
    return part


def finite(values: np.ndarray) -> np.ndarray:
    """Give what a model told, if it is numbers.

    Raises:
        RunError: If it is not: the run diverged since its last loss.
    """
    if not np.isfinite(values).all():
        raise RunError(
            "what the model tells became no number; start again with a lower --lr or with --clip-norm 1"
        )
    return values


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights by a seed meanwhile, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Objective(NamedTuple):
    """A loss in two parts."""

    outputs: Callable[[nn.Module], Tensor]
    """Model -> what it gives."""
    loss: Callable[[Tensor], Tensor]
    """What a model gives -> a scalar."""


@dataclass(frozen=True)
class Artefacts:
    """What a task must keep beside the weights to be used again without its data."""

    vocabulary: dict[str, Any]
    """Becomes `vocabulary.json`."""
    baseline: dict[str, np.ndarray] = field(default_factory=dict)
    """Becomes `baseline.safetensors`; empty when the baseline needs no arrays."""


class Task(ABC):
    """One kind of job: its data, model, loss, metric, baseline, and how a result is shown.

    A task made by :meth:`prepare` has data and can train; one made by :meth:`restore` has what was
    saved beside the weights and can predict and evaluate.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    criterion: Criterion
    headline: str
    """The metric people read; one of those :meth:`validate` gives."""
    examples: tuple[str, str] = ("'a text of yours'", "more-data.tsv")
    """What one might predict from and evaluate on, as words of a command."""
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Table -> field -> value, for the settings nobody gave."""

    losses: ClassVar[tuple[str, ...]] = ()
    """What ``training.loss`` may name; the first is the default where there is a choice."""
    chooses: ClassVar[bool] = False
    """Whether :meth:`predict` takes options, by which what it writes is searched for or drawn."""

    prompts: ClassVar[Literal["text", "file"]] = "text"
    """What a sample goes on from: words, which are its beginning, or a file."""

    settings: Settings

    @property
    def note(self) -> str:
        """What must be said beside the figures, as how one of them is computed."""
        return ""

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Give the defaults of a run of which so much is given."""
        return cls.defaults

    @classmethod
    def choices_for(cls, settings: Settings) -> Sequence[Choice]:
        """Give the settings that say, with this kind of data, whether others are read."""
        return ()

    @classmethod
    @abstractmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read the data, fit the vocabulary and the baselines on its training split.

        Raises:
            InputError: If the data is missing, unreadable or too short.
        """

    @classmethod
    @abstractmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild a task from what :meth:`artefacts` gave.

        Raises:
            InputError: If the artefacts are damaged.
        """

    @abstractmethod
    def artefacts(self) -> Artefacts:
        """Give what :meth:`restore` needs."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the model, its initial weights drawn from ``settings.training.seed``."""

    @property
    @abstractmethod
    def data_digest(self) -> str:
        """A hash of the data, by which resuming knows that it reads the same."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Updates in one pass over the training split."""

    @property
    @abstractmethod
    def initial_loss(self) -> float:
        """The loss of a model that knows nothing, where the smoothed loss starts."""

    @abstractmethod
    def batch(self, step: int, rows: slice) -> Any:  # noqa: ANN401 - a task's own type
        """Rows `rows` of the global batch for update number `step` (0, 1, ...).

        The same step always gives the same batch, whatever happened before.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, carry: Carry) -> tuple[Tensor, Carry]:  # noqa: ANN401
        """Compute a batch's loss, a scalar averaged over its rows, and what the next window starts from.

        `carry` is empty at step 0. `model` must be used by calling it, as it may be wrapped.
        """

    def few(self, rows: int) -> slice:
        """Give the rows of a batch that are enough for a loss: the first `rows` of them."""
        return slice(0, min(rows, self.settings.training.batch_size))

    def forced(self, step: int) -> float:
        """Give how often the truth is read back: from 1 down a line to ``decoder.teacher_forcing``."""
        training = self.settings.training
        steps = training.steps or 1
        if training.epochs is not None:
            steps = math.ceil(training.epochs * self.steps_per_epoch)
        return 1 - (1 - self.settings.decoder.teacher_forcing) * min(1.0, step / steps)

    def constrain(self, model: nn.Module) -> None:
        """Put weights back, after an update, into the bounds they are kept in."""
        return

    def objective(self, batch: Any) -> Objective:  # noqa: ANN401
        """Give a batch's loss in two parts, of which the second is convex: for ``hessian-free``.

        Raises:
            InputError: If the loss is no convex function of what the model gives.
        """
        raise InputError(f"--optimizer hessian-free: the task {self.name} has no loss for it")

    @property
    def closed_form(self) -> bool:
        """Whether :meth:`fit` finds the weights at once, so that there is one update and no gradient."""
        return False

    def fit(self, model: nn.Module) -> float:
        """Fit a model in closed form; give the loss that is left."""
        raise NotImplementedError

    def chain(self, model: nn.Module) -> Chain:
        """Give the model as the core can train it whole; its weights move side by side.

        Raises:
            Declined: If it cannot; the sentence says why.
        """
        raise Declined(f"the task {self.name} has no whole step")

    def symbols(self, batch: Any, carry: Carry) -> tuple[Tensor, Tensor, Carry, float]:  # noqa: ANN401
        """Give of a batch what :meth:`unrolled.engine.Chain.step` takes, for a task that has a chain.

        Returns:
            Inputs and targets (T, B), the states to start from, and what the mean cross-entropy is
            multiplied by to be the loss.
        """
        raise NotImplementedError

    @abstractmethod
    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge the model on a split; holds the criterion's metric."""

    @abstractmethod
    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Name of a baseline -> the same metrics as :meth:`validate`, on a split."""

    @abstractmethod
    def progress(self, loss: float) -> dict[str, float]:
        """Express a training loss in the units people read, e.g. ``{"bits_per_character": 2.1}``."""

    @abstractmethod
    def throughput(self) -> tuple[int, str]:
        """How many units one update reads, and their name, e.g. ``(2048, "characters")``."""

    @abstractmethod
    def show(self, model: nn.Module, step: int) -> str:
        """Give what a person looks at while the model learns: a text sample, a few predictions."""

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Give what people would rather look at than read: name of a file -> PNG."""
        return {}

    @abstractmethod
    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model and the baselines on other data."""

    @abstractmethod
    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give one object an input."""


TASKS: dict[str, str] = {
    "generate": "unrolled.tasks.generate:Generate",
    "classify": "unrolled.tasks.classify:Classify",
    "tag": "unrolled.tasks.tag:Tag",
    "several": "unrolled.tasks.several:Several",
    "translate": "unrolled.tasks.translate:Translate",
    "caption": "unrolled.tasks.caption:Caption",
    "forecast": "unrolled.tasks.forecast:Forecast",
    "embed": "unrolled.tasks.embed:Embed",
    "reconstruct": "unrolled.tasks.reconstruct:Reconstruct",
    "few-labels": "unrolled.tasks.few_labels:FewLabels",
}
"""The registry: name -> where the class lies, so that naming a task imports only that one."""


def task_class(name: str) -> type[Task]:
    """Import the class of a registered task.

    Raises:
        InputError: If no task has this name.
    """
    if name not in TASKS:
        raise InputError(f"no task {name!r}; give one of {', '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    return getattr(import_module(module), attribute)
