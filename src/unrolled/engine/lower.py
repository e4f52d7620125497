"""From ATen operations to the graph's few: what each means for the rows of a batch."""

import math
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
        rule = RULES.get(name)
        if rule is None:
            raise Declined(REASONS.get(name, f"it uses {name}, which the compiler does not know"))
        for value in _tensors(node.meta["val"]):
            if not value.dim() or value.shape[0] != self.batch:
                raise Declined(f"{name} goes across the rows of the batch")
            if value.dim() > 2:
                raise Declined(f"{name} gives rows of {value.dim() - 1} dimensions")
        self.known[node] = rule(self, node)

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


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401
    values = value if isinstance(value, list | tuple) else [value]
    return [v for v in values if isinstance(v, Tensor)]


def _argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:  # noqa: ANN401
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


# Element by element.

for _name in (
    *(
        "neg",
        "abs",
        "exp",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "sigmoid",
        "tanh",
    ),
    *("relu", "erf", "sin", "cos", "sign", "floor", "ceil", "trunc"),
    *("eq", "ne", "lt", "le", "gt", "ge", "where", "mul"),
):
    RULES[_name] = lambda to, node, op=_name: to.pointwise(node, op, *node.args)
for _name, _op in {"minimum": "min", "maximum": "max", "sgn": "sign"}.items():
    RULES[_name] = lambda to, node, op=_op: to.pointwise(node, op, *node.args)


@_rule("add", "sub")
def _add(to: Lowering, node: fx.Node) -> Node:
    op = node.target.overloadpacket.__name__.strip("_")  # pyright: ignore
    a, b = node.args
    alpha = node.kwargs.get("alpha", 1)
    if alpha == 1:
        return to.pointwise(node, op, a, b)
    to.pointwise(node, op, a, b)  # for its checks
    return to(op, to.row(a), to("mul", to.row(b), float(alpha)))  # pyright: ignore


@_rule("rsub")
def _rsub(to: Lowering, node: fx.Node) -> Node:
    a, b = node.args[:2]
    alpha = _argument(node, 2, "alpha", 1)
    return to("sub", to.row(b), to("mul", to.row(a), float(alpha)))


@_rule("div")
def _div(to: Lowering, node: fx.Node) -> Node:
    if node.kwargs.get("rounding_mode") is not None:
        quotient = to.pointwise(node, "div", *node.args)
        return to(str(node.kwargs["rounding_mode"]), quotient)
    return to.pointwise(node, "div", *node.args)


@_rule("pow")
def _pow(to: Lowering, node: fx.Node) -> Node:
    a, b = node.args
    if b == 0.5:
        return to("sqrt", to.row(a))
    if b == -1:
        return to("reciprocal", to.row(a))
    if b == 3:
        return to("mul", to("mul", to.row(a), to.row(a)), to.row(a))
    return to.pointwise(node, "pow", a, b)


@_rule("square")
def _square(to: Lowering, node: fx.Node) -> Node:
    return to("mul", to.row(node.args[0]), to.row(node.args[0]))


@_rule("clamp", "clamp_min", "clamp_max", "hardtanh")
def _clamp(to: Lowering, node: fx.Node) -> Node:
    name = node.target.overloadpacket.__name__  # pyright: ignore
    default = (-1.0, 1.0) if name == "hardtanh" else (None, None)
    low = _argument(node, 1, "min_val" if name == "hardtanh" else "min", default[0])
    high = _argument(node, 2, "max_val" if name == "hardtanh" else "max", default[1])
    if name == "clamp_max":
        low, high = None, low if low is not None else high
    a = to.row(node.args[0])
    # As a choice and not as an extreme: at a bound all of the gradient goes to the input.
    for op, bound in (("lt", low), ("gt", high)):
        a = a if bound is None else to("where", to(op, a, to.row(bound)), to.row(bound), a)
    return a


@_rule("logical_not", "bitwise_not")
def _not(to: Lowering, node: fx.Node) -> Node:
    return to("eq", to.row(node.args[0]), 0.0)


@_rule("logical_and", "bitwise_and")
def _and(to: Lowering, node: fx.Node) -> Node:
    return to.pointwise(node, "mul", *node.args)


@_rule("logical_or", "bitwise_or")
def _or(to: Lowering, node: fx.Node) -> Node:
    return to.pointwise(node, "max", *node.args)


@_rule("addcmul")
def _addcmul(to: Lowering, node: fx.Node) -> Node:
    a, b, c = map(to.row, node.args[:3])
    return to("add", a, to("mul", to("mul", b, c), float(node.kwargs.get("value", 1))))  # pyright: ignore


@_rule("addcdiv")
def _addcdiv(to: Lowering, node: fx.Node) -> Node:
    a, b, c = map(to.row, node.args[:3])
    return to("add", a, to("mul", to("div", b, c), float(node.kwargs.get("value", 1))))  # pyright: ignore


@_rule("lerp")
def _lerp(to: Lowering, node: fx.Node) -> Node:
    a, b, weight = map(to.row, node.args)
    return to("add", a, to("mul", weight, to("sub", b, a)))


@_rule("silu")
def _silu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("mul", a, to("sigmoid", a))


@_rule("leaky_relu")
def _leaky_relu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to(
        "where",
        to("gt", a, 0.0),
        a,
        to("mul", a, float(_argument(node, 1, "negative_slope", 0.01))),
    )


@_rule("elu")
def _elu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    alpha, scale, inner = (
        float(_argument(node, place, name, 1.0))
        for place, name in ((1, "alpha"), (2, "scale"), (3, "input_scale"))
    )
    below = to("mul", to("expm1", to("mul", to("min", a, 0.0), inner)), alpha * scale)
    return to("where", to("gt", a, 0.0), to("mul", a, scale), below)


@_rule("celu")
def _celu(to: Lowering, node: fx.Node) -> Node:
    a, alpha = to.row(node.args[0]), float(_argument(node, 1, "alpha", 1.0))
    below = to("mul", to("expm1", to("mul", to("min", a, 0.0), 1 / alpha)), alpha)
    return to("where", to("gt", a, 0.0), a, below)


@_rule("glu")
def _glu(to: Lowering, node: fx.Node) -> Node:
    to.features(node, _argument(node, 1, "dim", -1))
    a = to.row(node.args[0])
    half = a.width // 2
    return to("mul", to.graph.slice(a, 0, half), to("sigmoid", to.graph.slice(a, half, 2 * half)))


@_rule("softplus")
def _softplus(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    beta, threshold = (
        float(_argument(node, 1, "beta", 1)),
        float(_argument(node, 2, "threshold", 20)),
    )
    scaled = to("mul", a, beta)
    return to("where", to("gt", scaled, threshold), a, to("mul", to("softplus", scaled), 1 / beta))


@_rule("log_sigmoid_forward")
def _log_sigmoid(to: Lowering, node: fx.Node) -> list[Node]:
    a = to.row(node.args[0])
    return [to("neg", to("softplus", to("neg", a)))] * 2


@_rule("gelu")
def _gelu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    if node.kwargs.get("approximate", "none") == "tanh":
        cube = to("mul", to("mul", a, a), a)
        inner = to("mul", to("add", a, to("mul", cube, 0.044715)), math.sqrt(2 / math.pi))
        return to("mul", to("mul", a, 0.5), to("add", to("tanh", inner), 1.0))
    return to("mul", to("mul", a, 0.5), to("add", to("erf", to("mul", a, math.sqrt(0.5))), 1.0))


@_rule("hardsigmoid")
def _hardsigmoid(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("min", to("max", to("add", to("mul", a, 1 / 6), 0.5), 0.0), 1.0)


@_rule("hardswish")
def _hardswish(to: Lowering, node: fx.Node) -> Node:
    return to("mul", to.row(node.args[0]), _hardsigmoid(to, node))


@_rule("mish")
def _mish(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("mul", a, to("tanh", to("softplus", a)))


# Products.


@_rule("mm")
def _mm(to: Lowering, node: fx.Node) -> Node:
    a, weight = node.args
    if weight in to.known or a not in to.known:
        raise Declined("it multiplies rows by rows")
    leaf, transposed = to.once(weight)  # pyright: ignore
    return to.graph.matmul(to.row(a), leaf, transposed=transposed)


@_rule("addmm")
def _addmm(to: Lowering, node: fx.Node) -> Node:
    bias, a, weight = node.args
    if weight in to.known or a not in to.known or node.kwargs:
        raise Declined("it multiplies rows by rows")
    leaf, transposed = to.once(weight)  # pyright: ignore
    return to("add", to.graph.matmul(to.row(a), leaf, transposed=transposed), to.row(bias))


@_rule("mv")
def _mv(to: Lowering, node: fx.Node) -> Node:
    a, vector = node.args
    return to.sum(to("mul", to.row(a), to.row(vector)))


# Parts of rows.


@_rule("split", "split_with_sizes")
def _split(to: Lowering, node: fx.Node) -> list[Node]:
    to.features(node, _argument(node, 2, "dim", 0))
    a, start, parts = to.row(node.args[0]), 0, []
    for part in node.meta["val"]:
        parts.append(to.graph.slice(a, start, start + part.shape[1]))
        start += part.shape[1]
    return parts


@_rule("slice")
def _slice(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    dim, start, stop, step = (
        _argument(node, place, name, default)
        for place, name, default in (
            (1, "dim", 0),
            (2, "start", 0),
            (3, "end", None),
            (4, "step", 1),
        )
    )
    if dim % node.args[0].meta["val"].dim() == 0:  # pyright: ignore
        if (start or 0) == 0 and node.meta["val"].shape == node.args[0].meta["val"].shape:  # pyright: ignore
            return a
        raise Declined("it takes a part of the batch")
    start, stop, _ = slice(start, stop).indices(a.width)
    if step != 1:
        return to.graph.concat(to.graph.slice(a, k, k + 1) for k in range(start, stop, step))
    return to.graph.slice(a, start, stop)


@_rule("select")
def _select(to: Lowering, node: fx.Node) -> Node:
    a, dim, place = node.args
    to.features(node, dim)
    a = to.row(a)
    place = place % a.width  # pyright: ignore
    return to.graph.slice(a, place, place + 1)  # pyright: ignore


@_rule("cat")
def _cat(to: Lowering, node: fx.Node) -> Node:
    parts = node.args[0]
    if _argument(node, 1, "dim", 0) % node.meta["val"].dim() == 0:
        raise Declined("it joins batches")
    rows = []
    for part in parts:  # pyright: ignore
        row = to.row(part)
        rows.append(to.graph.expand(row, part.meta["val"].shape[1]))  # pyright: ignore
    return to.graph.concat(rows)


@_rule("repeat")
def _repeat(to: Lowering, node: fx.Node) -> Node:
    a, times = to.row(node.args[0]), list(node.args[1])  # pyright: ignore
    if len(times) != 2 or times[0] != 1:
        raise Declined("it repeats the rows of the batch")
    return to.graph.concat([a] * times[1])


@_rule("flip")
def _flip(to: Lowering, node: fx.Node) -> Node:
    to.features(node, node.args[1])
    a = to.row(node.args[0])
    return to.graph.concat(to.graph.slice(a, k, k + 1) for k in reversed(range(a.width)))


@_rule("expand", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze")
def _shape(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    width = node.meta["val"].shape[1] if node.meta["val"].dim() == 2 else 1
    return to.graph.expand(a, width)


@_rule("clone", "alias", "contiguous", "lift_fresh_copy")
def _same(to: Lowering, node: fx.Node) -> Node:
    return to.row(node.args[0])


@_rule("detach")
def _detach(to: Lowering, node: fx.Node) -> Node:
    return to("detach", to.row(node.args[0]))


@_rule("_to_copy")
def _convert(to: Lowering, node: fx.Node) -> Node:
    before, after = node.args[0].meta["val"].dtype, node.meta["val"].dtype  # pyright: ignore
    if before != after and before != torch.bool:
        raise Declined(f"it converts {before} to {after}")
    return to.row(node.args[0])


@_rule(
    "full",
    "zeros",
    "ones",
    "empty",
    "full_like",
    "empty_like",
    "zeros_like",
    "ones_like",
    "new_zeros",
    "new_ones",
)
def _full(to: Lowering, node: fx.Node) -> Node:
    name = node.target.overloadpacket.__name__  # pyright: ignore
    value = node.args[1] if name.startswith("full") else float("ones" in name)
    width = node.meta["val"].shape[1] if node.meta["val"].dim() == 2 else 1
    return to.graph.expand(to.graph.const(float(value)), width)  # pyright: ignore


# Along the features.


@_rule("sum", "mean", "amax", "amin", "logsumexp")
def _reduce(to: Lowering, node: fx.Node) -> Node:
    name = node.target.overloadpacket.__name__  # pyright: ignore
    to.features(node, _argument(node, 1, "dim"))
    a = to.row(node.args[0])
    if name == "amin":
        return to("neg", to.graph.reduce("amax", to("neg", a)))
    if name == "logsumexp":
        top = to("detach", to.graph.reduce("amax", a))  # any shift gives the same gradient
        return to("add", to("log", to.sum(to("exp", to("sub", a, top)))), top)
    return to.mean(a) if name == "mean" else to.graph.reduce(name, a)


@_rule("var", "var_mean")
def _var(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    to.features(node, _argument(node, 1, "dim"))
    a, correction = to.row(node.args[0]), node.kwargs.get("correction", 1)
    mean = to.mean(a)
    centred = to("sub", a, mean)
    var = to("mul", to.sum(to("mul", centred, centred)), 1 / (a.width - float(correction)))  # pyright: ignore
    return [var, mean] if "mean" in node.target.overloadpacket.__name__ else var  # pyright: ignore


@_rule("linalg_vector_norm")
def _norm(to: Lowering, node: fx.Node) -> Node:
    to.features(node, _argument(node, 2, "dim"))
    if _argument(node, 1, "ord", 2) != 2:
        raise Declined("it takes a norm other than the Euclidean")
    a = to.row(node.args[0])
    squares = to.sum(to("mul", a, a))
    # At zero, where a norm has no gradient, torch's is zero: that of the choice.
    return to("sqrt", to("where", to("eq", squares, 0.0), 0.0, squares))


@_rule("_softmax", "_log_softmax")
def _softmax(to: Lowering, node: fx.Node) -> Node:
    to.features(node, node.args[1])
    a = to.row(node.args[0])
    shifted = to("sub", a, to("detach", to.graph.reduce("amax", a)))
    powers = to("exp", shifted)
    if node.target.overloadpacket.__name__ == "_softmax":  # pyright: ignore
        return to("div", powers, to.sum(powers))
    return to("sub", shifted, to("log", to.sum(powers)))


@_rule("native_layer_norm")
def _layer_norm(to: Lowering, node: fx.Node) -> list[Node]:
    a, shape, weight, bias, eps = node.args
    a = to.row(a)
    if list(shape) != [a.width]:  # pyright: ignore
        raise Declined("it normalises across the rows of the batch")
    mean = to.mean(a)
    centred = to("sub", a, mean)
    scale = to("rsqrt", to("add", to.mean(to("mul", centred, centred)), float(eps)))  # pyright: ignore
    y = to("mul", centred, scale)
    y = y if weight is None else to("mul", y, to.row(weight))
    y = y if bias is None else to("add", y, to.row(bias))
    return [y, mean, scale]


@_rule("_fused_rms_norm", "rms_norm")
def _rms_norm(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    a, shape, weight, eps = (*node.args, None)[:4]
    a = to.row(a)
    if list(shape) != [a.width]:  # pyright: ignore
        raise Declined("it normalises across the rows of the batch")
    eps = torch.finfo(node.args[0].meta["val"].dtype).eps if eps is None else eps  # pyright: ignore
    scale = to("rsqrt", to("add", to.mean(to("mul", a, a)), float(eps)))  # pyright: ignore
    y = to("mul", a, scale)
    y = y if weight is None else to("mul", y, to.row(weight))
    return [y, scale] if isinstance(node.meta["val"], list | tuple) else y
