"""Watch a step while it is traced for what a trace does not show: who has a derivative, who writes where."""

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tag, Tensor, fx, is_grad_enabled, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unrolled.engine.lower import Declined

RANDOM = "it draws random numbers"


class Watch(TorchDispatchMode):
    """Declines operations that draw random numbers, or that torch would not differentiate as they stand.

    Gradients are switched on while a step is traced, and nothing asks for one. Where an operation
    finds it otherwise, the step has changed it.
    """

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Look at one operation, and let it be."""
        # Those that do not depend on rows would be drawn once a call.
        if Tag.nondeterministic_seeded in func.tags:
            raise Declined(RANDOM)
        result = func(*args, **(kwargs or {}))
        if any(isinstance(value, Tensor) for value in tree_leaves(result)):
            if not is_grad_enabled():
                raise Declined(_why())
            if any(isinstance(a, Tensor) and a.requires_grad for a in tree_leaves((args, kwargs))):
                raise Declined("it asks for gradients inside its step")
        return result


def _why() -> str:
    """Say who has switched gradients off: a function with a derivative of its own, or the step."""
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name == "apply" and code.co_filename.endswith("autograd/function.py"):
            function = frame.f_locals["cls"].__name__
            return f"it calls {function}, a torch.autograd.Function, whose derivative is its own"
        frame = frame.f_back
    return "it switches gradients off inside its step"


def check_hooks(cell: nn.Module) -> None:
    """Decline a cell in which hooks wait for gradients.

    Raises:
        Declined: If a module in it has one.
    """
    for name, module in cell.named_modules():
        if name and (module._backward_hooks or module._backward_pre_hooks):
            raise Declined(f"{name} has a hook that waits for its gradient")


def check_writes(graph: fx.Graph) -> None:
    """Make sure that what operations change in place has no other name.

    Raises:
        Declined: If something else would see the change.
    """
    alike: dict[int, list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            alike[value.untyped_storage()._cdata].append(node)
    for first, *others in alike.values():
        writers = [node for node in others if _writes(node.target)]
        if writers and (first.op != "call_function" or len(writers) < len(others)):
            raise Declined("it changes a tensor in place that has another name")


def _writes(target: str | Callable[..., Any]) -> bool:
    return isinstance(target, OpOverload) and target._schema.is_mutable
