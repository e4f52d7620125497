"""Element-wise ATen operations, in those of the graph."""

import math
from functools import partial, reduce

import torch
from torch import fx

from unrolled.engine.graph import Node
from unrolled.engine.lower import Lowering, argument, elementwise, rule

for _name in (
    *("neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sigmoid"),
    *("tanh", "relu", "erf", "sin", "cos", "sign", "floor", "ceil", "trunc"),
    *("eq", "ne", "lt", "le", "gt", "ge", "where", "mul"),
):
    elementwise(_name)(lambda to, node, op=_name: to.pointwise(op, *node.args))
for _name, _op in {"minimum": "min", "maximum": "max", "sgn": "sign"}.items():
    elementwise(_name)(lambda to, node, op=_op: to.pointwise(op, *node.args))


@elementwise("add", "sub")
def _add(to: Lowering, node: fx.Node) -> Node:
    op = node.target.overloadpacket.__name__.strip("_")  # pyright: ignore
    a, b = map(to.row, node.args)
    if node.meta["val"].dtype == torch.bool:
        return to("max", a, b)  # the sum of truth values is true where one is
    return to(op, a, to("mul", b, float(node.kwargs.get("alpha", 1))))  # pyright: ignore


@elementwise("rsub")
def _rsub(to: Lowering, node: fx.Node) -> Node:
    a, b = node.args[:2]
    alpha = argument(node, 2, "alpha", 1)
    return to("sub", to.row(b), to("mul", to.row(a), float(alpha)))


@elementwise("div", "floor_divide")
def _div(to: Lowering, node: fx.Node) -> Node:
    a, b = map(to.row, node.args)
    floor = node.target.overloadpacket.__name__ == "floor_divide"  # pyright: ignore
    rounding = "floor" if floor else node.kwargs.get("rounding_mode")
    if rounding is None:
        return to("div", a, b)
    # A step has no slope, infinite though that of what it rounds may be.
    a, b = to("detach", a), to("detach", b)
    quotient = to("div", a, b)
    return _floor_of_quotient(to, a, b, quotient) if rounding == "floor" else to("trunc", quotient)


def _floor_of_quotient(to: Lowering, a: Node, b: Node, quotient: Node) -> Node:
    """The floor of the true quotient, which the nearest number to it may lie above: 1 // 0.1 is 9."""
    rest = to("fmod", a, b)
    beyond = to("mul", to("ne", rest, 0.0), to("ne", to("lt", b, 0.0), to("lt", rest, 0.0)))
    near = to("sub", to("div", to("sub", a, rest), b), beyond)
    whole = to("floor", near)
    whole = to("add", whole, to("gt", to("sub", near, whole), 0.5))
    return to("where", to("eq", b, 0.0), quotient, whole)


@elementwise("pow")
def _pow(to: Lowering, node: fx.Node) -> Node:
    a, b = node.args
    if b == 0.5:
        return to("sqrt", to.row(a))
    if b == -1:
        return to("reciprocal", to.row(a))
    if b == 3:
        return to("mul", to("mul", to.row(a), to.row(a)), to.row(a))
    return to.pointwise("pow", a, b)


@elementwise("square")
def _square(to: Lowering, node: fx.Node) -> Node:
    return to("mul", to.row(node.args[0]), to.row(node.args[0]))


@elementwise("clamp", "clamp_min", "clamp_max")
def _clamp(to: Lowering, node: fx.Node) -> Node:
    low, high = argument(node, 1, "min"), argument(node, 2, "max")
    if node.target.overloadpacket.__name__ == "clamp_max":  # pyright: ignore
        low, high = None, low if low is not None else high
    a = to.row(node.args[0])
    low, high = (None if bound is None else to.row(bound) for bound in (low, high))
    inside, bounded = [], a
    for within, extreme, bound in (("ge", "max", low), ("le", "min", high)):
        if bound is not None:
            inside.append(to(within, a, bound))
            bounded = to(extreme, bounded, bound)
    # As a choice and not as an extreme: at a bound all of the gradient goes to the input, and where
    # one of them is NaN, none to any.
    outside = to("detach", bounded)
    if high is not None and high.op != "const":
        ahead = to("gt", a, high)
        if low is not None:  # a number that is neither within the bounds nor below them
            ahead = to("mul", to("max", ahead, to("lt", high, low)), to("eq", a, a))
        outside = to("where", ahead, high, outside)
    if low is not None and low.op != "const":
        ahead = to("lt", a, low)
        if high is not None:
            ahead = to("mul", ahead, to("lt", low, high))
        outside = to("where", ahead, low, outside)
    return to("where", reduce(partial(to, "mul"), inside), a, outside)


@elementwise("hardtanh")
def _hardtanh(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    low, high = (
        float(argument(node, place, name, default))
        for place, name, default in ((1, "min_val", -1.0), (2, "max_val", 1.0))
    )
    inside = to("mul", to("gt", a, low), to("lt", a, high))
    # Unlike clamp, at a bound none of the gradient goes to the input.
    return to("where", inside, a, to("detach", to("min", to("max", a, low), high)))


@elementwise("logical_not", "bitwise_not")
def _not(to: Lowering, node: fx.Node) -> Node:
    return to("eq", to.row(node.args[0]), 0.0)


@elementwise("logical_and", "bitwise_and")
def _and(to: Lowering, node: fx.Node) -> Node:
    return to("mul", *_truths(to, node))


@elementwise("logical_or", "bitwise_or")
def _or(to: Lowering, node: fx.Node) -> Node:
    return to("max", *_truths(to, node))


@elementwise("logical_xor", "bitwise_xor")
def _xor(to: Lowering, node: fx.Node) -> Node:
    return to("ne", *_truths(to, node))


def _truths(to: Lowering, node: fx.Node) -> list[Node]:
    """Of each argument, whether it is true: any number but zero is."""
    kinds = [a.meta["val"].dtype if isinstance(a, fx.Node) else type(a) for a in node.args]
    rows = map(to.row, node.args)
    return [
        row if kind in (torch.bool, bool) else to("ne", row, 0.0)
        for row, kind in zip(rows, kinds, strict=True)
    ]


@elementwise("addcmul")
def _addcmul(to: Lowering, node: fx.Node) -> Node:
    a, b, c = map(to.row, node.args[:3])
    return to("add", a, to("mul", to("mul", b, c), float(node.kwargs.get("value", 1))))  # pyright: ignore


@elementwise("addcdiv")
def _addcdiv(to: Lowering, node: fx.Node) -> Node:
    a, b, c = map(to.row, node.args[:3])
    return to("add", a, to("mul", to("div", b, c), float(node.kwargs.get("value", 1))))  # pyright: ignore


@elementwise("lerp")
def _lerp(to: Lowering, node: fx.Node) -> Node:
    a, b, weight = map(to.row, node.args)
    return to("add", a, to("mul", weight, to("sub", b, a)))


@elementwise("silu")
def _silu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("mul", a, to("sigmoid", a))


@elementwise("leaky_relu")
def _leaky_relu(to: Lowering, node: fx.Node) -> Node:
    a, slope = to.row(node.args[0]), float(argument(node, 1, "negative_slope", 0.01))
    return to("where", to("gt", a, 0.0), a, to("mul", a, slope))


@elementwise("elu")
def _elu(to: Lowering, node: fx.Node) -> Node:
    alpha, scale, inner = (
        float(argument(node, place, name, 1.0))
        for place, name in ((1, "alpha"), (2, "scale"), (3, "input_scale"))
    )
    return _exponential_below(to, to.row(node.args[0]), alpha * scale, scale, inner)


@elementwise("celu")
def _celu(to: Lowering, node: fx.Node) -> Node:
    alpha = float(argument(node, 1, "alpha", 1.0))
    return _exponential_below(to, to.row(node.args[0]), alpha, 1.0, 1 / alpha)


def _exponential_below(to: Lowering, a: Node, below: float, above: float, inner: float) -> Node:
    # No gradient comes back from the side that is not taken, whose slope may be infinite.
    positive = to("gt", a, 0.0)
    curve = to("mul", to("expm1", to("mul", to("where", positive, 0.0, a), inner)), below)
    return to("where", positive, to("mul", a, above), curve)


@rule("glu")
def _glu(to: Lowering, node: fx.Node) -> Node:
    to.features(node, argument(node, 1, "dim", -1))
    a = to.row(node.args[0])
    half = a.width // 2
    return to("mul", to.graph.slice(a, 0, half), to("sigmoid", to.graph.slice(a, half, 2 * half)))


@elementwise("softplus")
def _softplus(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    beta, threshold = (
        float(argument(node, 1, "beta", 1)),
        float(argument(node, 2, "threshold", 20)),
    )
    scaled = to("mul", a, beta)
    return to("where", to("gt", scaled, threshold), a, to("div", to("softplus", scaled), beta))


@elementwise("log_sigmoid_forward")
def _log_sigmoid(to: Lowering, node: fx.Node) -> list[Node]:
    a = to.row(node.args[0])
    return [to("neg", to("softplus", to("neg", a)))] * 2


@elementwise("gelu")
def _gelu(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    if node.kwargs.get("approximate", "none") == "tanh":
        cube = to("mul", to("mul", a, a), a)
        inner = to("mul", to("add", a, to("mul", cube, 0.044715)), math.sqrt(2 / math.pi))
        return to("mul", to("mul", a, 0.5), to("add", to("tanh", inner), 1.0))
    return to("mul", to("mul", a, 0.5), to("add", to("erf", to("mul", a, math.sqrt(0.5))), 1.0))


@elementwise("hardsigmoid")
def _hardsigmoid(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    line = to("add", to("mul", a, 1 / 6), 0.5)
    bounded = to("min", to("max", line, 0.0), 1.0)
    return to("where", to("lt", to("abs", a), 3.0), line, to("detach", bounded))


@elementwise("hardswish")
def _hardswish(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    beyond = to("ge", to("abs", a), 3.0)
    middle = to("where", beyond, 0.0, a)
    curve = to("mul", middle, to("add", to("mul", middle, 1 / 6), 0.5))
    below = to("mul", to("detach", a), 0.0)  # NaN for minus infinity, as in torch
    return to("where", beyond, to("where", to("lt", a, 0.0), below, a), curve)


@elementwise("hardshrink", "softshrink")
def _shrink(to: Lowering, node: fx.Node) -> Node:
    a, bound = to.row(node.args[0]), float(argument(node, 1, "lambd", 0.5))
    soft = node.target.overloadpacket.__name__ == "softshrink"  # pyright: ignore
    beyond = to("sub", a, to("mul", to("sign", a), bound)) if soft else a
    within = to("mul", to("detach", a), 0.0)  # zero, but for NaN
    return to("where", to("gt", to("abs", a), bound), beyond, within)


@elementwise("threshold")
def _threshold(to: Lowering, node: fx.Node) -> Node:
    a, bound, value = map(to.row, node.args)
    return to("where", to("le", a, bound), value, a)


@elementwise("_prelu_kernel")
def _prelu(to: Lowering, node: fx.Node) -> Node:
    a, slope = map(to.row, node.args)
    positive = to("gt", a, 0.0)
    return to("where", positive, a, to("mul", slope, to("where", positive, 0.0, a)))


@elementwise("mish")
def _mish(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    return to("mul", a, to("tanh", to("softplus", a)))
