"""Networks with several time scales: skips through time, dilation, clocks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unrolled.cells.activations import Activation, activation
from unrolled.cells.elman import Elman
from unrolled.cells.start import uniform_start
from unrolled.cells.wrapped import Wrapped
from unrolled.engine import Cell
from unrolled.engine.cell import Width


class Skip(Cell):
    """h_t = phi(W_x x_t + sum_k W_k h_{t-k} + b) (Lin, Horne, Tino & Giles 1996). State: h (B, H).

    Before the first step h is zero, so a skip may be longer than the sequence.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        skips: The k; `h.weight` (H, K H) holds the W_k side by side in this order.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If the skips are not different numbers from 1 up, or there is no such activation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        skips: Sequence[int] = (1, 4),
        nonlinearity: str | Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        skips = tuple(skips)
        if not skips or len({*skips}) < len(skips) or min(skips) < 1:
            raise ValueError(f"skips must be different numbers of steps from 1 up, not {skips}")
        self.delays = {"h": skips}  # pyright: ignore[reportAttributeAccessIssue]
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(len(skips) * hidden_size, hidden_size, bias=False)
        self.phi = activation(nonlinearity)
        uniform_start(self)

    def step(self, x: Tensor, h: tuple[Tensor, ...]) -> Tensor:
        """Compute one step: x (B, I), h of each skip (B, H) -> h (B, H)."""
        return self.phi(self.x(x) + self.h(torch.cat(h, -1)))


class Dilated(Wrapped):
    """A cell that sees its states of d steps ago in place of the last (Chang et al. 2017, eq. 1).

    The states are those of the cell. In the paper's stack layer l has d = 2^(l-1).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of the cell's states.
        dilation: d.
        cell: The class of the cell, built from ``(input_size, hidden_size)``.

    Raises:
        ValueError: If the dilation is below 1.
    """

    def __init__(
        self, input_size: int, hidden_size: int, dilation: int = 2, cell: type[Cell] = Elman
    ) -> None:
        if dilation < 1:
            raise ValueError(f"the dilation must be at least 1 step, not {dilation}")
        super().__init__(cell(input_size, hidden_size))
        self.delays = dict.fromkeys(self.state_names, (dilation,))  # pyright: ignore[reportAttributeAccessIssue]

    def step(self, x: Tensor, *states: tuple[Tensor], **extras: Tensor) -> Any:  # noqa: ANN401
        """Compute one step: x (B, I), each state of d steps ago -> the cell's results."""
        return self.cell.step(x, *(state for (state,) in states), **extras)


class Clockwork(Cell):
    """Modules of units with clocks of their own (Koutnik, Greff, Gomez & Schmidhuber 2014, eqs. 1-2).

    h_t = tanh(W_x x_t + W_h h_{t-1} + b) for the modules whose period divides t, h_{t-1} for the
    others; a module sees itself and the slower ones. States: h (B, H), units by module, the fastest
    first; clock (B, 1), the steps so far. W_h is the masked `h.weight`. All weights begin as N(0, 0.1^2).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        periods: Of each module; 1, 2, 4 and so on, up to 8 modules, if left out.

    Raises:
        ValueError: If periods are not positive or their number does not divide H.
    """

    state_names = ("h", "clock")
    mask: Tensor
    period: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, periods: Sequence[int] | None = None
    ) -> None:
        super().__init__(input_size, hidden_size)
        if periods is None:
            periods = [2**k for k in range(max(n for n in range(1, 9) if hidden_size % n == 0))]
        periods = sorted(periods)
        if not periods or periods[0] < 1:
            raise ValueError(f"clock periods must be numbers of steps from 1 up, not {periods}")
        if hidden_size % len(periods):
            raise ValueError(
                f"{hidden_size} units cannot be divided among {len(periods)} clock periods; "
                f"make hidden_size a multiple of {len(periods)}"
            )
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)
        period = torch.tensor(periods).repeat_interleave(hidden_size // len(periods)).float()
        self.register_buffer("period", period)
        self.register_buffer("mask", (period[:, None] <= period).float())
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)

    @property
    def state_sizes(self) -> dict[str, Width]:
        """H and 1."""
        return {"h": self.hidden_size, "clock": 1}

    def step(self, x: Tensor, h: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), clock (B, 1) -> h, clock."""
        # The whole numbers of a clock lie half-way between two jumps of the floor.
        since = clock - self.period * ((clock + 0.5) / self.period).floor()
        new = (self.x(x) + linear(h, self.h.weight * self.mask)).tanh()
        return torch.where(since < 0.5, new, h), clock + 1
