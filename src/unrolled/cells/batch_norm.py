"""The LSTM with recurrent batch normalisation (Cooijmans, Ballas, Laurent, Gulcehre & Courville 2017)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells.start import uniform_start
from unrolled.engine import Cell
from unrolled.engine.cell import Width

MOMENTUM = 0.1
"""What a batch counts in the running statistics."""


class StepNorm(nn.Module):
    """Batch normalisation with statistics of its own for each step (eq. 5 and section 3).

    BN(h) = beta + gamma (h - mean) / sqrt(var + eps), by mean and variance of the rows that run at the step
    while training, else by their running means. Steps beyond those that were seen have the statistics of the
    last one. Where one row alone is left, which has no variance, the running ones serve in training too.

    Args:
        width: n.
        steps: Statistics are kept of so many steps.
        gamma: Where gamma begins: at 1, tanh would be steep at its bounds (section 4).
        bias: Whether there is a beta, which begins at 0.
    """

    mean: Tensor
    var: Tensor
    seen: Tensor

    def __init__(self, width: int, steps: int, gamma: float = 0.1, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), gamma))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.register_buffer("mean", torch.zeros(steps, width))
        self.register_buffer("var", torch.ones(steps, width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, h: Tensor, step: int) -> Tensor:
        """Normalise h (B, n) at a step, counted from 0."""
        own = self.training and len(h) > 1
        step = min(step, (len(self.mean) if own else max(1, int(self.seen))) - 1)
        if own:
            self.seen.clamp_(min=step + 1)
        return functional.batch_norm(
            h, self.mean[step], self.var[step], self.weight, self.bias, own, MOMENTUM
        )


class BatchNormLSTM(Cell):
    """i, f, g, o from BN(W_h h_{t-1}) + BN(W_x x_t) + b, h_t = sigma(o) tanh(BN(c_t)) (eqs. 6-8).

    c_t = sigma(f) c_{t-1} + sigma(i) tanh(g). States: h, c, each (B, H), and clock (B, 1), the steps so far,
    which all rows of a batch share. As the statistics are those of a batch, rows depend on each other in
    training, and the cell runs in the reference engine.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h and c.
        steps: Statistics are kept of so many steps.
        gamma: Where the gammas begin.
    """

    state_names = ("h", "c", "clock")
    rows_apart = False
    blocks = ("i", "f", "g", "o")

    def __init__(
        self, input_size: int, hidden_size: int, steps: int = 100, gamma: float = 0.1
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        uniform_start(self)
        self.norm_x = StepNorm(4 * hidden_size, steps, gamma, bias=False)
        self.norm_h = StepNorm(4 * hidden_size, steps, gamma, bias=False)
        self.norm_c = StepNorm(hidden_size, steps, gamma)

    @property
    def state_sizes(self) -> dict[str, Width]:
        """H, H and 1."""
        return {"h": self.hidden_size, "c": self.hidden_size, "clock": 1}

    def step(self, x: Tensor, h: Tensor, c: Tensor, clock: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H), clock (B, 1) -> h, c, clock."""
        t = int(clock[0]) if len(clock) else 0
        w_x = functional.linear(x, self.x.weight)
        a = self.norm_h(self.h(h), t) + self.norm_x(w_x, t) + self.x.bias
        i, f, g, o = a.chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        return self.gate("o", o.sigmoid()) * self.norm_c(c, t).tanh(), c, clock.detach() + 1
