"""Series of numbers: the columns of a file, or the Mackey-Glass equation.

N steps in all, C columns, of which K are forecast, H steps ahead.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np

from unrolled.data.lagged import find_season, futures, lags, least_squares, seasonal_naive
from unrolled.data.made import mackey_glass
from unrolled.data.scaling import divisors
from unrolled.data.sequences import Asked, Sequences, Source
from unrolled.data.series_files import Numbers, read_series
from unrolled.data.splits import Split
from unrolled.errors import InputError
from unrolled.settings import Settings

MADE = "mackey-glass"
MOST_STARTS = 200
"""Steps of a split from which a recursive forecast is judged."""


class Series(Source):
    """C columns over time, each scaled by the mean and deviation of its training part.

    x_t is the columns at t and, of those that are known ahead, their values at t + 1 ... t + H; y_t is
    the K columns that are forecast at t + 1 ... t + H, (K, H). The last steps are held out, and a
    forecast is judged if all its steps lie in a part. Rows of training are windows drawn anywhere; a
    held-out part is one row that begins early enough to warm up.

    Args:
        settings: ``data`` (``split``, ``folds``, ``horizon``, ``recursive``), ``forecast`` and
            ``training`` (``window``, ...).
        columns: Names.
        mean: Of each column (C,).
        deviation: Of each column (C,).
        season: Steps of a season.
        values: (N, C) as they were read; ``None`` if restored.
    """

    kind = "series"
    examples = ("a-series.csv", "another.csv")

    def __init__(
        self,
        settings: Settings,
        columns: Sequence[str],
        mean: np.ndarray,
        deviation: np.ndarray,
        season: int,
        values: np.ndarray | None = None,
    ) -> None:
        self.settings, self.season = settings, season
        self.columns = list(columns)
        self.mean, self.deviation = mean, deviation
        own, data, lagged = settings.forecast, settings.data, settings.classifier.model
        self.known = [self.columns.index(name) for name in own.known]
        self.targets = [self.columns.index(name) for name in data.targets]
        if not data.targets:
            self.targets = [n for n in range(len(columns)) if n not in self.known]
        self.horizon = data.horizon
        # What is learned; a recursive forecast goes by single steps.
        self.ahead = 1 if data.recursive else self.horizon
        self.inputs = len(self.columns) + self.ahead * len(self.known)
        self.outputs = len(self.targets)
        self.rises = own.head == "direction"
        self.binary = self.rises
        # Steps a forecast is made from; those before in a row have none.
        self.context = 1
        self.length = settings.training.window
        if lagged in ("ar", "mlp"):
            self.length = self.context = own.order
        elif own.scaling == "window":
            self.context = self.length
        scaled = (values - mean) / deviation if values is not None else np.zeros((0, len(columns)))
        self.values = scaled
        self._x, self._y = self._laid(scaled)

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read the series, scale it, and see that its parts are long enough."""
        data, own = settings.data, settings.forecast
        found = _read(data.source, settings)
        columns, values = found.names, found.values
        _check_columns(settings, columns)
        parts = _parts(len(values), settings)
        end = parts[0][1]
        if own.scaling == "none":
            mean, deviation = np.zeros(len(columns)), np.ones(len(columns))
        else:
            mean = values[:end].mean(0)
            deviation = divisors(mean, values[:end].std(0))
        season = own.season or (found.clock and found.clock.season) or find_season(values[:end])
        source = cls(settings, columns, mean, deviation, season, values)
        needed = source.length + source.ahead
        if end < needed:
            raise InputError(
                f"the series has {max(0, end):,} steps to train on, but --window (or --order) and "
                f"--horizon need {needed:,}"
            )
        for name, fraction, (start, stop) in zip(
            ("validation", "test"), data.split[1:], parts[1:], strict=True
        ):
            if fraction and stop - start < data.horizon:
                raise InputError(
                    f"{len(values):,} steps are too few to split: {stop - start} are left for {name}, and "
                    f"--horizon is {data.horizon}"
                )
        return source

    @classmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """Rebuild the scaling."""
        mean, deviation = np.array(table["mean"]), np.array(table["deviation"])
        return cls(settings, table["columns"], mean, deviation, int(table["season"]))

    def to_json(self) -> dict[str, Any]:
        """Give the names of the columns, their scaling and the season."""
        return {
            "columns": self.columns,
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "season": self.season,
        }

    def _laid(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give what is read at each step (N, I), and all columns H steps ahead (N, C, H)."""
        ahead = futures(values, self.horizon)
        if not self.known:
            return values, ahead
        told = ahead[:, self.known, : self.ahead]
        told = told.reshape(len(values), len(self.known) * self.ahead)
        return np.concatenate([values, told], 1), ahead

    def _wanted(self, values: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """Of columns (..., C) now and (..., C, H) ahead: what is to be told of those forecast."""
        ahead = ahead[..., self.targets, :]
        if self.rises:
            return (ahead > values[..., self.targets, None]).astype(float)
        return ahead

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H)."""
        return self.outputs, self.ahead

    @property
    def scale(self) -> np.ndarray:
        """The deviations of what is forecast."""
        return self.deviation[self.targets]

    @property
    def ends(self) -> list[tuple[int, int]]:
        """First step and end of each split."""
        return _parts(len(self.values), self.settings)

    @property
    def epoch(self) -> int:
        """Rows that lie end to end in the training part."""
        return max(1, self.ends[0][1] // self.length)

    @property
    def digest(self) -> str:
        """A hash of the values and of the names."""
        return hashlib.sha256(repr(self.columns).encode() + self.values.tobytes()).hexdigest()

    def whole(self) -> Sequences:
        """The training part as one row."""
        steps = slice(0, self.ends[0][1] - self.ahead)
        y = self._wanted(self.values[steps], self._y[steps, :, : self.ahead])
        judged = np.arange(len(y)) >= self.context - 1
        return Sequences.full(self._x[steps, None], y[:, None], judged[:, None])

    def batch(self, step: int, rows: slice) -> Sequences:
        """Windows that begin where the seed and the step's number say."""
        training = self.settings.training
        random = np.random.default_rng([training.seed, step])
        last = self.ends[0][1] - self.length - self.ahead
        starts = random.integers(0, last + 1, training.batch_size)[rows]
        places = np.arange(self.length)[:, None] + starts
        y = self._wanted(self.values[places], self._y[places][..., : self.ahead])
        judged = np.arange(self.length) >= self.context - 1
        return Sequences.full(self._x[places], y, np.repeat(judged[:, None], len(starts), 1))

    def held_out(self, split: Split) -> Iterator[Sequences]:
        """One row, judged wherever all that is forecast lies in the split."""
        start, stop = self.ends[("training", "validation", "test").index(split)]
        yield self._part(self.values, start, stop)

    def other(self, sources: Sequence[str]) -> Iterator[Sequences]:
        """One row: a whole file, of which the first steps, at most half of them, warm up."""
        values = self._read(sources).values
        start = min(len(values) // 2, self._warm)
        needed = max(self.context, 1) + self.horizon
        if len(values) - start < self.horizon or len(values) < needed:
            raise InputError(
                f"{', '.join(sources)} has {len(values)} steps; more than {needed} are needed to judge "
                f"forecasts of {self.horizon} steps"
            )
        yield self._part(
            (values - self.mean) / self.deviation, max(start, self.context), len(values)
        )

    @property
    def _warm(self) -> int:
        """Steps to read before a forecast is judged."""
        settings = self.settings
        washout = settings.model.washout if settings.model.cell == "esn" else 0
        return max(self.length, settings.forecast.order, washout, self.season) + 1

    def _part(self, values: np.ndarray, start: int, stop: int) -> Sequences:
        """Judge all forecasts of steps within [start, stop)."""
        x, ahead = (self._x, self._y) if values is self.values else self._laid(values)
        recursive = self.settings.data.recursive
        start = max(start, self.context)
        first = max(0, start - self._warm)
        steps = slice(first, stop - 1 if recursive else stop - self.horizon)
        y = self._wanted(values[steps], ahead[steps])
        places = np.arange(first, first + len(y))
        judged = (places >= start - 1) & (places < stop - self.horizon)
        if recursive:
            among = np.flatnonzero(judged)
            count = min(MOST_STARTS, len(among))
            judged = np.zeros(len(judged), bool)
            judged[among[np.linspace(0, len(among) - 1, count).astype(int)]] = True
        return Sequences.full(x[steps, None], y[:, None], judged[:, None])

    def _read(self, sources: Sequence[str], open_end: Sequence[str] = ()) -> Numbers:
        if list(sources) == [MADE]:  # another stretch: other seeds have another past
            return _made(5000, seed=1)
        return read_series(sources, self.settings, self.columns, open_end=open_end)

    def asked(self, name: str) -> Asked:
        """Read a series that is to be continued; of columns known ahead, their future too."""
        targets = [self.columns[n] for n in self.targets]
        found = self._read([name], targets if self.known else ())
        beyond = len(found.values) - found.known
        if found.known < self.context:
            raise InputError(
                f"{name} has {found.known} steps; a forecast is made from {self.context}"
            )
        if self.known and beyond < self.horizon:
            raise InputError(
                f"{name} must tell {', '.join(self.settings.forecast.known)} for {self.horizon} steps after "
                f"the last {targets[0]}, with {targets[0]} left empty; it does for {beyond}"
            )
        x, _ = self._laid((found.values - self.mean) / self.deviation)
        end = found.known + (self.horizon - 1 if self.settings.data.recursive else 0)
        times = found.clock.after(self.horizon, -beyond) if found.clock else None
        return Asked(x[:end, None], found.known - 1, times)

    def told(self, y: np.ndarray) -> dict[str, list[float]]:
        """Name of a column -> its forecasts (H,)."""
        rows = zip(self.targets, self._in_units(y), strict=True)
        return {self.columns[n]: row.tolist() for n, row in rows}

    def line(self, truth: np.ndarray, forecast: np.ndarray) -> str:
        """Set some numbers side by side, in the data's units."""
        return super().line(self._in_units(truth), self._in_units(forecast))

    def _in_units(self, y: np.ndarray) -> np.ndarray:
        return y if self.rises else y * self.scale[:, None] + self.mean[self.targets, None]

    def fit_baselines(self) -> dict[str, np.ndarray]:
        """A linear autoregression for the whole horizon, by least squares."""
        order = self.settings.forecast.order
        last = self.ends[0][1] - self.horizon
        now, ahead = self.values[:last], self._y[:last]
        found = {"mean": self._wanted(now, ahead).mean(0)}
        if last - order + 1 > order * len(self.columns):
            y = ahead[order - 1 :, self.targets].reshape(last - order + 1, -1)
            found["weight"], found["bias"] = least_squares(lags(now, order)[order - 1 :], y)
        return found

    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Persistence, the same season before, the mean or the usual direction, the autoregression."""
        values = batch.x[:, 0, : len(self.columns)]
        now = values[:, self.targets, None]
        shape = len(values), self.outputs, self.horizon
        found = {
            "persistence": np.broadcast_to(now, shape),
            "seasonal_naive": seasonal_naive(values[:, self.targets], self.season, self.horizon),
        }
        if "weight" in fitted:
            x = lags(values, self.settings.forecast.order)
            found["linear"] = (x @ fitted["weight"] + fitted["bias"]).reshape(shape)
        if self.rises:
            moved = np.diff(now, axis=0, prepend=now[:1])  # it goes on as it went
            found["persistence"] = now + moved
            found = {name: (told > now).astype(float) for name, told in found.items()}
        found["majority" if self.rises else "training_mean"] = np.broadcast_to(
            fitted["mean"], shape
        )
        return {name: told[:, None] for name, told in found.items()}


def _made(length: int, seed: int = 0) -> Numbers:
    return Numbers(["x"], mackey_glass(length, seed=seed)[:, None], None, length)


def _read(sources: Sequence[str], settings: Settings) -> Numbers:
    data = settings.data
    if sources == (MADE,):
        return _made(data.length or 10_000)
    extra = (*data.targets, *settings.forecast.known)
    columns = list(dict.fromkeys((*data.columns, *extra))) if data.columns else None
    return read_series(sources, settings, columns, data.length)


def _parts(steps: int, settings: Settings) -> list[tuple[int, int]]:
    """First step and end of each split; the test part of a fold ends so many parts before the last."""
    data = settings.data
    if data.folds:
        validation, test = (round(part * steps) for part in data.split[1:])
        stop = steps - (data.folds - 1 - data.fold) * test
        borders = [0, stop - test - validation, stop - test, stop]
    else:
        borders = [0, *np.rint(np.cumsum(data.split) * steps).astype(int).tolist()]
    return list(pairwise(borders))


def _check_columns(settings: Settings, columns: Sequence[str]) -> None:
    own, data = settings.forecast, settings.data
    for name in (*data.targets, *own.known):
        if name not in columns:
            raise InputError(
                f"no column {name!r} to forecast or to know; it has {', '.join(columns)}"
            )
    both = set(data.targets) & set(own.known)
    if both:
        raise InputError(f"{both.pop()} cannot be both forecast and known ahead")
    targets = data.targets or [name for name in columns if name not in own.known]
    if not targets:
        raise InputError("all columns are known ahead: none is left to forecast")
    idle = [name for name in columns if name not in (*targets, *own.known)]
    if data.recursive and idle:
        raise InputError(
            f"--recursive reads its own forecasts, but {idle[0]} is neither forecast nor known ahead; add "
            "it to --targets or --known, or leave --recursive out"
        )
    if data.folds and not data.split[2]:
        raise InputError("--folds takes a test part: as many of its length are cut off the end")
