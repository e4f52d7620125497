"""Cells over time, one layer upon another."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from unrolled.engine import Cell, Outputs, States, run
from unrolled.engine.packing import Packed
from unrolled.engine.randomness import dropout as drop

STREAMS_OF_A_NET = 2**10


class Carry(Cell):
    """y = g f(x) + (1 - g) x, g = sigma(W x + b), b = -1 at first (Srivastava et al. 2015, eq. 3).

    It has no state, and is a cell so that a row's numbers do not depend on the batch it is in.

    Args:
        size: Width of x and f(x).
    """

    state_names = ()
    output_names = ("y",)
    extra_names = ("above",)

    def __init__(self, size: int) -> None:
        super().__init__(size, size)
        self.weigh = nn.Linear(size, size)
        nn.init.constant_(self.weigh.bias, -1.0)

    def step(self, x: Tensor, above: Tensor) -> Tensor:
        """Compute y from x (B, n) and f(x) (B, n)."""
        return x + self.gate("carry", self.weigh(x).sigmoid()) * (above - x)


def part_streams(model: nn.Module) -> None:
    """Let the nets of a model draw from streams of random numbers of their own."""
    nets = [module for module in model.modules() if hasattr(module, "stream")]
    for number, net in enumerate(nets):
        net.stream = number * STREAMS_OF_A_NET  # pyright: ignore[reportArgumentType]


Join = Callable[[int, Tensor, Tensor], Tensor]


def _above(layer: int, x: Tensor, y: Tensor) -> Tensor:
    """The next layer reads what this one gives."""
    return y


def run_stack(
    cells: Sequence[Cell],
    x: Tensor,
    states: Mapping[str, Tensor],
    *,
    directions: int,
    dropout: float = 0.0,
    fixed: bool = False,
    stream: int = 0,
    join: Join = _above,
    lengths: Tensor | Packed | None = None,
    extras: Mapping[str, Tensor] | None = None,
    keep: bool = False,
    parameters: Sequence[Mapping[str, Tensor]] | None = None,
) -> tuple[Tensor, States, dict[str, Tensor]]:
    """Run L layers of cells, in one or both directions.

    Args:
        cells: L * D cells, direction by direction within a layer.
        x: (T, B, I).
        states: Name -> (L * D, B, width); zeros where left out.
        directions: D, 1 or 2; the second reads every row from its end.
        dropout: Probability of dropping an output between layers.
        fixed: Whether the same outputs are dropped at all steps.
        stream: First of the streams of random numbers that the layers draw from.
        join: Number of a layer, its input and its output -> the input of the next one; after the last
            layer, y.
        lengths: Steps of each row (B,), in any order; or how rows (N, I) lie packed, of cells that
            draw nothing, without dropout.
        extras: Further inputs of every cell.
        keep: Whether to give all states, outputs and gates of all steps.
        parameters: For each cell, tensors in place of its parameters.

    Returns:
        y (T, B, D * H), zero past a row's end; the last states; with `keep`, name -> (L * D, T, B,
        width), else nothing.
    """
    outputs: list[Outputs] = []
    seen = x
    for place, cell in enumerate(cells):
        layer, direction = divmod(place, directions)
        if direction == 0:
            seen = drop(x, dropout, stream + layer, fixed=fixed) if layer and dropout else x
        drawn, dropped = cell.noise(seen, stream + place)
        given = {} if parameters is None else parameters[place]
        outputs.append(
            run(
                cell,
                seen,
                {name: state[place] for name, state in states.items()},
                lengths=lengths,
                extras={**(extras or {}), **drawn},
                reverse=direction == 1,
                keep=keep,
                parameters={**given, **dropped} or None,
            )
        )
        if direction == directions - 1:
            x = join(layer, x, _joined(outputs[-directions:]))
    # A copy even of one: who has a last state may detach it in place.
    last = {name: torch.stack([o.states[name] for o in outputs]) for name in outputs[0].states}
    history = {name: _stacked([o.history[name] for o in outputs]) for name in outputs[0].history}
    return x, last, history


def _stacked(values: Sequence[Tensor]) -> Tensor:
    """Put the values of all cells upon each other; of one, without a copy."""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack([*values])


def _joined(outputs: Sequence[Outputs]) -> Tensor:
    """Put the outputs (T, B, n, ...), or (N, n), of both directions side by side."""
    if len(outputs) == 1:
        return outputs[0].y
    ys = [output.y for output in outputs]
    return torch.cat(ys, 1 if ys[0].dim() == 2 else 2)
