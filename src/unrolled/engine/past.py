"""States that are looked back at from further than one step, as the compiled loop takes and gives them.

Inside, a state of depth D (how many steps back it is read) is one tensor (D * B, width), the oldest
step first; outside, it is ``h`` (B, width) and ``h.past`` (D - 1, B, width), the newest first.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from unrolled.engine.cell import Cell, States
from unrolled.engine.check import PAST


def enter(cell: Cell, given: Mapping[str, Tensor]) -> list[Tensor | None]:
    """Give each state with what came before it; ``None`` for zeros."""
    if not cell.delays:
        return [given.get(name) for name in cell.state_names]
    return [_with_past(given, name, max(cell.lags(name))) for name in cell.state_names]


def leave(cell: Cell, last: Iterable[Tensor]) -> States:
    """Undo :func:`enter`."""
    if not cell.delays:
        return dict(zip(cell.state_names, last, strict=True))
    states: States = {}
    pasts: States = {}
    for name, state in zip(cell.state_names, last, strict=True):
        depth = max(cell.lags(name))
        if depth == 1:
            states[name] = state
        else:
            *older, states[name] = state.view(depth, -1, state.shape[1])
            pasts[name + PAST] = torch.stack(older[::-1])
    return states | pasts


def arrange(state: Tensor, order: Tensor) -> Tensor:
    """Put the rows of the batch in another order, at each of the steps that are looked back at."""
    if len(state) == len(order):
        return state.index_select(0, order)
    return state.view(-1, len(order), state.shape[1]).index_select(1, order).flatten(0, 1)


def _with_past(given: Mapping[str, Tensor], name: str, depth: int) -> Tensor | None:
    state, past = given.get(name), given.get(name + PAST)
    if depth == 1 or (state is None and past is None):
        return state
    if state is None:
        assert past is not None
        state = torch.zeros_like(past[0])
    older = state.new_zeros(depth - 1, *state.shape) if past is None else past.flip(0)
    return torch.cat([older.flatten(0, 1), state])
