"""Layers within one time step, with feedback from above."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from unrolled.cells.elman import Elman
from unrolled.engine import Cell
from unrolled.engine.cell import Width, recording_gates


class TopDown(Cell):
    """L layers in one step, each of which sees the one above it one step ago.

    Layer l reads [y_{l-1,t}; y_{l+1,t-1}], with y_0 = x; the top layer reads y_{L-1,t} alone. So
    does the stack of Chung, Gulcehre, Cho & Bengio 2015, who connect all pairs of layers, with a gate each.
    All layers are one step, so that they run in one loop.

    States: those of layer l with its number, as ``h1``, ``c1``, ``h2``, ``c2``; gates likewise.
    Output: y_L (B, H).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of each layer's states.
        layers: L.
        cell: Builds the cell of a layer from ``(input_size, hidden_size)``; its output is its first state.

    Raises:
        ValueError: If there is no layer, or the cell has outputs, delays or further inputs.
    """

    output_names = ("y",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        layers: int = 2,
        cell: Callable[[int, int], Cell] = Elman,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if layers < 1:
            raise ValueError(f"there must be at least 1 layer, not {layers}")
        with torch.random.fork_rng(devices=[]):
            like = cell(1, hidden_size)
        if like.output_names or like.delays or like.extra_names:
            raise ValueError(
                f"{type(like).__name__} cannot be a layer with feedback: that takes a cell whose output is "
                "its first state, without delays or further inputs"
            )
        below = [input_size] + [like.output_size] * (layers - 1)
        above = [like.output_size] * (layers - 1) + [0]
        widths = [sum(pair) for pair in zip(below, above, strict=True)]
        self.cells = nn.ModuleList(cell(width, hidden_size) for width in widths)
        self.state_names = tuple(  # pyright: ignore[reportAttributeAccessIssue]
            f"{name}{place}" for place in range(1, layers + 1) for name in like.state_names
        )

    @property
    def state_sizes(self) -> dict[str, Width]:
        """Those of each layer's cell."""
        return {
            f"{name}{place}": width
            for place, cell in enumerate(self.cells, 1)
            for name, width in cell.state_sizes.items()  # pyright: ignore
        }

    @property
    def output_size(self) -> int:
        """That of the top layer's cell."""
        return self.cells[-1].output_size  # pyright: ignore[reportReturnType]

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Compute one step: x (B, I), the states of all layers -> the new ones, y (B, H)."""
        count = len(states) // len(self.cells)
        before = [states[k : k + count] for k in range(0, len(states), count)]
        new: list[Tensor] = []
        y = x
        for place, cell in enumerate(self.cells, 1):
            x = y if place == len(self.cells) else torch.cat([y, before[place][0]], -1)
            # torch.compile cannot write a context variable: what it compiles records no gates.
            compiling = torch.compiler.is_dynamo_compiling()
            with nullcontext({}) if compiling else recording_gates() as gates:
                found = cell.step(x, *before[place - 1])  # pyright: ignore[reportCallIssue]
            for name, value in gates.items():
                self.gate(f"{name}{place}", value)
            found = found if isinstance(found, tuple) else (found,)
            new += found
            y = found[0]
        return *new, y
