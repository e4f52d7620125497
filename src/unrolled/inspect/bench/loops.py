"""The loops people write around a step, and the registered cells of the workloads."""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unrolled.cells import CELLS
from unrolled.engine import Cell
from unrolled.engine.check import shape_of
from unrolled.engine.explain import explain_cell
from unrolled.inspect.bench.workloads import Workload
from unrolled.layers.regularise import RecurrentDropout, WeightDropout, Zoneout

STEPS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
ONCE = {"unitary": "matrix"}
"""Cell -> its method of parameters alone, which the loop calls once."""
NOISE: dict[str, Callable[[Cell], Cell]] = {
    "dropout": partial(RecurrentDropout, p=0.25),
    "dropout-per-step": partial(RecurrentDropout, p=0.25, per_step=True),
    "zoneout-h": partial(Zoneout, h=0.05),
    "zoneout-c": partial(Zoneout, c=0.5),
    "weight-dropout": partial(WeightDropout, p=0.5),
}
"""What a workload's noise is, by name."""


def make_cell(workload: Workload) -> Cell:
    """Build a workload's registered cell, in its noise if there is any."""
    cell = CELLS[workload.cell](workload.inputs, workload.hidden)
    return NOISE[workload.noise](cell) if workload.noise else cell


@cache
def multiply_adds(cell: str, inputs: int, hidden: int) -> tuple[int, int]:
    """Count the multiply-adds of a registered cell's program for one row at one step.

    Returns:
        Those of the forward pass, and those of both passes where no gradient of x is wanted.
    """
    with torch.random.fork_rng(devices=[]):
        explained = explain_cell(CELLS[cell](inputs, hidden))
    parts = {part.name: part.multiply_adds for part in explained.parts}
    forward = parts["before"] + parts["loop"] + parts["after"]
    # What the input is multiplied by leaves the loop, and the gradient of x would cost as much again.
    return forward, sum(parts.values()) - parts["before"]


class StandardLoop(nn.Module):
    """Torch.nn's own steps in a Python loop, layer by layer: x (T, B, I) -> y (T, B, H), the last states.

    Args:
        workload: Whose cell, one of :data:`STEPS`.
    """

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.hidden = workload.hidden
        self.cells = nn.ModuleList(
            STEPS[workload.cell](workload.hidden if layer else workload.inputs, workload.hidden)
            for layer in range(workload.layers)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Run over a sequence."""
        states: Sequence[Tensor] = ()
        for cell in self.cells:
            pair = isinstance(cell, nn.LSTMCell)
            states = [x.new_zeros(x.shape[1], self.hidden)] * (2 if pair else 1)
            y = []
            for t in range(x.shape[0]):
                new = cell(x[t], tuple(states) if pair else states[0])
                states = new if pair else (new,)
                y.append(states[0])
            x = torch.stack(y)
        return x, states


class CellLoop(nn.Module):
    """A registered cell's ``step`` in a Python loop: x (T, B, I) -> y (T, B, H), the last states.

    What is made of parameters alone is made once a call: by torch's parametrisations, or :data:`ONCE`.

    Args:
        workload: Whose cell.
    """

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.cells = nn.ModuleList([make_cell(workload)])
        self.once = ONCE.get(workload.cell)

    def forward(self, x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Run over a sequence."""
        cell: Cell = self.cells[0]  # pyright: ignore[reportAssignmentType]
        if not self.once and not any(map(parametrize.is_parametrized, cell.modules())):
            return _run(cell, x)
        with parametrize.cached():
            if not self.once:
                return _run(cell, x)
            made = getattr(cell, self.once)()
            setattr(cell, self.once, lambda: made)
            try:
                return _run(cell, x)
            finally:
                delattr(cell, self.once)


def _run(cell: Cell, x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    delays = [cell.delays.get(name) for name in cell.state_names]
    trails = [
        [x.new_zeros(x.shape[1], *shape_of(width))] * max(delay or (1,))
        for width, delay in zip(cell.state_sizes.values(), delays, strict=True)
    ]
    pairs = [*zip(trails, delays, strict=True)]
    place = len(trails) if cell.output_names else 0
    y = []
    for t in range(x.shape[0]):
        seen = [tuple(trail[-k] for k in delay) if delay else trail[-1] for trail, delay in pairs]
        found = cell.step(x[t], *seen)
        found = found if isinstance(found, tuple) else (found,)
        for trail, new in zip(trails, found, strict=False):
            trail.append(new)
        y.append(found[place])
    return torch.stack(y), [trail[-1] for trail in trails]


def loop_of(workload: Workload) -> nn.Module:
    """Build the loop around a workload's step."""
    return (StandardLoop if workload.standard else CellLoop)(workload)
