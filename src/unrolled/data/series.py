"""Series of numbers: the columns of a CSV file, or the Mackey-Glass equation.

N steps in all, K columns.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import pairwise
from typing import Any, Self

import numpy as np

from unrolled.data.made import mackey_glass
from unrolled.data.read import find_pieces
from unrolled.data.sequences import Sequences, Source
from unrolled.data.splits import Split
from unrolled.errors import InputError
from unrolled.settings import DataSettings, Settings

MADE = "mackey-glass"
LAGS = 32
"""Steps back that the linear baseline looks at."""
MOST_STARTS = 200
"""Steps of a split from which a recursive forecast is judged."""


def read_columns(sources: Sequence[str], data: DataSettings) -> tuple[list[str], np.ndarray]:
    """Read a CSV file of numbers with a header.

    Args:
        sources: One file, ``"-"``, or data set of one file, see :func:`unrolled.data.open_text`.
        data: ``columns`` says which to read and in which order, else all; and ``encoding`` counts.

    Returns:
        Names (K) and values (N, K) float64.

    Raises:
        InputError: If there are several files, a column is not there, or a row or cell is bad; the
            sentence says where.
    """
    pieces = find_pieces(sources, data.encoding)
    if len(pieces) != 1:
        raise InputError(f"a series is one file, but {', '.join(sources)} are {len(pieces)}")
    name = pieces[0].name
    text = pieces[0].text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    reader = csv.reader(StringIO(text, newline=""))
    header = [column.strip() for column in next(reader, [])]
    places = _places(header, data.columns, name)
    values: list[list[float]] = []
    for row in reader:
        where = f"{name}:{reader.line_num}"
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(f"{where} has {len(row)} cells, but the header names {len(header)}")
        values.append([_number(row[place], header[place], where) for place in places])
    if not values:
        raise InputError(f"{name} has no rows below its header")
    return [header[place] for place in places], np.array(values)


def _places(header: list[str], wanted: Sequence[str], name: str) -> list[int]:
    if not header:
        raise InputError(f"{name} is empty; it needs a header and rows of numbers")
    for column in wanted:
        if column not in header:
            raise InputError(f"{name} has no column {column!r}; it has {', '.join(header)[:200]}")
    return [header.index(column) for column in wanted] or list(range(len(header)))


def _number(cell: str, column: str, where: str) -> float:
    if not cell.strip():
        raise InputError(f"{where}: the value of {column} is missing")
    try:
        value = float(cell)
    except ValueError:
        raise InputError(
            f"{where}: {cell.strip()[:40]!r} in {column} is not a number; --columns chooses others"
        ) from None
    if not np.isfinite(value):
        raise InputError(f"{where}: {cell.strip()} in {column} is not a finite number")
    return value


class Series(Source):
    """K columns over time, each scaled by the mean and deviation of its training part.

    y_t is x_{t + horizon}. The last steps are held out. Rows of training are windows drawn anywhere;
    a held-out part is one row that begins early enough to warm up.

    Args:
        settings: ``data`` (``split``, ``horizon``, ``recursive``) and ``training`` (``window``, ...).
        columns: Names.
        mean: Of each column (K,).
        deviation: Of each column (K,).
        values: (N, K) as they were read; ``None`` if restored.
    """

    kind = "series"
    metric = "nrmse"
    examples = ("a-series.csv", "another.csv")

    def __init__(
        self,
        settings: Settings,
        columns: Sequence[str],
        mean: np.ndarray,
        deviation: np.ndarray,
        values: np.ndarray | None = None,
    ) -> None:
        self.settings = settings
        self.columns = list(columns)
        self.inputs = self.outputs = len(self.columns)
        self.mean, self.deviation = mean, deviation
        self.horizon = settings.data.horizon
        # What is learned; a recursive forecast goes by single steps.
        self.ahead = 1 if settings.data.recursive else self.horizon
        self.values = np.zeros((0, self.inputs)) if values is None else (values - mean) / deviation

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read the series, scale it, and see that its parts are long enough."""
        data = settings.data
        if data.source == (MADE,):
            made = mackey_glass(data.length or 10_000)
            columns, values = ["x"], made[:, None]
        else:
            columns, values = read_columns(data.source, data)
        end = round(data.split[0] * len(values))
        needed = settings.training.window + data.horizon
        if end < needed:
            raise InputError(
                f"the series has {end:,} steps to train on, but --window and --horizon need {needed:,}"
            )
        mean, deviation = values[:end].mean(0), values[:end].std(0)
        deviation[deviation == 0] = 1
        source = cls(settings, columns, mean, deviation, values)
        for fraction, (start, stop) in zip(data.split, source.ends, strict=True):
            if fraction and stop - start < 2:
                raise InputError(f"{len(values):,} steps are too few to split; add more")
        return source

    @classmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """Rebuild the scaling."""
        mean, deviation = np.array(table["mean"]), np.array(table["deviation"])
        return cls(settings, table["columns"], mean, deviation)

    def to_json(self) -> dict[str, Any]:
        """Give the names of the columns and their scaling."""
        return {
            "columns": self.columns,
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }

    @property
    def scale(self) -> np.ndarray:
        """The deviations."""
        return self.deviation

    @property
    def ends(self) -> list[tuple[int, int]]:
        """First step and end of each split."""
        borders = [0, *np.rint(np.cumsum(self.settings.data.split) * len(self.values)).astype(int)]
        return list(pairwise(borders))

    @property
    def epoch(self) -> int:
        """Windows that lie end to end in the training part."""
        return max(1, self.ends[0][1] // self.settings.training.window)

    @property
    def digest(self) -> str:
        """A hash of the values and of the names."""
        return hashlib.sha256(repr(self.columns).encode() + self.values.tobytes()).hexdigest()

    def whole(self) -> Sequences:
        """The training part as one row."""
        x = self.values[: self.ends[0][1]]
        return Sequences.full(x[: -self.ahead, None], x[self.ahead :, None])

    def batch(self, step: int, rows: slice) -> Sequences:
        """Windows that begin where the seed and the step's number say."""
        training = self.settings.training
        random = np.random.default_rng([training.seed, step])
        last = self.ends[0][1] - training.window - self.ahead
        starts = random.integers(0, last + 1, training.batch_size)[rows]
        places = np.arange(training.window)[:, None] + starts
        return Sequences.full(self.values[places], self.values[places + self.ahead])

    def held_out(self, split: Split) -> Iterator[Sequences]:
        """One row whose judged targets are the split, all of it."""
        start, stop = self.ends[("training", "validation", "test").index(split)]
        yield self._part(self.values, start, stop)

    def other(self, sources: Sequence[str]) -> Iterator[Sequences]:
        """One row: a whole file, of which the first steps, at most half of them, warm up."""
        values = self._read(sources)
        yield self._part(values, min(len(values) // 2, self._warm), len(values))

    @property
    def _warm(self) -> int:
        """Steps to read before a forecast is judged."""
        settings = self.settings
        washout = settings.model.washout if settings.model.cell == "esn" else 0
        return max(settings.training.window, LAGS, washout) + self.horizon

    def _part(self, values: np.ndarray, start: int, stop: int) -> Sequences:
        start = max(start, self.horizon)
        first = max(0, start - self._warm)
        x, y = values[first : stop - self.horizon], values[first + self.horizon : stop]
        judged = np.arange(len(x)) >= start - first - self.horizon
        if self.settings.data.recursive:
            among = np.flatnonzero(judged)
            count = min(MOST_STARTS, len(among))
            judged = np.zeros(len(x), bool)
            judged[among[np.linspace(0, len(among) - 1, count).astype(int)]] = True
        return Sequences.full(x[:, None], y[:, None], judged[:, None])

    def _read(self, sources: Sequence[str]) -> np.ndarray:
        if list(sources) == [MADE]:  # another stretch: other seeds have another past
            values = mackey_glass(5000, seed=1)[:, None]
        else:
            data = self.settings.data.model_copy(update={"columns": tuple(self.columns)})
            _, values = read_columns(sources, data)
        if values.shape[1] != self.inputs or len(values) <= self.horizon + 1:
            raise InputError(
                f"{', '.join(sources)} has {len(values)} steps of {values.shape[1]} columns; the model "
                f"needs {', '.join(self.columns)} and more than {self.horizon + 1} steps"
            )
        return (values - self.mean) / self.deviation

    def asked(self, name: str) -> np.ndarray:
        """Read a series that is to be continued."""
        return self._read([name])[:, None]

    def told(self, y: np.ndarray) -> dict[str, list[float]]:
        """Name of a column -> the forecasts that reach beyond the end of what was read."""
        values = y * self.deviation + self.mean
        return dict(zip(self.columns, values.T.tolist(), strict=True))

    def fit_baselines(self) -> dict[str, np.ndarray]:
        """A linear autoregression of 32 steps for the whole horizon, by least squares."""
        x = self.values[: self.ends[0][1]]
        lags = self._lags(x)[LAGS - 1 : -self.horizon]
        if len(lags) <= lags.shape[1]:
            return {}
        weight, *_ = np.linalg.lstsq(lags, x[LAGS - 1 + self.horizon :], rcond=None)
        return {"linear": weight}

    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The value there is, the mean, and the autoregression."""
        found = {"last_value": batch.x, "mean": np.zeros_like(batch.y)}
        if "linear" in fitted:
            found["linear"] = (self._lags(batch.x[:, 0]) @ fitted["linear"])[:, None]
        return found

    @staticmethod
    def _lags(x: np.ndarray) -> np.ndarray:
        """1 and the last 32 values at each step, zero before the first: (n, 1 + 32 K)."""
        padded = np.concatenate([np.zeros((LAGS - 1, x.shape[1])), x])
        windows = np.lib.stride_tricks.sliding_window_view(padded, LAGS, axis=0)
        return np.concatenate([np.ones((len(x), 1)), windows.reshape(len(x), -1)], 1)
