"""Gated recurrent units (Cho et al. 2014), and with a single gate."""

from torch import Tensor, nn
from torch.nn.functional import linear

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class GRU(Cell):
    """Reset gate r, update gate z, candidate n; r after the product, as cuDNN has it. State: h (B, H).

    n_t = tanh(W_xn x_t + b_xn + r (W_hn h_{t-1} + b_hn)), h_t = (1 - z) n_t + z h_{t-1}.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    blocks = ("r", "z", "n")
    keeps = ("z",)

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


class ResetBeforeGRU(Cell):
    """The GRU with the reset gate before the product (Cho et al. 2014, eqs. 5-8). State: h (B, H).

    n_t = tanh(W_xn x_t + b_n + W_hn (r h_{t-1})), h_t = (1 - z) n_t + z h_{t-1}.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    blocks = ("r", "z", "n")
    keeps = ("z",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size)
        self.h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        w_r, w_z, w_n = self.h.weight.chunk(3)
        x_r, x_z, x_n = self.x(x).chunk(3, -1)
        r = self.gate("r", (x_r + linear(h, w_r)).sigmoid())
        z = self.gate("z", (x_z + linear(h, w_z)).sigmoid())
        n = self.gate("n", (x_n + linear(r * h, w_n)).tanh())
        return (1 - z) * n + z * h


class MinimalGated(Cell):
    """One gate f forgets and updates (Zhou, Wu, Zhang & Zhou 2016, table 1). State: h (B, H).

    f = sigma(W_xf x_t + W_hf h_{t-1} + b_f), n = tanh(W_xn x_t + W_hn (f h_{t-1}) + b_n),
    h_t = (1 - f) h_{t-1} + f n.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    blocks = ("f", "n")
    writes = ("f",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 2 * hidden_size)
        self.h = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        w_f, w_n = self.h.weight.chunk(2)
        x_f, x_n = self.x(x).chunk(2, -1)
        f = self.gate("f", (x_f + linear(h, w_f)).sigmoid())
        n = self.gate("n", (x_n + linear(f * h, w_n)).tanh())
        return (1 - f) * h + f * n
