"""The reference engine: a loop over ``step`` that anyone can read. It is the definition of right.

T steps, B rows; row b has lengths[b] of the steps. Rows are sorted by length, longest first, so
that at step t only the first ``n`` rows still run: padding is never computed. A reversed run flips
every row within its own length, runs forwards, and flips back.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.engine.cell import Cell, States, bind, recording_gates
from unrolled.engine.check import (
    PAST,
    check_input,
    check_lengths,
    check_results,
    complete_extras,
    complete_states,
    why_it_failed,
)


@dataclass
class Outputs:
    """What a run over a sequence gives."""

    y: Tensor
    """(T, B, width): zero where a row has ended."""
    states: States
    """Name -> (B, width), each row's after its own last step."""
    history: dict[str, Tensor] = field(default_factory=dict)
    """Name of a state, output or gate -> (T, B, width), when asked for."""


def run(
    cell: Cell,
    x: Tensor,
    states: Mapping[str, Tensor] | None = None,
    *,
    lengths: Tensor | None = None,
    extras: Mapping[str, Tensor] | None = None,
    reverse: bool = False,
    keep: bool = False,
    parameters: Mapping[str, Tensor] | None = None,
) -> Outputs:
    """Run a cell over a sequence.

    Args:
        cell: What one step computes.
        x: Input (T, B, I).
        states: Name -> (B, width); those left out start at zero. A cell with ``delays`` also takes
            ``"h.past"``, the (K - 1, B, width) values before ``h``, newest first.
        lengths: Steps of each row (B,), 0 <= length <= T; all T if left out.
        extras: The cell's further inputs, name -> (T, B, n) or (B, n).
        reverse: Read every row from its own last step to its first.
        keep: Also give all states, outputs and gates at all steps.
        parameters: Tensors in place of the cell's parameters and buffers, by name.

    Raises:
        TypeError, ValueError: If an input's type, name or shape is wrong.
        RuntimeError: If ``step`` returns the wrong number or shape of results.
    """
    check_input(cell, x)
    cell = cell if parameters is None else bind(cell, parameters)
    steps, batch = x.shape[:2]
    states = complete_states(cell, x, states)
    extras = complete_extras(cell, x, extras)
    rows = Rows(lengths, steps, batch)
    x = rows.enter(x, reverse)
    extras = {name: rows.enter(extra, reverse) for name, extra in extras.items()}
    # trail[name]: the state before the first step, older ones before it, then one more each step.
    trail = {
        name: [
            *(rows.sort(past) for past in reversed(states.get(name + PAST, ()))),
            rows.sort(states[name]),
        ]
        for name in cell.state_names
    }
    kept: dict[str, list[Tensor]] = {}

    step = cell.step
    if cell.of_input is not None:
        # What lies past the ends may be anything, and must not reach the gradient of what it meets.
        x = cell.of_input(rows.cleared(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        step = cell.advance

    for t in range(rows.longest):
        n = rows.running[t]
        before = [_seen(cell, name, trail[name], n) for name in cell.state_names]
        with recording_gates() if keep else nullcontext({}) as gates:
            results = _step(
                cell, step, x[t, :n], before, {name: extra[t, :n] for name, extra in extras.items()}
            )
        named = dict(
            zip(cell.state_names + cell.output_names, check_results(cell, results, n), strict=True)
        )
        for name in cell.state_names:
            named[name] = named[name].to(x.dtype)  # under autocast a step may give bfloat16
            ended = trail[name][-1][n:]
            trail[name].append(torch.cat([named[name], ended]) if len(ended) else named[name])
        kept.setdefault("", []).append(named[(cell.output_names or cell.state_names)[0]])
        for name, value in (named | gates).items() if keep else ():
            kept.setdefault(name, []).append(value)

    history = {name: rows.leave(values, reverse) for name, values in kept.items()}
    return Outputs(y=history.pop(""), states=_last(cell, trail, rows), history=history)


def _step(
    cell: Cell,
    step: Callable[..., Any],
    x: Tensor,
    states: list[Any],
    extras: dict[str, Tensor],
) -> Any:  # noqa: ANN401
    try:
        return step(x, *states, **extras)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = why_it_failed(
            cell, x, dict(zip(cell.state_names, states, strict=True)) | extras, error
        )
        if reason is None:
            raise
        raise reason from error


def _seen(cell: Cell, name: str, trail: list[Tensor], n: int) -> Tensor | tuple[Tensor, ...]:
    """What ``step`` is given for a state: its last value, or those its delays ask for."""
    if name in cell.delays:
        return tuple(trail[-k][:n] for k in cell.delays[name])
    return trail[-1][:n]


def _last(cell: Cell, trail: dict[str, list[Tensor]], rows: "Rows") -> States:
    """Each row's states after its own last step, and what its delays will still ask for."""
    states = {name: rows.unsort(values[-1]) for name, values in trail.items()}
    for name, delays in cell.delays.items():
        older = max(delays) - 1
        if older:
            values = torch.stack(trail[name])
            last = older + rows.lengths.to(values.device)
            columns = torch.arange(values.shape[1], device=values.device)
            past = [values[last - k, columns] for k in range(1, older + 1)]
            states[name + PAST] = torch.stack([rows.unsort(value) for value in past])
    return states


class Rows:
    """Which rows run at which step. Inside, rows stand sorted by length, the longest first.

    Args:
        lengths: Steps of each row (B,), or ``None`` where all rows have all steps.
        steps: T.
        batch: B.
    """

    def __init__(self, lengths: Tensor | None, steps: int, batch: int) -> None:
        self.steps, self.batch = steps, batch
        self.order: Tensor | None = None
        self.lengths = torch.full((batch,), steps, device="cpu")
        self.running = [batch] * steps
        self.longest = steps
        if lengths is not None:
            self.lengths, self.order = check_lengths(lengths, steps, batch).sort(
                descending=True, stable=True
            )
            self.running = (
                (self.lengths[:, None] > torch.arange(steps, device="cpu")).sum(0).tolist()
            )
            # At least one step, if of no rows, so that all results hang on the parameters.
            self.longest = int(self.lengths[0].clamp(min=1)) if batch else 1

    def sort(self, state: Tensor) -> Tensor:
        """Put the rows of a state (B, width) in the order used inside."""
        return state if self.order is None else state[self.order.to(state.device)]

    def unsort(self, state: Tensor) -> Tensor:
        """Undo :meth:`sort`."""
        return state if self.order is None else state[self.order.argsort().to(state.device)]

    def enter(self, x: Tensor, reverse: bool) -> Tensor:
        """Sort the rows of (T, B, n) and, for a reversed run, flip each within its length."""
        if self.order is not None:
            x = x[:, self.order.to(x.device)]
        return self._flip(x) if reverse else x

    def cleared(self, x: Tensor) -> Tensor:
        """Set to zero what lies past the ends of sorted rows (T, B, ...)."""
        if self.order is None:
            return x
        past = torch.arange(self.steps, device="cpu")[:, None] >= self.lengths
        return x.masked_fill(past.view(*past.shape, *[1] * (x.dim() - 2)).to(x.device), 0)

    def leave(self, values: list[Tensor], reverse: bool) -> Tensor:
        """Stack values (n, width), n the rows running at each step, to (T, B, width); undo the rest."""
        full = [self._pad(value) for value in values]
        full += [torch.zeros_like(full[0])] * (self.steps - len(full))
        y = torch.stack(full)
        y = self._flip(y) if reverse else y
        return y if self.order is None else y[:, self.order.argsort().to(y.device)]

    def _pad(self, value: Tensor) -> Tensor:
        missing = self.batch - value.shape[0]
        return torch.cat([value, value.new_zeros(missing, *value.shape[1:])]) if missing else value

    def _flip(self, x: Tensor) -> Tensor:
        if self.order is None:
            return x.flip(0)
        t = torch.arange(self.steps, device="cpu")[:, None]
        back = torch.where(t < self.lengths, self.lengths - 1 - t, t).to(x.device)
        return x[back, torch.arange(self.batch, device=x.device)]
