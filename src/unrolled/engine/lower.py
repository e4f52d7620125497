"""From ATen operations to the graph's few: what each means for the rows of a batch."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from unrolled.engine.graph import Graph, Node
from unrolled.errors import UnrolledError


class Declined(UnrolledError):
    """Why a cell cannot be compiled; it then runs in the reference engine."""


def unknown(name: str, *, complexes: bool = False) -> Declined:
    """Say why an operation is not for the graph, or not with complex numbers."""
    if name in REASONS:
        return Declined(REASONS[name])
    of_complex = f"it computes {name} of complex numbers"
    return Declined(
        of_complex if complexes else f"it uses {name}, which the compiler does not know"
    )


class Parts(NamedTuple):
    """Rows of two dimensions, (B, k, n): k rows of n."""

    rows: tuple[Node, ...]


class Complex(NamedTuple):
    """Complex rows: a pair of real ones."""

    real: Node
    imag: Node


Leaf = Callable[[fx.Node, str], tuple[Node, bool]]


class Lowering:
    """Writes the operations that depend on rows into a graph.

    Args:
        graph: Where to.
        batch: The symbolic batch size.
        once: Gives the leaf for the ``real`` or the ``imag`` part of an fx node that depends on
            parameters alone, and for a matrix whether the leaf holds it transposed.
    """

    def __init__(self, graph: Graph, batch: torch.SymInt | int, once: Leaf) -> None:
        self.graph = graph
        self.batch = batch
        self.once = once
        self.known: dict[fx.Node, Any] = {}
        self.brought: set[torch.dtype] = set()
        """What parameters are: where it is not what rows are, the call is declined for that."""
        self.part: int | None = None
        """Which of several parts an operation is written for at present."""
        self.side: str | None = None
        """Which side of complex numbers it is written for: ``real`` or ``imag``."""

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
        values = _tensors([source.meta["val"] for source in node.all_input_nodes])
        ranks = {v.dim() for v in values + _tensors(node.meta["val"]) if v.is_complex()}
        complexes = bool(ranks)
        if complexes and max(ranks) > 2:
            raise Declined(f"it computes {name} of complex rows of 2 dimensions")
        written = (COMPLEX if complexes else RULES).get(name)
        if written is None:
            raise unknown(name, complexes=complexes)
        for value in _tensors(node.meta["val"]):
            self._check_shape(node, name, value)
            self._check_kind(node, name, value.dtype)
        seen = (self.known.get(source) for source in node.all_input_nodes)
        counts = [len(value.rows) for value in seen if isinstance(value, Parts)]
        if counts and name in ELEMENTWISE:
            self.known[node] = Parts(tuple(self._each(max(counts), written, node)))
        else:
            self.known[node] = written(self, node)

    def _each(self, count: int, written: "Rule", node: fx.Node) -> list[Any]:
        """Write an operation for each of so many parts."""
        try:
            found = []
            for part in range(count):
                self.part = part
                found.append(written(self, node))
            return found
        finally:
            self.part = None

    def _check_shape(self, node: fx.Node, name: str, value: Tensor) -> None:
        """Make sure that each row of a result is made of the same row of what it is computed from."""
        across = f"{name} goes across the rows of the batch"
        if not value.dim() or value.shape[0] != self.batch:
            raise Declined(across)
        parted = value.dim() == 3 and name in ELEMENTWISE | PARTED
        if value.dim() > 2 and not parted:
            raise Declined(f"{name} gives rows of {value.dim() - 1} dimensions")
        if any(not isinstance(size, int) for size in value.shape[1:]):
            raise Declined(across)
        if name in RESHAPING:
            return
        for source in node.all_input_nodes:
            given = source.meta["val"]
            # Numbers one a row, (B,), meet the columns of (B, n), not its rows.
            if source in self.known and isinstance(given, Tensor) and given.dim() != value.dim():
                raise Declined(across)

    def _check_kind(self, node: fx.Node, name: str, kind: torch.dtype) -> None:
        """Make sure that a result is the same in the step's floating point as in its own kind."""
        others = (n.meta["val"] for n in node.all_input_nodes if n not in self.known)
        given = [value.dtype for value in others if isinstance(value, Tensor)]
        self.brought |= {kind for kind in given if kind.is_floating_point}
        own = (self.dtype, self.dtype.to_complex())
        if kind in (*own, torch.bool, *self.brought) or name in MOVING:
            return
        exact = name in WHOLE and kind in (torch.int32, torch.int64, torch.float32, torch.float64)
        if not exact or not all(map(_is_short, tree_leaves((node.args, node.kwargs)))):
            kind_name = str(kind).removeprefix("torch.")
            raise Declined(f"it computes {name} in {kind_name}, and its rows are {self._told}")

    @property
    def dtype(self) -> torch.dtype:
        """Of the input, and so of all rows."""
        return next(iter(self.known)).meta["val"].dtype

    @property
    def _told(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def row(self, argument: Any) -> Node:  # noqa: ANN401
        """Give the node of an argument: a row, a vector, or a number."""
        side = self.side or "real"
        if isinstance(argument, fx.Node):
            if argument in self.known:
                return self._seen(self.known[argument])
            value = argument.meta["val"]
            if side == "imag" and not value.is_complex():
                return self.graph.const(0)
            leaf, _ = self.once(argument, side)
            if value.numel() != leaf.width or value.numel() != max(value.shape[-1:], default=1):
                raise Declined(f"it combines rows with a parameter of shape {tuple(value.shape)}")
            return leaf
        if isinstance(argument, bool | int | float | complex):
            return self.graph.const(float(getattr(argument, side)))
        raise Declined(f"it computes with {argument!r}")

    def _seen(self, value: Any) -> Node:  # noqa: ANN401
        """Give of a value what the operation is written for at present."""
        if isinstance(value, Complex):
            if self.side is None:
                raise Declined("it lays both parts of complex numbers side by side")
            return getattr(value, self.side)
        if isinstance(value, Parts):
            if self.part is None:
                raise Declined("it computes with rows of 2 dimensions")
            value = value.rows[self.part if len(value.rows) > 1 else 0]
        return self.graph.const(0) if self.side == "imag" else value

    def parts(self, argument: fx.Node) -> tuple[Node, ...]:
        """Give the parts of a value, one if it is no more than rows."""
        known = self.known.get(argument)
        return known.rows if isinstance(known, Parts) else (self.row(argument),)

    def pointwise(self, op: str, *arguments: Any) -> Node:  # noqa: ANN401
        """Apply an element-wise operation to arguments."""
        return self.graph.apply(op, *map(self.row, arguments))

    def features(self, node: fx.Node, dims: Any) -> None:  # noqa: ANN401
        """Make sure that an operation along `dims` stays within rows."""
        rank = node.args[0].meta["val"].dim()  # pyright: ignore
        dims = [dims] if isinstance(dims, int) else list(range(rank) if dims is None else dims)
        if not dims or any(d % rank == 0 for d in dims):
            raise Declined(f"{node.target} goes across the rows of the batch")

    def sum(self, a: Node) -> Node:
        """Sum of the features."""
        return self.graph.reduce("sum", a)

    def norm(self, squares: Node) -> Node:
        """Root of a sum of squares."""
        # At zero, where it has no gradient, torch's is zero: that of the choice.
        none = self("eq", squares, 0.0)
        return self("where", none, 0.0, self("sqrt", self("where", none, 1.0, squares)))

    def mean(self, a: Node) -> Node:
        """Mean of the features."""
        return self.graph.apply("mul", self.sum(a), self.graph.const(1 / a.width))

    def __call__(self, op: str, *inputs: Node | float) -> Node:
        """Apply an element-wise operation to nodes and numbers."""
        nodes = [self.graph.const(i) if isinstance(i, int | float) else i for i in inputs]
        return self.graph.apply(op, *nodes)


_SHAPES = {
    *("select", "squeeze", "unsqueeze", "view", "_unsafe_view", "reshape", "expand", "repeat")
}
ELEMENTWISE: set[str] = set()
"""Operations on each number alone."""
_FLEXIBLE = _SHAPES | {"sum", "mean", "amax", "amin"}
PARTED = _FLEXIBLE | {
    *("stack", "split", "split_with_sizes", "slice", "cat", "clone", "alias", "contiguous"),
    *("view_as_real", "_softmax", "_log_softmax"),
}
"""Operations that may give rows of two dimensions."""
RESHAPING = _FLEXIBLE | {
    *("stack", "unbind", "view_as_real", "view_as_complex"),
    *("logsumexp", "var", "var_mean", "linalg_vector_norm", "mv", "new_zeros", "new_ones"),
}
"""Operations that give rows of another rank than they take, and see to it that rows stay rows."""
MOVING = _SHAPES | {
    *("split", "split_with_sizes", "unbind", "slice", "cat", "stack", "flip"),
    *("clone", "alias", "contiguous", "lift_fresh_copy", "detach", "_to_copy"),
}
"""Operations that compute nothing."""
WHOLE = {
    *("full", "zeros", "ones", "empty", "full_like", "empty_like", "zeros_like", "ones_like"),
    *("new_zeros", "new_ones", "add", "sub", "rsub", "mul", "neg", "abs", "square", "sign", "sgn"),
    *("minimum", "maximum", "where", "clamp", "clamp_min", "clamp_max", "relu"),
    *("sum", "amax", "amin"),
}
"""Operations that make whole numbers of whole numbers, the same in any kind that holds them. Other
kinds than the step's begin as truth values, so nothing but small numbers is ever in them."""


Rule = Callable[[Lowering, fx.Node], Any]
RULES: dict[str, Rule] = {}
COMPLEX: dict[str, Rule] = {}
"""The same, where complex numbers are involved."""
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


def rule(*names: str, among: dict[str, Rule] = RULES) -> Callable[[Rule], Rule]:
    """Say of a function how it writes operations of these names."""

    def register(written: Rule) -> Rule:
        among.update(dict.fromkeys(names, written))
        return written

    return register


def elementwise(*names: str) -> Callable[[Rule], Rule]:
    """Say so of a function that writes operations on each number alone."""
    ELEMENTWISE.update(names)
    return rule(*names)


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401
    values = value if isinstance(value, list | tuple) else [value]
    return [v for v in values if isinstance(v, Tensor)]


def _is_short(value: object) -> bool:
    """Whether an argument is no number with so many digits that float32 and float64 tell them apart."""
    return not isinstance(value, float) or (256 * value).is_integer()


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:  # noqa: ANN401
    """Find an argument by its place or its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
