"""The simple recurrent network (Elman 1990, "Finding structure in time")."""

from typing import Literal

import torch
from torch import Tensor, nn

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


class Elman(Cell):
    """h_t = phi(W_x x_t + W_h h_{t-1} + b). State: h (B, H).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        nonlinearity: phi.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: Literal["tanh", "relu", "sigmoid"] = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)
        self.phi = NONLINEARITIES[nonlinearity]
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        return self.phi(self.x(x) + self.h(h))
