"""A small task that carries states, draws random numbers both ways, and is no language model."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.engine.randomness import dropout
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.task import TASKS, Artefacts, Carry, Criterion, Split, Task

LENGTHS = {"training": 400, "validation": 60, "test": 50}


@lru_cache
def leaky_sum(rows: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(length, rows, 2))
    y = np.zeros((length, rows, 1))
    for t in range(1, length):
        y[t] = 0.7 * y[t - 1] + 0.3 * x[t].sum(-1, keepdims=True)
    return x, y


class ToyModel(nn.Module):
    """x (T, B, 2) -> y (T, B, 1): a leaky sum of the inputs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.model.hidden
        self.inner = nn.Linear(2 + width, width)
        self.outer = nn.Linear(width, 1)
        self.p = settings.model.dropout
        self.noisy = settings.model.nonlinearity == "relu"
        self.to(getattr(torch, settings.model.dtype))

    def forward(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        if h is None:
            h = x.new_zeros(x.shape[1], self.outer.in_features)
        ys = []
        for x_t in x:
            h = self.inner(torch.cat([x_t, h], 1)).tanh()
            ys.append(self.outer(h))
        y = torch.stack(ys)
        if self.training and self.noisy:
            y = y + 0.1 * torch.randn(y.shape, dtype=y.dtype)
        if self.training and self.p:
            y = dropout(y, self.p, layer=1)
        return y, h


class Toy(Task):
    broken_at: ClassVar[int | None] = None
    """The step at which the data turns bad."""
    name = "toy"
    summary = "follow a leaky sum"
    criterion = Criterion("error")
    headline = "error"
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training": {"steps": 30, "batch_size": 4, "window": 5, "lr": 0.01}
    }

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        if settings.data.source and settings.data.source[0] == "missing":
            raise InputError("no file missing")
        return cls(settings)

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        if artefacts.vocabulary.get("source") is None:
            raise InputError("vocabulary.json is damaged")
        assert artefacts.baseline["zeros"].shape == (3,)
        return cls(settings)

    def artefacts(self) -> Artefacts:
        source = list(self.settings.data.source)
        return Artefacts({"source": source}, {"zeros": np.zeros(3, np.uint32)})

    def build(self) -> ToyModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            return ToyModel(self.settings)

    @property
    def data_digest(self) -> str:
        return "/".join(self.settings.data.source) + self.settings.data.symbols

    @property
    def steps_per_epoch(self) -> int:
        return LENGTHS["training"] // self.settings.training.window

    @property
    def initial_loss(self) -> float:
        return 1.0

    def series(self, rows: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = leaky_sum(rows, length, seed)
        return x.astype(self.settings.model.dtype), y.astype(self.settings.model.dtype)

    def batch(self, step: int, rows: slice) -> tuple[Tensor, Tensor, bool]:
        training = self.settings.training
        x, y = self.series(training.batch_size, LENGTHS["training"], seed=7)
        start = step % self.steps_per_epoch * training.window
        window = slice(start, start + training.window)
        x, y = x[window, rows], y[window, rows]
        if step == self.broken_at:
            y = y * np.nan
        return torch.from_numpy(x), torch.from_numpy(y), start == 0

    def loss(self, model: nn.Module, batch: Any, carry: Carry) -> tuple[Tensor, Carry]:
        x, y, fresh = batch
        predicted, h = model(x, None if fresh else carry["h"][0])
        return (predicted - y).square().mean(), {"h": h.unsqueeze(0)}

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        torch.rand(3)  # looking must not disturb what training draws
        x, y = self.series(3, LENGTHS[split], seed=len(split))
        predicted, _ = model(torch.from_numpy(x), None)
        error = float((predicted - torch.from_numpy(y)).square().mean())
        return {"error": error, "root": error**0.5}

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        _, y = self.series(3, LENGTHS[split], seed=len(split))
        error = float(np.square(y).mean())
        return {"zero": {"error": error}, "twice": {"error": 2 * error}}

    def progress(self, loss: float) -> dict[str, float]:
        return {"error": loss}

    def throughput(self) -> tuple[int, str]:
        training = self.settings.training
        return training.batch_size * training.window, "numbers"

    def show(self, model: nn.Module, step: int) -> str:
        torch.rand(5)
        y, _ = model(torch.ones(3, 1, 2, dtype=getattr(torch, self.settings.model.dtype)), None)
        return " ".join(f"{value:.3f}" for value in y.flatten().tolist())

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        return {"sources": list(sources), **self.validate(model, "test")}

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        for text in inputs:
            yield {"input": text, "output": len(text)}


TASKS["toy"] = "toy_task:Toy"
