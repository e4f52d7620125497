"""Gated cells with layer normalisation (Ba, Kiros & Hinton 2016). LN has gains and biases."""

from torch import Tensor, nn

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class LayerNormLSTM(Cell):
    """Gates from LN(W_h h_{t-1}) + LN(W_x x_t), h_t = sigma(o) tanh(LN(c_t)) (eqs. 20-22).

    States: h, c, each (B, H). The bias b of eq. 20 is that of a LN.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
    """

    state_names = ("h", "c")
    blocks = ("i", "f", "g", "o")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        uniform_start(self)
        self.norm_x, self.norm_h = nn.LayerNorm(4 * hidden_size), nn.LayerNorm(4 * hidden_size)
        self.norm_c = nn.LayerNorm(hidden_size)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, f, g, o = (self.norm_h(self.h(h)) + self.norm_x(self.x(x))).chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        return self.gate("o", o.sigmoid()) * self.norm_c(c).tanh(), c


class LayerNormGRU(Cell):
    """Gates r, z from LN(W_h h_{t-1}) + LN(W_x x_t) (supplement of the paper). State: h (B, H).

    n = tanh(LN(W_xn x_t) + sigma(r) LN(W_hn h_{t-1})), h_t = (1 - sigma(z)) h_{t-1} + sigma(z) n.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    blocks = ("r", "z", "n")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        uniform_start(self)
        self.norm_x, self.norm_h = nn.LayerNorm(2 * hidden_size), nn.LayerNorm(2 * hidden_size)
        self.norm_xn, self.norm_hn = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        parts = [2 * self.hidden_size, self.hidden_size]
        x_gates, x_n = self.x(x).split(parts, -1)
        h_gates, h_n = self.h(h).split(parts, -1)
        r, z = (self.norm_h(h_gates) + self.norm_x(x_gates)).chunk(2, -1)
        r, z = self.gate("r", r.sigmoid()), self.gate("z", z.sigmoid())
        n = self.gate("n", (self.norm_xn(x_n) + r * self.norm_hn(h_n)).tanh())
        return (1 - z) * h + z * n
