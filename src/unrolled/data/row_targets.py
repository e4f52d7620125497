"""Rows of numbers that each stand alone: some columns are told from the others.

N rows, I columns to read, O to tell.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from unrolled.data.lagged import least_squares
from unrolled.data.rows import parse_row
from unrolled.data.scaling import divisors
from unrolled.data.sequences import Asked, Sequences, Source
from unrolled.data.series_files import read_columns
from unrolled.data.splits import SPLITS, Split, borders, drawn
from unrolled.errors import InputError
from unrolled.settings import Settings

TARGET = "target"
"""The column to tell, where nobody names one."""
FRIEDMAN = 1000
"""Rows of friedman, where nobody says how many."""
ROWS_AT_ONCE = 4096

_log = logging.getLogger(__name__)


class RowTargets(Source):
    """Rows: x (1, B, I) and y (1, B, O), each column scaled by the mean and deviation of the training rows.

    Different rows are shuffled by the seed and split; the same rows all go to the same split. ``diabetes``
    is scikit-learn's, 442 patients; ``friedman`` is made: y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 +
    5 x5 + e of ten columns, e normal (Friedman 1991, section 4.3).

    Args:
        settings: ``data`` (``columns``, ``targets``, ``split``, ``missing``, ``length``),
            ``forecast.scaling`` and ``training`` count.
        columns: Names, those to tell last.
        outputs: O.
        mean: Of each column (I + O,).
        deviation: Its standard deviation.
        parts: The rows of each split, scaled (n, I + O); ``None`` if restored.
    """

    kind = "rows"
    built_in: ClassVar = ("diabetes", "friedman")
    examples = ("'0.5,1.2,3'", "more.csv")
    asked_for, counted = "row", "rows"

    def __init__(
        self,
        settings: Settings,
        columns: Sequence[str],
        outputs: int,
        mean: np.ndarray,
        deviation: np.ndarray,
        parts: Mapping[Split, np.ndarray] | None = None,
    ) -> None:
        self.settings, self.columns = settings, list(columns)
        self.outputs, self.inputs = outputs, len(self.columns) - outputs
        self.mean, self.deviation = mean, deviation
        self._parts = parts or {}

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read the rows, split them, and scale by the training rows."""
        data = settings.data
        targets = list(data.targets) or [TARGET]
        wanted = dict.fromkeys((*data.columns, *targets)) if data.columns else ()
        names, values = _read(data.source, settings, [*wanted])
        if missing := [name for name in targets if name not in names]:
            raise InputError(
                f"there is no column {missing[0]!r} to tell; name one or several of {', '.join(names)} "
                "with --targets"
            )
        columns = [*(name for name in names if name not in targets), *targets]
        if len(columns) == len(targets):
            raise InputError(f"--targets {','.join(targets)} leaves no column to tell them from")
        values = values[:, [names.index(name) for name in columns]]
        places = _split(values, settings)
        mean, deviation = np.zeros(len(columns)), np.ones(len(columns))
        if settings.forecast.scaling == "standard":
            training = values[places["training"]]
            mean = training.mean(0)
            deviation = divisors(mean, training.std(0))
        scaled = (values - mean) / deviation
        parts: dict[Split, np.ndarray]
        parts = {split: scaled[rows] for split, rows in places.items()}
        own = cls(settings, columns, len(targets), mean, deviation, parts)
        own._warn_of_leaks()
        return own

    @classmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """Rebuild the columns and their scaling."""
        mean, deviation = np.array(table["mean"]), np.array(table["deviation"])
        return cls(settings, table["columns"], int(table["outputs"]), mean, deviation)

    def to_json(self) -> dict[str, Any]:
        """Give the columns, how many are told, and their scaling."""
        scaling = {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}
        return {"columns": self.columns, "outputs": self.outputs, **scaling}

    def _warn_of_leaks(self) -> None:
        """Warn of held-out rows whose inputs are learned from: they are told apart by what is told alone."""
        read = {
            split: [row.tobytes() for row in self._x(part)] for split, part in self._parts.items()
        }
        known = set(read["training"])
        for split in SPLITS[1:]:
            if count := sum(row in known for row in read[split]):
                _log.warning(
                    "%d of the %d %s rows read the same as rows that are learned from, so its figures "
                    "flatter the model",
                    *(count, len(read[split]), split),
                )

    def _x(self, values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values[:, : self.inputs])

    @property
    def scale(self) -> np.ndarray:
        """The deviations of what is told."""
        return self.deviation[self.inputs :]

    @property
    def epoch(self) -> int:
        """Rows to train on."""
        return len(self._parts["training"])

    @property
    def digest(self) -> str:
        """A hash of the names, and the rows of each split."""
        digest = hashlib.sha256(repr(self.columns).encode())
        for split, values in self._parts.items():
            digest.update(split.encode() + values.tobytes())
        return digest.hexdigest()

    def batch(self, step: int, rows: slice) -> Sequences:
        """Rows shuffled anew in every epoch."""
        training = self.settings.training
        chosen = drawn(self.epoch, training.seed, training.batch_size, step, rows)
        return self._laid(self._parts["training"][chosen])

    def _laid(self, values: np.ndarray) -> Sequences:
        return Sequences.full(values[None, :, : self.inputs], values[None, :, self.inputs :])

    def held_out(self, split: Split) -> Iterator[Sequences]:
        """All rows of a split."""
        return self._batches(self._parts[split])

    def _batches(self, values: np.ndarray) -> Iterator[Sequences]:
        for start in range(0, len(values), ROWS_AT_ONCE):
            yield self._laid(values[start : start + ROWS_AT_ONCE])

    def other(self, sources: Sequence[str]) -> Iterator[Sequences]:
        """All rows of a table with these columns."""
        _, values = _read(sources, self.settings, self.columns)
        return self._batches((values - self.mean) / self.deviation)

    def asked(self, name: str) -> Asked:
        """Read one row: numbers with commas between them."""
        return self._row(np.array(parse_row(name, self.columns[: self.inputs])))

    def _row(self, values: np.ndarray) -> Asked:
        x = (values - self.mean[: self.inputs]) / self.deviation[: self.inputs]
        return Asked.at_end(x[None, None])

    def all_asked(self, inputs: Sequence[str]) -> Iterator[tuple[str, Asked]]:
        """Read rows as they are written, and those of files."""
        for text in inputs:
            if not Path(text).is_file():
                yield text, self.asked(text)
                continue
            _, values = _read([text], self.settings, self.columns[: self.inputs])
            for number, row in enumerate(values, 1):
                yield f"{Path(text).name}:{number}", self._row(row)

    def told(self, y: np.ndarray) -> dict[str, float]:
        """Name of a column -> what is told of it."""
        return dict(zip(self.columns[self.inputs :], self._in_units(y).tolist(), strict=True))

    def line(self, truth: np.ndarray, forecast: np.ndarray) -> str:
        """Set some numbers side by side, in the data's units."""
        return super().line(self._in_units(truth), self._in_units(forecast))

    def _in_units(self, y: np.ndarray) -> np.ndarray:
        return y * self.scale + self.mean[self.inputs :]

    def fit_baselines(self) -> dict[str, np.ndarray]:
        """The mean of the training rows, and a line by least squares."""
        training = self._laid(self._parts["training"])
        weight, bias = least_squares(training.x[0], training.y[0])
        return {"mean": training.y[0].mean(0), "weight": weight, "bias": bias}

    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The mean of the training rows, and a line."""
        return {
            "training_mean": np.broadcast_to(fitted["mean"], batch.y.shape),
            "least_squares": batch.x @ fitted["weight"] + fitted["bias"],
        }


def _read(
    sources: Sequence[str], settings: Settings, columns: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Give the names of columns, all if none are named, and their numbers (N, columns)."""
    first = sources[0]
    if len(sources) > 1 or first not in RowTargets.built_in or Path(first).exists():
        return read_columns(sources, settings.data, columns)
    names, values = _built_in(first, settings.data.length)
    if strange := [name for name in columns if name not in names]:
        raise InputError(f"{first} has no column {strange[0]!r}; it has {', '.join(names)}")
    columns = columns or names
    return [*columns], values[:, [names.index(name) for name in columns]]


def _built_in(name: str, length: int | None) -> tuple[list[str], np.ndarray]:
    from sklearn import datasets

    if name == "friedman":
        x, y = datasets.make_friedman1(length or FRIEDMAN, noise=1.0, random_state=0)
        names = [f"x{n + 1}" for n in range(x.shape[1])]
    else:
        bunch: Any = datasets.load_diabetes(scaled=False)
        names, x, y = [*bunch["feature_names"]], bunch["data"][:length], bunch["target"][:length]
    return [*names, TARGET], np.column_stack([x, y])


def _split(values: np.ndarray, settings: Settings) -> dict[Split, np.ndarray]:
    """Share out different rows by the seed."""
    _, which = np.unique(values, axis=0, return_inverse=True)
    which, count = which.ravel(), int(which.max()) + 1
    place = np.random.default_rng([settings.training.seed]).permutation(count)[which]
    ends = borders(count, settings.data.split, f"{count} different rows")
    of = np.searchsorted(ends[1:3], place, side="right")
    return {split: np.flatnonzero(of == n) for n, split in enumerate(SPLITS)}
