"""What a classifier learns from, texts, pictures or signals, behind one face.

B rows of a batch, C labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.splits import mark
from unrolled.settings import Settings
from unrolled.tasks.bag import Baseline


@dataclass(frozen=True)
class Found:
    """Labelled examples as they were read."""

    items: Any
    """Texts, signals (T, C), or pictures (N, C, H, W); there may be more texts than memory holds."""
    labels: list[str]
    where: Sequence[str]
    phrases: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    """Of each tree, all phrases with their labels."""
    others: list[tuple[str, str]] = field(default_factory=list)
    """Phrases of trees that themselves have none of the labels."""
    skipped: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> bool:
        """Whether examples lie side by side in one array."""
        return isinstance(self.items, np.ndarray)

    def marks(self) -> np.ndarray:
        """Give what two examples that are the same share (n,): by the text, values, or a picture's file."""
        return marks_of(self.where if self.pictures else self.items)

    def of(self, rows: np.ndarray) -> Any:  # noqa: ANN401 - texts, signals or pictures
        """Give the examples of some rows."""
        return picked(self.items, rows)


def marks_of(items: Iterable[Any]) -> np.ndarray:
    """Give what tells different texts, arrays or tagged sequences apart (n,)."""
    return np.fromiter(map(_mark, items), np.uint64)


def _mark(item: Any) -> int:  # noqa: ANN401 - a text, an array or a tagged sequence
    if isinstance(item, str):
        return mark(item.encode("utf-8", "surrogatepass"))
    return mark(item.tobytes() if isinstance(item, np.ndarray) else item.key)


class Examples(ABC):
    """One kind of example: how it is read, encoded, laid side by side, shown, and which models read it."""

    key: ClassVar[str]
    """What in `vocabulary.json` says that a model reads them."""
    unit: ClassVar[str]
    """What they are called."""
    word: ClassVar[str]
    """What one is called."""
    shown: ClassVar[int]
    """How many a person is shown."""
    asked: ClassVar[tuple[str, str]]
    """What one might predict from and evaluate on, as words of a command."""
    told: str = ""
    """What a person should know of how they are encoded."""
    settings: Settings
    classes: int

    @classmethod
    @abstractmethod
    def takes(cls, sources: Sequence[str]) -> bool:
        """Tell whether sources are of this kind."""

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Give table -> field -> value for settings nobody gave, over those of the task."""
        return {}

    @classmethod
    @abstractmethod
    def load(cls, sources: Sequence[str], settings: Settings) -> Found:
        """Read labelled examples.

        Raises:
            InputError: If they are missing or damaged.
        """

    @classmethod
    @abstractmethod
    def fit(cls, settings: Settings, classes: int, items: Any) -> Self:  # noqa: ANN401
        """Learn from the training examples how to encode all."""

    def read(self, sources: Sequence[str]) -> Found:
        """Read labelled examples such as the model was trained on.

        Raises:
            InputError: If they are missing or damaged, or not such.
        """
        return self.load(sources, self.settings)

    @abstractmethod
    def inputs(self, items: Any) -> Sequence[np.ndarray] | np.ndarray:  # noqa: ANN401
        """Encode examples, one array each."""

    @abstractmethod
    def batch(self, inputs: Any, place: tuple[int, int] | None) -> tuple[np.ndarray, ...]:  # noqa: ANN401
        """Lay encoded examples side by side, as the model takes them.

        `place` is (step, first row) while training, which may vary them.
        """

    @abstractmethod
    def model(self) -> nn.Module:
        """Build the model, its weights drawn from torch's generator."""

    @abstractmethod
    def baseline(self, items: Any, labels: np.ndarray) -> Baseline:  # noqa: ANN401
        """Fit the simple models."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """Give what :meth:`restore` reads, for JSON."""

    @classmethod
    @abstractmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Baseline]:
        """Undo :meth:`saved`, and the baseline's `to_arrays`."""

    @abstractmethod
    def wanted(self, inputs: Sequence[str]) -> tuple[Any, list[str]]:
        """Give what a person wants labelled as examples, and what each is called.

        Raises:
            InputError: If one is empty or cannot be read.
        """

    @abstractmethod
    def drawn(self, items: Any, verdicts: Sequence[str]) -> str:  # noqa: ANN401
        """Show some examples with what is said of each."""

    def lengths(self, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """Give the steps of each example; those of like length are best read together."""
        return np.zeros(len(inputs), np.int64)

    def lost(self, found: Found, inputs: Any) -> dict[str, int]:  # noqa: ANN401
        """Count what the model cannot see of some data."""
        return {}


def picked(values: Any, rows: Sequence[int] | np.ndarray) -> Any:  # noqa: ANN401 - a list or an array
    """Give some of a list, or of an array's rows."""
    return [values[i] for i in rows] if isinstance(values, list) else values[np.asarray(rows, int)]


def tensors(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Give arrays to a device."""
    return [torch.from_numpy(array).to(device) for array in arrays]
