"""The computational graph of an expression, with the value and the gradient at every node.

Every operation of torch is written down as it happens. The gradients are then found as on paper: from the
loss backwards each operation hands to each of its inputs its own part, and where a value is used twice the
parts are added (Rumelhart, Hinton & Williams 1986; Griewank & Walther 2008, chapter 3). No part is taken from
torch's own backward pass over the whole expression, so the two can be compared.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from unrolled.engine import choose
from unrolled.errors import InputError

SHOWN = 4
"""Tensors of up to so many numbers are written out."""


@dataclass
class Node:
    """One value of an expression.

    Attributes:
        name: Of an input or a parameter its own; of a result its operation.
        value: What it is.
        inputs: Numbers of the nodes it was computed from, as often as they were used.
        gradient: Of the loss by it; ``None`` where it does not count.
        parts: Who uses it -> what they hand back: their sum is the gradient. A user that takes it twice
            hands back two parts.
        kind: ``input``, ``constant`` or ``result``.
    """

    name: str
    value: Tensor
    inputs: tuple[int, ...] = ()
    gradient: Tensor | None = None
    parts: list[tuple[int, Tensor]] = field(default_factory=list)
    kind: str = "result"
    redo: Callable[..., Tensor] | None = field(default=None, repr=False)
    """Computes it anew from values of its inputs."""


@dataclass(frozen=True)
class Graph:
    """An expression, node by node: inputs first, the loss last. ``str()`` is a table."""

    nodes: list[Node]

    def __getitem__(self, name: str) -> Node:
        """Find an input or a parameter by its name, or the last result of an operation.

        Raises:
            KeyError: If there is none.
        """
        for node in reversed(self.nodes):
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def loss(self) -> Node:
        """What is differentiated."""
        return self.nodes[-1]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return {
            "nodes": [
                {
                    "name": node.name,
                    "kind": node.kind,
                    "inputs": list(node.inputs),
                    "value": node.value.tolist(),
                    "gradient": None if node.gradient is None else node.gradient.tolist(),
                    "parts": [{"from": user, "value": part.tolist()} for user, part in node.parts],
                }
                for node in self.nodes
            ]
        }

    def to_svg(self) -> str:
        """Draw it, inputs on the left, see :func:`unrolled.inspect.graph_drawing.svg`."""
        from unrolled.inspect.graph_drawing import svg

        return svg(self)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __str__(self) -> str:
        """Lay out as a table: node, what it is made of, value, gradient and its parts."""
        rows = [("node", "is", "value", "gradient")]
        for number, node in enumerate(self.nodes):
            made = node.name + f"({', '.join(f'#{i}' for i in node.inputs)})" * bool(node.inputs)
            rows.append((f"#{number}", made, shown(node.value), _gradient(node)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        )


def graph(
    loss: Callable[..., Tensor],
    inputs: Mapping[str, Any] | None = None,
    *,
    module: nn.Module | None = None,
) -> Graph:
    """Write down an expression as a graph, with the value and the gradient at every node.

    Args:
        loss: Computes one number from the inputs, which it takes by their names.
        inputs: Name -> tensor or number; numbers become float64. They are copied.
        module: A net that `loss` uses; its parameters are inputs too, by their own names.

    Returns:
        The graph: ``print`` shows a table, ``to_svg`` draws it, ``graph["w"].gradient`` is a gradient.

    Raises:
        InputError: If `loss` gives no single number that depends on the inputs, draws random numbers,
            changes a tensor in place behind a view, or computes where it cannot be watched.
    """
    leaves = {
        name: torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
        for name, value in (inputs or {}).items()
    }
    leaves = {
        name: leaf.detach().clone().requires_grad_(leaf.is_floating_point())
        for name, leaf in leaves.items()
    }
    record = _Record()
    for name, leaf in [*leaves.items(), *(module.named_parameters() if module else ())]:
        record.add(leaf, Node(name, leaf.detach().clone(), kind="input"))
    with torch.enable_grad(), choose.engine("reference"), record:
        result = loss(**leaves)
    if not isinstance(result, Tensor) or result.numel() != 1:
        size = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise InputError(f"the loss must be one number, not {size}; sum it up")
    last = record.find(result)
    if not result.requires_grad:
        raise InputError("the loss depends on no input")
    return _backwards(_only(record.nodes, last))


class _Record(TorchFunctionMode):
    """Writes down every operation with its inputs and its results."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self._known: dict[int, tuple[Tensor, int, int, bool]] = {}

    def add(self, tensor: Tensor, node: Node) -> None:
        self.nodes.append(node)
        # The tensor is kept, so that no other gets its id.
        derived = tensor.grad_fn is not None
        self._known[id(tensor)] = tensor, len(self.nodes) - 1, tensor._version, derived

    def find(self, tensor: Tensor) -> int:
        """Give the number of a tensor's node; one that was not seen before is a constant."""
        made = tensor.grad_fn
        _, number, version, derived = self._known.get(id(tensor), (tensor, -1, 0, False))
        if (
            made is not None and not derived
        ):  # of a rule of its own, or of what is no operation of torch
            raise InputError(
                f"a value comes from {made.name()}, which cannot be watched; write it in "
                "operations of torch"
            )
        if number >= 0:
            if tensor._version != version:
                raise InputError(
                    f"{self.nodes[number].name} is changed in place behind a view; write a copy"
                )
            return number
        kind = "input" if tensor.requires_grad else "constant"
        self.add(tensor, Node(kind, tensor.detach().clone(), kind=kind))
        return len(self.nodes) - 1

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's protocol
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        given, form = tree_flatten((args, kwargs or {}))
        places = [i for i, value in enumerate(given) if isinstance(value, Tensor)]
        # A tensor that this very call changes is known as it was before.
        numbers = [self.find(given[i]) for i in places] if _counts(func) else []
        results = func(*args, **(kwargs or {}))
        if not _counts(func):
            return results
        several = [value for value in tree_flatten(results)[0] if isinstance(value, Tensor)]
        for which, result in enumerate(several):
            if id(result) in self._known and self._known[id(result)][2] == result._version:
                continue

            def redo(*tensors: Tensor, which: int = which) -> Tensor:
                anew = [*given]
                for i, tensor in zip(places, tensors, strict=True):
                    anew[i] = tensor
                args, kwargs = tree_unflatten(anew, form)
                found = [v for v in tree_flatten(func(*args, **kwargs))[0] if isinstance(v, Tensor)]
                return found[which]

            name = _name(func, given) + (f"[{which}]" if len(several) > 1 else "")
            node = Node(name, result.detach().clone(), tuple(numbers), redo=redo)
            if not numbers:
                node = Node("constant", node.value, kind="constant")
            self.add(result, node)
        return results


QUIET = {"requires_grad_", "size", "dim", "numel", "stride", "backward", "is_floating_point"}
"""Operations that give no new value."""


def _counts(func: Any) -> bool:  # noqa: ANN401
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return func.__self__.__name__ in ("T", "mT", "H", "mH", "real", "imag")
    return name not in QUIET and name != "__set__"


def _name(func: Any, given: list[Any]) -> str:  # noqa: ANN401
    """Name an operation, with the numbers it takes besides tensors."""
    name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__.strip("_")
    numbers = [f"{v:g}" for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    return " ".join([name, *numbers])


def _only(nodes: list[Node], last: int) -> list[Node]:
    """Keep what the loss is made of; what depends on no input is one constant."""
    depends = [node.kind == "input" for node in nodes]
    for number, node in enumerate(nodes):
        depends[number] |= any(depends[i] for i in node.inputs)
    wanted = {last}
    for number in range(last, -1, -1):
        if number in wanted and depends[number]:
            wanted.update(nodes[number].inputs)
    new = {old: number for number, old in enumerate(sorted(wanted))}
    kept = []
    for old in new:
        node = nodes[old]
        if depends[old]:
            node.inputs = tuple(new[i] for i in node.inputs)
        else:
            node = Node("constant", node.value, kind="constant")
        kept.append(node)
    return kept


def _backwards(nodes: list[Node]) -> Graph:
    """Give every node its gradient, from the loss back to the inputs."""
    nodes[-1].gradient = torch.ones_like(nodes[-1].value)
    for number, node in reversed([*enumerate(nodes)]):
        for _, part in node.parts:
            node.gradient = part if node.gradient is None else node.gradient + part
        if node.gradient is None or node.redo is None:
            continue
        for place, part in _parts(node, [nodes[i] for i in node.inputs]):
            nodes[node.inputs[place]].parts.append((number, part))
    return Graph(nodes)


def _parts(node: Node, inputs: list[Node]) -> Iterator[tuple[int, Tensor]]:
    """Give what one operation hands back to each of its inputs that are no constants."""
    assert node.redo is not None
    leaves = [
        one.value.clone().requires_grad_(one.value.is_floating_point() and one.kind != "constant")
        for one in inputs
    ]
    # Operations in place may not write into a leaf.
    copies = [leaf.clone() if leaf.requires_grad else leaf for leaf in leaves]
    with torch.enable_grad():
        result = node.redo(*copies)
    if not torch.equal(result.detach().nan_to_num(), node.value.nan_to_num()):
        raise InputError(f"{node.name} gives other numbers each time; switch dropout and noise off")
    asked = [place for place, leaf in enumerate(leaves) if leaf.requires_grad]
    if not result.requires_grad or not asked:
        return
    found = torch.autograd.grad(
        result, [leaves[place] for place in asked], node.gradient, allow_unused=True
    )
    for place, part in zip(asked, found, strict=True):
        if part is not None:
            yield place, part


def shown(value: Tensor) -> str:
    """Write a value in few words: its numbers, or its shape and norm."""
    if value.numel() > SHOWN:
        size = "x".join(map(str, value.shape))
        return f"{size}, norm {float(value.double().norm()):.4g}"
    if not value.dim():
        return f"{value.item():.6g}"
    return "[" + ", ".join(f"{number:.4g}" for number in value.flatten().tolist()) + "]"


def _gradient(node: Node) -> str:
    if node.gradient is None:
        return ""
    if len(node.parts) < 2:
        return shown(node.gradient)
    return f"{shown(node.gradient)} = {' + '.join(shown(part) for _, part in node.parts)}"
