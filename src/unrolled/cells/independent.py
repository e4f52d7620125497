"""The independently recurrent network (Li, Li, Cook, Zhu & Gao 2018)."""

import torch
from torch import Tensor, nn

from unrolled.cells.activations import Activation, activation
from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class IndRNN(Cell):
    """h_t = phi(W_x x_t + u h_{t-1} + b), u a vector: each unit sees itself alone. State: h (B, H).

    u begins in U(0, 1); with ReLU the paper holds it below 2^(1 / T), which :meth:`clamp_` does.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If there is no activation of that name.
    """

    def __init__(
        self, input_size: int, hidden_size: int, nonlinearity: str | Activation = "relu"
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.u = nn.Parameter(torch.empty(hidden_size))
        self.phi = activation(nonlinearity)
        uniform_start(self)
        nn.init.uniform_(self.u)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        return self.phi(self.x(x) + self.u * h)

    @torch.no_grad()
    def clamp_(self, steps: int) -> None:
        """Hold u within plus and minus 2^(1 / steps), so that T `steps` no more than double the state."""
        self.u.clamp_(-(2 ** (1 / steps)), 2 ** (1 / steps))
