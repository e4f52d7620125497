"""The gated recurrent unit (Cho et al. 2014), with the reset gate after the product as cuDNN has it."""

from torch import Tensor, nn

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class GRU(Cell):
    """Reset gate r, update gate z, candidate n. State: h (B, H).

    n_t = tanh(W_xn x_t + b_xn + r (W_hn h_{t-1} + b_hn)), h_t = (1 - z) n_t + z h_{t-1}.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size)
        self.h = nn.Linear(hidden_size, 3 * hidden_size)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        x_r, x_z, x_n = self.x(x).chunk(3, -1)
        h_r, h_z, h_n = self.h(h).chunk(3, -1)
        r = self.gate("r", (x_r + h_r).sigmoid())
        z = self.gate("z", (x_z + h_z).sigmoid())
        n = self.gate("n", (x_n + r * h_n).tanh())
        return (1 - z) * n + z * h
