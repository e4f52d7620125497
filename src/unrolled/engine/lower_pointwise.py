"""Element-wise ATen operations, in those of the graph."""

import math

from torch import fx

from unrolled.engine.graph import Node
from unrolled.engine.lower import RULES, Lowering, argument, rule

for _name in (
    *("neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sigmoid"),
    *("tanh", "relu", "erf", "sin", "cos", "sign", "floor", "ceil", "trunc"),
    *("eq", "ne", "lt", "le", "gt", "ge", "where", "mul"),
):
    RULES[_name] = lambda to, node, op=_name: to.pointwise(node, op, *node.args)
for _name, _op in {"minimum": "min", "maximum": "max", "sgn": "sign"}.items():
    RULES[_name] = lambda to, node, op=_op: to.pointwise(node, op, *node.args)


@rule("add", "sub")
def _add(to: Lowering, node: fx.Node) -> Node:
    op = node.target.overloadpacket.__name__.strip("_")  # pyright: ignore
    a, b = node.args
    alpha = node.kwargs.get("alpha", 1)
    if alpha == 1:
        return to.pointwise(node, op, a, b)
    to.pointwise(node, op, a, b)  # for its checks
    return to(op, to.row(a), to("mul", to.row(b), float(alpha)))  # pyright: ignore


@rule("rsub")
def _rsub(to: Lowering, node: fx.Node) -> Node:
    a, b = node.args[:2]
    alpha = argument(node, 2, "alpha", 1)
    return to("sub", to.row(b), to("mul", to.row(a), float(alpha)))


@rule("div")
def _div(to: Lowering, node: fx.Node) -> Node:
    if node.kwargs.get("rounding_mode") is not None:
        quotient = to.pointwise(node, "div", *node.args)
        return to(str(node.kwargs["rounding_mode"]), quotient)
    return to.pointwise(node, "div", *node.args)


@rule("pow")
def _pow(to: Lowering, node: fx.Node) -> Node:
    a, b = node.args
    if b == 0.5:
        return to("sqrt", to.row(a))
    if b == -1:
        return to("reciprocal", to.row(a))
    if b == 3:
        return to("mul", to("mul", to.row(a), to.row(a)), to.row(a))
    return to.pointwise(node, "pow", a, b)


@rule("square")
def _square(to: Lowering, node: fx.Node) -> Node:
    return to("mul", to.row(node.args[0]), to.row(node.args[0]))


@rule("clamp", "clamp_min", "clamp_max", "hardtanh")
def _clamp(to: Lowering, node: fx.Node) -> Node:
    name = node.target.overloadpacket.__name__  # pyright: ignore
    default = (-1.0, 1.0) if name == "hardtanh" else (None, None)
    low = argument(node, 1, "min_val" if name == "hardtanh" else "min", default[0])
    high = argument(node, 2, "max_val" if name == "hardtanh" else "max", default[1])
    if name == "clamp_max":
        low, high = None, low if low is not None else high
    a = to.row(node.args[0])
    # As a choice and not as an extreme: at a bound all of the gradient goes to the input.
    for op, bound in (("lt", low), ("gt", high)):
        a = a if bound is None else to("where", to(op, a, to.row(bound)), to.row(bound), a)
    return a


@rule("logical_not", "bitwise_not")
def _not(to: Lowering, node: fx.Node) -> Node:
    return to("eq", to.row(node.args[0]), 0.0)


@rule("logical_and", "bitwise_and")
def _and(to: Lowering, node: fx.Node) -> Node:
    return to.pointwise(node, "mul", *node.args)


@rule("logical_or", "bitwise_or")
def _or(to: Lowering, node: fx.Node) -> Node:
    return to.pointwise(node, "max", *node.args)


@rule("addcmul")
def _addcmul(to: Lowering, node: fx.Node) -> Node:
    a, b, c = map(to.row, node.args[:3])
    return to("add", a, to("mul", to("mul", b, c), float(node.kwargs.get("value", 1))))  # pyright: ignore


@rule("addcdiv")
def _addcdiv(to: Lowering, node: fx.Node) -> Node:
    a, b, c = map(to.row, node.args[:3])
    return to("add", a, to("mul", to("div", b, c), float(node.kwargs.get("value", 1))))  # pyright: ignore


@rule("lerp")
def _lerp(to: Lowering, node: fx.Node) -> Node:
    a, b, weight = map(to.row, node.args)
    return to("add", a, to("mul", weight, to("sub", b, a)))


@rule("silu")
def _silu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("mul", a, to("sigmoid", a))


@rule("leaky_relu")
def _leaky_relu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to(
        "where",
        to("gt", a, 0.0),
        a,
        to("mul", a, float(argument(node, 1, "negative_slope", 0.01))),
    )


@rule("elu")
def _elu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    alpha, scale, inner = (
        float(argument(node, place, name, 1.0))
        for place, name in ((1, "alpha"), (2, "scale"), (3, "input_scale"))
    )
    below = to("mul", to("expm1", to("mul", to("min", a, 0.0), inner)), alpha * scale)
    return to("where", to("gt", a, 0.0), to("mul", a, scale), below)


@rule("celu")
def _celu(to: Lowering, node: fx.Node) -> Node:
    a, alpha = to.row(node.args[0]), float(argument(node, 1, "alpha", 1.0))
    below = to("mul", to("expm1", to("mul", to("min", a, 0.0), 1 / alpha)), alpha)
    return to("where", to("gt", a, 0.0), a, below)


@rule("glu")
def _glu(to: Lowering, node: fx.Node) -> Node:
    to.features(node, argument(node, 1, "dim", -1))
    a = to.row(node.args[0])
    half = a.width // 2
    return to("mul", to.graph.slice(a, 0, half), to("sigmoid", to.graph.slice(a, half, 2 * half)))


@rule("softplus")
def _softplus(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    beta, threshold = (
        float(argument(node, 1, "beta", 1)),
        float(argument(node, 2, "threshold", 20)),
    )
    scaled = to("mul", a, beta)
    return to("where", to("gt", scaled, threshold), a, to("mul", to("softplus", scaled), 1 / beta))


@rule("log_sigmoid_forward")
def _log_sigmoid(to: Lowering, node: fx.Node) -> list[Node]:
    a = to.row(node.args[0])
    return [to("neg", to("softplus", to("neg", a)))] * 2


@rule("gelu")
def _gelu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    if node.kwargs.get("approximate", "none") == "tanh":
        cube = to("mul", to("mul", a, a), a)
        inner = to("mul", to("add", a, to("mul", cube, 0.044715)), math.sqrt(2 / math.pi))
        return to("mul", to("mul", a, 0.5), to("add", to("tanh", inner), 1.0))
    return to("mul", to("mul", a, 0.5), to("add", to("erf", to("mul", a, math.sqrt(0.5))), 1.0))


@rule("hardsigmoid")
def _hardsigmoid(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("min", to("max", to("add", to("mul", a, 1 / 6), 0.5), 0.0), 1.0)


@rule("hardswish")
def _hardswish(to: Lowering, node: fx.Node) -> Node:
    return to("mul", to.row(node.args[0]), _hardsigmoid(to, node))


@rule("mish")
def _mish(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("mul", a, to("tanh", to("softplus", a)))
