"""Convolution and cross-correlation in one to three dimensions, directly or through the Fourier transform.

B rows, C channels; size and K stand for one to three numbers. Places are counted as in SciPy: ``full`` is
every place where kernel and input overlap at all, ``same`` the middle of it, as large as the input,
``valid`` where they overlap whole. For a kernel of even length ``same`` has its one place more of padding
before the input; ``torch.nn.Conv1d(padding="same")`` has it behind.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from unrolled.errors import InputError
from unrolled.layers.convolution_plan import (
    Method,
    Mode,
    Padding,
    Plan,
    each,
    frozen,
    padding_sides,
    plan_for,
)
from unrolled.layers.fourier import Tiles, correlate_by_fourier


def convolve(x: Tensor, w: Tensor, mode: Mode = "full", *, method: Method = "auto") -> Tensor:
    """Convolve two signals, as ``scipy.signal.convolve`` does: y[i] = sum_a w[a] x[i - a].

    Args:
        x: A signal, a picture or a volume (size...), without rows and channels.
        w: What it is convolved with (K...), of as many dimensions.
        mode: Which places are given: ``full`` (size + K - 1), ``same`` (size), ``valid``
            (the larger - the smaller + 1; either may be the larger one).
        method: As in :func:`filter_bank`.

    Raises:
        InputError: If they are not both of 1, 2 or 3 dimensions and of one floating-point dtype, one is
            empty, or in ``valid`` neither is at least as large as the other in every dimension.
    """
    x, w, _ = _larger_first(x, w, mode)
    return filter_bank(x[None, None], w[None, None], padding=mode, flip=True, method=method)[0, 0]


def correlate(x: Tensor, w: Tensor, mode: Mode = "full", *, method: Method = "auto") -> Tensor:
    """Cross-correlate two signals, as ``scipy.signal.correlate`` does: y[i] = sum_a w[a] x[i + a].

    Arguments and errors are those of :func:`convolve`; in ``full`` i begins at -(K - 1).
    """
    x, w, swapped = _larger_first(x, w, mode)
    y = filter_bank(x[None, None], w[None, None], padding=mode, method=method)[0, 0]
    return y.flip(tuple(range(y.dim()))) if swapped else y


def _larger_first(x: Tensor, w: Tensor, mode: Mode) -> tuple[Tensor, Tensor, bool]:
    if x.dim() != w.dim() or not 1 <= x.dim() <= 3:
        raise InputError(
            f"both must have the same number of dimensions, 1 to 3; they are {_shape(x)} and {_shape(w)}"
        )
    if not (x.is_floating_point() and x.dtype == w.dtype and x.numel() and w.numel()):
        raise InputError(
            f"both must be real floating-point numbers of one dtype, and not empty; they are {x.dtype} "
            f"{_shape(x)} and {w.dtype} {_shape(w)}"
        )
    pairs = [*zip(x.shape, w.shape, strict=True)]
    if mode != "valid" or all(n >= k for n, k in pairs):
        return x, w, False
    if all(n <= k for n, k in pairs):
        return w, x, True
    raise InputError(
        "in mode 'valid' one must be at least as large as the other in every dimension; they are "
        f"{_shape(x)} and {_shape(w)}"
    )


def filter_bank(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
    method: Method = "auto",
) -> Tensor:
    """Run filters over rows of channels: y[o, i] = b[o] + sum_{c, a} w[o, c, a] x[c, s i + d a - p].

    Args:
        x: (B, C, ...), or (C, ...) for one row.
        weight: (O, C / groups, K...); its dimensions say whether this is in 1, 2 or 3 of them.
        bias: (O,).
        stride: s, places between outputs; one number, or one a dimension.
        padding: A mode (see the top of this module), or zeros p around the input: one number, or a
            sequence with a number or a pair (before, behind) a dimension: ``[(2, 0)]`` is causal for
            three taps.
        dilation: d, places between the taps of a kernel.
        groups: Parts of the channels that do not see each other.
        flip: True convolution: the kernel is turned round in each dimension. Otherwise it is
            cross-correlation, which other libraries call convolution.
        method: ``direct`` is torch's; ``fft`` goes through the Fourier transform, in n log n, for
            float32 and float64, equal up to rounding; ``auto`` takes the faster by a cost model that
            knows the shapes only, so that the same shapes always go the same way. Through the
            transform a number that is not finite spreads to all of its tile.

    Returns:
        (B, O, ...), without B if `x` has none; in each dimension
        floor((size + padding - d (K - 1) - 1) / s) + 1 places.

    Raises:
        InputError: If channels disagree, the kernel is larger than the padded input, or an argument is
            out of range.
    """
    if has_torch_function((x, weight)):  # someone watches or overrides, as inspect.describe does
        return handle_torch_function(
            filter_bank,
            (x, weight),
            x,
            weight,
            bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            flip=flip,
            method=method,
        )
    if x.dim() == weight.dim() - 1:
        x = x[None]
        return filter_bank(
            x,
            weight,
            bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            flip=flip,
            method=method,
        )[0]
    if method == "fft" and x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"method='fft' takes float32 and float64, not {x.dtype}; use 'auto'")
    if method == "auto" and (x.dtype not in (torch.float32, torch.float64) or not x.is_cpu):
        method = "direct"  # the costs are those of a processor
    plan = plan_for(
        x.shape,
        weight.shape,
        frozen(stride),
        frozen(padding),
        frozen(dilation),
        groups,
        method,
        torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad),
    )
    if flip:
        weight = weight.flip(plan.dimensions)
    if plan.pad is not None:
        x = functional.pad(x, plan.pad)
    if plan.tiles is not None:
        return _by_fourier(x, weight, bias, groups, plan, plan.tiles)
    return plan.direct(x, weight, bias, *plan.arguments)


def _by_fourier(
    x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, plan: Plan, tiles: Tiles
) -> Tensor:
    if max(plan.dilation) > 1:  # zeros between the taps
        whole = weight.new_zeros(*weight.shape[:2], *tiles.kernel)
        whole[(..., *(slice(None, None, gap) for gap in plan.dilation))] = weight
        weight = whole
    y = correlate_by_fourier(x, weight, groups, tiles)
    if max(plan.stride) > 1:
        y = y[(..., *(slice(None, None, stride) for stride in plan.stride))]
    return y if bias is None else y + bias.view(-1, *[1] * len(plan.stride))


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


class _Convolution(nn.Module):
    """Filters that are learned, with torch.nn's names and initial weights."""

    dimensions: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        flip: bool = False,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise InputError(
                f"{in_channels} and {out_channels} channels cannot be shared out among {groups} groups"
            )
        self.kernel_size = each(kernel_size, self.dimensions, "kernel_size")
        self.stride = each(stride, self.dimensions, "stride")
        self.dilation = each(dilation, self.dimensions, "dilation")
        padding_sides(padding, self.kernel_size, self.dilation)
        self.padding: Padding = padding
        self.method: Method = method
        self.groups, self.flip = groups, flip
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias evenly from +-1 / sqrt(inputs of a unit), as torch.nn does."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Run over x (B, C, ...) or (C, ...), as :func:`filter_bank` does."""
        return filter_bank(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            flip=self.flip,
            method=self.method,
        )

    def extra_repr(self) -> str:
        """Say how it is made."""
        out, inputs = self.weight.shape[:2]
        unlike = {"stride": 1, "dilation": 1}
        parts = [f"{inputs * self.groups}, {out}, kernel_size={self.kernel_size}"]
        parts += [
            f"{n}={getattr(self, n)}" for n, v in unlike.items() if {*getattr(self, n)} != {v}
        ]
        parts.append(f"padding={self.padding!r}")
        parts += [f"groups={self.groups}"] * (self.groups > 1)
        parts += ["flip=True"] * self.flip + ["bias=False"] * (self.bias is None)
        return ", ".join(parts)


class Convolution1d(_Convolution):
    """Filters over (B, C, L): signals, sequences. Arguments are those of :func:`filter_bank`."""

    dimensions = 1


class Convolution2d(_Convolution):
    """Filters over (B, C, H, W): pictures. Arguments are those of :func:`filter_bank`."""

    dimensions = 2


class Convolution3d(_Convolution):
    """Filters over (B, C, D, H, W): volumes. Arguments are those of :func:`filter_bank`."""

    dimensions = 3
