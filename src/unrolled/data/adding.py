"""The adding problem as something to forecast: one number at the end of a sequence."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.random import Generator

from unrolled.data.made import adding
from unrolled.data.sequences import Asked, Made, Sequences
from unrolled.data.series_files import read_series
from unrolled.data.splits import Split
from unrolled.errors import InputError
from unrolled.settings import Settings


class Adding(Made):
    """Sequences of numbers and marks, and at their end the sum of the two marked numbers."""

    kind = "adding"
    examples = ("numbers-and-marks.csv", "adding")
    inputs = 2
    outputs = 1

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Make nothing yet."""
        return cls(settings, 100)

    @classmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """There is nothing to restore."""
        return cls.prepare(settings)

    def draw(self, rows: int, random: Generator, split: Split) -> Sequences:
        """Draw rows, of which the last step is judged."""
        x, total = adding(self.length, rows, random)
        judged = np.zeros(x.shape[:2], bool)
        judged[-1] = True
        return Sequences.full(x, np.where(judged, total, 0)[..., None], judged)

    def asked(self, name: str) -> Asked:
        """Read a CSV file with two columns, the numbers and the marks."""
        found = read_series([name], self.settings)
        if len(found.names) != 2:
            raise InputError(
                f"{name} has {len(found.names)} columns; adding needs two, numbers and marks"
            )
        return Asked.at_end(found.values[:, None])

    def told(self, y: np.ndarray) -> float:
        """Give the sum."""
        return float(y[0])

    def fit_baselines(self) -> dict[str, np.ndarray]:
        """The mean of all sums, which is known."""
        return {"constant": np.ones(1)}

    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Always the mean."""
        return {"constant": np.broadcast_to(fitted["constant"], batch.y.shape)}
