"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000)."""

from torch import Tensor, nn

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class LSTM(Cell):
    """Gates i, f, o and candidate g from W_x x_t + W_h h_{t-1} + b. States: h, c, each (B, H).

    c_t = sigma(f) c_{t-1} + sigma(i) tanh(g), h_t = sigma(o) tanh(c_t).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
    """

    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, f, g, o = (self.x(x) + self.h(h)).chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        return self.gate("o", o.sigmoid()) * c.tanh(), c
