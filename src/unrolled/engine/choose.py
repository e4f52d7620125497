"""Choose the engine that runs a cell, and say why."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor

from unrolled.engine import frozen, native, past, reference
from unrolled.engine.capture import captured
from unrolled.engine.cell import Cell, bind, tensors_of
from unrolled.engine.check import check_input, check_lengths, complete_extras, complete_states
from unrolled.engine.interpret import in_dual_level
from unrolled.engine.lower import Declined
from unrolled.engine.native import Compiled
from unrolled.engine.packing import Packed, Way
from unrolled.engine.programs import compiled
from unrolled.engine.reference import Outputs
from unrolled.engine.scan import LinearCell, run_linear
from unrolled.engine.tangent import run_dual
from unrolled.errors import InputError, RunError

OTHER_DTYPE = "its parameters are of another dtype than the input"
NOTHING = "there is nothing to run"
ENGINES = ("native", "reference")
DEVICES = ("cpu", "cuda", "meta")
"""Where cells run; on meta tensors shapes alone."""

_asked: ContextVar[str | None] = ContextVar("engine", default=None)


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Run cells in one engine meanwhile: ``native`` or ``reference``.

    What the native engine cannot run still goes to the reference engine, unless the environment
    variable ``UNROLLED_STRICT`` is 1: then it is an error.

    Raises:
        InputError: If there is no engine of that name.
    """
    token = _asked.set(_known(name))
    try:
        yield
    finally:
        _asked.reset(token)


def engine_asked() -> str:
    """The engine that cells run in where they can.

    Raises:
        InputError: If ``UNROLLED_ENGINE`` names none.
    """
    return _asked.get() or _known(os.environ.get("UNROLLED_ENGINE") or "native")


@torch.compiler.assume_constant_result
def _asks_native() -> bool:
    return engine_asked() == "native"


def _known(name: str) -> str:
    if name not in ENGINES:
        raise InputError(f"no engine {name!r}; the engines are {', '.join(ENGINES)}")
    return name


def run(
    cell: Cell,
    x: Tensor,
    states: Mapping[str, Tensor] | None = None,
    *,
    lengths: Tensor | Packed | None = None,
    extras: Mapping[str, Tensor] | None = None,
    reverse: bool = False,
    keep: bool = False,
    parameters: Mapping[str, Tensor] | None = None,
) -> Outputs:
    """Run a cell over a sequence in the engine that suits: see :func:`unrolled.engine.reference.run`.

    With :class:`~unrolled.engine.packing.Packed` lengths x is rows (N, I) that lie so, and so are the
    results; there are no further inputs.
    """
    packed, lengths = (lengths, None) if isinstance(lengths, Packed) else (None, lengths)
    if torch.compiler.is_compiling():
        if packed is None and _asks_native():
            found = captured(cell, x, states, lengths, extras, reverse, keep, parameters)
            if found is not None:
                return found
    elif engine_asked() == "native":
        check_input(cell, x if packed is None else x[:, None])
        try:
            return _native(cell, x, states, lengths, packed, extras, reverse, keep, parameters)  # pyright: ignore
        except Declined as reason:
            if os.environ.get("UNROLLED_STRICT") == "1" and str(reason) != NOTHING:
                name = type(cell).__name__
                raise RunError(f"{name} does not run in the native engine: {reason}") from None
    if packed is not None:
        found = run(
            cell,
            packed.pad(x),
            states,
            lengths=packed.lengths,
            reverse=reverse,
            keep=keep,
            parameters=parameters,
        )
        history = {name: packed.gather(value) for name, value in found.history.items()}
        return Outputs(packed.gather(found.y), found.states, history)
    if x.device.type not in DEVICES:
        raise InputError(
            f"unrolled is not tested on {x.device.type}; move the module and its inputs to cpu or cuda"
        )
    cell = cell if parameters is None else bind(cell, parameters)
    if _scans(cell) and not extras:
        return run_linear(cell, x, states, lengths=lengths, reverse=reverse, keep=keep)
    return reference.run(
        cell, x, states, lengths=lengths, extras=extras, reverse=reverse, keep=keep
    )


def _scans(cell: Cell) -> TypeGuard[LinearCell]:
    """Whether a cell that the native engine does not run is computed over all steps at once."""
    if not isinstance(cell, LinearCell) or engine_asked() != "native":
        return False
    return not torch.compiler.is_compiling() and not _transformed()


# Where torch.compile has given up on a frame it would go on with those that the frame calls.
@torch.compiler.disable
def _native(
    cell: Cell,
    x: Tensor,
    states: Mapping[str, Tensor] | None,
    lengths: Tensor | None,
    packed: Packed | None,
    extras: Mapping[str, Tensor] | None,
    reverse: bool,
    keep: bool,
    parameters: Mapping[str, Tensor] | None,
) -> Outputs:
    _check_circumstances(x)
    if packed is None and x.dim() != 3:
        raise Declined(f"the input has {x.dim()} dimensions")
    steps, batch = x.shape[:2] if packed is None else (packed.steps, packed.batch)
    given = complete_states(cell, x, states, batch=batch, zeros=False)
    _check_kinds(given.values(), "a state")
    extras = complete_extras(cell, x, extras) if cell.extra_names or extras else {}
    _check_kinds(extras.values(), "a further input")
    if lengths is not None:
        lengths = check_lengths(lengths, steps, batch)
    if not batch or (lengths is not None and not int(lengths.max())):
        raise Declined(NOTHING)
    for name, extra in extras.items():
        if (extra.dtype, extra.device, extra.layout) != (x.dtype, x.device, x.layout):
            raise Declined(f"{name} is {extra.dtype} on {extra.device}, unlike the input")
        if extra.dim() != 3:
            raise Declined(f"{name} has rows of {extra.dim() - 2} dimensions")
    widths = {name: extra.shape[2] for name, extra in extras.items()}
    short = x.dtype == torch.bfloat16
    casts = torch.is_autocast_enabled("cpu") and x.dtype != torch.float64
    plan = compiled(cell, widths, torch.float32 if short else x.dtype, keep)
    dual = in_dual_level()
    ahead = None
    if frozen.held and not dual:
        ahead = frozen.ready(plan, cell, parameters, x.dtype, casts)
    constants = ahead.constants if ahead else None
    if constants is None:
        if short and not casts:
            _check_short(cell, parameters)
        constants = plan.step.constants(cell, parameters, widen=short or casts)
        _check_kinds(constants, "a parameter")
        for constant in constants:
            if constant.device != x.device:
                raise Declined("its parameters are on another device than the input")
            if constant.dtype != x.dtype and not (short or casts):
                raise Declined(OTHER_DTYPE)
    rows, initial = [x, *extras.values()], past.enter(cell, given)
    if short or casts:
        rows = [t.float() for t in rows]
        initial = [None if state is None else state.float() for state in initial]
    run = partial(plan.run, bfloat16=short or casts, ahead=ahead)
    if dual:
        run = partial(run_dual, plan, bfloat16=short or casts)
    way = packed.way(reverse) if packed else Way(lengths, steps, batch, reverse)
    found = run([*map(way.enter, rows)], [*map(way.sort, initial)], constants, way.packing)
    wanted = len(plan.wanted)
    found = [*map(way.leave, found[:wanted]), *map(way.unsort, found[wanted:])]
    return _outputs(cell, plan, found, keep, x.dtype)


def _check_short(cell: Cell, parameters: Mapping[str, Tensor] | None) -> None:
    named = tensors_of(cell) | dict(parameters or {})
    if any(t.dtype != torch.bfloat16 for t in named.values() if t.is_floating_point()):
        raise Declined(OTHER_DTYPE)


def _outputs(
    cell: Cell, plan: Compiled, found: Sequence[Tensor], keep: bool, dtype: torch.dtype
) -> Outputs:
    if found[0].dtype != dtype:
        found = [tensor.to(dtype) for tensor in found]
    wanted = len(plan.wanted)
    history = dict(zip(plan.wanted, found, strict=False)) if keep else {}
    return Outputs(found[0], past.leave(cell, found[wanted:]), history)


def _check_circumstances(x: Tensor) -> None:
    """Decline what only torch's own operations can go along with."""
    if not native.available():
        raise Declined("the native core is not installed")
    if x.device.type != "cpu":
        raise Declined(f"the input is on {x.device}")
    if x.layout != torch.strided:
        raise Declined(f"the input is {x.layout}")
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise Declined(f"the input is {x.dtype}")
    _check_kinds([x], "the input")
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
        raise Declined(f"autocast to {torch.get_autocast_dtype('cpu')} is on")
    if _transforms():
        raise Declined("torch transforms the call")


def _check_kinds(tensors: Iterable[Tensor], what: str) -> None:
    for tensor in tensors:
        if not native.ordinary(tensor):
            raise Declined(f"{what}, a {type(tensor).__name__}, is more than numbers in memory")


def torch_runs(x: Tensor) -> bool:
    """Whether torch's own kernels run a standard cell: on CUDA tensors, unless the reference is asked for."""
    return (
        x.device.type == "cuda"
        and not torch.compiler.is_compiling()
        and engine_asked() == "native"
        and not _transformed()
    )


def _transformed() -> bool:
    """Whether only torch's plain operations can go along with the call."""
    return in_dual_level() or _transforms()


def _transforms() -> bool:
    """Whether torch sees the call in another way than by running it, forward mode apart."""
    return (
        torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore
        or torch._C._len_torch_dispatch_stack() > 0
    )


def decide(
    cell: Cell, extras: Mapping[str, int], dtype: torch.dtype, device: torch.device | str
) -> tuple[Compiled | None, str | None]:
    """Tell what a run would do, without running.

    Args:
        cell: The cell.
        extras: Width of each further input.
        dtype: Of the input.
        device: Where the input is.

    Returns:
        What the native engine runs; or ``None``, and why the reference engine runs.
    """
    if engine_asked() == "reference":
        how = 'with unrolled.engine("reference")' if _asked.get() else "UNROLLED_ENGINE=reference"
        return None, f"it is asked for: {how}"
    try:
        _check_circumstances(torch.empty(0, dtype=dtype, device=device))
        plan = compiled(cell, extras, dtype)
        if any(constant.dtype != dtype for constant in plan.step.constants(cell)):
            raise Declined(OTHER_DTYPE)
    except Declined as reason:
        return None, str(reason)
    return plan, None
