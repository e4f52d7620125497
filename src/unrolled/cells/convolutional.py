"""Cells whose states are images or signals, and whose products are convolutions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.engine import Cell
from unrolled.engine.cell import Width

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


class Convolutional(Cell):
    """What the convolutional cells share: channels over a grid, padded so that it stays as large.

    Args:
        input_size: Channels I of x (B, I, ...).
        hidden_size: Channels H of the states (B, H, ...).
        shape: Of the grid, (length,) or (rows, columns).
        kernel_size: Width of the kernels, odd.
        gates: How many times H channels the convolutions have.

    Raises:
        ValueError: If the grid has not one or two dimensions, or the kernel's width is even.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        shape: Sequence[int],
        kernel_size: int,
        gates: int,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.shape = tuple(shape)
        if len(self.shape) not in CONVOLUTIONS:
            raise ValueError(f"shape must be (length,) or (rows, columns), not {self.shape}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        convolution = CONVOLUTIONS[len(self.shape)]
        padding = kernel_size // 2
        self.x = convolution(input_size, gates * hidden_size, kernel_size, padding=padding)
        self.h = convolution(
            hidden_size, gates * hidden_size, kernel_size, padding=padding, bias=False
        )

    @property
    def state_sizes(self) -> dict[str, Width]:
        """H channels over the grid."""
        return dict.fromkeys(self.state_names, (self.hidden_size, *self.shape))

    def of_input(self, x: Tensor) -> Tensor:
        """Convolve x (B, I, ...) with W_x, and add b.

        Raises:
            ValueError: If x is not of the grid.
        """
        if tuple(x.shape[2:]) != self.shape:
            raise ValueError(
                f"{type(self).__name__}: x must be (rows, {self.input_size}, "
                f"{', '.join(map(str, self.shape))}) at each step, not (rows, "
                f"{', '.join(map(str, x.shape[1:]))})"
            )
        return self.x(x)


class ConvLSTM(Convolutional):
    """The LSTM with convolutions for products (Shi et al. 2015, eq. 3). States: h, c (B, H, ...).

    i, f, g, o from W_x x_t + W_h h_{t-1} + b, with peepholes w_i c_{t-1}, w_f c_{t-1}, w_o c_t;
    c_t = sigma(f) c_{t-1} + sigma(i) tanh(g), h_t = sigma(o) tanh(c_t). Peepholes begin at zero.

    Args:
        input_size: Channels I of x (T, B, I, ...).
        hidden_size: Channels H of h and c.
        shape: Of the grid, (length,) or (rows, columns).
        kernel_size: Width of the kernels, odd.

    Raises:
        ValueError: If the grid has not one or two dimensions, or the kernel's width is even.
    """

    state_names = ("h", "c")

    def __init__(
        self, input_size: int, hidden_size: int, shape: Sequence[int], kernel_size: int = 3
    ) -> None:
        super().__init__(input_size, hidden_size, shape, kernel_size, 4)
        self.w_i, self.w_f, self.w_o = (
            nn.Parameter(torch.zeros(hidden_size, *self.shape)) for _ in range(3)
        )

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I, ...), h, c (B, H, ...) -> h, c."""
        return self.advance(self.of_input(x), h, c)

    def advance(self, a: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step from W_x x_t + b (B, 4 H, ...)."""
        i, f, g, o = (a + self.h(h)).chunk(4, 1)
        i = self.gate("i", (i + self.w_i * c).sigmoid())
        f = self.gate("f", (f + self.w_f * c).sigmoid())
        c = f * c + i * self.gate("g", g.tanh())
        o = self.gate("o", (o + self.w_o * c).sigmoid())
        return o * c.tanh(), c


class ConvGRU(Convolutional):
    """The GRU with convolutions for products (Ballas, Yao, Pal & Courville 2016). State: h (B, H, ...).

    r, z = sigma(W_x x_t + W_h h_{t-1} + b), n = tanh(W_xn x_t + W_hn (r h_{t-1}) + b_n),
    h_t = (1 - z) h_{t-1} + z n.

    Args:
        input_size: Channels I of x (T, B, I, ...).
        hidden_size: Channels H of h.
        shape: Of the grid, (length,) or (rows, columns).
        kernel_size: Width of the kernels, odd.

    Raises:
        ValueError: If the grid has not one or two dimensions, or the kernel's width is even.
    """

    def __init__(
        self, input_size: int, hidden_size: int, shape: Sequence[int], kernel_size: int = 3
    ) -> None:
        super().__init__(input_size, hidden_size, shape, kernel_size, 3)

    def _convolve(self, h: Tensor, kernels: Tensor) -> Tensor:
        convolve: Any = functional.conv1d if len(self.shape) == 1 else functional.conv2d
        return convolve(h, kernels, padding=self.h.padding)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I, ...), h (B, H, ...) -> h."""
        return self.advance(self.of_input(x), h)

    def advance(self, a: Tensor, h: Tensor) -> Tensor:
        """Compute one step from W_x x_t + b (B, 3 H, ...)."""
        w_r, w_z, w_n = self.h.weight.chunk(3)
        x_r, x_z, x_n = a.chunk(3, 1)
        r = self.gate("r", (x_r + self._convolve(h, w_r)).sigmoid())
        z = self.gate("z", (x_z + self._convolve(h, w_z)).sigmoid())
        n = self.gate("n", (x_n + self._convolve(r * h, w_n)).tanh())
        return (1 - z) * h + z * n
