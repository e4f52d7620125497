"""Short trainings by which the doctor finds out what a model can learn, and how fast. B rows."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from unrolled.engine.randomness import counter
from unrolled.tasks.task import Carry, Task
from unrolled.train.optimisers import clip, make_optimizer
from unrolled.train.schedules import factor

SECONDS = 10.0
"""Longest time of one trial; what was reached until then counts."""
HOPELESS = 1e6
"""A loss so many times that at the start is taken for infinite."""


@dataclass
class Descent:
    """What became of one trial."""

    model: nn.Module
    losses: list[float] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether the loss became no number or huge."""
        last = self.losses[-1]
        return not math.isfinite(last) or last > HOPELESS * max(1.0, abs(self.losses[0]))

    @property
    def end(self) -> float:
        """Mean loss of the last fifth, infinite if it diverged."""
        if self.diverged:
            return math.inf
        return float(np.mean(self.losses[-max(1, len(self.losses) // 5) :]))


def with_settings(task: Task, **flags: object) -> Task:
    """Give a prepared task with other settings, and the same data."""
    other = copy.copy(task)
    fields: dict[str, Any] = {}
    for group in ("model", "training", "generator"):
        table = getattr(task.settings, group)
        own = {name: value for name, value in flags.items() if name in type(table).model_fields}
        fields[group] = table.model_copy(update=own)
    other.settings = task.settings.model_copy(update=fields)
    for name, part in vars(task).items():
        if getattr(part, "settings", None) is task.settings:
            changed = copy.copy(part)
            changed.settings = other.settings
            setattr(other, name, changed)
    return other


def descend(task: Task, steps: int, *, scaled: float = 1.0) -> Descent:
    """Train a new model as the run would.

    Args:
        task: Prepared.
        steps: Updates.
        scaled: What learning rates are multiplied by.
    """
    training = task.settings.training
    total, rows = max(training.steps or 0, steps), slice(0, training.batch_size)
    done = Descent(task.build().train())
    optimizer = new_optimizer(done.model, task)
    carry: Carry = {}
    began = time.perf_counter()
    for step in range(steps):
        rate = scaled * (training.lr or 0.0) * factor(training, step, total, 0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        with counter(training.seed, step, 0):
            loss, carry = task.loss(done.model, task.batch(step, rows), carry)
            loss.backward()
        clip([*done.model.parameters()], training.clip_norm or None, training.clip_value)
        optimizer.step()
        task.constrain(done.model)
        carry = {name: state.detach() for name, state in carry.items()}
        done.losses.append(loss.item())
        if done.diverged or time.perf_counter() - began > SECONDS:
            break
    done.model.eval()
    return done


def overfit(task: Task, count: int, steps: int = 300, rate: float = 0.01) -> Descent:
    """Train on `count` examples again and again, by Adam, without dropout."""
    rows = task.settings.training.batch_size
    batches = [task.batch(n, slice(0, min(count, rows))) for n in range(math.ceil(count / rows))]
    done = Descent(task.build().eval())
    optimizer = torch.optim.Adam(done.model.parameters(), rate)
    began = time.perf_counter()
    for step in range(steps):
        optimizer.zero_grad()
        with counter(0, 0, 0):
            loss, _ = task.loss(done.model, batches[step % len(batches)], {})
        loss.backward()
        clip([*done.model.parameters()], 1.0, None)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.step()
        done.losses.append(loss.item())
        learned = max(done.losses[-len(batches) :]) < 0.01 * abs(done.losses[0])
        if done.diverged or learned or time.perf_counter() - began > SECONDS:
            break
    return done


@contextmanager
def untouched() -> Iterator[None]:
    """Leave torch's random numbers as they were."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        yield


def new_optimizer(model: nn.Module, task: Task) -> torch.optim.Optimizer:
    """Give the optimiser of a run; Adam in place of what follows no rate."""
    training = task.settings.training
    if training.optimizer == "hessian-free":
        training = training.model_copy(update={"optimizer": "adam", "lr": 1e-3})
    return make_optimizer([*model.parameters()], training)
