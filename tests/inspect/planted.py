"""A small task with a fault of choice: points of four clouds, which an MLP or an RNN tells apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.settings import Settings
from unrolled.tasks.task import Artefacts, Criterion, Task

COUNT, WIDTH, CLASSES = 512, 8, 4


@dataclass(frozen=True)
class Batch:
    inputs: np.ndarray
    labels: np.ndarray


class Twice(torch.autograd.Function):
    """The identity, with twice its gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Net(nn.Module):
    def __init__(self, settings: Settings, fault: str) -> None:
        super().__init__()
        hidden, self.fault = settings.model.hidden, fault
        inputs = WIDTH + CLASSES * (fault == "target leak")
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.third = nn.Linear(hidden, CLASSES)
        self.norm = nn.BatchNorm1d(hidden) if fault == "batch-norm with batch 1" else nn.Identity()
        with torch.no_grad():
            if fault == "dead ReLUs":
                self.first.bias.fill_(-20.0)
            if fault == "saturated start":
                self.first.weight.mul_(60.0)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        h = h.tanh() if self.fault == "saturated start" else h.relu()
        if self.fault == "gradient bug":
            h = Twice.apply(h)
        if self.fault == "forgotten state reset":
            if self.state is not None and self.state.shape == h.shape:
                h = h + 0.9 * self.state
            self.state = h.detach()
        return self.third(self.second(h).relu() if self.fault != "saturated start" else h)


class Clouds(Task):
    name, summary = "clouds", "tell clouds apart"
    criterion, headline = Criterion("accuracy", "higher"), "accuracy"

    def __init__(self, settings: Settings, fault: str = "") -> None:
        self.settings, self.fault = settings, fault
        random = np.random.default_rng(5)
        centres = 2.0 * random.normal(size=(CLASSES, WIDTH))
        labels = random.integers(CLASSES, size=COUNT)
        x = (centres[labels] + random.normal(size=(COUNT, WIDTH))).astype(np.float32) / 2
        if fault == "unscaled inputs":
            x = x * 10.0 ** np.arange(WIDTH, dtype=np.float32) + 1000
        if fault == "labels shuffled":
            labels = random.permutation(labels)
        if fault == "target leak":
            x = np.concatenate([x, np.eye(CLASSES, dtype=np.float32)[labels]], 1)
        parts = {"training": slice(0, 400), "validation": slice(400, 456), "test": slice(456, None)}
        if fault == "train = test":
            parts["test"] = slice(300, 400)
        self.parts = {
            name: SimpleNamespace(items=x[part], labels=labels[part])
            for name, part in parts.items()
        }

    @classmethod
    def prepare(cls, settings):
        return cls(settings)

    @classmethod
    def restore(cls, settings, artefacts):
        return cls(settings)

    def rows(self, split):
        return self.parts[split]

    def artefacts(self):
        return Artefacts({})

    def build(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            return Net(self.settings, self.fault)

    @cached_property
    def orders(self) -> np.ndarray:
        random = np.random.default_rng(1)
        return np.concatenate([random.permutation(400) for _ in range(200)])

    data_digest = "clouds"

    @property
    def steps_per_epoch(self):
        return 400 // self.settings.training.batch_size

    @property
    def initial_loss(self):
        return float(np.log(CLASSES))

    def batch(self, step, rows):
        size, training = self.settings.training.batch_size, self.parts["training"]
        chosen = self.orders[step * size : (step + 1) * size][rows]
        return Batch(training.items[chosen], training.labels[chosen])

    def loss(self, model, batch, carry):
        like = next(model.parameters())
        logits = model(torch.from_numpy(batch.inputs).to(like.dtype))
        labels = torch.from_numpy(batch.labels)
        if self.fault == "wrong loss":  # as large as can be told, whatever the label
            return -logits.softmax(-1).amax(-1).mean() + 1, {}
        return functional.cross_entropy(logits, labels), {}

    def validate(self, model, split):
        rows = self.parts[split]
        with torch.no_grad():
            found = model(torch.from_numpy(rows.items)).argmax(1).numpy()
        return {"accuracy": float((found == rows.labels).mean())}

    def baselines(self, split):
        training, rows = self.parts["training"], self.parts[split]
        common = np.bincount(training.labels).argmax()
        far = np.square(rows.items[:, None] - training.items).sum(-1)
        near = training.labels[far.argsort(1)[:, :5]]
        voted = np.stack([(near == label).sum(1) for label in range(CLASSES)], 1).argmax(1)
        return {
            "most common": {"accuracy": float((rows.labels == common).mean())},
            "nearest": {"accuracy": float((rows.labels == voted).mean())},
        }

    def progress(self, loss):
        return {"loss": loss}

    def throughput(self):
        return self.settings.training.batch_size, "points"

    def show(self, model, step):
        return ""

    def evaluate(self, model, sources):
        return {}

    def predict(self, model, inputs) -> Iterator[dict]:
        yield from ()


def clouds(fault: str = "", **flags) -> Clouds:
    """Give the task with a fault, ready to train."""
    given = {"hidden": 32, "batch_size": 32, "lr": 0.01, "steps": 200, **flags}
    return Clouds(Settings.from_flags("clouds", given), fault)
