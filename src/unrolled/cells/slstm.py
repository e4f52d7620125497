"""The sLSTM of the xLSTM (Beck et al. 2024)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell


class SLSTM(Cell):
    """Exponential input gate, normaliser n, stabiliser m (eqs. 8-17). States: h, c, n, m, each (B, H).

    From z~, i~, f~, o~ = W x_t + R h_{t-1} + b: m_t = max(log f + m_{t-1}, i~), i = exp(i~ - m_t),
    f' = exp(log f + m_{t-1} - m_t), c_t = f' c_{t-1} + i tanh(z~), n_t = f' n_{t-1} + i,
    h_t = sigma(o~) c_t / n_t, with f = sigma(f~). While n is zero, as at the start, i~ stands for
    log f + m_{t-1}: without a past there is nothing else to scale by.
    The biases of f begin evenly spread from 3 to 6.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of the states.
        heads: R has this many blocks on its diagonal; `r` is (4, heads, H / heads, H / heads).

    Raises:
        ValueError: If H is not a multiple of the heads.
    """

    state_names = ("h", "c", "n", "m")
    blocks = ("z", "i", "f", "o")

    def __init__(self, input_size: int, hidden_size: int, heads: int = 1) -> None:
        super().__init__(input_size, hidden_size)
        if heads < 1 or hidden_size % heads:
            raise ValueError(f"hidden_size {hidden_size} is not a multiple of {heads} heads")
        width = hidden_size // heads
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.r = nn.Parameter(torch.empty(4, heads, width, width))
        uniform_start(self)
        with torch.no_grad():
            self.x.bias.view(4, -1)[2] = torch.linspace(3, 6, hidden_size)

    def step(
        self, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute one step: x (B, I), h, c, n, m, each (B, H) -> h, c, n, m."""
        r = torch.cat([torch.block_diag(*heads) for heads in self.r])
        z, i, f, o = (self.x(x) + linear(h, r)).chunk(4, -1)
        kept = torch.where(n == 0, i, logsigmoid(f) + m)
        m = torch.maximum(kept, i)
        i, f = self.gate("i", (i - m).exp()), self.gate("f", (kept - m).exp())
        c = f * c + i * self.gate("z", z.tanh())
        n = f * n + i
        return self.gate("o", o.sigmoid()) * c / n, c, n, m
