"""What a forecaster learns from: sequences of numbers, and what is to be told of them at which steps.

T steps, B rows, I inputs, O outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.random import Generator

from unrolled.data.splits import SPLITS, Split
from unrolled.errors import InputError
from unrolled.settings import Settings


@dataclass(frozen=True)
class Sequences:
    """Rows side by side."""

    x: np.ndarray
    """(T, B, I), or (T, B, I, rows, columns) of films; zero past a row's end."""
    y: np.ndarray
    """(T, B, O), or (T, B, O, rows, columns)."""
    judged: np.ndarray
    """(T, B) bool: the steps at which y is known and wanted."""
    lengths: np.ndarray
    """(B,) int64."""

    @classmethod
    def full(cls, x: np.ndarray, y: np.ndarray, judged: np.ndarray | None = None) -> Self:
        """Rows that are all T long, judged at every step unless said otherwise."""
        every = np.ones(x.shape[:2], bool) if judged is None else judged
        return cls(x, y, every, np.full(x.shape[1], len(x), np.int64))

    def rows(self, rows: slice) -> "Sequences":
        """Some of the rows."""
        return Sequences(self.x[:, rows], self.y[:, rows], self.judged[:, rows], self.lengths[rows])


@dataclass(frozen=True)
class Asked:
    """A sequence of which a forecast is wanted."""

    x: np.ndarray
    """(T, 1, I, ...)."""
    start: int
    """The step from which; later ones tell what is known ahead."""
    times: list[str] | None = None
    """Of the steps that are forecast, if they are known."""

    @classmethod
    def at_end(cls, x: np.ndarray) -> Self:
        """Ask for what follows the last step."""
        return cls(x, len(x) - 1)


class Source(ABC):
    """One kind of data, with its splits or, restored, only with what it needs to read more of it."""

    kind: ClassVar[str]
    binary: bool = False
    """Whether y holds zeros and ones, of which probabilities are forecast."""
    examples: ClassVar[tuple[str, str]]
    """What one might predict from, and evaluate on."""
    asked_for: ClassVar[str] = "file"
    """What one input of :meth:`all_asked` is."""
    counted: ClassVar[str] = "steps"
    """What forecasts are judged at."""
    inputs: int
    outputs: int
    grid: tuple[int, ...] = ()
    """Rows and columns of films."""

    @classmethod
    @abstractmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read or make the data.

        Raises:
            InputError: If it is missing, damaged or too short.
        """

    @classmethod
    @abstractmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_json`, without the data."""

    def to_json(self) -> dict[str, Any]:
        """Give what :meth:`restore` needs."""
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        """What is told at a step; without the pixels of films."""
        return (self.outputs,)

    @property
    def scale(self) -> np.ndarray:
        """(O,): what y is multiplied by to be in the data's own units."""
        return np.ones(self.outputs)

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Rows that count as one pass over the training split."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of the data."""

    @abstractmethod
    def batch(self, step: int, rows: slice) -> Sequences:
        """Rows of the training batch number `step`, always the same."""

    @abstractmethod
    def held_out(self, split: Split) -> Iterator[Sequences]:
        """The rows of a split, batch by batch."""

    @abstractmethod
    def other(self, sources: Sequence[str]) -> Iterator[Sequences]:
        """Other data of the same kind, batch by batch.

        Raises:
            InputError: If it cannot be read.
        """

    @abstractmethod
    def asked(self, name: str) -> Asked:
        """Read one sequence, of which a forecast is wanted, from a file.

        Raises:
            InputError: If it cannot be read.
        """

    def all_asked(self, inputs: Sequence[str]) -> Iterator[tuple[str, Asked]]:
        """Read all sequences of which a forecast is wanted, one a file, and say what each is called.

        Raises:
            InputError: If one cannot be read.
        """
        for name in inputs:
            yield Path(name).name, self.asked(name)

    @abstractmethod
    def told(self, y: np.ndarray) -> Any:  # noqa: ANN401 - any JSON value
        """Put a forecast (O, ...) in words: what JSON can hold."""

    def line(self, truth: np.ndarray, forecast: np.ndarray) -> str:
        """Set a truth (O, ...) and its forecast side by side, for people."""
        numbers = (", ".join(f"{n:.3f}" for n in side.ravel()[:4]) for side in (truth, forecast))
        return "truth {}, forecast {}".format(*numbers)

    def fit_baselines(self) -> dict[str, np.ndarray]:
        """Fit the baselines on the training split; give what they need as arrays."""
        return {}

    @abstractmethod
    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Name of a baseline -> its forecasts, shaped as the batch's y; probabilities if binary."""


class Made(Source):
    """Rows that are drawn as they are needed, so that none comes twice.

    Args:
        settings: ``data.length`` and ``training.seed`` count.
        length: T where the settings do not say.
    """

    held: ClassVar[int] = 2000
    """Rows of the validation and of the test split."""
    smallest: ClassVar[int] = 2

    def __init__(self, settings: Settings, length: int) -> None:
        self.settings = settings
        self.length = settings.data.length or length
        if self.length < self.smallest:
            raise InputError(
                f"--length {self.length}: {self.kind} needs at least {self.smallest} steps"
            )

    @abstractmethod
    def draw(self, rows: int, random: Generator, split: Split) -> Sequences:
        """Draw rows of a split."""

    @property
    def epoch(self) -> int:
        """As many as Le, Jaitly & Hinton 2015 have."""
        return 100_000

    @property
    def digest(self) -> str:
        """The name of the problem and the length of its sequences."""
        return f"{self.kind}-{self.length}"

    def batch(self, step: int, rows: slice) -> Sequences:
        """Draw the batch by the seed and its number."""
        training = self.settings.training
        random = np.random.default_rng([training.seed, 0, step])
        return self.draw(training.batch_size, random, "training").rows(rows)

    def held_out(self, split: Split) -> Iterator[Sequences]:
        """Draw the rows of a split, the same for all seeds of training."""
        for part in range(0, self.held, 250):
            random = np.random.default_rng([SPLITS.index(split), part, 1])
            yield self.draw(min(250, self.held - part), random, split)

    def other(self, sources: Sequence[str]) -> Iterator[Sequences]:
        """Give the test split again: there is no other data."""
        if list(sources) != [self.kind]:
            raise InputError(
                f"{', '.join(sources)}: this model learned {self.kind}, which is made, not read; "
                f"evaluate it on {self.kind}"
            )
        yield from self.held_out("test")
