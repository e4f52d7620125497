"""A run as ``torch.compile`` and ``torch.export`` record it: one operation instead of T steps.

What is decided here is decided while torch compiles: which program there is for a cell is a constant
of the compiled graph. Programs themselves are traced outside torch's compilers, and named.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import _symbolic_trace
from torch.utils._python_dispatch import _disable_current_modes

from unrolled.engine import native, operators, past  # noqa: F401 (the operations)
from unrolled.engine.cell import Cell, bind, tensors_of
from unrolled.engine.check import check_input, complete_extras, complete_states, shape_of
from unrolled.engine.interpret import in_dual_level
from unrolled.engine.lower import Declined
from unrolled.engine.programs import compiled, publish
from unrolled.engine.reference import Outputs

Recipe = tuple[str, tuple[str, ...], tuple[str, ...] | None, tuple[str, ...], tuple[int, ...]]
"""Name of the program; names of parameters and buffers; which of them the constants are, ``None`` if
some are computed; names of the results; which of the distinct ones each is."""


def captured(
    cell: Cell,
    x: Tensor,
    states: Mapping[str, Tensor] | None,
    lengths: Tensor | None,
    extras: Mapping[str, Tensor] | None,
    reverse: bool,
    keep: bool,
    parameters: Mapping[str, Tensor] | None,
) -> Outputs | None:
    """Run a cell as an operation that torch's compilers can record; ``None`` where there is none."""
    check_input(cell, x)
    short = x.dtype == torch.bfloat16
    if (
        x.device.type != "cpu"
        or x.dim() != 3
        or not (short or x.dtype in (torch.float32, torch.float64))
    ):
        return None
    casts = torch.is_autocast_enabled("cpu") and x.dtype != torch.float64
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return None
    given = complete_states(cell, x, states, zeros=False)
    extras = complete_extras(cell, x, extras) if cell.extra_names or extras else {}
    if any(extra.dtype != x.dtype or extra.dim() != 3 for extra in extras.values()):
        return None
    widths = tuple((name, int(extra.shape[2])) for name, extra in extras.items())
    signature = cell.signature
    found = _recipe(cell if signature is None else signature, widths, x.dtype, keep)
    if found is None:
        return None
    program, named, plain, wanted, places = found
    if signature is None and torch.compiler.is_dynamo_compiling():
        _see(cell, x, given, extras)
    tensors = [_tensor(cell, name, parameters) for name in named]
    if (
        any(tensor.dtype != x.dtype for tensor in tensors if tensor.is_floating_point())
        and not casts
    ) or any(tensor.device != x.device for tensor in [*tensors, *extras.values()]):
        return None
    if short or casts:
        tensors = [t if t.is_complex() else t.float() for t in tensors]
    if plain is None:
        constants = torch.ops.unrolled.once(program, tensors)
    else:
        constants = [tensors[named.index(name)] for name in plain]
    rows, initial = [x, *extras.values()], past.enter(cell, given)
    if short or casts:
        rows = [t.float() for t in rows]
        initial = [None if state is None else state.float() for state in initial]
    outputs = torch.ops.unrolled.loop_forward(
        program, rows, initial, constants, lengths, reverse, short or casts, []
    )
    outputs = [output.to(x.dtype) for output in outputs]
    distinct = max(places) + 1
    history = {name: outputs[place] for name, place in zip(wanted, places, strict=True)}
    last = past.leave(cell, outputs[distinct:])
    return Outputs(outputs[0], last, history if keep else {})


def _tensor(cell: Cell, name: str, given: Mapping[str, Tensor] | None) -> Tensor:
    if given is not None and name in given:
        return given[name]
    found: Any = cell
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _see(cell: Cell, x: Tensor, states: Mapping[str, Tensor], extras: Mapping[str, Tensor]) -> None:
    """Let torch.compile see all that a step reads, and compile anew when that changes."""
    rows = x[0]
    before: list[Any] = []
    for name, width in cell.state_sizes.items():
        state = states[name] if name in states else rows.new_zeros(rows.shape[0], *shape_of(width))
        before.append((state,) * len(cell.delays[name]) if name in cell.delays else state)
    cell.step(rows, *before, **{name: extra[0] for name, extra in extras.items()})


@torch.compiler.assume_constant_result
def _recipe(
    what: Any,  # noqa: ANN401
    widths: tuple[tuple[str, int], ...],
    dtype: torch.dtype,
    keep: bool,
) -> Recipe | None:
    """Find the program of a cell, or of one with a signature; ``None`` if there is none."""
    if not native.available() or (
        torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore
        or in_dual_level()
    ):
        return None
    cell = what if isinstance(what, Cell) else what[0].rebuilt(what)
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    # In a thread of its own nothing of what torch's compilers have set up is seen.
    with ThreadPoolExecutor(1) as thread:
        try:
            plan = thread.submit(_compiled, cell, dict(widths), wide, keep).result()
        except Declined:
            return None
    places: dict[int, int] = {}
    plain, joined = plan.step.plain, plan.step.joined
    return (
        publish(plan),
        tuple(plan.step.named),
        tuple(name for name in plain if name) if None not in plain and not joined else None,
        tuple(plan.wanted),
        tuple(places.setdefault(index, len(places)) for index, _ in plan.inference.results),
    )


def _compiled(
    cell: Cell, widths: Mapping[str, int], dtype: torch.dtype, keep: bool
) -> native.Compiled:
    """Compile a cell of which torch.export may have made all parameters fake."""
    shapes = {
        name: torch.empty(t.shape, dtype=t.dtype, device="meta")
        for name, t in tensors_of(cell).items()
        if isinstance(t, FakeTensor)
    }
    patched = {name: getattr(nn.Module, name) for name in ("__call__", "__getattr__")}
    try:
        # torch.export records calls of modules by replacing these, for all threads.
        nn.Module.__call__ = _symbolic_trace._orig_module_call
        nn.Module.__getattr__ = _symbolic_trace._orig_module_getattr
        with _disable_current_modes():
            return compiled(bind(cell, shapes) if shapes else cell, widths, dtype, keep)
    finally:
        for name, method in patched.items():
            setattr(nn.Module, name, method)
