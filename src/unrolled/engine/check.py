"""Checks of what goes into a run and what a cell's ``step`` gives back. Every sentence names the cell."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unrolled.engine.cell import Cell, States, Width

PAST = ".past"
"""Suffix of the older values of a state with ``delays``: (K - 1, B, width), newest first."""


def shape_of(width: Width) -> tuple[int, ...]:
    """Shape of one row of a state."""
    return (width,) if isinstance(width, int) else tuple(width)


def check_input(cell: Cell, x: Tensor) -> None:
    """Refuse an input that is not (T, B, I) floating point.

    Raises:
        ValueError: If a dimension is wrong.
        TypeError: If it is no tensor, or the numbers are not floating point.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{_name(cell)}: input must be a tensor, not {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{_name(cell)}: input must be floating point, not {x.dtype}")
    if cell.delays:
        _check_delays(cell)
    rank = x.dim()
    if rank < 3 or (rank > 3 and all(isinstance(n, int) for n in cell.state_sizes.values())):
        raise ValueError(
            f"{_name(cell)}: input must be (steps, rows, input_size), not {tuple(x.shape)}"
        )
    if x.shape[0] == 0:
        raise ValueError(f"{_name(cell)}: input has no steps; its shape is {tuple(x.shape)}")
    if x.shape[2] != cell.input_size:
        raise ValueError(
            f"{_name(cell)}: input_size is {cell.input_size}, but the input is {tuple(x.shape)}, "
            f"{x.shape[2]} wide"
        )


def _check_delays(cell: Cell) -> None:
    for name, lags in cell.delays.items():
        if name not in cell.state_names:
            known = ", ".join(cell.state_names)
            raise ValueError(f"{_name(cell)}: delays name {name!r}; its states are {known}")
        if not lags:
            raise ValueError(f"{_name(cell)}: delays of {name!r} name no step")
        if min(lags) < 1:
            raise ValueError(
                f"{_name(cell)}: delays of {name!r} must be at least 1 step, not {min(lags)}"
            )


def complete_states(
    cell: Cell,
    x: Tensor,
    given: Mapping[str, Tensor] | None,
    *,
    batch: int | None = None,
    zeros: bool = True,
) -> States:
    """Check the states given for the rows of x, and with `zeros` add those left out.

    Args:
        cell: The cell.
        x: The input (T, B, I); or of another layout, with `batch`.
        given: The states.
        batch: B.
        zeros: Whether to add zeros for those left out.

    Raises:
        TypeError: If a state is no tensor.
        ValueError: If a state is unknown or has the wrong shape, dtype or device.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(
            f"{_name(cell)}: states must be given by name, not as {type(given).__name__}; "
            f"its states are {', '.join(cell.state_names)}"
        )
    if not given and not zeros:
        return {}
    batch = x.shape[1] if batch is None else batch
    given = dict(given or {})
    states = {}
    for name, width in cell.state_sizes.items():
        wanted = {name: (batch, *shape_of(width))}
        longest = max(cell.lags(name))
        if longest > 1:
            wanted[name + PAST] = (longest - 1, batch, *shape_of(width))
        for key, shape in wanted.items():
            state = given.pop(key, None)
            if state is None:
                if not zeros:
                    continue
                state = x.new_zeros(shape)
            elif not isinstance(state, Tensor):
                raise TypeError(
                    f"{_name(cell)}: state {key!r} must be a tensor of {shape}, not {type(state).__name__}"
                )
            elif tuple(state.shape) != shape:
                raise ValueError(
                    f"{_name(cell)}: state {key!r} must be {shape} for this input, not {tuple(state.shape)}"
                )
            elif state.dtype != x.dtype or state.device != x.device:
                raise ValueError(
                    f"{_name(cell)}: state {key!r} is {state.dtype} on {state.device}, "
                    f"but the input is {x.dtype} on {x.device}"
                )
            states[key] = state
    if given:
        raise ValueError(
            f"{_name(cell)} has no state {next(iter(given))!r}; its states are {', '.join(cell.state_names)}"
        )
    return states


def complete_extras(cell: Cell, x: Tensor, given: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Check the further inputs and give each as (T, B, n); ``t`` is filled in.

    Raises:
        ValueError: If one is missing, unknown or has the wrong shape.
    """
    steps, batch = x.shape[:2]
    given = dict(given or {})
    extras = {}
    for name in cell.extra_names:
        extra = given.pop(name, None)
        if extra is None and name == "t":
            extra = (
                torch.arange(steps, device=x.device)
                .to(x.dtype)
                .view(steps, 1, 1)
                .expand(steps, batch, 1)
            )
        if extra is None:
            raise ValueError(f"{_name(cell)} needs the further input {name!r}; pass it in extras")
        if extra.dim() == 2 and extra.shape[0] == batch:
            extra = extra.expand(steps, *extra.shape)
        if extra.dim() < 3 or tuple(extra.shape[:2]) != (steps, batch):
            raise ValueError(
                f"{_name(cell)}: further input {name!r} must be ({steps}, {batch}, n), one a step, or "
                f"({batch}, n), one a row, not {tuple(extra.shape)}"
            )
        extras[name] = extra
    if given:
        known = ", ".join(cell.extra_names) or "none"
        raise ValueError(
            f"{_name(cell)} takes no further input {next(iter(given))!r}; those it declares: {known}"
        )
    return extras


def check_lengths(lengths: Tensor, steps: int, batch: int) -> Tensor:
    """Give the lengths (B,) as int64 on the CPU.

    Raises:
        ValueError: If they are not B integers from 0 to T.
    """
    if not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths, device="cpu")
    if (
        lengths.is_floating_point()
        or lengths.dtype == torch.bool
        or tuple(lengths.shape) != (batch,)
    ):
        raise ValueError(
            f"lengths must be {batch} integers, one a row, not {tuple(lengths.shape)} of {lengths.dtype}"
        )
    lengths = lengths.to("cpu", torch.int64)
    if batch and not 0 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        raise ValueError(
            f"lengths must lie between 0 and {steps}, the steps of the input; "
            f"they go from {int(lengths.min())} to {int(lengths.max())}"
        )
    return lengths


def why_it_failed(
    cell: Cell, x: Tensor, states: Mapping[str, Any], error: Exception
) -> Exception | None:
    """Say why ``step`` failed, where it is a parameter unlike the input; else add what it was given.

    Args:
        cell: The cell.
        x: What ``step`` was given (B, I).
        states: And the states.
        error: What it raised; gets a note.
    """
    for name, parameter in cell.named_parameters():
        if parameter.device != x.device:
            return RuntimeError(
                f"{_name(cell)}: parameter {name!r} is on {parameter.device}, "
                f"but the input is on {x.device}"
            )
        if parameter.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            return RuntimeError(
                f"{_name(cell)}: parameter {name!r} is {parameter.dtype}, but the input is {x.dtype}"
            )
    given = {"x": x, **{name: s for name, s in states.items() if isinstance(s, Tensor)}}
    told = ", ".join(f"{name} {tuple(value.shape)}" for name, value in given.items())
    error.add_note(f"{_name(cell)}.step was given {told}")
    return None


def check_results(cell: Cell, results: Any, rows: int) -> tuple[Tensor, ...]:  # noqa: ANN401
    """Check what ``step`` returned: the new states in order, then the outputs.

    Raises:
        RuntimeError: If the number or a shape is wrong.
    """
    results = results if isinstance(results, tuple) else (results,)
    names = cell.state_names + cell.output_names
    if len(results) != len(names):
        raise RuntimeError(
            f"{_name(cell)}.step returned {len(results)} values; it declares {len(names)}: {', '.join(names)}"
        )
    for name, value in zip(names, results, strict=True):
        if not isinstance(value, Tensor):
            raise RuntimeError(
                f"{_name(cell)}.step returned {type(value).__name__} for {name!r}, not a tensor"
            )
        if name in cell.state_sizes:
            wanted = (rows, *shape_of(cell.state_sizes[name]))
            if tuple(value.shape) != wanted:
                raise RuntimeError(
                    f"{_name(cell)}.step returned state {name!r} of shape {tuple(value.shape)}; "
                    f"state_sizes makes it {wanted}"
                )
    return results


def _name(cell: Cell) -> str:
    return type(cell).__name__
