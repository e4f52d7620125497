"""Weights that stay as they are for a while: what the core makes of them is made once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine.cell import Cell, tensors_of
from unrolled.engine.native import Compiled, Plan

held: list["Frozen"] = []
"""The modules that are frozen now."""
_lock = Lock()


class Ready:
    """What was made of one cell's weights.

    Attributes:
        constants: What the step's ``once`` leaves hold; ``None`` where autograd must follow it.
    """

    def __init__(self, constants: list[Tensor] | None) -> None:
        self.constants = constants
        self._packed: dict[tuple[Plan, bool], Any] = {}

    def packed(self, plan: Plan, constants: Sequence[Tensor], bfloat16: bool) -> Any:  # noqa: ANN401
        """Give the weights of a program's forward pass as the core packs them."""
        found = self._packed.get((plan, bfloat16))
        if found is None:
            with _lock:
                found = self._packed.get((plan, bfloat16)) or _pack(plan, constants, bfloat16)
                self._packed[plan, bfloat16] = found
        return found


def _pack(plan: Plan, constants: Sequence[Tensor], bfloat16: bool) -> Any:  # noqa: ANN401
    return plan.engine.pack([constant.data_ptr() for constant in constants], bfloat16)


class Frozen:
    """A module's parameters and buffers as they are now, and what was made of them."""

    def __init__(self, module: nn.Module) -> None:
        named = [*module.named_parameters(), *module.named_buffers()]
        self.tensors = {id(t): (name, t, _version(t)) for name, t in named}
        self.ready: dict[Any, Ready] = {}

    def find(
        self,
        plan: Compiled,
        cell: Cell,
        parameters: Mapping[str, Tensor] | None,
        dtype: torch.dtype,
        casts: bool,
    ) -> Ready | None:
        """Find what was made of a cell's weights; ``None`` if they are not all of this module."""
        sources = _sources(plan, cell, parameters)
        for tensor in sources:
            known = self.tensors.get(id(tensor))
            if known is None:
                return None
            if _version(tensor) != known[2]:
                raise RuntimeError(
                    f"{known[0]} was changed inside unrolled.frozen; leave the block before weights change"
                )
        if not casts and any(t.dtype != dtype for t in sources if t.is_floating_point()):
            return None
        short = casts or dtype == torch.bfloat16
        follows = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in sources)
        key: Any = (plan, *map(id, sources), short, follows)
        found = self.ready.get(key)
        if found is None:
            constants = None
            if not follows:
                # They may be kept for gradients later, as what is made in inference mode may not.
                with torch.inference_mode(False), torch.no_grad():
                    made = plan.step.constants(cell, parameters, widen=short)
                    constants = [constant.contiguous() for constant in made]
            found = self.ready.setdefault(key, Ready(constants))
        return found


def _sources(plan: Compiled, cell: Cell, parameters: Mapping[str, Tensor] | None) -> list[Tensor]:
    names = plan.step.named
    if parameters is not None and parameters.keys() >= set(names):
        return [parameters[name] for name in names]
    found = tensors_of(cell) | dict(parameters or {})
    return [found[name] for name in names]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Pack a module's weights once for all calls meanwhile, in every thread.

    Results are the same, bit for bit. Gradients flow as ever, to inputs and to weights; only their
    values must stay.

    Args:
        module: Whose weights stay as they are: a layer, or a model that has some.

    Raises:
        TypeError: If it is no module.
        RuntimeError: At the next call after a weight was changed in place. A change through
            ``.data`` cannot be seen, and until the block is left results may be those of the old
            weights. A weight that is replaced by another is packed at each call, as outside.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"frozen takes a torch.nn.Module, not {type(module).__name__}")
    mine = Frozen(module)
    with _lock:
        held.append(mine)
    try:
        yield
    finally:
        with _lock:
            held.remove(mine)


def ready(
    plan: Compiled,
    cell: Cell,
    parameters: Mapping[str, Tensor] | None,
    dtype: torch.dtype,
    casts: bool,
) -> Ready | None:
    """Find what was made ahead of a cell's weights, if some module that has them is frozen.

    Args:
        plan: The cell's programs.
        cell: The cell.
        parameters: Tensors in place of the cell's own.
        dtype: Of the input.
        casts: Whether autocast makes weights and input alike.
    """
    for each in [*held]:
        found = each.find(plan, cell, parameters, dtype, casts)
        if found is not None:
            return found
    return None
