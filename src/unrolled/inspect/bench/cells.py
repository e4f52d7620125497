"""The cells of the workloads that torch.nn does not have, and the loop people write around a step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.engine import Cell
from unrolled.inspect.bench.workloads import Workload

LEAK = 0.3
"""How much of the leaky cell's state is new at each step."""


class LayerNormLSTM(Cell):
    """Ba, Kiros & Hinton 2016, eqs. 20-22. States: h, c, each (B, H)."""

    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.norm, self.norm_c = nn.LayerNorm(4 * hidden_size), nn.LayerNorm(hidden_size)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, f, g, o = (self.x(x) + self.norm(self.h(h))).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.norm_c(c).tanh(), c


class Leaky(Cell):
    """Jaeger, Lukosevicius, Popovici & Siewert 2007: leaky integrator units. State: h (B, H)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h."""
        return (1 - LEAK) * h + LEAK * (self.x(x) + self.h(h)).tanh()


class Peephole(Cell):
    """Gers & Schmidhuber 2000: the gates of an LSTM see c. States: h, c, each (B, H)."""

    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.p = nn.Parameter(torch.rand(3, hidden_size) - 0.5)

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        i, f, g, o = (self.x(x) + self.h(h)).chunk(4, -1)
        c = (f + self.p[1] * c).sigmoid() * c + (i + self.p[0] * c).sigmoid() * g.tanh()
        return (o + self.p[2] * c).sigmoid() * c.tanh(), c


class GRUBefore(Cell):
    """Cho et al. 2014, with the reset gate before the product, as in the paper. State: h (B, H)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size)
        self.h = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.n = nn.Linear(hidden_size, hidden_size, bias=False)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h."""
        x_r, x_z, x_n = self.x(x).chunk(3, -1)
        h_r, h_z = self.h(h).chunk(2, -1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        return (1 - z) * (x_n + self.n(r * h)).tanh() + z * h


OWN: dict[str, type[Cell]] = {
    "layer-norm": LayerNormLSTM,
    "leaky": Leaky,
    "peephole": Peephole,
    "gru-before": GRUBefore,
}
STEPS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


class Loop(nn.Module):
    """Steps in a Python loop, layer by layer: x (T, B, I) -> y (T, B, H), the last states.

    Args:
        workload: Whose cell: torch.nn's own step of it, or that of :data:`OWN`.
    """

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        kind = STEPS.get(workload.cell) or OWN[workload.cell]
        self.hidden = workload.hidden
        self.cells = nn.ModuleList(
            kind(workload.hidden if layer else workload.inputs, workload.hidden)
            for layer in range(workload.layers)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Run over a sequence."""
        states: Sequence[Tensor] = ()
        for cell in self.cells:
            pair = isinstance(cell, nn.LSTMCell) or len(getattr(cell, "state_names", ())) == 2
            states = [x.new_zeros(x.shape[1], self.hidden)] * (2 if pair else 1)
            y = []
            for t in range(x.shape[0]):
                states = _advance(cell, x[t], states)
                y.append(states[0])
            x = torch.stack(y)
        return x, states


def _advance(cell: nn.Module, x: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
    if isinstance(cell, Cell):
        new = cell.step(x, *states)
    else:
        new = cell(x, tuple(states) if len(states) == 2 else states[0])
    return new if isinstance(new, tuple) else (new,)
