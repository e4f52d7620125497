"""Locally connected: each unit looks at a window, as in a convolution, but with weights of its own."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.convolution_plan import Padding, each, padding_sides


class LocallyConnected(nn.Module):
    """Filters that are not shared over places (LeCun 1989).

    Args:
        in_channels: C.
        out_channels: O.
        size: Of the input, one to three numbers; it is fixed, since every place has its own weights.
        kernel_size: K, one number, or one a dimension.
        stride: As in :func:`filter_bank`, as is `padding`.
        padding: As above.
        bias: Whether each unit has one.

    Raises:
        InputError: If the kernel is larger than the padded input, or an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Sequence[int],
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        bias: bool = True,
    ) -> None:
        super().__init__()
        d = len(size)
        self.size = tuple(size)
        self.kernel_size = each(kernel_size, d, "kernel_size")
        self.stride = each(stride, d, "stride")
        self.sides = padding_sides(padding, self.kernel_size, (1,) * d)
        padded = tuple(n + sum(side) for n, side in zip(self.size, self.sides, strict=True))
        if any(k > n for k, n in zip(self.kernel_size, padded, strict=True)):
            raise InputError(
                f"the kernel {self.kernel_size} is larger than the padded input {padded}"
            )
        steps = zip(padded, self.kernel_size, self.stride, strict=True)
        self.places = tuple((n - k) // s + 1 for n, k, s in steps)
        units, fan_in = math.prod(self.places), in_channels * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(units, fan_in, out_channels).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(out_channels, *self.places).uniform_(-bound, bound))
            if bias
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, ...) -> (B, O, ...).

        Raises:
            InputError: If channels or size are not those it was made for.
        """
        d = len(self.size)
        channels = self.weight.shape[1] // math.prod(self.kernel_size)
        if x.shape[1:] != (channels, *self.size):
            raise InputError(
                f"this layer was made for rows of {(channels, *self.size)}, not {tuple(x.shape[1:])}; "
                "pool other sizes to it with AdaptivePool"
            )
        x = functional.pad(x, [n for side in reversed(self.sides) for n in side])
        for axis, (k, s) in enumerate(zip(self.kernel_size, self.stride, strict=True), 2):
            x = x.unfold(axis, k, s)  # (B, C, *places, *K)
        order = [*range(2, 2 + d), 0, 1, *range(2 + d, 2 + 2 * d)]
        windows = x.permute(order).flatten(d + 1).flatten(0, d - 1)  # (units, B, C K)
        y = torch.bmm(windows, self.weight).permute(1, 2, 0).unflatten(2, self.places)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Say how it is made."""
        channels = self.weight.shape[1] // math.prod(self.kernel_size)
        return (
            f"{channels}, {self.weight.shape[2]}, size={self.size}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
