"""Modules along a sequence of rows of any length: each step by itself, or windows of several steps.

T steps, B rows, C numbers a step. No row sees its padding: what a module is to find behind a row's end is
what it finds there when the row is alone.
"""

from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from unrolled.engine import Cell, run
from unrolled.engine.check import check_lengths
from unrolled.layers.convolution import Convolution1d, padding_sides
from unrolled.layers.pooling import AveragePool, L2Pool, LogSumExpPool, MaxPool

WINDOWED = (
    nn.Conv1d,
    Convolution1d,
    nn.MaxPool1d,
    nn.AvgPool1d,
    MaxPool,
    AveragePool,
    L2Pool,
    LogSumExpPool,
)
"""What reads windows of several steps; takes (B, C, T)."""
Windowed: TypeAlias = (
    nn.Conv1d
    | Convolution1d
    | nn.MaxPool1d
    | nn.AvgPool1d
    | MaxPool
    | AveragePool
    | L2Pool
    | LogSumExpPool
)
NumberT = TypeVar("NumberT", int, Tensor)
MOST_TAPS = 16
"""Of a kernel whose windows are laid out side by side, which takes as many times the memory."""


class EachStep(Cell):
    """y_t = f(x_t) for a module f, without a state.

    Args:
        module: f, (B, I) -> (B, O).
        input_size: Width I of x.
        output_size: Width O of y.
    """

    state_names = ()
    output_names = ("y",)

    def __init__(self, module: nn.Module, input_size: int, output_size: int) -> None:
        super().__init__(input_size, output_size)
        self.module = module

    def step(self, x: Tensor) -> Tensor:
        """Compute one step: x (B, I) -> y (B, O)."""
        return self.module(x)


class Filters(nn.Module):
    """The filters of a convolution over windows that are laid out: (N, C K) -> (N, O)."""

    def __init__(self, convolution: nn.Conv1d | Convolution1d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, windows: Tensor) -> Tensor:
        """Give the product with each filter."""
        flip = isinstance(self.convolution, Convolution1d) and self.convolution.flip
        weight = self.convolution.weight.flip(2) if flip else self.convolution.weight
        return functional.linear(windows, weight.flatten(1), self.convolution.bias)


def run_each_step(cell: EachStep, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Run a module over each step: x (T, B, I), lengths (B,) -> (T, B, O), zero past a row's end."""
    if _native_may_run(x):
        return run(cell, x, lengths=lengths).y
    inside = _inside(x, lengths)
    y = cell.module(x if inside is None else torch.where(inside, x, 0))
    return y if inside is None else torch.where(inside, y, 0)


def filters_of(module: Windowed) -> EachStep | None:
    """Give what a plain convolution makes of each window, for :func:`run_windows`; of others nothing.

    That is for windows that are laid out, which is no slower, and rows come out the same in any batch.
    """
    if (
        not isinstance(module, nn.Conv1d | Convolution1d)
        or getattr(module, "padding_mode", "zeros") != "zeros"
        or module.groups > 1
        or _one(module.kernel_size) > MOST_TAPS
    ):
        return None
    return EachStep(Filters(module), module.weight[0].numel(), module.weight.shape[0])


def run_windows(
    module: Windowed, filters: EachStep | None, x: Tensor, lengths: Tensor | None
) -> Tensor:
    """Run a convolution or pooling over time: x (T, B, C), lengths (B,) -> (T', B, O), zero past a row's end.

    T' and the rows' own steps are what :func:`steps_after` says. Without `filters` each row goes by itself.

    Raises:
        ValueError: If T steps are not enough for one window.
    """
    steps, batch, _ = x.shape
    longest = _after(module, steps)
    if longest < 1:
        raise ValueError(
            f"{type(module).__name__} reads windows longer than the {steps} steps it is given"
        )
    ends = None if lengths is None else check_lengths(lengths, steps, batch)
    after = None if ends is None else steps_after(module, ends)
    if filters is not None and _native_may_run(x):
        inside = _inside(x, ends)
        kernel, stride, sides, dilation = _window(module)
        x = functional.pad(x if inside is None else torch.where(inside, x, 0), (0, 0, 0, 0, *sides))
        span = dilation * (kernel - 1) + 1
        windows = x.unfold(0, span, stride)[..., ::dilation].flatten(2)  # (T', B, C K)
        return run(filters, windows, lengths=after).y
    own = [steps] * batch if ends is None else ends.tolist()
    left = [longest] * batch if after is None else after.tolist()
    rows = [
        module(x[:n, row].T[None])[0].T if m else x.new_zeros(0, _channels(module, x))
        for row, (n, m) in enumerate(zip(own, left, strict=True))
    ]
    y = pad_sequence(rows) if rows else x.new_zeros(longest, 0, _channels(module, x))
    return functional.pad(y, (0, 0, 0, 0, 0, longest - len(y)))


def steps_after(module: Windowed, lengths: Tensor) -> Tensor:
    """Give how many steps come out: floor((n + padding - dilation (k - 1) - 1) / stride) + 1.

    That is 0 where it would be less, and for a row without steps, whatever the padding.
    """
    return torch.where(lengths > 0, _after(module, lengths).clamp(min=0), 0)


def _after(module: Windowed, n: NumberT) -> NumberT:
    kernel, stride, sides, dilation = _window(module)
    return (n + sum(sides) - dilation * (kernel - 1) - 1) // stride + 1


def check_windows(module: Windowed) -> None:
    """Refuse a module the number of whose outputs :func:`steps_after` does not know.

    Raises:
        ValueError: If it rounds up, or its windows do not go over one dimension.
    """
    if getattr(module, "ceil_mode", False):
        raise ValueError(f"{type(module).__name__} over time rounds down: leave ceil_mode out")
    _window(module)


def _window(module: Windowed) -> tuple[int, int, tuple[int, int], int]:
    """Give kernel, stride, padding before and behind, and dilation."""
    if isinstance(module, Convolution1d):
        (sides,) = padding_sides(module.padding, module.kernel_size, module.dilation)
        return module.kernel_size[0], module.stride[0], sides, module.dilation[0]
    if isinstance(module, nn.Conv1d):
        kernel, dilation = _one(module.kernel_size), _one(module.dilation)
        if isinstance(module.padding, str):
            around = dilation * (kernel - 1) if module.padding == "same" else 0
            sides = around // 2, around - around // 2
        else:
            sides = _one(module.padding), _one(module.padding)
        return kernel, _one(module.stride), sides, dilation
    if isinstance(module, nn.MaxPool1d | nn.AvgPool1d):
        sides = _one(module.padding), _one(module.padding)
        dilation = _one(getattr(module, "dilation", 1))
        return _one(module.kernel_size), _one(module.stride), sides, dilation
    pool = _one(module.pool)
    (sides,) = padding_sides(module.padding, (pool,), (1,))
    return pool, pool if module.stride is None else _one(module.stride), sides, 1


def _one(value: object) -> int:
    if isinstance(value, tuple | list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int):
        raise ValueError(f"over time there is one dimension, not {value}")
    return value


def _native_may_run(x: Tensor) -> bool:
    """Whether steps go through a cell; elsewhere that is a loop, and a module takes all steps at once."""
    return x.is_cpu


def _channels(module: Windowed, x: Tensor) -> int:
    """Give O."""
    convolves = isinstance(module, nn.Conv1d | Convolution1d)
    return module.weight.shape[0] if convolves else x.shape[2]


def _inside(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Give where there are steps (T, B, 1), or nothing where everywhere."""
    if lengths is None:
        return None
    steps, batch = x.shape[:2]
    ends = check_lengths(lengths, steps, batch).to(x.device)
    return (torch.arange(steps, device=x.device)[:, None] < ends)[..., None]
