"""Rows of numbers as examples of a classifier. N rows, C columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from unrolled.data.rows import is_rows, parse_row, read_rows
from unrolled.data.scaling import divisors
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.bag import Nearest
from unrolled.tasks.examples import Examples, Found
from unrolled.tasks.read_out import dropped, finished, layered


class RowMLP(nn.Module):
    """All columns -> hidden layers -> logits: f = W2 a(W1 x + b1) + b2 with one.

    Args:
        columns: Number of columns.
        classes: Number of labels.
        settings: `dense`, else `layers` of `hidden` units; `dense_activation` is a; `dropout` of the
            columns.
    """

    def __init__(self, columns: int, classes: int, settings: Settings) -> None:
        super().__init__()
        model, own = settings.model, settings.classifier
        dense = own.dense or (model.hidden,) * model.layers
        self.dropout = model.dropout
        self.readout = layered(columns, dense, classes, own.dense_activation)

    def forward(self, x: Tensor) -> Tensor:
        """Score the labels: x (B, columns) -> logits (B, classes)."""
        return self.readout(dropped(x, self.dropout, self.training, 0))


class NumberRows(Examples):
    """Rows of numbers in named columns.

    Args:
        settings: Of the run.
        classes: Number of labels.
        columns: Their names; those of the first table that was read.
        mean: Of each column (C,).
        deviation: Its standard deviation.
    """

    key, unit, word, shown = "columns", "rows", "row", 4
    asked = ("'5.1,3.5,1.4,0.2'", "more.csv")
    defaults: ClassVar = {
        "classifier": {"model": "mlp"},
        "model": {"hidden": 32},
        "training": {"lr": 0.01, "batch_size": 16, "steps": 500},
    }

    def __init__(
        self,
        settings: Settings,
        classes: int,
        columns: Sequence[str],
        mean: np.ndarray,
        deviation: np.ndarray,
    ) -> None:
        self.settings, self.classes, self.columns = settings, classes, list(columns)
        self.mean, self.deviation = mean, deviation

    @classmethod
    def takes(cls, sources: Sequence[str]) -> bool:
        """Tell whether sources are tables of numbers."""
        return is_rows(sources)

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Take an mlp."""
        return cls.defaults

    @classmethod
    def load(cls, sources: Sequence[str], settings: Settings, columns: Sequence[str] = ()) -> Found:
        """Read labelled rows, see :func:`unrolled.data.rows.read_rows`."""
        found = read_rows(sources, settings.data.encoding, columns=columns)
        return Found(np.array(found.values), found.labels, found.where)

    @classmethod
    def fit(cls, settings: Settings, classes: int, items: np.ndarray) -> Self:
        """Measure the columns of the training rows (N, C)."""
        mean = items.mean(0)
        columns = read_rows(settings.data.source[:1], settings.data.encoding).columns
        return cls(settings, classes, columns, mean, divisors(mean, items.std(0)))

    def read(self, sources: Sequence[str]) -> Found:
        """Read labelled rows with the columns that the model was trained on."""
        return self.load(sources, self.settings, self.columns)

    def inputs(self, items: np.ndarray) -> np.ndarray:
        """Give columns of mean 0 and deviation 1, as the training rows have them."""
        return ((items - self.mean) / self.deviation).astype(self.settings.model.dtype)

    def batch(self, inputs: np.ndarray, place: tuple[int, int] | None) -> tuple[np.ndarray, ...]:
        """Give rows (B, C)."""
        return (np.ascontiguousarray(inputs),)

    def model(self) -> nn.Module:
        """Build the perceptron.

        Raises:
            InputError: If the settings ask for another model.
        """
        asked = self.settings.classifier.model
        if asked != "mlp":
            raise InputError(f"--model {asked}: rows of numbers are read by mlp")
        built = RowMLP(len(self.columns), self.classes, self.settings)
        return finished(built, self.settings.model)

    def baseline(self, items: np.ndarray, labels: np.ndarray) -> Nearest:
        """Fit the mean row of each label."""
        return Nearest.fit(items, labels, self.classes)

    def saved(self) -> dict[str, Any]:
        """Give names, mean and deviation of the columns."""
        mean, deviation = self.mean.tolist(), self.deviation.tolist()
        return {self.key: self.columns, "mean": mean, "deviation": deviation}

    @classmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Nearest]:
        """Rebuild from names, mean and deviation."""
        columns = [str(name) for name in table[cls.key]]
        mean, deviation = (np.array(table[name], float) for name in ("mean", "deviation"))
        own = cls(settings, classes, columns, mean, deviation)
        return own, Nearest.from_arrays(classes, len(columns), arrays)

    def wanted(self, inputs: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Read rows written as numbers with commas, and those of files."""
        values, names = [], []
        for text in inputs:
            if Path(text).is_file():
                found = self.read([text])
                values += found.items.tolist()
                names += found.where
            else:
                values.append(parse_row(text, self.columns))
                names.append(text)
        return np.array(values), names

    def drawn(self, items: np.ndarray, verdicts: Sequence[str]) -> str:
        """Write each row's numbers, and what is said of it."""
        rows = (" ".join(f"{value:g}" for value in row) for row in items)
        return "\n".join(f"{row} -> {said}" for row, said in zip(rows, verdicts, strict=True))
