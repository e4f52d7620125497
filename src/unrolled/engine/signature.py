"""What tells cells apart before they are traced: all that a step may read besides tensors it is given.

It is asked for at every call, so what classes, functions and modules hold is looked up once
(:mod:`unrolled.engine.reads`); afterwards it is compared by identity.
"""

from collections import deque
from enum import Enum
from functools import cached_property, partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

from unrolled.engine.cell import Cell
from unrolled.engine.lower import Declined
from unrolled.engine.reads import PLAIN, ROOTS, Reads, library, reads_of, slots_of

MOST_NUMBERS = 100_000
"""Entries of an array that are compared at every call."""
FEW_NUMBERS = 16
"""Entries of a plain tensor that are compared at every call; of a larger one, whether it was written to."""
_PLAIN = PLAIN - {float}
OWN = frozenset(vars(nn.Module())) - {"training"} | {"_arguments", "_compiled_call_impl"}
"""Attributes that torch and the contract keep, which steps do not read."""
_CALLED = frozenset({FunctionType, MethodType})
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def signature(cell: Cell) -> tuple[Any, ...]:
    """All that tracing may see of a cell besides the values of its parameters.

    Raises:
        Declined: If it holds more than can be compared at every call.
    """
    return cell.signature or _signature(cell)


def _signature(cell: Cell) -> tuple[Any, ...]:
    parts: list[Any] = []
    modules: list[nn.Module] = [cell]
    met = {id(cell)}
    for module in modules:  # grows meanwhile
        kind, held = type(module), vars(module)
        parts.append(kind)
        names = ROOTS
        theirs = kind.__module__.startswith("torch.")
        if not theirs:
            reads = reads_of(kind, _roots(held))
            names = reads.names
            parts.append(reads.told)
            parts += [digest(value, names) for value in reads.open]
        for name, value in held.items():
            if name in OWN or (theirs and name[0] == "_"):
                continue
            what = type(value)
            parts += (name, what, value) if what in _PLAIN else (name, digest(value, names))
        for group in (held["_parameters"], held["_buffers"]):
            for name, tensor in group.items():
                parts += (name, None) if tensor is None else (name, tensor.shape, tensor.dtype)
            parts.append(None)
        for hooks in _HOOKS:
            if held[hooks]:
                parts.append((hooks, *held[hooks]))
        children = held["_modules"]
        if children:
            parts += children
            for child in children.values():
                if child is not None and id(child) not in met:
                    met.add(id(child))
                    modules.append(child)
        parts.append(None)
    return tuple(parts)


def _roots(held: dict[str, Any]) -> frozenset[str]:
    """Names by which a module is entered: also those that functions read which it holds."""
    found = ROOTS
    for value in held.values():
        if type(value) in _CALLED:
            found |= _read_by(value).names or frozenset()
    return found


def _read_by(value: FunctionType | MethodType) -> Reads:
    function = value.__func__ if isinstance(value, MethodType) else value
    return reads_of(function, frozenset())


def reads_in(cell: Cell) -> list[Reads]:
    """What classes of a cell and its modules, and functions that they hold, read by name."""
    found = []
    for module in cell.modules():
        held = vars(module)
        found.append(reads_of(type(module), _roots(held)))
        found += [_read_by(value) for value in held.values() if type(value) in _CALLED]
    return found


def digest(value: Any, names: frozenset[str] | None, met: dict[int, int] | None = None) -> Any:  # noqa: ANN401
    """Something hashable that differs where a value does, in what is read of it.

    Args:
        value: Anything.
        names: Of attributes that are read; ``None``: any may be.
        met: The objects met on the way here.

    Raises:
        Declined: If it holds more than can be compared at every call.
    """
    try:
        return _digest(value, names, {} if met is None else met)
    except RecursionError:
        raise Declined("its attributes hold each other too deep to be compared") from None


def _digest(value: Any, names: frozenset[str] | None, met: dict[int, int]) -> Any:  # noqa: ANN401
    kind = type(value)
    if kind in _PLAIN or kind is BuiltinFunctionType:
        return kind, value
    if kind is float:  # 0.0 == -0.0, and no NaN equals another
        return kind, value if value and value == value else repr(value)
    if isinstance(value, list | tuple | deque):
        return (kind, *(_digest(item, names, met) for item in value))
    if isinstance(value, dict):
        pairs = ((_digest(k, names, met), _digest(v, names, met)) for k, v in value.items())
        return (kind, *pairs)
    if isinstance(value, set | frozenset):
        return kind, frozenset(_digest(item, names, met) for item in value)
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return _array(value, names, met)
    if isinstance(value, FunctionType) and not library(value.__module__ or ""):
        reads = reads_of(value, frozenset())
        within = None if names is None or reads.names is None else names | reads.names
        return (kind, reads.told, *(_digest(item, within, met) for item in reads.open))
    if isinstance(value, MethodType):
        return kind, _digest(value.__self__, names, met), _digest(value.__func__, names, met)
    if isinstance(value, partial):
        inner = (value.func, value.args, value.keywords)
        return (kind, *(_digest(item, names, met) for item in inner))
    return _object(value, kind, names, met)


def _tensor(value: Tensor) -> Any:  # noqa: ANN401
    parameter = type(value) is nn.Parameter
    ordinary = parameter or type(value) is Tensor
    most = 1 if parameter else FEW_NUMBERS  # training writes to parameters all the time
    if ordinary and value.numel() <= most and value.device.type == "cpu" and not value.is_sparse:
        return value.dtype, value.shape, repr(value.tolist())
    return value, None if parameter or value.is_inference() else value._version


def _array(value: np.ndarray, names: frozenset[str] | None, met: dict[int, int]) -> Any:  # noqa: ANN401
    if value.size > MOST_NUMBERS:
        raise Declined(
            f"it holds an array of {value.size:,} numbers, too many to be compared at every call; "
            "a buffer is not compared"
        )
    numbers = _digest(value.tolist(), names, met) if value.dtype.hasobject else value.tobytes()
    return value.dtype.str, value.shape, numbers


def _object(value: Any, kind: type, names: frozenset[str] | None, met: dict[int, int]) -> Any:  # noqa: ANN401
    """Digest an object by its attributes, where it is of a class of the user's."""
    if isinstance(value, nn.Module | type | ModuleType | Enum):
        return kind, value
    if isinstance(value, int | float | str | bytes | complex):
        return kind, repr(value)
    held = {**getattr(value, "__dict__", {}), **slots_of(value)}
    theirs = library(kind.__module__)
    if theirs and (not held or callable(value)):
        return (kind, value) if _hashable(value) else (kind, repr(value))
    if id(value) in met:
        return "met", met[id(value)]
    met[id(value)] = len(met)
    reads = reads_of(kind, frozenset() if names is None else names)
    if names is None or reads.names is None:
        wanted = None
    else:
        wanted = names | reads.names
        held = {name: item for name, item in held.items() if name in wanted}
    return (
        kind,
        value if theirs and _hashable(value) else None,
        reads.told,
        *(_digest(item, wanted, met) for item in reads.open),
        *((name, _digest(item, wanted, met)) for name, item in held.items()),
    )


def _hashable(value: Any) -> bool:  # noqa: ANN401
    try:
        hash(value)
    except TypeError:
        return False
    return True


def described(cell: Cell) -> dict[str, Any]:
    """Digest, by name, what a step could change of a cell."""
    found: dict[str, Any] = {}
    for path, module in cell.named_modules():
        kind = type(module)
        reads = reads_of(kind, _roots(vars(module)))
        for name, value in vars(module).items():
            computed = isinstance(getattr(kind, name, None), cached_property)
            if name not in OWN and type(value) not in _CALLED and not computed:
                found[f"{path}.{name}".lstrip(".")] = digest(value, reads.names)
    return found
