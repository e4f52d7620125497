"""What the code of a step reads by name: attributes of classes, variables, what functions close over.

Found once for a class or function by following its code, and looked up again at every call; where a
name stands for something else by then, the code is followed anew. Code of libraries is not followed.
"""

import dis
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from unrolled.engine.cell import Cell

ROOTS = frozenset(
    {"step", "forward", "lags", "rows_apart", "delays", "state_sizes"}
    | {"state_names", "output_names", "extra_names", "input_size", "hidden_size"}
)
"""What tracing reads of a cell and calls of a module."""
SPECIAL = frozenset(
    {"__call__", "__getattr__", "__getattribute__", "__getitem__", "__len__", "__iter__"}
    | {"__float__", "__int__", "__index__", "__bool__", "__contains__", "__neg__", "__pow__"}
    | {f"__{side}{name}__" for side in ("", "r") for name in ("add", "sub", "mul", "truediv")}
)
"""What is called without being named."""
DYNAMIC = frozenset({"getattr", "vars", "attrgetter", "__dict__", "__getattr__", "asdict"})
"""Code that names one of these may read any attribute."""
MOST_FUNCTIONS = 200
"""Functions that are followed from one class."""
MOST_KEPT = 1024

_NOTHING = object()
_known: dict[Any, "Reads"] = {}
_codes: dict[CodeType, "_Code"] = {}
_libraries: dict[str, bool] = {}
PLAIN = frozenset({int, bool, str, bytes, float, type(None), complex})
"""Kinds of values that cannot change."""


def library(name: str) -> bool:
    """Whether a module is part of Python, of torch, or installed, and so does not change."""
    # No functools.cache here: torch.compile, which may meet this code, warns of one.
    found = _libraries.get(name)
    if found is None:
        found = _libraries[name] = _is_library(name)
    return found


def _is_library(name: str) -> bool:
    top = name.partition(".")[0]
    if top in ("__main__", "torch", "unrolled"):
        return top != "__main__"
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None:
        return top in sys.stdlib_module_names
    return "-packages" in path or path.startswith(str(Path(dis.__file__).parent))


class _Code:
    """What a piece of code names. There is one for all that are equal, told apart by identity."""

    def __init__(self, code: CodeType) -> None:
        self.variables: set[str] = set()
        self.attributes: set[str] = set()
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                self.variables.add(step.argval)
            elif "ATTR" in step.opname or "METHOD" in step.opname:
                self.attributes.add(step.argval)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                inner = _code(constant)
                self.variables |= inner.variables
                self.attributes |= inner.attributes
        self.dynamic = bool(DYNAMIC & (self.variables | self.attributes))


def _code(code: CodeType) -> _Code:
    found = _codes.get(code)
    return _codes.setdefault(code, _Code(code)) if found is None else found


class Place(NamedTuple):
    """Where a name is looked up, and what stood there."""

    space: Mapping[str, Any]
    name: str
    value: Any
    owner: Any
    """A class, or the space itself."""


class Reads:
    """What is read by name.

    Attributes:
        told: Tells apart what cannot change as long as the same things stand there.
        open: What stands there and can change.
        names: Attributes that are read of whatever is met; ``None`` if any may be.
    """

    def __init__(self, root: Any, names: frozenset[str]) -> None:  # noqa: ANN401
        self.places: list[Place] = []
        self.functions: list[tuple[FunctionType, CodeType, Any, Any]] = []
        self.closed: list[tuple[CellType, Any, str]] = []
        self.open: list[Any] = []
        self._told: list[Any] = []
        self._names = {*names}
        self._dynamic = self._of_cell = False
        self._spaces: dict[int, tuple[Mapping[str, Any], Any]] = {}
        self._met: set[Any] = set()
        if isinstance(root, type):
            self._names |= SPECIAL
            self._of_cell = issubclass(root, Cell)
            self._enter(root)
        elif not library(root.__module__ or ""):
            self._follow(root)
        self._look()
        self.told = tuple(self._told)
        self.names = None if self._dynamic else frozenset(self._names)

    def same(self) -> bool:
        """Whether all still is what it was."""
        for space, name, value, _ in self.places:
            if space.get(name, _NOTHING) is not value:
                return False
        for function, code, defaults, further in self.functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not further
            ):
                return False
        return all(_contents(cell) is value for cell, value, _ in self.closed)

    def moved(self) -> str | None:
        """Name something that is not what it was."""
        names = (
            name for space, name, value, _ in self.places if space.get(name, _NOTHING) is not value
        )
        closed = (name for cell, value, name in self.closed if _contents(cell) is not value)
        return next(names, None) or next(closed, None)

    def put_back(self) -> None:
        """Put what was there where something else is."""
        for space, name, value, owner in self.places:
            if space.get(name, _NOTHING) is value:
                continue
            if isinstance(owner, type):
                delattr(owner, name) if value is _NOTHING else setattr(owner, name, value)
            elif value is _NOTHING:
                del owner[name]
            else:
                owner[name] = value
        for cell, value, _ in self.closed:
            if _contents(cell) is not value and value is not _NOTHING:
                cell.cell_contents = value

    def _look(self) -> None:
        """Look all names up in all places, as long as what is found names more."""
        done: set[tuple[int, str]] = set()
        while wanted := self._wanted() - done:
            done |= wanted
            order = {place: number for number, place in enumerate(self._spaces)}
            for place, name in sorted(wanted, key=lambda each: (order[each[0]], each[1])):
                space, owner = self._spaces[place]
                self._watch(space, name, space if owner is None else owner)

    def _wanted(self) -> set[tuple[int, str]]:
        """Which names are to be looked up where: in a class also those that another class has as yet."""
        classes = {id(owner): space for space, owner in self._spaces.values() if owner is not None}
        theirs = {name for space in classes.values() for name in space}
        if self._of_cell:
            theirs |= ROOTS & {*vars(Cell)}
        named = theirs if self._dynamic else theirs & self._names
        named = {name for name in named if not _idle(name)}
        found = {(place, name) for place in classes for name in named}
        for place, (space, owner) in self._spaces.items():
            if owner is None:
                found |= {(place, name) for name in self._names if name in space}
        return found

    def _enter(self, root: type | ModuleType) -> None:
        """Look names up in a class and those it is derived from, or in a module."""
        if isinstance(root, ModuleType):
            if not library(root.__name__):
                self._spaces.setdefault(id(vars(root)), (vars(root), None))
            return
        for kind in root.__mro__:
            ours = kind.__module__.startswith("unrolled.") and kind is not Cell
            if ours or not library(kind.__module__):
                # What vars gives is new at each call; the class stands for it.
                self._spaces.setdefault(id(kind), (vars(kind), kind))

    def _watch(self, space: Mapping[str, Any], name: str, owner: Any) -> None:  # noqa: ANN401
        value = space.get(name, _NOTHING)
        self.places.append(Place(space, name, value, owner))
        self._tell(name, value)

    def _tell(self, name: str, value: Any) -> None:  # noqa: ANN401
        functions = _functions(value)
        self._dynamic = self._dynamic or name in ("__getattr__", "__getattribute__")
        if functions is not None:
            self._told += (name, type(value), None if functions else value)
            for function in functions:
                module = function.__module__ or ""
                if library(module):
                    self._told.append(function)
                    # A cell of ours reads what one of the user's, derived from it, says.
                    if module.startswith("unrolled."):
                        self._names |= _code(function.__code__).attributes
                else:
                    self._follow(function)
        elif type(value) in PLAIN:
            told = repr(value) if type(value) is float else value
            self._told += (name, type(value), told)
        elif isinstance(value, type | ModuleType):
            self._told += (name, value)
            self._enter(value)
        elif value is _NOTHING or type(value).__name__ == "builtin_function_or_method":
            self._told += (name, value)
        else:
            self._told += (name, type(value))
            self.open.append(value)

    def _follow(self, function: FunctionType) -> None:
        if function in self._met or len(self._met) >= MOST_FUNCTIONS:
            self._told.append(_code(function.__code__))
            return
        self._met.add(function)
        code = _code(function.__code__)
        self.functions.append(
            (function, function.__code__, function.__defaults__, function.__kwdefaults__)
        )
        self._told.append(code)
        self._names |= code.attributes
        self._dynamic = self._dynamic or code.dynamic
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._tell("", value)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self.closed.append((cell, _contents(cell), name))
            self._tell(name, _contents(cell))
        for name in sorted(code.variables):
            self._watch(function.__globals__, name, function.__globals__)


def reads_of(root: Any, names: frozenset[str]) -> Reads:  # noqa: ANN401
    """Find what a class or function reads, as long as nothing was put elsewhere.

    Args:
        root: A class or a function.
        names: Attributes by which a class is entered.
    """
    found = _known.get((root, names))
    if found is None or not found.same():
        if len(_known) >= MOST_KEPT:
            _known.clear()
        found = _known[root, names] = Reads(root, names)
    return found


def slots_of(value: Any) -> dict[str, Any]:  # noqa: ANN401
    """Attributes of an object that has places for them instead of a dictionary."""
    if library(type(value).__module__):
        return {}
    found: dict[str, Any] = {}
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _idle(name: str) -> bool:
    """Whether a name is one of Python's own that reading does not call."""
    return name.startswith("__") and name.endswith("__") and name not in SPECIAL


def _contents(cell: CellType) -> Any:  # noqa: ANN401
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return _NOTHING


def _functions(value: Any) -> list[FunctionType] | None:  # noqa: ANN401
    """The functions that something calls when it is read or called; ``None`` if it is nothing of the kind."""
    if isinstance(value, property):
        return [f for f in (value.fget,) if isinstance(f, FunctionType)]
    if isinstance(value, cached_property):
        value = value.func
    elif isinstance(value, staticmethod | classmethod):
        value = value.__func__
    elif type(value).__name__ == "_lru_cache_wrapper":
        value = value.__wrapped__
    return [value] if isinstance(value, FunctionType) else None
