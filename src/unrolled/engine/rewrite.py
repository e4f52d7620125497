"""Rewrite a traced step so that more of it leaves the loop and less stays in it."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import groupby

from unrolled.engine.graph import POINTWISE, REDUCTIONS, Graph, Node, depending, reachable
from unrolled.engine.trace import Joined, Piece, Step

Pass = Callable[[Collection[Node]], tuple[Graph, dict[Node, Node]]]
"""Builds all that some nodes need again, in a new graph: old node -> new node."""


def rewrite(step: Step, *, join: bool = True) -> Step:
    """Build the step again with its products arranged for the loop.

    A product with rows of which only a part depends on the state, [x h] W, is split into
    x W_x + h W_h: the first leaves the loop. Products of the same rows with several matrices, as
    gates written one by one have, become one product with the matrices side by side. What only
    slices use is computed slice by slice, so that it meets the rest of its gate in one kernel.

    Args:
        step: A traced step.
        join: Whether matrices may be put side by side, which takes a copy of them at each call.
    """
    roots = [*step.states.values(), *step.outputs.values(), *step.gates.values()]
    joined = list(step.joined)
    passes: list[Pass] = [_split, _cut_slices]
    if join:
        # What will be split is joined first, in one piece; what can be joined is seen after that.
        passes.insert(0, partial(_join, step, joined, _mixed))
        passes.insert(2, partial(_join, step, joined, lambda product, looping: True))
    graph, built = step.graph, {root: root for root in roots}
    for go_on in passes:
        graph, again = go_on(built.values())
        built = {root: again[node] for root, node in built.items()}
    return Step(
        graph=graph,
        states={name: built[node] for name, node in step.states.items()},
        outputs={name: built[node] for name, node in step.outputs.items()},
        gates={name: built[node] for name, node in step.gates.items()},
        lags=step.lags,
        once=step.once,
        named=step.named,
        joined=joined,
    )


def _looping(nodes: list[Node]) -> set[Node]:
    """Those that depend on the state."""
    return depending(nodes, [node for node in nodes if node.op == "state"])


def _mixed(product: Node, looping: set[Node]) -> bool:
    """Whether a part of a product's rows depends on the state, and a part does not."""
    a = product.inputs[0]
    return a.op == "concat" and len({part in looping for part in a.inputs}) == 2


def _split(roots: Collection[Node]) -> tuple[Graph, dict[Node, Node]]:
    """Split products by what of their rows depends on the state. A vector added leaves the loop too."""
    graph = Graph()
    nodes = reachable(roots)
    looping = _looping(nodes)
    biased = _biased(nodes, roots)
    built: dict[Node, Node] = {}
    for node in nodes:
        product = node.inputs[0] if node in biased else node
        if product.op != "matmul" or not _mixed(product, looping):
            built[node] = _copy(graph, node, built)
            continue
        (transposed,) = product.attrs
        a, weight = product.inputs
        parts, start = [], 0
        for later, group in groupby(a.inputs, looping.__contains__):
            rows = graph.concat(built[part] for part in group)
            part = graph.part(built[weight], start, start + rows.width, transposed=transposed)
            parts.append((later, graph.matmul(rows, part, transposed=transposed)))
            start += rows.width
        parts.sort(key=lambda part: part[0])
        total = parts[0][1]
        if node in biased:
            total = graph.apply("add", total, built[node.inputs[1]])
        for _, part in parts[1:]:
            total = graph.apply("add", total, part)
        built[node] = total
    return graph, built


def _biased(nodes: list[Node], roots: Collection[Node]) -> dict[Node, Node]:
    """Sums of a vector and a product of which nothing else is used: sum -> product."""
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        for source in node.inputs:
            users[source].append(node)
    return {
        node: node.inputs[0]
        for node in nodes
        if _is_affine(node)
        and node.inputs[1].width == node.width
        and users[node.inputs[0]] == [node]
        and node.inputs[0] not in roots
    }


def _is_affine(node: Node) -> bool:
    return node.op == "add" and [source.op for source in node.inputs] == ["matmul", "once"]


def _cut_slices(roots: Collection[Node]) -> tuple[Graph, dict[Node, Node]]:
    """Build what only slices use slice by slice."""
    graph = Graph()
    nodes = reachable(roots)
    sliced = _only_sliced(nodes, roots)
    built: dict[Node, Node] = {}
    for node in nodes:
        if node.op == "slice":
            start, stop = node.attrs
            built[node] = _cut(graph, node.inputs[0], start, stop, sliced, built)
        else:
            built[node] = _copy(graph, node, built)
    return graph, built


def _only_sliced(nodes: list[Node], roots: Collection[Node]) -> set[Node]:
    """The element-wise values of which nothing but slices is used, in the end."""
    users: dict[Node, list[Node]] = defaultdict(list)
    found: set[Node] = set()
    for node in reversed(nodes):
        if (
            node.op in POINTWISE
            and not _is_affine(node)  # a product and its bias stay one
            and node not in roots
            and all(user.op == "slice" or user in found for user in users[node])
        ):
            found.add(node)
        for source in node.inputs:
            users[source].append(node)
    return found


def _cut(
    graph: Graph, node: Node, start: int, stop: int, sliced: set[Node], built: dict[Node, Node]
) -> Node:
    """Build a slice of a node: of what only slices use, from the slices of its inputs."""
    if node not in sliced:
        return graph.slice(built[node], start, stop)
    parts = (
        _cut(graph, source, start, stop, sliced, built)
        if source.width == node.width
        else built[source]
        for source in node.inputs
    )
    return graph.apply(node.op, *parts)


def _join(
    step: Step,
    joined: list[Joined],
    suits: Callable[[Node, set[Node]], bool],
    roots: Collection[Node],
) -> tuple[Graph, dict[Node, Node]]:
    """Join products of the same rows, where they suit; add to `joined` how their matrices are made."""
    nodes = reachable(roots)
    looping = _looping(nodes)
    sums = {product: node for node, product in _biased(nodes, roots).items()}
    alike: dict[tuple[Node, bool], list[Node]] = defaultdict(list)
    for node in nodes:
        if node.op == "matmul" and suits(node, looping):
            alike[node.inputs[0], node.attrs[0]].append(node)
    graph = Graph()
    again: dict[Node, Node] = {}

    def leaf(axis: int, weights: Sequence[Node], *shape: int) -> Node:
        joined.append(Joined(axis, tuple(map(_piece, weights))))
        place = len(step.plain) + len(joined) - 1
        return graph.leaf("once", place, shape, width=math.prod(shape), rows=False)

    for node in nodes:
        group = alike.get((node.inputs[0], node.attrs[0]), []) if node.op == "matmul" else []
        if node in again:
            continue
        if len(group) < 2 or node not in group:
            again[node] = _copy(graph, node, again)
            continue
        (transposed,) = node.attrs
        n, k = sum(product.width for product in group), node.inputs[0].width
        weights = [product.inputs[1] for product in group]
        weight = leaf(0, weights, n, k) if transposed else leaf(1, weights, k, n)
        whole, start = graph.matmul(again[node.inputs[0]], weight, transposed=transposed), 0
        biased = all(product in sums for product in group)
        if biased:
            bias = leaf(0, [sums[product].inputs[1] for product in group], n)
            whole = graph.apply("add", whole, bias)
        for product in group:
            part = graph.slice(whole, start, start + product.width)
            again[product] = again[sums[product] if biased else product] = part
            start += product.width
    return graph, again


def _piece(weight: Node) -> Piece:
    """Say what a matrix is: a leaf, or a part of one."""
    if weight.op != "part":
        return Piece(weight.attrs[0])
    first, last, transposed, _ = weight.attrs
    source = weight.inputs[0]
    return Piece(source.attrs[0], 1 if transposed else 0, first, last)


def _copy(graph: Graph, node: Node, built: dict[Node, Node]) -> Node:
    """Build a node as it is, from inputs built already."""
    inputs = [built[source] for source in node.inputs]
    if node.op == "matmul":
        return graph.matmul(*inputs, transposed=node.attrs[0])
    if node.op == "part":
        return graph.part(inputs[0], *node.attrs[:2], transposed=node.attrs[2])
    if node.op == "slice":
        return graph.slice(inputs[0], *node.attrs)
    if node.op == "concat":
        return graph.concat(inputs)
    if node.op == "expand":
        return graph.expand(inputs[0], node.width)
    if node.op in REDUCTIONS:
        return graph.reduce(node.op, inputs[0])
    if node.inputs:
        return graph.apply(node.op, *inputs)
    return graph.leaf(node.op, *node.attrs, width=node.width, rows=node.rows)
