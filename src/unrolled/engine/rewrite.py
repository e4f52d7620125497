"""Rewrite a traced step so that more of it leaves the loop and less stays in it."""

from collections import defaultdict
from itertools import groupby

from unrolled.engine.graph import POINTWISE, REDUCTIONS, Graph, Node, depending, reachable
from unrolled.engine.trace import Step


def rewrite(step: Step) -> Step:
    """Build the step again with its products arranged for the loop.

    A product with rows of which only a part depends on the state, [x h] W, is split into
    x W_x + h W_h: the first leaves the loop. Products of the same rows with several matrices, as
    gates written one by one have, become one product with the matrices side by side. What only
    slices use is computed slice by slice, so that it meets the rest of its gate in one kernel.
    """
    roots = [*step.states.values(), *step.outputs.values(), *step.gates.values()]
    graph = Graph()
    built = _split(graph, roots)
    graph, built, joined = _join(built, roots)
    return Step(
        graph=graph,
        states={name: built[node] for name, node in step.states.items()},
        outputs={name: built[node] for name, node in step.outputs.items()},
        gates={name: built[node] for name, node in step.gates.items()},
        once=step.once,
        named=step.named,
        joined=joined,
    )


def _split(graph: Graph, roots: list[Node]) -> dict[Node, Node]:
    """Split products by what of their rows depends on the state, and values by their slices."""
    nodes = reachable(roots)
    sliced = _only_sliced(nodes, roots)
    looping = depending(nodes, [node for node in nodes if node.op == "state"])
    built: dict[Node, Node] = {}
    for node in nodes:
        a = node.inputs[0] if node.inputs else node
        if node.op == "slice":
            start, stop = node.attrs
            built[node] = _cut(graph, a, start, stop, sliced, built)
            continue
        if (
            node.op != "matmul"
            or a.op != "concat"
            or len({part in looping for part in a.inputs}) == 1
        ):
            built[node] = _copy(graph, node, built)
            continue
        (transposed,) = node.attrs
        total, start = graph.const(0), 0
        for _, parts in groupby(a.inputs, looping.__contains__):
            rows = graph.concat(built[part] for part in parts)
            weight = graph.part(
                built[node.inputs[1]], start, start + rows.width, transposed=transposed
            )
            total = graph.apply("add", total, graph.matmul(rows, weight, transposed=transposed))
            start += rows.width
        built[node] = total
    return built


def _only_sliced(nodes: list[Node], roots: list[Node]) -> set[Node]:
    """The element-wise values of which nothing but slices is used, in the end."""
    users: dict[Node, list[Node]] = defaultdict(list)
    found: set[Node] = set()
    for node in reversed(nodes):
        affine = node.op == "add" and [i.op for i in node.inputs] == ["matmul", "once"]
        if (
            node.op in POINTWISE
            and not affine  # a product and its bias stay one
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
    built: dict[Node, Node], roots: list[Node]
) -> tuple[Graph, dict[Node, Node], list[tuple[int, tuple[int, ...]]]]:
    """Join products of the same rows."""
    nodes = reachable(built[root] for root in roots)
    alike: dict[tuple[Node, bool], list[Node]] = defaultdict(list)
    for node in nodes:
        if node.op == "matmul" and node.inputs[1].op == "once":
            alike[node.inputs[0], node.attrs[0]].append(node)
    count = 1 + max((node.attrs[0] for node in nodes if node.op == "once"), default=-1)
    graph = Graph()
    again: dict[Node, Node] = {}
    joined: list[tuple[int, tuple[int, ...]]] = []
    for node in nodes:
        group = alike.get((node.inputs[0], node.attrs[0]), []) if node.op == "matmul" else []
        if len(group) < 2 or node not in group:
            again[node] = _copy(graph, node, again)
            continue
        if node is group[0]:
            (transposed,) = node.attrs
            weights = [product.inputs[1] for product in group]
            axis = 0 if transposed else 1
            n, k = sum(product.width for product in group), node.inputs[0].width
            shape = (n, k) if transposed else (k, n)
            leaf = graph.leaf("once", count + len(joined), shape, width=n * k, rows=False)
            joined.append((axis, tuple(weight.attrs[0] for weight in weights)))
            whole, start = graph.matmul(again[node.inputs[0]], leaf, transposed=transposed), 0
            for product in group:
                again[product] = graph.slice(whole, start, start + product.width)
                start += product.width
    return graph, {node: again[copy] for node, copy in built.items() if copy in again}, joined


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
