"""From ATen operations to the graph's few: what each means for the rows of a batch."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from unrolled.engine.graph import Graph, Node
from unrolled.errors import UnrolledError


class Declined(UnrolledError):
    """Why a cell cannot be compiled; it then runs in the reference engine."""


class Lowering:
    """Writes the operations that depend on rows into a graph.

    Args:
        graph: Where to.
        batch: The symbolic batch size.
        once: Gives the leaf for an fx node that depends on parameters alone, and for a matrix
            whether the leaf holds it transposed.
    """

    def __init__(
        self, graph: Graph, batch: torch.SymInt | int, once: Callable[[fx.Node], tuple[Node, bool]]
    ) -> None:
        self.graph = graph
        self.batch = batch
        self.once = once
        self.known: dict[fx.Node, Any] = {}

    def lower(self, node: fx.Node) -> None:
        """Lower one operation that depends on rows.

        Raises:
            Declined: If the graph has no words for it.
        """
        if node.target is operator.getitem:
            source, place = node.args
            self.known[node] = self.known[source][place]  # pyright: ignore
            return
        name = node.target.overloadpacket.__name__  # pyright: ignore
        if name.endswith("_") and not name.startswith("_"):
            name = name[:-1]  # watch.check_writes has seen that nobody else sees it
        known = RULES.get(name)
        if known is None:
            raise Declined(REASONS.get(name, f"it uses {name}, which the compiler does not know"))
        for value in _tensors(node.meta["val"]):
            if not value.dim() or value.shape[0] != self.batch:
                raise Declined(f"{name} goes across the rows of the batch")
            if value.dim() > 2:
                raise Declined(f"{name} gives rows of {value.dim() - 1} dimensions")
        self.known[node] = known(self, node)

    def row(self, argument: Any) -> Node:  # noqa: ANN401
        """Give the node of an argument: a row, a vector, or a number."""
        if isinstance(argument, fx.Node):
            if argument in self.known:
                return self.known[argument]
            leaf, _ = self.once(argument)
            value = argument.meta["val"]
            if value.numel() != leaf.width or value.numel() != max(value.shape[-1:], default=1):
                raise Declined(f"it combines rows with a parameter of shape {tuple(value.shape)}")
            return leaf
        if isinstance(argument, bool | int | float):
            return self.graph.const(float(argument))
        raise Declined(f"it computes with {argument!r}")

    def pointwise(self, node: fx.Node, op: str, *arguments: Any) -> Node:  # noqa: ANN401
        """Apply an element-wise operation, checking that rows meet rows of the same rank."""
        result = node.meta["val"]
        for argument in arguments:
            if isinstance(argument, fx.Node) and argument in self.known:
                rank = argument.meta["val"].dim()
                if rank != result.dim() and rank != 0:
                    raise Declined(f"{op} goes across the rows of the batch")
        inputs = [self.row(argument) for argument in arguments]
        return self.graph.apply(op, *inputs)

    def features(self, node: fx.Node, dims: Any) -> None:  # noqa: ANN401
        """Make sure that an operation along `dims` stays within rows."""
        rank = node.args[0].meta["val"].dim()  # pyright: ignore
        dims = [dims] if isinstance(dims, int) else list(range(rank) if dims is None else dims)
        if not dims or any(d % rank == 0 for d in dims):
            raise Declined(f"{node.target} goes across the rows of the batch")

    def sum(self, a: Node) -> Node:
        """Sum of the features."""
        return self.graph.reduce("sum", a)

    def mean(self, a: Node) -> Node:
        """Mean of the features."""
        return self.graph.apply("mul", self.sum(a), self.graph.const(1 / a.width))

    def __call__(self, op: str, *inputs: Node | float) -> Node:
        """Apply an element-wise operation to nodes and numbers."""
        nodes = [self.graph.const(i) if isinstance(i, int | float) else i for i in inputs]
        return self.graph.apply(op, *nodes)


Rule = Callable[[Lowering, fx.Node], Any]
RULES: dict[str, Rule] = {}
REASONS = {
    **dict.fromkeys(
        [
            "rand",
            "randn",
            "rand_like",
            "randn_like",
            "bernoulli",
            "native_dropout",
            "uniform",
            "normal",
            "randint",
        ],
        "it draws random numbers",
    ),
    **dict.fromkeys(("t", "permute", "transpose"), "it turns rows into columns"),
    **dict.fromkeys(("copy", "fill", "index_put"), "it writes into a part of a tensor"),
}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Say of a function how it writes operations of these names."""

    def register(written: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, written))
        return written

    return register


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401
    values = value if isinstance(value, list | tuple) else [value]
    return [v for v in values if isinstance(v, Tensor)]


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:  # noqa: ANN401
    """Find an argument by its place or its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
