"""Pooling: what a window of neighbours has in common, in one number.

B rows, C channels, one to three sizes; `pool`, `stride` and `padding` are one number, or one a
dimension (of padding a number or a pair before and behind). Padding never wins a maximum nor counts in a
log-sum-exp; averages and L2 count it as zeros.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.convolution_plan import Sides, each, padding_sides

Numbers: TypeAlias = int | Sequence[int]
Around: TypeAlias = int | Sequence[Sides]

_MAX = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_AVERAGE = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def max_pool(
    x: Tensor, pool: Numbers, stride: Numbers | None = None, padding: Around = 0
) -> Tensor:
    """Give the largest number of each window: (B, C, size...) -> (B, C, places...).

    Of equal numbers the first takes the gradient. `stride` is the pool if left out.

    Raises:
        InputError: If padding is not smaller than the pool, or the pool is larger than the padded input.
    """
    x, sizes, strides = _windows(x, pool, stride, padding, -torch.inf)
    return _MAX[len(sizes) - 1](x, sizes, strides)


def max_pool_switches(
    x: Tensor, pool: Numbers, stride: Numbers | None = None, padding: Around = 0
) -> tuple[Tensor, Tensor]:
    """Give as well where each maximum was: its place (B, C, places...) in the flattened `size`.

    Arguments and errors are those of :func:`max_pool`; :func:`unpool` takes the switches.
    """
    inside = x.shape[2:]
    padded, sizes, strides = _windows(x, pool, stride, padding, -torch.inf)
    y, places = _MAX[len(sizes) - 1](padded, sizes, strides, return_indices=True)
    sides = padding_sides(padding, sizes, (1,) * len(sizes))
    within = torch.unravel_index(places, padded.shape[2:])
    switches = torch.zeros_like(places)
    for place, (before, _), n in zip(within, sides, inside, strict=True):
        switches = switches * n + (place - before).clamp(0, n - 1)
    return y, switches


def unpool(y: Tensor, switches: Tensor, size: Sequence[int]) -> Tensor:
    """Put each number where its switch says, zeros elsewhere: (B, C, places...) -> (B, C, size...).

    Numbers with the same switch, where windows overlap, add up: so this is the transpose of the pooling,
    and its backward pass.

    Raises:
        InputError: If `y` and `switches` differ in shape, or a switch lies outside `size`.
    """
    if y.shape != switches.shape:
        raise InputError(
            f"{tuple(y.shape)} numbers need as many switches, not {tuple(switches.shape)}"
        )
    flat = y.new_zeros(*y.shape[:2], int(torch.Size(size).numel()))
    if switches.numel() and int(switches.max()) >= flat.shape[2]:
        raise InputError(f"a switch is {int(switches.max())}, outside of a size of {tuple(size)}")
    return flat.scatter_add(2, switches.flatten(2), y.flatten(2)).unflatten(2, tuple(size))


def average_pool(
    x: Tensor, pool: Numbers, stride: Numbers | None = None, padding: Around = 0
) -> Tensor:
    """Give the mean of each window, padding counted as zeros; else as :func:`max_pool`."""
    x, sizes, strides = _windows(x, pool, stride, padding, 0.0)
    return _AVERAGE[len(sizes) - 1](x, sizes, strides)


def l2_pool(
    x: Tensor,
    pool: Numbers,
    stride: Numbers | None = None,
    padding: Around = 0,
    *,
    mean: bool = True,
) -> Tensor:
    """Give the root of the mean square of each window: [1, 2, 3, 4] gives 2.738613.

    Args:
        x: (B, C, ...).
        pool: As in :func:`max_pool`, as are `stride`, `padding` and errors.
        stride: As above.
        padding: As above; zeros.
        mean: ``False`` takes the root of the sum, as ``torch.nn.functional.lp_pool1d`` with norm 2 does:
            5.477226.
    """
    x, sizes, strides = _windows(x, pool, stride, padding, 0.0)
    squares = _AVERAGE[len(sizes) - 1](x * x, sizes, strides)
    return _root(squares if mean else squares * torch.Size(sizes).numel())


def log_sum_exp_pool(
    x: Tensor,
    pool: Numbers,
    stride: Numbers | None = None,
    padding: Around = 0,
    *,
    sharpness: float = 1.0,
) -> Tensor:
    """Give (1 / r) log mean exp(r x) of each window, between the mean (r -> 0) and the maximum.

    Pinheiro & Collobert 2015, eq. 6. Arguments and errors are those of :func:`max_pool`, and:

    Args:
        x: (B, C, ...).
        pool: As above, as are `stride` and `padding`.
        stride: As above.
        padding: As above; it does not count.
        sharpness: r > 0.
    """
    if not sharpness > 0:
        raise InputError(f"sharpness must be above 0, not {sharpness}")
    inside = torch.ones_like(x[:1, :1])
    x, sizes, strides = _windows(x, pool, stride, padding, -torch.inf)
    inside, *_ = _windows(inside, pool, stride, padding, 0.0)
    for axis, (size, step) in enumerate(zip(sizes, strides, strict=True), 2):
        x, inside = x.unfold(axis, size, step), inside.unfold(axis, size, step)
    window = tuple(range(-len(sizes), 0))
    return (torch.logsumexp(sharpness * x, window) - inside.sum(window).log()) / sharpness


def k_max_pool(x: Tensor, k: int) -> Tensor:
    """Give the k largest numbers of each row and channel in the order they stand in: (..., L) -> (..., k).

    Kalchbrenner et al. 2014, section 3.2. Of equal numbers the first ones are taken.

    Raises:
        InputError: If k is below 1 or above L.
    """
    length = x.shape[-1]
    if not 1 <= k <= length:
        raise InputError(f"k must be from 1 to the length {length}, not {k}: pad shorter rows to k")
    places = x.argsort(dim=-1, descending=True, stable=True)[..., :k].sort(-1).values
    return x.gather(-1, places)


Kind: TypeAlias = Literal["max", "average", "l2", "log-sum-exp"]


def adaptive_pool(x: Tensor, size: Numbers, kind: Kind = "max") -> Tensor:
    """Pool any size to a fixed one: (B, C, any...) -> (B, C, size...).

    Window i of n reaches from floor(i N / n) to ceil((i + 1) N / n), as torch's adaptive pooling has it.

    Args:
        x: (B, C, N, ...), in 1 to 3 dimensions.
        size: n, one number, or one a dimension.
        kind: What is taken of a window.

    Raises:
        InputError: If a size is below 1, a dimension of `x` is empty, or the kind is unknown.
    """
    d = _dimensions(x)
    sizes = each(size, d, "size")
    if not all(x.shape[2:]):
        raise InputError(f"there is nothing to pool in {tuple(x.shape)}")
    average = (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    )[d - 1]
    largest = (
        functional.adaptive_max_pool1d,
        functional.adaptive_max_pool2d,
        functional.adaptive_max_pool3d,
    )[d - 1]
    match kind:
        case "max":
            return largest(x, sizes)  # pyright: ignore[reportReturnType]
        case "average":
            return average(x, sizes)  # pyright: ignore[reportArgumentType]
        case "l2":
            return _root(average(x * x, sizes))  # pyright: ignore[reportArgumentType]
        case "log-sum-exp":
            return _adaptive_log_mean_exp(x, sizes)
    raise InputError(f"there is no pooling {kind!r}; take max, average, l2 or log-sum-exp")


def _adaptive_log_mean_exp(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """One dimension after the other: a mean of means over windows of a grid."""
    for axis, n in enumerate(sizes, 2):
        length = x.shape[axis]
        bounds = [(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]
        windows = [x.narrow(axis, a, b - a) for a, b in bounds]
        counts = x.new_tensor([b - a for a, b in bounds]).log()
        x = torch.stack([window.logsumexp(axis) for window in windows], axis)
        x = x - counts.view(-1, *[1] * (x.dim() - axis - 1))
    return x


def _windows(
    x: Tensor, pool: Numbers, stride: Numbers | None, padding: Around, value: float
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """Pad the input with `value`; give pool and stride for each dimension."""
    d = _dimensions(x)
    sizes = each(pool, d, "pool")
    strides = sizes if stride is None else each(stride, d, "stride")
    sides = padding_sides(padding, sizes, (1,) * d)
    if any(max(side) >= size for side, size in zip(sides, sizes, strict=True)):
        raise InputError(
            f"padding {padding} must be smaller than the pool {sizes}: a window would hold nothing else"
        )
    padded = tuple(n + sum(side) for n, side in zip(x.shape[2:], sides, strict=True))
    if any(size > n for size, n in zip(sizes, padded, strict=True)):
        raise InputError(f"the pool {sizes} is larger than the padded input {padded}")
    if any(map(sum, sides)):
        x = functional.pad(x, [n for side in reversed(sides) for n in side], value=value)
    return x, sizes, strides


def _dimensions(x: Tensor) -> int:
    if not 3 <= x.dim() <= 5:
        raise InputError(f"pooling takes (B, C, ...) with 1 to 3 sizes, not {tuple(x.shape)}")
    return x.dim() - 2


def _root(squares: Tensor) -> Tensor:
    """Give the root, with the derivative 0 rather than infinity where all of a window is 0."""
    zero = squares == 0
    return squares.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


class _Pool(nn.Module):
    """A pool of a size; as many dimensions as the input has."""

    def __init__(self, pool: Numbers, stride: Numbers | None = None, padding: Around = 0) -> None:
        super().__init__()
        self.pool, self.stride, self.padding = pool, stride, padding

    def extra_repr(self) -> str:
        """Say how it is made."""
        return f"{self.pool}, stride={self.stride}, padding={self.padding}"


class MaxPool(_Pool):
    """The largest of each window, see :func:`max_pool`."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, size...) -> (B, C, places...)."""
        return max_pool(x, self.pool, self.stride, self.padding)


class AveragePool(_Pool):
    """The mean of each window, see :func:`average_pool`."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, size...) -> (B, C, places...)."""
        return average_pool(x, self.pool, self.stride, self.padding)


class L2Pool(_Pool):
    """The root of the mean square of each window, see :func:`l2_pool`."""

    def __init__(
        self,
        pool: Numbers,
        stride: Numbers | None = None,
        padding: Around = 0,
        *,
        mean: bool = True,
    ) -> None:
        super().__init__(pool, stride, padding)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, size...) -> (B, C, places...)."""
        return l2_pool(x, self.pool, self.stride, self.padding, mean=self.mean)


class LogSumExpPool(_Pool):
    """A soft maximum of each window, see :func:`log_sum_exp_pool`."""

    def __init__(
        self,
        pool: Numbers,
        stride: Numbers | None = None,
        padding: Around = 0,
        *,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__(pool, stride, padding)
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, size...) -> (B, C, places...)."""
        return log_sum_exp_pool(x, self.pool, self.stride, self.padding, sharpness=self.sharpness)


class KMaxPool(nn.Module):
    """The k largest of a row, in order, see :func:`k_max_pool`."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, L) -> (B, C, k)."""
        return k_max_pool(x, self.k)


class AdaptivePool(nn.Module):
    """Any size to a fixed one, see :func:`adaptive_pool`."""

    def __init__(self, size: Numbers, kind: Kind = "max") -> None:
        super().__init__()
        self.size: Numbers = size
        self.kind: Kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, size...) -> (B, C, places...)."""
        return adaptive_pool(x, self.size, self.kind)
