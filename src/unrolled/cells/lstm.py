"""Long short-term memory, as of 1997 and since.

The rows of x.weight and h.weight are blocks of H rows, one a gate, named by ``blocks``; open gates of
``keeps`` keep the past, and those of ``writes`` replace it.
"""

import torch
from torch import Tensor, nn

from unrolled.cells.activations import Activation, activation
from unrolled.cells.start import forget_bias_start, uniform_start
from unrolled.engine import Cell
from unrolled.engine.cell import Width


class LSTM(Cell):
    """Gates i, f, o and candidate g from W_x x_t + W_h h_{t-1} + b. States: h, c, each (B, H).

    c_t = sigma(f) c_{t-1} + sigma(i) tanh(g), h_t = sigma(o) phi(c_t) (Hochreiter & Schmidhuber
    1997; forget gate: Gers, Schmidhuber & Cummins 2000).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
        forget_bias: Where the bias of f begins; drawn like the others if left out.
        output: phi, by name or as a function.

    Raises:
        ValueError: If there is no activation of that name.
    """

    state_names = ("h", "c")
    blocks = ("i", "f", "g", "o")
    keeps, writes = ("f",), ("i",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: float | None = None,
        output: str | Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.phi = activation(output)
        uniform_start(self)
        if forget_bias is not None:
            forget_bias_start(self, forget_bias)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, f, g, o = (self.x(x) + self.h(h)).chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        return self.gate("o", o.sigmoid()) * self.phi(c), c


class LSTM1997(Cell):
    """The memory cell without a forget gate (Hochreiter & Schmidhuber 1997). States: h, c, each (B, H).

    c_t = c_{t-1} + sigma(i) (4 sigma(g) - 2), h_t = sigma(o) (2 sigma(c_t) - 1), from
    W_x x_t + W_h h_{t-1} + b (appendix A.1, eqs. 3-5). All weights begin in [-0.1, 0.1].
    Gradients are whole, not truncated as there.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
    """

    state_names = ("h", "c")
    blocks = ("i", "g", "o")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size)
        self.h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, g, o = (self.x(x) + self.h(h)).chunk(3, -1)
        c = c + self.gate("i", i.sigmoid()) * self.gate("g", 4 * g.sigmoid() - 2)
        return self.gate("o", o.sigmoid()) * (2 * c.sigmoid() - 1), c


class PeepholeLSTM(Cell):
    """Gates that see the memory (Gers & Schmidhuber 2000; Graves 2013, eqs. 7-11). States: h, c (B, H).

    As the LSTM, but i and f have w_i c_{t-1} and w_f c_{t-1} added, and o has w_o c_t.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
    """

    state_names = ("h", "c")
    blocks = ("i", "f", "g", "o")
    keeps, writes = ("f",), ("i",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.w_i, self.w_f, self.w_o = (nn.Parameter(torch.empty(hidden_size)) for _ in range(3))
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, f, g, o = (self.x(x) + self.h(h)).chunk(4, -1)
        i = self.gate("i", (i + self.w_i * c).sigmoid())
        f = self.gate("f", (f + self.w_f * c).sigmoid())
        c = f * c + i * self.gate("g", g.tanh())
        o = self.gate("o", (o + self.w_o * c).sigmoid())
        return o * c.tanh(), c


class CoupledLSTM(Cell):
    """What is written is what is forgotten: f = 1 - i (Greff et al. 2017, CIFG). States: h, c (B, H).

    c_t = (1 - sigma(i)) c_{t-1} + sigma(i) tanh(g), h_t = sigma(o) tanh(c_t).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
    """

    state_names = ("h", "c")
    blocks = ("i", "g", "o")
    writes = ("i",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size)
        self.h = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, g, o = (self.x(x) + self.h(h)).chunk(3, -1)
        i = self.gate("i", i.sigmoid())
        c = (1 - i) * c + i * self.gate("g", g.tanh())
        return self.gate("o", o.sigmoid()) * c.tanh(), c


class MultiplicativeLSTM(Cell):
    """The LSTM of m_t = (W_mx x_t) (W_mh h_{t-1}) in place of h_{t-1} (Krause et al. 2016, eqs. 18-22).

    States: h, c, each (B, H). The product makes the recurrent matrix depend on the input.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of m, h and c.
    """

    state_names = ("h", "c")
    blocks = ("i", "f", "g", "o")
    keeps, writes = ("f",), ("i",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.mx = nn.Linear(input_size, hidden_size, bias=False)
        self.mh = nn.Linear(hidden_size, hidden_size, bias=False)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.m = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        uniform_start(self)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        m = self.gate("m", self.mx(x) * self.mh(h))
        i, f, g, o = (self.x(x) + self.m(m)).chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        return self.gate("o", o.sigmoid()) * c.tanh(), c


class ProjectedLSTM(Cell):
    """The LSTM whose h is a projection W_p (sigma(o) tanh(c_t)) (Sak, Senior & Beaufays 2014).

    States: h (B, P), c (B, H). Without peepholes, as in torch.nn.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of c.
        projection: Width P of h; half of H if left out.
    """

    state_names = ("h", "c")
    blocks = ("i", "f", "g", "o")
    keeps, writes = ("f",), ("i",)

    def __init__(self, input_size: int, hidden_size: int, projection: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        self.projection = projection or max(1, hidden_size // 2)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(self.projection, 4 * hidden_size, bias=False)
        self.p = nn.Linear(hidden_size, self.projection, bias=False)
        uniform_start(self)

    @property
    def state_sizes(self) -> dict[str, Width]:
        """P and H."""
        return {"h": self.projection, "c": self.hidden_size}

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, P), c (B, H) -> h, c."""
        i, f, g, o = (self.x(x) + self.h(h)).chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        return self.p(self.gate("o", o.sigmoid()) * c.tanh()), c
