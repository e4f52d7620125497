"""Forecast: numbers, from the numbers before them.

A series and its future, a number at the end of a sequence, the next frame of a film, the notes that
sound next. T steps, B rows, I inputs, O outputs, H steps ahead.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.row_targets import RowTargets
from unrolled.data.sequences import Sequences, Source
from unrolled.data.series import Series
from unrolled.data.splits import SPLITS
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import playing
from unrolled.tasks.forecast_figures import error_by_step, figures
from unrolled.tasks.forecast_heads import Told, make_head
from unrolled.tasks.forecast_kinds import KINDS, check, kind_of
from unrolled.tasks.forecast_models import Echo, Windowed, forecast_model
from unrolled.tasks.forecast_pictures import by_step, picture
from unrolled.tasks.task import (
    Artefacts,
    Carry,
    Criterion,
    Objective,
    Split,
    Task,
    finite,
    held,
    seeded,
)

SHOWN = 6
"""Forecasts that :meth:`Forecast.show` shows."""
BLOCKS = 4
"""Layers of a temporal convolution, where nobody says how many."""
ROWS: Mapping[str, Mapping[str, Any]] = {
    "data": {"source": ("friedman",), "split": (0.8, 0.1, 0.1)},
    "classifier": {"model": "mlp"},
    "model": {"hidden": 32},
    "training": {"steps": 1000, "lr": 0.005, "batch_size": 32, "clip_norm": 1.0},
}
"""What goes with rows that stand alone."""


class Forecast(Task):
    """Forecast numbers. What the data is, its own :class:`~unrolled.data.sequences.Source` knows."""

    name = "forecast"
    summary = "forecaster: numbers -> the numbers that follow"
    losses = ("squared", "absolute", "huber")
    defaults: ClassVar = {
        "data": {"source": ("mackey-glass",), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64},
        "training": {"steps": 1500, "lr": 0.005, "clip_norm": 1.0},
    }

    prompts = "file"
    sample, compose = playing.sample, playing.compose

    def __init__(
        self, settings: Settings, source: Source, fitted: dict[str, np.ndarray], *, has_data: bool
    ) -> None:
        self.settings, self.source = settings, source
        self.head = make_head(settings.forecast, settings.training.loss, binary=source.binary)
        self.headline = self.head.metric
        self.criterion = Criterion(self.headline, self.head.better)
        self.examples = source.examples
        self._fitted, self._has_data = fitted, has_data

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Give a temporal convolution more than one layer, and rows that stand alone a perceptron."""
        tables = {name: dict(fields) for name, fields in cls.defaults.items()}
        if kind_of(settings) is RowTargets:
            return ROWS
        if settings.classifier.model == "cnn":
            tables["model"]["layers"] = BLOCKS
        return tables

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read or make the data; fit the scaling and the baselines on the training split.

        Raises:
            InputError: If the data is missing, damaged or too short, or does not go with the cell.
        """
        kind = kind_of(settings)
        check(settings, kind)
        source = kind.prepare(settings)
        if isinstance(source, Series) and settings.model.cell == "esn":
            washout, steps = settings.model.washout, len(source.whole().x)
            if washout >= steps:
                raise InputError(
                    f"--washout {washout} leaves none of {steps:,} steps to learn from"
                )
        return cls(settings, source, source.fit_baselines(), has_data=True)

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its scaling and its baselines."""
        table = artefacts.vocabulary
        try:
            source = KINDS[table["kind"]].restore(settings, table)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"vocabulary.json is of no forecaster ({error!r})") from None
        return cls(settings, source, dict(artefacts.baseline), has_data=False)

    def artefacts(self) -> Artefacts:
        """Give the kind of the data, its scaling, and the baselines."""
        return Artefacts({"kind": self.source.kind, **self.source.to_json()}, self._fitted)

    def build(self) -> nn.Module:
        """Build the model, its initial weights drawn from the run's seed."""
        with seeded(self.settings.training.seed):
            return forecast_model(self.source, self.head, self.settings)

    @property
    def data_digest(self) -> str:
        """A hash of the data and its scaling."""
        table = json.dumps(self.source.to_json(), sort_keys=True)
        return hashlib.sha256(f"{self.source.digest} {table}".encode()).hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold as many rows as the training split."""
        return math.ceil(self.source.epoch / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss of always 0: a probability of 1/2 if binary, no deviation from the mean if not."""
        batch = self.batch(0, slice(None))
        y = torch.from_numpy(batch.y[batch.judged])
        return self.head.loss(y.new_zeros(y.shape + self.head.extra), y).item()

    @property
    def _data(self) -> Source:
        return held(self.source if self._has_data else None)

    def batch(self, step: int, rows: slice) -> Sequences:
        """Rows of batch number `step`."""
        return self._data.batch(step, rows)

    def loss(self, model: nn.Module, batch: Sequences, carry: Carry) -> tuple[Tensor, Carry]:
        """The head's loss where forecasts are judged, of scaled numbers. Nothing is carried."""
        outputs, loss = self._parts(batch)
        return loss(outputs(model)), {}

    def objective(self, batch: Sequences) -> Objective:
        """Give the forecasts that are judged, and the head's loss of them.

        Raises:
            InputError: If the head tells quantiles or deviations, whose losses are not convex or not curved.
        """
        if self.settings.forecast.head in ("quantile", "gaussian"):
            raise InputError(
                f"--optimizer hessian-free: the loss of --head {self.settings.forecast.head} has not the "
                "curvature it needs; take point or direction"
            )
        return self._parts(batch)

    def _parts(self, batch: Sequences) -> Objective:
        def outputs(model: nn.Module) -> Tensor:
            x = self._tensor(model, batch.x)
            found, _ = model(x, self._lengths(batch, x.device))
            return found[torch.from_numpy(batch.judged).to(x.device)]

        def loss(told: Tensor) -> Tensor:
            y = torch.from_numpy(batch.y[batch.judged]).to(told)
            return self.head.loss(told, y)

        return Objective(outputs, loss)

    @property
    def closed_form(self) -> bool:
        """Whether the model is a reservoir or a line."""
        own = self.settings.classifier.model
        return own == "ar" or (own in (None, "rnn") and self.settings.model.cell == "esn")

    def fit(self, model: nn.Module) -> float:
        """Fit a line, or the read-out of a reservoir, to the whole training split in one pass."""
        assert isinstance(model, Echo | Windowed)
        assert isinstance(self.source, Series)
        whole = self.source.whole()
        x, y = self._tensor(model, whole.x), self._tensor(model, whole.y)
        model.fit(x, y)
        output, _ = model(x)
        first = model.esn.washout if isinstance(model, Echo) else model.steps - 1
        return self.head.loss(output[first:], y[first:]).item()

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge a split: the figures of :func:`figures`."""
        return self._judge(self._held_out(split), self._teller(model))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the baselines on a split."""
        return self._judge_baselines(self._held_out(split))

    def _held_out(self, split: Split) -> list[Sequences]:
        return list(self._data.held_out(split))

    def _judge(
        self, batches: Iterable[Sequences], tell: Callable[[Sequences], Told]
    ) -> dict[str, float]:
        truth, told = self._side_by_side(batches, tell)
        return figures(truth, told, self.source, self.head)

    @staticmethod
    def _side_by_side(
        batches: Iterable[Sequences], tell: Callable[[Sequences], Told]
    ) -> tuple[np.ndarray, Told]:
        """Give the truth and the forecasts of all judged steps."""
        truths, parts = [], []
        for batch in batches:
            told = tell(batch)
            truths.append(batch.y[batch.judged])
            arrays = (told.point, told.low, told.high, told.raw)
            parts.append([None if a is None else a[batch.judged] for a in arrays])
        joined = (None if a[0] is None else np.concatenate(a) for a in zip(*parts, strict=True))
        return np.concatenate(truths), Told(*joined)  # pyright: ignore[reportArgumentType]

    def _judge_baselines(self, batches: Sequence[Sequences]) -> dict[str, dict[str, float]]:
        names = self.source.baselines(batches[0], self._fitted)
        return {name: self._judge(batches, self._naive(name)) for name in names}

    def _naive(self, name: str) -> Callable[[Sequences], Told]:
        return lambda batch: Told(self.source.baselines(batch, self._fitted)[name])

    def _teller(self, model: nn.Module) -> Callable[[Sequences], Told]:
        return lambda batch: self.head.told(self._forecast(model, batch))

    @torch.no_grad()
    def _forecast(self, model: nn.Module, batch: Sequences) -> np.ndarray:
        """What the model gives (T, B, O, ...); of a recursive one, zero where it is not judged."""
        x = self._tensor(model, batch.x)
        if self.settings.data.recursive:
            starts = np.flatnonzero(batch.judged[:, 0])
            told = np.zeros_like(batch.y)
            told[starts, 0] = self._run_free(model, x, starts)
            return finite(told)
        y, _ = model(x, self._lengths(batch, x.device))
        return finite(y.double().cpu().numpy())

    @torch.no_grad()
    def _run_free(self, model: nn.Module, x: Tensor, starts: np.ndarray) -> np.ndarray:
        """Read x (T, 1, I) and, from each of n steps, run free: forecasts (n, K, H).

        Where x goes on after a start, it tells what is known ahead there.
        """
        assert isinstance(self.source, Series)
        states, y = self._at(model, x, starts)
        told = [y]
        for ahead in range(1, self.source.horizon):
            places = torch.from_numpy(np.minimum(starts + ahead, len(x) - 1))
            now = x[places, 0]
            now[:, self.source.targets] = told[-1][..., 0]
            if model.carries:
                y, states = model(now[None], states=states)
                told.append(y[-1])
            else:
                states = torch.cat([states[1:], now[None]])
                told.append(model(states)[0][-1])
        return torch.cat(told, -1).double().cpu().numpy()

    @staticmethod
    def _at(model: nn.Module, x: Tensor, starts: np.ndarray) -> tuple[Any, Tensor]:
        """What a model keeps at each of n steps, states or the steps it looks back on; and y (n, K, 1)."""
        if not model.carries:
            reach: Any = model.reach
            back = torch.cat([x.new_zeros(reach - 1, *x.shape[1:]), x])[:, 0]
            windows = back.unfold(0, reach, 1)[torch.from_numpy(starts)].permute(2, 0, 1)
            return windows, model(windows)[0][-1]
        told, kept, states, read = [], [], None, 0
        for start in starts.tolist():
            y, states = model(x[read : start + 1], states=states)
            told.append(y[-1])
            kept.append(states)
            read = start + 1
        # (layers, rows, width), or (layers, steps back, rows, width) of a cell with delays
        joined = {name: torch.cat([each[name] for each in kept], -2) for name in kept[0]}
        return joined, torch.cat(told)

    def _tensor(self, model: nn.Module, numbers: np.ndarray) -> Tensor:
        tensors = [*model.parameters(), *model.buffers()]
        dtype = getattr(torch, self.settings.model.dtype)
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(tensors[0].device, dtype)

    @staticmethod
    def _lengths(batch: Sequences, device: torch.device) -> Tensor | None:
        """Steps of each row; ``None`` where all are full."""
        if (batch.lengths == len(batch.x)).all():
            return None
        return torch.from_numpy(batch.lengths).to(device)

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss in the unit of the headline."""
        return {self.head.unit: loss}

    def throughput(self) -> tuple[int, str]:
        """Rows that one update reads."""
        unit = self.source.counted if self.source.counted != "steps" else "sequences"
        return self.settings.training.batch_size, unit

    def show(self, model: nn.Module, step: int) -> str:
        """Forecast at a few steps of a held-out split, the same every time."""
        batch = self._shown("validation", "test")
        if batch is None or (self.closed_form and step == 0):
            return ""
        told = self._teller(model)(batch).point[batch.judged]
        truth = batch.y[batch.judged]
        count = 1 if self.source.grid else min(SHOWN, len(truth))
        places = np.linspace(0, len(truth) - 1, count + 1).astype(int)[1:]
        return "\n".join(self.source.line(truth[n], told[n]) for n in places)

    def _shown(self, *splits: Split) -> Sequences | None:
        """Rows of the first of these splits that there is."""
        fractions = dict(zip(SPLITS, self.settings.data.split, strict=True))
        return next((self._held_out(split)[0] for split in splits if fractions[split]), None)

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw truth and forecast of the test split, or of the validation split without one.

        Of a series that is forecast several steps ahead, the error at each of them too.
        """
        batch = self._shown("test", "validation")
        if batch is None:
            return {}
        told = self._teller(model)(batch)
        drawn = {"forecast.png": picture(self.source, batch, told)}
        if isinstance(self.source, Series) and not self.source.binary and self.source.horizon > 1:
            beside = self.source.baselines(batch, self._fitted)
            truth = batch.y[batch.judged]
            points = {"this model": told.point, **beside}
            errors = {
                name: error_by_step(truth, point[batch.judged]) for name, point in points.items()
            }
            drawn["horizon.png"] = by_step(errors)
        return drawn

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other data of the same kind, and the baselines beside it.

        Of a series all steps are starts, one after the other: the origin rolls on.

        Returns:
            The figures of :meth:`validate`, ``steps`` or ``rows`` (at how many a forecast was judged), of a
            series ``mse_by_step`` (at the first step ahead, the second, ...), and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged, or of another kind.
        """
        batches = list(self.source.other(sources))
        truth, told = self._side_by_side(batches, self._teller(model))
        found: dict[str, Any] = figures(truth, told, self.source, self.head)
        found[self.source.counted] = sum(int(batch.judged.sum()) for batch in batches)
        if isinstance(self.source, Series) and not self.source.binary:
            found["mse_by_step"] = error_by_step(truth, told.point).tolist()
        return {**found, "baselines": self._judge_baselines(batches)}

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give what follows each file: the next ``horizon`` values, the sum, the frame, the notes.

        Returns:
            For each file or row ``file`` or ``row``, and ``forecast``; of a series with a column of time
            ``times``, and with intervals ``low``, ``high`` and ``interval``, their probability.

        Raises:
            InputError: If a file cannot be read.
        """
        for name, asked in self.source.all_asked(inputs):
            x = self._tensor(model, asked.x)
            if self.settings.data.recursive:
                raw = self._run_free(model, x, np.array([asked.start]))[0]
            else:
                with torch.no_grad():
                    raw = model(x[: asked.start + 1])[0][-1, 0].double().cpu().numpy()
            told = self.head.told(raw)
            found = {self.source.asked_for: name, "forecast": self.source.told(told.point)}
            if asked.times:
                found["times"] = asked.times
            if told.low is not None and told.high is not None:
                low, high = self.source.told(told.low), self.source.told(told.high)
                found |= {"low": low, "high": high, "interval": self.head.level}
            yield found
