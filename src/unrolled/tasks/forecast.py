"""Forecast: numbers, from the numbers before them.

A series and its future, a number at the end of a sequence, the next frame of a film, the notes that
sound next. T steps, B rows, I inputs, O outputs.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells import make_cell
from unrolled.cells.echo import EchoState
from unrolled.cells.registry import GRIDS
from unrolled.cells.start import normal_start
from unrolled.data.adding import Adding
from unrolled.data.frames import Films
from unrolled.data.music import Music
from unrolled.data.sequences import Sequences, Source
from unrolled.data.series import Series
from unrolled.data.splits import SPLITS
from unrolled.engine import States
from unrolled.errors import InputError, RunError
from unrolled.layers import EchoStateNetwork
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings
from unrolled.tasks.forecast_pictures import picture
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, Task

KINDS: dict[str, type[Source]] = {kind.kind: kind for kind in (Series, Adding, Films, Music)}
SHOWN = 6
"""Forecasts that :meth:`Forecast.show` shows."""


class Forecaster(nn.Module):
    """Numbers -> recurrent layers -> a linear read-out at every step.

    Of films a convolutional cell sees whole frames, and any other each pixel as a row by itself.

    Args:
        inputs: I.
        outputs: O.
        grid: Rows and columns of films, else ``()``.
        model: Cell, widths and noise.

    Raises:
        InputError: If a setting is for other tasks, or the cell cannot be built.
    """

    def __init__(
        self, inputs: int, outputs: int, grid: tuple[int, ...], model: ModelSettings
    ) -> None:
        super().__init__()
        if model.tied:
            raise InputError("--tied is for language models: a forecaster reads out numbers")
        if model.bidirectional:
            raise InputError("--bidirectional would read what is to be forecast")
        self.convolves = model.cell in GRIDS
        if self.convolves and not grid:
            raise InputError(f"cell {model.cell} is for films, as moving-digits; take lstm or gru")
        self.films = bool(grid)
        if self.convolves:
            options = {**model.cell_options, "shape": grid}
            model = model.model_copy(update={"cell_options": options})
        self.net = make_net(model, inputs)
        self.readout = nn.Linear(self.net.output_size, outputs)
        if model.initial_scale:
            normal_start(self, model.initial_scale)
        self.to(getattr(torch, model.dtype))

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Forecast: x (T, B, I, ...) -> y (T, B, O, ...), logits if binary, and the last states."""
        shape = x.shape
        if self.films and not self.convolves:
            x = x.movedim(2, -1).reshape(shape[0], -1, shape[2])  # (T, B * pixels, I)
        h, last = self.net(x, states, lengths=lengths)
        if self.convolves:
            return self.readout(h.movedim(2, -1)).movedim(-1, 2), last
        y = self.readout(h)
        if self.films:
            y = y.reshape(*shape[:2], *shape[3:], -1).movedim(-1, 2)
        return y, last


class Echo(nn.Module):
    """An echo-state network where a :class:`Forecaster` may stand; nothing in it follows gradients.

    Args:
        inputs: I.
        outputs: O.
        model: The reservoir's options, ``ridge`` and ``washout``.

    Raises:
        InputError: If there is more than one layer, or the reservoir cannot be built.
    """

    def __init__(self, inputs: int, outputs: int, model: ModelSettings) -> None:
        super().__init__()
        if model.layers > 1:
            raise InputError(f"--layers {model.layers}: an echo-state network has one reservoir")
        reservoir = make_cell(model, inputs)
        assert isinstance(reservoir, EchoState)
        reservoir.to(getattr(torch, model.dtype))
        self.esn = EchoStateNetwork(reservoir, outputs, model.ridge, model.washout)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Forecast, as :meth:`Forecaster.forward`, of rows that are all T long."""
        return self.esn(x, states)


class Forecast(Task):
    """Forecast numbers. What the data is, its own :class:`~unrolled.data.sequences.Source` knows."""

    name = "forecast"
    summary = "forecaster: numbers -> the numbers that follow"
    defaults: ClassVar = {
        "data": {"source": ("mackey-glass",), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64},
        "training": {"steps": 1500, "lr": 0.005, "clip_norm": 1.0},
    }

    def __init__(
        self, settings: Settings, source: Source, fitted: dict[str, np.ndarray], *, has_data: bool
    ) -> None:
        self.settings, self.source = settings, source
        self.criterion, self.headline = Criterion(source.metric), source.metric
        self.examples = source.examples
        self._fitted, self._has_data = fitted, has_data

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read or make the data; fit the scaling and the baselines on the training split.

        Raises:
            InputError: If the data is missing, damaged or too short, or does not go with the cell.
        """
        kind = _kind(settings.data.source)
        if kind is not Series:
            if settings.model.cell == "esn":
                raise InputError(f"cell esn forecasts series; {kind.kind} needs another cell")
            if settings.data.horizon > 1 or settings.data.recursive:
                raise InputError(f"--horizon and --recursive are for series, not for {kind.kind}")
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
        source, model = self.source, self.settings.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            if self.closed_form:
                return Echo(source.inputs, source.outputs, model)
            return Forecaster(source.inputs, source.outputs, source.grid, model)

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
        """The loss of always 0: a probability of 1/2 if binary, else the mean square of y."""
        batch = self.batch(0, slice(None))
        y = batch.y[batch.judged]
        return y.shape[1] * math.log(2) if self.source.binary else float(np.mean(y**2))

    def batch(self, step: int, rows: slice) -> Sequences:
        """Rows of batch number `step`."""
        if not self._has_data:
            raise RunError("this task was restored from a model directory and has no training data")
        return self.source.batch(step, rows)

    def loss(self, model: nn.Module, batch: Sequences, carry: Carry) -> tuple[Tensor, Carry]:
        """Mean square of the error where it is judged, scaled; nats a step if binary. Nothing is carried."""
        x, y = (self._tensor(model, part) for part in (batch.x, batch.y))
        judged = torch.from_numpy(batch.judged).to(x.device)
        output, _ = model(x, self._lengths(batch, x.device))
        output, y = output[judged], y[judged]  # (n, O, ...)
        if self.source.binary:
            nats = functional.binary_cross_entropy_with_logits(output, y, reduction="sum")
            return nats / len(y), {}
        return functional.mse_loss(output, y), {}

    @property
    def closed_form(self) -> bool:
        """Whether the cell is a reservoir."""
        return self.settings.model.cell == "esn"

    def fit(self, model: nn.Module) -> float:
        """Fit the read-out of a reservoir to the whole training split in one pass."""
        assert isinstance(model, Echo)
        assert isinstance(self.source, Series)
        whole = self.source.whole()
        x, y = self._tensor(model, whole.x), self._tensor(model, whole.y)
        model.esn.fit(x, y)
        output, _ = model(x)
        learned = slice(model.esn.washout, None)
        return functional.mse_loss(output[learned], y[learned]).item()

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge a split: ``mse`` in the data's units and ``nrmse``, or ``nats_per_step`` if binary.

        ``nrmse`` is the root of the mean square error over the variance of the truth, column by column.
        """
        return self._judge(self._held_out(split), lambda batch: self._forecast(model, batch))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the baselines on a split."""
        return self._judge_baselines(self._held_out(split))

    def _held_out(self, split: Split) -> list[Sequences]:
        if not self._has_data:
            raise RunError("this task was restored from a model directory and has no training data")
        return list(self.source.held_out(split))

    def _judge(self, batches: Iterable[Sequences], forecast: Any) -> dict[str, float]:  # noqa: ANN401
        pairs = [(batch.y[batch.judged], forecast(batch)[batch.judged]) for batch in batches]
        truth, told = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return figures(truth, told, self.source)

    def _judge_baselines(self, batches: Sequence[Sequences]) -> dict[str, dict[str, float]]:
        def one(name: str) -> dict[str, float]:
            return self._judge(
                batches, lambda batch: self.source.baselines(batch, self._fitted)[name]
            )

        return {name: one(name) for name in self.source.baselines(batches[0], self._fitted)}

    @torch.no_grad()
    def _forecast(self, model: nn.Module, batch: Sequences) -> np.ndarray:
        """Forecasts (T, B, O, ...), probabilities if binary, zero where a recursive one is not judged."""
        x = self._tensor(model, batch.x)
        if self.settings.data.recursive:
            starts = np.flatnonzero(batch.judged[:, 0]).tolist()
            told = np.zeros_like(batch.y)
            told[starts] = self._run_free(model, x, starts)[-1][:, None]
            return told
        y, _ = model(x, self._lengths(batch, x.device))
        return (y.sigmoid() if self.source.binary else y).double().cpu().numpy()

    def _run_free(self, model: nn.Module, x: Tensor, starts: Sequence[int]) -> np.ndarray:
        """Read x (T, 1, I) and, from each of n steps, run free: forecasts (horizon, n, O)."""
        first, kept, states, read = [], [], None, 0
        for start in starts:
            y, states = model(x[read : start + 1], states=states)
            first.append(y[-1:])
            kept.append(states)
            read = start + 1
        # (layers, rows, width), or (layers, steps back, rows, width) of a cell with delays
        states = {name: torch.cat([each[name] for each in kept], -2) for name in kept[0]}
        told = [torch.cat(first, 1)]
        for _ in range(self.settings.data.horizon - 1):
            y, states = model(told[-1], states=states)
            told.append(y)
        return torch.cat(told).double().cpu().numpy()

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
        return {self.headline: math.sqrt(loss) if self.headline == "nrmse" else loss}

    def throughput(self) -> tuple[int, str]:
        """Rows that one update reads."""
        return self.settings.training.batch_size, "sequences"

    def show(self, model: nn.Module, step: int) -> str:
        """Forecast at a few steps of a held-out split, the same every time."""
        batch = self._shown("validation", "test")
        if batch is None or (self.closed_form and step == 0):
            return ""
        told = self._forecast(model, batch)[batch.judged]
        truth = batch.y[batch.judged]
        count = 1 if self.source.grid else min(SHOWN, len(truth))
        places = np.linspace(0, len(truth) - 1, count + 1).astype(int)[1:]
        return "\n".join(self.source.line(truth[n], told[n]) for n in places)

    def _shown(self, *splits: Split) -> Sequences | None:
        """Rows of the first of these splits that there is."""
        fractions = dict(zip(SPLITS, self.settings.data.split, strict=True))
        return next((self._held_out(split)[0] for split in splits if fractions[split]), None)

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw truth and forecast of the test split, or of the validation split without one."""
        batch = self._shown("test", "validation")
        if batch is None:
            return {}
        return {"forecast.png": picture(self.source, batch, self._forecast(model, batch))}

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other data of the same kind, and the baselines beside it.

        Returns:
            The figures of :meth:`validate`, ``steps`` (how many were judged), and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged, or of another kind.
        """
        batches = list(self.source.other(sources))
        return {
            **self._judge(batches, lambda batch: self._forecast(model, batch)),
            "steps": sum(int(batch.judged.sum()) for batch in batches),
            "baselines": self._judge_baselines(batches),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give what follows each file: the next ``horizon`` values, the sum, the frame, the notes.

        Raises:
            InputError: If a file cannot be read.
        """
        for name in inputs:
            x = self._tensor(model, self.source.asked(name))
            with torch.no_grad():
                if self.settings.data.recursive:
                    y = torch.from_numpy(self._run_free(model, x, [len(x) - 1])[:, 0])
                else:
                    y = model(x)[0][-self.settings.data.horizon :, 0]
            y = y.sigmoid() if self.source.binary else y
            yield {"file": Path(name).name, "forecast": self.source.told(y.double().cpu().numpy())}


def figures(truth: np.ndarray, told: np.ndarray, source: Source) -> dict[str, float]:
    """Judge forecasts (n, O, ...) by the truth.

    Nats a step are summed over the notes and averaged over all steps of all pieces, as Bai, Kolter &
    Koltun 2018 and Chung et al. 2014 report them.
    """
    if source.binary:
        p = np.clip(np.where(truth > 0, told, 1 - told), 1e-12, 1)
        return {"nats_per_step": float(-np.log(p).sum() / len(p))}
    squares = ((told - truth) ** 2).mean(0)
    scale = source.scale.reshape(-1, *[1] * (truth.ndim - 2))
    found = {"mse": float(np.mean(squares * scale**2))}
    if source.metric == "nrmse":
        variance = truth.var(0)
        known = variance > 0
        share = squares[known] / variance[known]
        found["nrmse"] = float(np.sqrt(share.mean())) if known.any() else math.nan
    return found


def _kind(sources: Sequence[str]) -> type[Source]:
    """What the data is, by its name."""
    first = sources[0] if sources else ""
    if first in KINDS:
        return KINDS[first]
    return Music if first.removesuffix(".gz").endswith(".json") else Series
