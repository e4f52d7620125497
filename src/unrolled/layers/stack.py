"""Cells over time, one layer upon another."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unrolled.engine import Cell, Outputs, States, run
from unrolled.engine.randomness import dropout as drop


def run_stack(
    cells: Sequence[Cell],
    x: Tensor,
    states: Mapping[str, Tensor],
    *,
    directions: int,
    dropout: float = 0.0,
    lengths: Tensor | None = None,
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
        lengths: Steps of each row (B,), in any order.
        extras: Further inputs of every cell.
        keep: Whether to give all states, outputs and gates of all steps.
        parameters: For each cell, tensors in place of its parameters.

    Returns:
        y (T, B, D * H), zero past a row's end; the last states; with `keep`, name -> (L * D, T, B,
        width), else nothing.
    """
    outputs: list[Outputs] = []
    for place, cell in enumerate(cells):
        layer, direction = divmod(place, directions)
        if layer and direction == 0:
            x = _joined(outputs[-directions:])
            x = drop(x, dropout, layer) if dropout else x
        outputs.append(
            run(
                cell,
                x,
                {name: state[place] for name, state in states.items()},
                lengths=lengths,
                extras=extras,
                reverse=direction == 1,
                keep=keep,
                parameters=None if parameters is None else parameters[place],
            )
        )
    last = {name: _stacked([o.states[name] for o in outputs]) for name in outputs[0].states}
    history = {name: _stacked([o.history[name] for o in outputs]) for name in outputs[0].history}
    return _joined(outputs[-directions:]), last, history


def _stacked(values: Sequence[Tensor]) -> Tensor:
    """Put the values of all cells upon each other; of one, without a copy."""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack([*values])


def _joined(outputs: Sequence[Outputs]) -> Tensor:
    """Put the outputs of both directions side by side."""
    return outputs[0].y if len(outputs) == 1 else torch.cat([output.y for output in outputs], -1)
