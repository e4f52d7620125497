"""What is timed against each other: sides of a comparison, made from the same weights and input."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from unrolled.inspect.bench.workloads import Workload

Arrays = Mapping[str, np.ndarray]


class Skipped(Exception):
    """A peer has nothing to set against a workload; the text is the reason."""


@dataclass(frozen=True)
class Case:
    """A workload with its numbers.

    Attributes:
        x: The input, (T, B, I) float32; for a whole training step the text, (symbols,) int64.
        weights: By torch's names; those of a registered cell by its own.
        constants: What is not trained of a registered cell: its buffers.
    """

    workload: Workload
    x: np.ndarray
    weights: Arrays
    constants: Arrays = field(default_factory=dict)

    @property
    def plain(self) -> "Case":
        """The same without noise."""
        return replace(self, workload=replace(self.workload, noise=""))


@dataclass(frozen=True)
class Results:
    """What a side computes, to be compared.

    Attributes:
        outputs: (T, B, H), zero past a row's end; of a whole training step, the losses.
        tensors: The gradients by torch's names, none for inference; of a whole training step, the weights.
    """

    outputs: np.ndarray
    tensors: Arrays


class Side(ABC):
    """One way to compute a workload."""

    spins: ClassVar[float] = 0.05
    """Seconds that its threads may spin for a next call, where the other side's would run."""

    @abstractmethod
    def once(self) -> None:
        """Compute it."""

    @abstractmethod
    def results(self) -> Results:
        """Compute it, and give what came of it."""

    @property
    def note(self) -> str:
        """Why ours does not take its fastest way, apart from the engine; mostly empty."""
        return ""

    def repeat(self, times: int) -> None:
        """Compute it so many times."""
        for _ in range(times):
            self.once()


def float32_only(case: Case) -> None:
    """Skip a workload of another precision.

    Raises:
        Skipped: If it is one.
    """
    if case.workload.precision != "float32":
        raise Skipped("is set up for float32 only")


def no_lengths(case: Case) -> None:
    """Skip a workload of unequal lengths.

    Raises:
        Skipped: If it is one.
    """
    if case.workload.packed:
        raise Skipped("takes no unequal lengths")
