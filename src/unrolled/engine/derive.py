"""The vector-Jacobian product of a graph, as further nodes of the same graph.

Reverse mode (Griewank & Walther 2008, ch. 3): from the gradients of the results, each node hands on
what its rule below says of its inputs. What parameters receive is gathered over all rows and steps
by ``outer`` and ``total`` nodes, which nothing in the time loop ever needs.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise

from unrolled.engine.graph import Graph, Node, reachable

Rule = Callable[[Graph, Node, Node], tuple[Node | None, ...]]
"""(graph, node, gradient of the node) -> gradient of each input, or None where there is none."""


def derive(graph: Graph, seeds: Mapping[Node, Node]) -> dict[Node, Node]:
    """Add to the graph the gradients of all leaves that the seeded nodes depend on.

    Args:
        graph: Gets the new nodes.
        seeds: Node -> gradient with respect to it, as wide as the node.

    Returns:
        Leaf -> gradient with respect to it: a row for a leaf with rows; for a parameter the sum
        over all rows and steps.
    """
    received: dict[Node, list[Node]] = defaultdict(list)
    pieces: dict[Node, list[tuple[int, int, Node]]] = defaultdict(list)
    for node, seed in seeds.items():
        received[node].append(seed)
    gradients = {}
    for node in reversed(reachable(seeds)):
        if pieces[node]:
            received[node].append(_assemble(graph, pieces[node], node.width))
        if not received[node]:
            continue
        shares = received[node]
        if node.op == "once":
            shares = [graph.total(share) if share.rows else share for share in shares]
        gradient = shares[0]
        for further in shares[1:]:
            gradient = graph.apply("add", gradient, further)
        if not node.inputs:
            if node.op != "const":
                gradients[node] = gradient
        elif node.op == "slice":
            pieces[node.inputs[0]].append((*node.attrs, gradient))
        elif node.op == "concat":
            start = 0
            for part in node.inputs:
                _hand_on(graph, received, part, graph.slice(gradient, start, start + part.width))
                start += part.width
        elif node.op == "matmul":
            a, weight = node.inputs
            (transposed,) = node.attrs
            received[a].append(graph.matmul(gradient, weight, transposed=not transposed))
            pair = (gradient, a) if transposed else (a, gradient)
            received[weight].append(graph.outer(*pair))
        elif node.op == "part":
            received[node.inputs[0]].append(graph.place(gradient, node))
        else:
            for source, share in zip(
                node.inputs, RULES[node.op](graph, node, gradient), strict=True
            ):
                if share is not None:
                    _hand_on(graph, received, source, share)
    return gradients


def _hand_on(graph: Graph, received: dict[Node, list[Node]], source: Node, share: Node) -> None:
    """Add a share to what a source receives, summed over where the source was repeated."""
    if source.op == "const":
        return
    if source.width == 1:
        share = graph.reduce("sum", share)
    received[source].append(graph.expand(share, source.width))


def _assemble(graph: Graph, pieces: list[tuple[int, int, Node]], width: int) -> Node:
    """Put the gradients of slices side by side; add them where slices overlap."""
    borders = sorted({0, width, *(p[0] for p in pieces), *(p[1] for p in pieces)})
    parts = []
    for start, stop in pairwise(borders):
        part = None
        for first, last, gradient in pieces:
            if first <= start and stop <= last:
                share = graph.slice(gradient, start - first, stop - first)
                part = share if part is None else graph.apply("add", part, share)
        parts.append(graph.expand(graph.const(0), stop - start) if part is None else part)
    return graph.concat(parts)


def _simple(build: Callable[..., Node]) -> Rule:
    """A rule for one input: build(apply, gradient, input, result)."""

    def rule(graph: Graph, node: Node, gradient: Node) -> tuple[Node | None, ...]:
        def apply(op: str, *inputs: Node | float) -> Node:
            return graph.apply(
                op, *(graph.const(i) if isinstance(i, int | float) else i for i in inputs)
            )

        return (build(apply, gradient, node.inputs[0], node),)

    return rule


def _add(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    return g, g


def _sub(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    return g, graph.apply("neg", g)


def _mul(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    a, b = node.inputs
    return graph.apply("mul", g, b), graph.apply("mul", g, a)


def _div(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    divisor = node.inputs[1]
    if divisor.op == "const" and divisor.attrs[0] and math.isfinite(1 / divisor.attrs[0]):
        return graph.apply("mul", g, graph.const(1 / divisor.attrs[0])), None
    share = graph.apply("div", g, divisor)
    return share, graph.apply("neg", graph.apply("mul", share, node))


def _extreme(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    """The larger (or smaller) receives all; where both are alike, each a half; where one is NaN, both all."""
    a, b = node.inputs
    half = graph.apply("mul", g, graph.const(0.5))
    share = graph.apply("where", graph.apply("eq", a, b), half, g)

    def unless(loses: Node) -> Node:
        return graph.apply("where", loses, graph.const(0), share)

    below, above = graph.apply("lt", a, b), graph.apply("gt", a, b)
    return (unless(below), unless(above)) if node.op == "max" else (unless(above), unless(below))


def _fmod(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    a, b = node.inputs
    times = graph.apply("trunc", graph.apply("div", a, b))
    return g, graph.apply("neg", graph.apply("mul", g, times))


def _pow(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    a, b = node.inputs
    one, zero = graph.const(1), graph.const(0)
    lower = graph.apply("sub", b, one)
    # The root, which is NaN below zero, at minus infinity, too.
    root = lower.op == "const" and lower.attrs[0] == 0.5
    power = graph.apply("sqrt", a) if root else graph.apply("pow", a, lower)
    slope = graph.apply("mul", b, power)
    base = graph.apply("mul", g, graph.apply("where", graph.apply("eq", b, zero), zero, slope))
    if b.op == "const":
        return base, None
    logs = graph.apply("where", graph.apply("eq", node, zero), zero, graph.apply("log", a))
    return base, graph.apply("mul", g, graph.apply("mul", node, logs))


def _where(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    condition, _, _ = node.inputs
    zero = graph.const(0)
    return None, graph.apply("where", condition, g, zero), graph.apply("where", condition, zero, g)


def _none(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    return (None,) * len(node.inputs)


def _sum(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    return (graph.expand(g, node.inputs[0].width),)


def _amax(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    """Shared evenly by all that are the largest, as torch has it."""
    largest = graph.apply("eq", node.inputs[0], node)
    return (graph.apply("mul", largest, graph.apply("div", g, graph.reduce("sum", largest))),)


def _expand(graph: Graph, node: Node, g: Node) -> tuple[Node | None, ...]:
    return (g,)


RULES: dict[str, Rule] = {
    "neg": _simple(lambda ap, g, a, y: ap("neg", g)),
    "abs": _simple(lambda ap, g, a, y: ap("mul", g, ap("sign", a))),
    "exp": _simple(lambda ap, g, a, y: ap("mul", g, y)),
    "expm1": _simple(lambda ap, g, a, y: ap("mul", g, ap("add", y, 1))),
    "log": _simple(lambda ap, g, a, y: ap("div", g, a)),
    "log1p": _simple(lambda ap, g, a, y: ap("div", g, ap("add", a, 1))),
    "sqrt": _simple(lambda ap, g, a, y: ap("div", ap("mul", g, 0.5), y)),
    "rsqrt": _simple(
        lambda ap, g, a, y: ap("mul", ap("mul", g, -0.5), ap("mul", y, ap("mul", y, y)))
    ),
    "reciprocal": _simple(lambda ap, g, a, y: ap("neg", ap("mul", g, ap("mul", y, y)))),
    "sigmoid": _simple(lambda ap, g, a, y: ap("sigmoid_grad", g, y)),
    "tanh": _simple(lambda ap, g, a, y: ap("tanh_grad", g, y)),
    "relu": _simple(lambda ap, g, a, y: ap("where", ap("le", y, 0), 0, g)),
    "erf": _simple(
        lambda ap, g, a, y: ap(
            "mul", g, ap("mul", ap("exp", ap("neg", ap("mul", a, a))), 2 / math.sqrt(math.pi))
        )
    ),
    "softplus": _simple(lambda ap, g, a, y: ap("mul", g, ap("sigmoid", a))),
    "sin": _simple(lambda ap, g, a, y: ap("mul", g, ap("cos", a))),
    "cos": _simple(lambda ap, g, a, y: ap("neg", ap("mul", g, ap("sin", a)))),
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "fmod": _fmod,
    "min": _extreme,
    "max": _extreme,
    "pow": _pow,
    "where": _where,
    "sum": _sum,
    "amax": _amax,
    "expand": _expand,
    **dict.fromkeys(("sign", "floor", "ceil", "round", "trunc", "detach"), _none),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _none),
}
