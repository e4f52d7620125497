"""Trace a step so that nothing remains of it but the trace.

A trace runs the step's Python once; a compiled loop does not run it again. Where that Python changes
what it finds, or draws from a generator of random numbers, the loop would go on with the first time.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from unrolled.engine.cell import Cell
from unrolled.engine.lower import Declined
from unrolled.engine.signature import OWN, described, digest, reads_in
from unrolled.engine.watch import RANDOM

ONCE = "which a compiled loop would do once, not at every step"
ResultT = TypeVar("ResultT")
Generator = tuple[Callable[[], Any], Callable[[Any], Any]]
"""How to get and to set where a generator stands."""


def undisturbed(cell: Cell, record: Callable[[], ResultT]) -> ResultT:
    """Trace a step, and put back what else it changes.

    Args:
        cell: A copy of the cell, which nobody else has.
        record: Traces its step.

    Raises:
        Declined: If the step changes what it finds, or draws random numbers.
    """
    kept = _Kept(cell)
    first = before = kept.stand()
    for _ in range(2):  # another thread may draw meanwhile, but hardly both times
        try:
            result = record()
        except BaseException:
            kept.put_back()
            raise
        changed = kept.changed()
        if kept.put_back() or changed:
            raise Declined(f"its step changes {changed or 'what it shares with others'}, {ONCE}")
        after = kept.stand()
        if digest(after, None) == digest(before, None):
            return result
        before = after
    kept.stand_at(first)
    raise Declined(RANDOM)


class _Kept:
    """What a step can reach, as it is before a trace."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.known = described(cell)
        self.reads = reads_in(cell)
        self.copies: dict[int, tuple[Any, Any]] = {}
        self.generators: list[Generator] = [
            (random.getstate, random.setstate),
            (np.random.get_state, np.random.set_state),
            (_torch_stands, _torch_stand_at),
        ]
        for module in cell.modules():
            self._keep(value for name, value in vars(module).items() if name not in OWN)
        for reads in self.reads:
            self._keep(reads.open)

    def _keep(self, values: Iterable[Any]) -> None:
        for value in values:
            if id(value) in self.copies or isinstance(value, nn.Module | type):
                continue
            if isinstance(value, random.Random):
                self.generators.append((value.getstate, value.setstate))
            elif isinstance(value, np.random.RandomState):
                self.generators.append((value.get_state, value.set_state))
            elif isinstance(value, np.random.Generator):
                bits = value.bit_generator
                self.generators.append(
                    (partial(getattr, bits, "state"), partial(setattr, bits, "state"))
                )
            elif isinstance(value, list | dict | set | deque | np.ndarray):
                self.copies[id(value)] = (value, value.copy())
                if not isinstance(value, np.ndarray):
                    self._keep([*value.values()] if isinstance(value, dict) else [*value])
            elif isinstance(value, tuple):
                self._keep(value)
            elif isinstance(getattr(value, "__dict__", None), dict):
                self._keep([vars(value)])

    def stand(self) -> list[Any]:
        """Tell where all generators stand."""
        return [get() for get, _ in self.generators]

    def stand_at(self, places: Iterable[Any]) -> None:
        """Put all generators where they stood."""
        for (_, put), place in zip(self.generators, places, strict=True):
            put(place)

    def changed(self) -> str | None:
        """Name something that the trace has changed."""
        now = described(self.cell)
        for name in {**self.known, **now}:
            if name not in now or name not in self.known or now[name] != self.known[name]:
                return f"its attribute {name!r}"
        names = filter(None, (reads.moved() for reads in self.reads))
        return next((repr(name) for name in names), None)

    def put_back(self) -> bool:
        """Undo what the trace has changed; tell whether there was anything."""
        found = False
        for reads in self.reads:
            reads.put_back()
        for value, copy in self.copies.values():
            if _alike(value, copy):
                continue
            found = True
            if isinstance(value, np.ndarray):
                value[...] = copy
                continue
            value.clear()
            (value.extend if isinstance(value, list | deque) else value.update)(copy)
        return found


def _alike(value: Any, copy: Any) -> bool:  # noqa: ANN401
    """Whether a container holds the very things that its copy does."""
    if isinstance(value, np.ndarray):
        return value.tobytes() == copy.tobytes()
    if isinstance(value, dict):
        return _alike([*value], [*copy]) and _alike([*value.values()], [*copy.values()])
    return len(value) == len(copy) and all(a is b for a, b in zip(value, copy, strict=True))


def _torch_stands() -> np.ndarray:
    return torch.default_generator.get_state().numpy()


def _torch_stand_at(place: np.ndarray) -> None:
    torch.default_generator.set_state(torch.from_numpy(place))
