"""Simple recurrent networks: Elman's, and those that differ in where phi stands and how h begins."""

import torch
from torch import Tensor, nn

from unrolled.cells.activations import Activation, activation
from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class Elman(Cell):
    """h_t = phi(W_x x_t + W_h h_{t-1} + b) (Elman 1990). State: h (B, H).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If there is no activation of that name.
    """

    blocks = ("h",)

    def __init__(
        self, input_size: int, hidden_size: int, nonlinearity: str | Activation = "tanh"
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)
        self.phi = activation(nonlinearity)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        return self.phi(self.x(x) + self.h(h))


class IRNN(Elman):
    """h_t = relu(W_x x_t + W_h h_{t-1} + b), begun at W_h = I, b = 0. State: h (B, H).

    W_x is drawn from N(0, 0.001^2) (Le, Jaitly & Hinton 2015, section 3).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        scale: W_h begins at this multiple of the identity; 0.01 where short memory serves better.
    """

    def __init__(self, input_size: int, hidden_size: int, scale: float = 1.0) -> None:
        super().__init__(input_size, hidden_size, "relu")
        with torch.no_grad():
            self.h.weight.copy_(scale * torch.eye(hidden_size))
        nn.init.normal_(self.x.weight, std=0.001)
        nn.init.zeros_(self.x.bias)


class PreActivation(Cell):
    """h_t = W_h phi(h_{t-1}) + W_x x_t + b, y_t = W_y phi(h_t) (Pascanu, Mikolov & Bengio 2013, eq. 2).

    State: h (B, H), before phi. Output: y (B, O).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        outputs: Width O of y; H if left out.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If there is no activation of that name.
    """

    blocks = ("h",)
    output_names = ("y",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        outputs: int | None = None,
        nonlinearity: str | Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)
        self.y = nn.Linear(hidden_size, outputs or hidden_size, bias=False)
        self.phi = activation(nonlinearity)
        uniform_start(self)

    @property
    def output_size(self) -> int:
        """O."""
        return self.y.out_features

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H) -> h (B, H), y (B, O)."""
        h = self.h(self.phi(h)) + self.x(x)
        return h, self.y(self.phi(h))
