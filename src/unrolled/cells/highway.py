"""The recurrent highway network (Zilly, Srivastava, Koutnik & Schmidhuber 2017)."""

from torch import Tensor, nn

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class RecurrentHighway(Cell):
    """L highway layers within a step: s_l = n_l t_l + s_{l-1} (1 - t_l) (eqs. 6-9). State: h (B, H).

    n_l = tanh(W_n x_t + R_nl s_{l-1} + b_nl), t_l = sigma(W_t x_t + R_tl s_{l-1} + b_tl), x at l = 1
    only; s_0 = h_{t-1}, h_t = s_L. The carry gate is 1 - t, as in the paper's experiments.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        depth: L.
        transform_bias: Where the biases of t begin; below zero the state is mostly carried.

    Raises:
        ValueError: If the depth is below 1.
    """

    def __init__(
        self, input_size: int, hidden_size: int, depth: int = 3, transform_bias: float = -2.0
    ) -> None:
        super().__init__(input_size, hidden_size)
        if depth < 1:
            raise ValueError(f"the depth must be at least 1, not {depth}")
        self.x = nn.Linear(input_size, 2 * hidden_size, bias=False)
        self.s = nn.ModuleList(nn.Linear(hidden_size, 2 * hidden_size) for _ in range(depth))
        uniform_start(self)
        for layer in self.s:
            nn.init.constant_(layer.bias[hidden_size:], transform_bias)  # pyright: ignore

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        for place, layer in enumerate(self.s, 1):
            a = layer(h) + self.x(x) if place == 1 else layer(h)
            n, t = a.chunk(2, -1)
            t = self.gate(f"t{place}", t.sigmoid())
            h = n.tanh() * t + h * (1 - t)
        return h
