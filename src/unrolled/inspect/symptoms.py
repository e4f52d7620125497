"""What the doctor sees without training: data, inputs, units, gradients, states. B rows."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from unrolled.engine import choose
from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.inspect.diagnosis import Finding, again
from unrolled.inspect.gradients import check_gradients
from unrolled.tasks.examples import marks_of
from unrolled.tasks.task import Task

LARGE, SMALL = 10.0, 1e-3
"""Root mean squares of inputs that are too large and too small."""
DEAD, SATURATED = 0.5, 0.6
"""Shares of units, and of values, beyond which a start is a bad one."""
FEWEST = 4
"""Units, and rows, from which a share of dead units is told."""
UNBALANCED = 20
"""How many times as many examples the most common label may have as the rarest."""
SAME = 1 - 1e-6
"""Correlation of an input with the target that is no accident."""
WRITTEN_TO = ("labels", "targets", "wanted", "y")


class Listener(TorchFunctionMode):
    """Counts, while a model runs, dead units and saturated values."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[float] = []
        self.saturated: list[float] = []

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's protocol
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if isinstance(result, Tensor) and result.numel() and result.dim() > 1:
            if name == "relu" and result.shape[1] >= FEWEST:
                units = result.flatten(2).transpose(1, 2) if result.dim() > 2 else result
                units = units.flatten(0, -2)
                if len(units) >= FEWEST:
                    self.dead.append(float((units <= 0).all(0).float().mean()))
            elif name == "tanh":
                self.saturated.append(float((result.abs() > 0.98).float().mean()))
            elif name == "sigmoid":
                self.saturated.append(float(((result - 0.5).abs() > 0.48).float().mean()))
        return result


class LossOf(nn.Module):
    """A model's loss on one batch, as something whose gradients can be checked."""

    def __init__(self, model: nn.Module, compute: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.model, self.compute = model, compute

    def forward(self) -> Tensor:
        """Give the loss."""
        return self.compute(self.model)


def doubled(value: Any) -> Any:  # noqa: ANN401 - a task's own batch
    """Give a batch with its numbers in float64."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: doubled(getattr(value, f.name)) for f in dataclasses.fields(value)}
        other = copy.copy(value)
        for name, field in fields.items():
            object.__setattr__(other, name, field)
        return other
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(doubled, value))
    if isinstance(value, tuple | list):
        return type(value)(map(doubled, value))
    if isinstance(value, dict):
        return {key: doubled(part) for key, part in value.items()}
    return value


def gradient_check(task: Task, model: nn.Module) -> tuple[str, Finding | None]:
    """Check the gradient of every parameter on two rows; give a fact, and what is wrong."""
    batch = doubled(task.batch(0, slice(0, min(2, task.settings.training.batch_size))))

    def compute(model: nn.Module) -> Tensor:
        with counter(0, 0, 0):
            return task.loss(model, batch, {})[0]

    try:
        report = check_gradients(
            LossOf(model, compute), lambda: (), entries=4, tolerance=1e-3, eps=1e-5
        )
    except (RuntimeError, TypeError, InputError) as error:
        return f"not checked: {str(error).splitlines()[0]}", None
    rows = [row for row in report.rows if row.check == "differences"]
    worst = max(rows, key=lambda row: row.error)
    told = f"{worst.error:.1e} at most, of {worst.name.removeprefix('model.')}"
    bad = [row for row in rows if not row.ok]
    if not bad:
        return told, None
    names = ", ".join(row.name.removeprefix("model.") for row in bad)
    return told, Finding(
        "wrong gradient",
        f"relative error {worst.error:.2g} against differences, of {names}",
        "a backward pass of your own, or something cut from the graph by detach or .data",
        f"python -c 'import unrolled as ur; help(ur.check_gradients)'  # look into {names}",
    )


def inputs_of(task: Task, model: nn.Module, batch: Any) -> tuple[list[Tensor], float]:  # noqa: ANN401
    """Give the tensors a model is called with, and the loss."""
    heard: list[Tensor] = []

    def hear(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        heard.extend(v.detach() for v in (*given, *named.values()) if isinstance(v, Tensor))

    handle = model.register_forward_pre_hook(hear, with_kwargs=True)
    try:
        with torch.no_grad(), counter(0, 0, 0):
            loss, _ = task.loss(model, batch, {})
    finally:
        handle.remove()
    return heard, float(loss)


def units(task: Task, model: nn.Module, batch: Any) -> Listener:  # noqa: ANN401
    """Run a batch and count dead and saturated units."""
    listener = Listener()
    with torch.no_grad(), choose.engine("reference"), counter(0, 0, 0), listener:
        task.loss(model, batch, {})
    return listener


def about_units(listener: Listener, whose: str, task: Task) -> Iterator[Finding]:
    """Tell of dead and saturated units."""
    dead, saturated = max(listener.dead, default=0.0), max(listener.saturated, default=0.0)
    if dead > DEAD:
        yield Finding(
            "dead units",
            f"{dead:.0%} of the ReLU units of a layer {whose} are 0 on every row of a batch",
            "biases far below zero or too high a rate: their gradient is 0, so they never come back",
            again(task, lr=(task.settings.training.lr or 1e-3) / 10),
        )
    if saturated > SATURATED:
        yield Finding(
            "saturated start",
            f"{saturated:.0%} of the values of a tanh or sigmoid {whose} lie at its bounds",
            "weights or inputs too large: the slope there is next to 0",
            again(task, initial_scale=0.05),
        )


def about_inputs(inputs: list[Tensor], task: Task) -> Iterator[Finding]:
    """Tell of numbers that are too large, too small, or of very different size."""
    for x in inputs:
        if not x.is_floating_point() or x.numel() < 2:
            continue
        rms = float(x.double().square().mean().sqrt())
        columns = x.double().flatten(0, -2).square().mean(0).sqrt() if x.dim() > 1 else x[None]
        some = columns[columns > 0]
        spread = float(some.max() / some.min()) if len(some) else 1.0
        largest = float(columns.max())
        if rms > LARGE or 0 < rms < SMALL or (spread > 1000 and largest > LARGE):
            yield Finding(
                "inputs unscaled",
                f"root mean square {rms:.3g}; of the columns from {float(some.min()):.3g} to "
                f"{largest:.3g}",
                "numbers as they were measured; give each column mean 0 and deviation 1",
                again(task) + "  # after scaling the columns of the data",
            )
            return


def about_leaks(inputs: list[Tensor], batch: Any, task: Task) -> Iterator[Finding]:  # noqa: ANN401
    """Tell of inputs that are the target itself."""
    parts = batch._asdict() if hasattr(batch, "_asdict") else getattr(batch, "__dict__", {})
    found = [parts[name] for name in WRITTEN_TO if name in parts]
    if not found:
        return
    target = torch.as_tensor(np.asarray(found[0]))
    places = target.shape[: min(2, target.dim())] if target.dim() > 1 else target.shape
    count = math.prod(places)
    if count < 8:
        return
    rows = target.reshape(count, -1).double()
    if not target.is_floating_point() and rows.shape[1] == 1:
        rows = torch.cat([rows, rows == rows.unique()], 1)
    for x in inputs:
        if x.shape[: len(places)] == places:
            columns = x.reshape(count, -1).double()
            best = _correlation(columns, rows)
            if best > SAME:
                yield Finding(
                    "target leak",
                    f"a column of the input has correlation {best:.7f} with the target",
                    "the target, or something made from it, stands among the inputs",
                    again(task) + "  # without that column",
                )
                return


def _correlation(a: Tensor, b: Tensor) -> float:
    """Give the largest absolute correlation of a column of one with a column of the other."""
    parts = []
    for each in (a, b):
        each = each - each.mean(0)
        size = each.norm(dim=0)
        parts.append(each[:, size > 1e-9] / size[size > 1e-9])
    both = parts[0].T @ parts[1]
    return float(both.abs().max()) if both.numel() else 0.0


def about_data(task: Task) -> Iterator[Finding]:
    """Tell of labels out of balance, and of examples in two splits."""
    data = task.settings.data
    for split in ("validation", "test"):
        if both := set(data.source) & set(getattr(data, split)):
            yield _same(task, split, f"{', '.join(sorted(both))} is given for both")
    rows: Callable[..., Any] | None = getattr(task, "rows", None)
    if rows is None:
        return
    training = rows("training")
    seen = marks_of(training.items) if hasattr(training, "items") else np.zeros(0)
    for split, there in (("validation", data.validates), ("test", data.tests)):
        if not there or not len(seen):
            continue
        share = np.isin(marks_of(rows(split).items), seen).mean()
        if share > 0.02 and not set(data.source) & set(getattr(data, split)):
            yield _same(task, split, f"{share:.0%} of its examples are in the training part too")
    labels = getattr(training, "labels", None)
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        counts = np.bincount(labels)
        counts = counts[counts > 0]
        if counts.max() > UNBALANCED * counts.min():
            yield Finding(
                "unbalanced labels",
                f"the most common label has {counts.max():,} examples, the rarest {counts.min():,}",
                "what is rare hardly counts in the mean loss",
                again(task, class_weights="balanced"),
            )


def _same(task: Task, split: str, evidence: str) -> Finding:
    return Finding(
        "same examples in two parts",
        f"{split}: {evidence}",
        "what is judged was learned from, so that the figures say nothing",
        again(task, split="0.8,0.1,0.1"),
    )


def about_batch_norm(task: Task, model: nn.Module) -> Iterator[Finding]:
    """Tell of batch norm that has one row to norm by."""
    if task.settings.training.batch_size == 1:
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                yield Finding(
                    "batch norm of one row",
                    f"{name} norms by the mean and deviation of a batch, and a batch is one row",
                    "the deviation of one number is 0, so that nothing is left of it",
                    again(task, batch_size=32),
                )
                return


def about_states(task: Task, model: nn.Module) -> Iterator[Finding]:
    """Tell of a model whose loss depends on what it was called with before."""
    rows = slice(0, task.settings.training.batch_size)
    losses = [inputs_of(task, model, task.batch(step, rows))[1] for step in (0, 1, 0, 1)]
    if not np.allclose(losses[:2], losses[2:], rtol=1e-5, atol=1e-7, equal_nan=True):
        yield Finding(
            "state not reset",
            f"the same batch has loss {losses[0]:.6g}, and {losses[2]:.6g} after another one",
            "a state is kept from one sequence to the next that does not go on from it",
            again(task) + "  # with states that begin anew in every batch",
        )
