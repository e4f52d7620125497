"""The programs of cells: each traced and compiled once, for all cells that cannot be told apart."""

from collections.abc import Mapping
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch

from unrolled.engine.cell import Cell
from unrolled.engine.lower import Declined
from unrolled.engine.native import Compiled
from unrolled.engine.signature import signature
from unrolled.errors import InputError

_tracing = Lock()  # torch traces one thing at a time
_compiled: dict[Any, "Compiled | Declined"] = {}
_refused: WeakKeyDictionary[Cell, int] = WeakKeyDictionary()
"""How often in a row a cell was declined, each time for what it held then."""
MOST_COMPILED = 256
"""Programs kept; the oldest goes first."""
MOST_TRIED = 8
"""A cell declined this often is not traced again: its step may change what tells it apart."""
_published: dict[str, Compiled] = {}


def publish(plan: Compiled) -> str:
    """Keep a program for graphs of torch's compilers, which know it by name, and give the name."""
    return _published.setdefault(plan.name, plan).name


def named(name: str) -> Compiled:
    """Find the program of a name, whichever cell it was compiled for.

    Raises:
        RuntimeError: If no such program was compiled in this process.
    """
    found = _published.get(name)
    if found is None:
        plans = [plan for plan in [*_compiled.values()] if isinstance(plan, Compiled)]
        found = next((plan for plan in plans if plan.name == name), None)
        if found is None:
            raise RuntimeError(
                f"the program {name!r} was not compiled in this process; build the module that it "
                "was exported from and run it once on an input of the same dtype"
            )
        _published[name] = found
    return found


def compiled(
    cell: Cell,
    extras: Mapping[str, int],
    dtype: torch.dtype,
    keep: bool = False,
    *,
    join: bool = True,
) -> Compiled:
    """Trace and compile a cell, or find that it was.

    Args:
        cell: The cell.
        extras: Width of each further input.
        dtype: Of inputs and states.
        keep: Whether all states, outputs and gates are results.
        join: Whether matrices may be put side by side at each call.

    Raises:
        Declined: If it cannot be compiled; the sentence says why.
    """
    key = (signature(cell), tuple(extras.items()), dtype, keep, join)
    found = _compiled.get(key)
    if found is None:
        if _refused.get(cell, 0) >= MOST_TRIED:
            raise Declined(
                "it was declined each time that it was traced, and changes what it holds"
            )
        with _tracing, torch.autocast("cpu", enabled=False):
            found = _compiled.get(key) or _compile(cell, extras, dtype, keep, join)
            if len(_compiled) >= MOST_COMPILED:
                del _compiled[next(iter(_compiled))]
            _compiled[key] = found
        _refused[cell] = _refused.get(cell, 0) + 1 if isinstance(found, Declined) else 0
    if isinstance(found, Declined):
        raise found
    return found


def _compile(
    cell: Cell, extras: Mapping[str, int], dtype: torch.dtype, keep: bool, join: bool
) -> Compiled | Declined:
    first = (cell.output_names or cell.state_names)[0]
    try:
        plan = Compiled(cell, extras, dtype, first, keep=keep, join=join)
        plan.training()  # what cannot be scheduled is found now
    except Declined as reason:
        return reason
    except InputError:
        raise
    except Exception as error:
        # Tracing runs the user's code in ways it was not written for; the reference engine will
        # show whether the code itself is wrong.
        return Declined(f"tracing it failed: {type(error).__name__}: {str(error).splitlines()[0]}")
    return plan
