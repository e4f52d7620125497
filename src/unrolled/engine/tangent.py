"""Forward mode: how the values of a step change along a direction, run as a loop of its own.

The tangent program is derived from a traced step: each node hands its inputs' tangents on by the rule
that its gradient goes back by (Griewank & Walther 2008, ch. 3). It computes values and tangents side by
side, in one pass over the sequence; a tangent stands behind its value, as ``h.dot`` behind ``h``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.engine.derive import RULES
from unrolled.engine.graph import Graph, Node, reachable
from unrolled.engine.lower import Declined
from unrolled.engine.native import Compiled
from unrolled.engine.packing import Packing

DOT = ".dot"


def push(graph: Graph, tangents: Mapping[Node, Node], roots: Iterable[Node]) -> dict[Node, Node]:
    """Add to the graph the tangents of all that the roots need and that depends on the given leaves.

    Args:
        graph: Gets the new nodes.
        tangents: Leaf -> its tangent, as wide as the leaf.
        roots: Of which tangents are wanted.

    Returns:
        Node -> its tangent, where it has one.
    """
    found = dict(tangents)
    for node in reachable(roots):
        dots = [found.get(source) for source in node.inputs]
        if any(dots) and (dot := _tangent(graph, node, dots)) is not None:
            found[node] = graph.expand(dot, node.width)
    return found


def _tangent(graph: Graph, node: Node, dots: Sequence[Node | None]) -> Node | None:
    first = dots[0]
    if node.op == "concat":
        zero = graph.const(0)
        parts = zip(node.inputs, dots, strict=True)
        return graph.concat(dot or graph.expand(zero, part.width) for part, dot in parts)
    if node.op == "matmul":
        a, weight = node.inputs
        (transposed,) = node.attrs
        pairs = (first, weight), (a, dots[1])
        shares = [graph.matmul(x, w, transposed=transposed) for x, w in pairs if x and w]
    elif node.op == "amax":
        largest = graph.apply("eq", node.inputs[0], node)
        assert first is not None
        moved = graph.reduce("sum", graph.apply("mul", largest, first))
        return graph.apply("div", moved, graph.reduce("sum", largest))
    elif node.op in ("slice", "part", "expand", "sum"):
        assert first is not None
        if node.op == "slice":
            return graph.slice(first, *node.attrs)
        if node.op == "part":
            start, stop, transposed, _ = node.attrs
            return graph.part(first, start, stop, transposed=transposed)
        return graph.reduce("sum", first) if node.op == "sum" else first
    else:
        moved = ((RULES[node.op](graph, node, dot), i) for i, dot in enumerate(dots) if dot)
        shares = [share for rule, i in moved if (share := rule[i]) is not None]
    if not shares:
        return None
    whole = shares[0]
    for share in shares[1:]:
        whole = graph.apply("add", whole, share)
    return whole


class Tangent(Compiled):
    """A compiled step with the tangents of its results.

    Args:
        plain: The step without them.
        moving: Of its inputs and then its constants, whether each has a tangent; states have theirs.
    """

    def __init__(self, plain: Compiled, moving: tuple[bool, ...]) -> None:
        step = plain.step
        graph = Graph([*step.graph.nodes], dict(step.graph._known))
        held = [n for n, moves in enumerate(moving[len(plain.inputs) :]) if moves]
        named = [name for name, moves in zip(plain.inputs, moving, strict=False) if moves]
        tangents = {}
        for node in [*graph.nodes]:
            if node.op in ("x", "extra") and node.attrs[0] in named:
                tangents[node] = graph.leaf("extra", f"{node.attrs[0]}{DOT}", width=node.width)
            elif node.op == "state":
                name, *back = node.attrs
                tangents[node] = graph.leaf("state", name + DOT, *back, width=node.width)
            elif node.op == "once" and node.attrs[0] in held:
                leaf, *shape = node.attrs
                place = step.count + held.index(leaf)
                tangents[node] = graph.leaf("once", place, *shape, width=node.width, rows=node.rows)
        results = step.states | step.outputs | step.gates
        dots = push(graph, tangents, results.values())

        def doubled(nodes: Mapping[str, Node]) -> dict[str, Node]:
            zero = graph.const(0)
            moved = {
                name + DOT: dots.get(node) or graph.expand(zero, node.width)
                for name, node in nodes.items()
            }
            return {**nodes, **moved}

        self.step = replace(
            step,
            graph=graph,
            states=doubled(step.states),
            outputs=doubled(step.outputs),
            gates=doubled(step.gates),
            lags=step.lags | {name + DOT: lags for name, lags in step.lags.items()},
        )
        self.count = step.count + len(held)
        self.cell_name, self.dtype = plain.cell_name, plain.dtype
        self.wanted = [*plain.wanted, *(name + DOT for name in plain.wanted)]
        self.inputs = [*plain.inputs, *(name + DOT for name in named)]
        self.state_names = [*plain.state_names, *(name + DOT for name in plain.state_names)]
        self.widths, self.depths = plain.widths * 2, plain.depths * 2


def run_dual(
    plan: Compiled,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor | None],
    constants: Sequence[Tensor],
    packing: Packing,
    *,
    bfloat16: bool,
) -> tuple[Tensor, ...]:
    """Run as :meth:`Compiled.run` does, with torch's forward mode.

    Raises:
        Declined: If autograd follows, too.
    """
    values, dots = [], []
    for tensor in (*inputs, *states, *constants):
        value, dot = (None, None) if tensor is None else forward_ad.unpack_dual(tensor)
        values.append(value)
        dots.append(dot)
    many, after = len(inputs), len(inputs) + len(states)
    if not any(dot is not None for dot in dots):
        return plan.run(
            values[:many], values[many:after], values[after:], packing, bfloat16=bfloat16
        )
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in values + dots):
        raise Declined("torch differentiates it forward and backward at once")
    moving = tuple(dot is not None for dot in (*dots[:many], *dots[after:]))
    program = plan.tangents.get(moving)
    if program is None:
        program = plan.tangents[moving] = Tangent(plan, moving)
    found = program.run(
        [*values[:many], *(dot for dot in dots[:many] if dot is not None)],
        [*values[many:after], *dots[many:after]],
        [*values[after:], *(dot for dot in dots[after:] if dot is not None)],
        packing,
        bfloat16=bfloat16,
    )
    wanted, held = len(plan.wanted), len(plan.state_names)
    results, last = found[: 2 * wanted], found[2 * wanted :]
    pairs = [
        *zip(results[:wanted], results[wanted:], strict=True),
        *zip(last[:held], last[held:], strict=True),
    ]
    return tuple(forward_ad.make_dual(value, dot) for value, dot in pairs)
