"""A step as a graph of values: what the tracer writes and everything after it reads.

A value is either one row for each row of the batch, (B, width), or computed once a call from
parameters alone: a vector (width,) or a matrix. Nodes are shared: building the same operation on
the same inputs twice gives the same node, so common subexpressions never exist.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

LEAVES = {"x", "state", "extra", "once", "const", "before", "grad", "saved"}
"""Operations without inputs. Their attributes say which one, or its value."""

COSTLY = {
    *("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sigmoid", "tanh", "erf"),
    *("softplus", "sin", "cos", "div", "pow", "fmod"),
}
"""Element-wise operations that take longer than reading their result from memory."""
CHEAP = {
    *("neg", "abs", "relu", "sign", "floor", "ceil", "round", "trunc", "where"),
    *("add", "sub", "mul", "min", "max", "eq", "ne", "lt", "le", "gt", "ge"),
    *("sigmoid_grad", "tanh_grad"),  # g y (1 - y) and g (1 - y^2)
    "detach",  # the same value, which hands on no gradient
}
POINTWISE = COSTLY | CHEAP
KNOWN: dict[str, Callable[..., float]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "neg", "eq", "lt", "gt")},
    "where": lambda condition, a, b: a if condition else b,
}
"""What is computed at once where all inputs are numbers."""
REDUCTIONS = {"sum", "amax"}
"""Over the features of a row: (B, width) -> (B, 1)."""
GATHERED = {"outer", "total", "place"}
"""Over all rows and steps: ``outer`` (B, n), (B, k) -> a matrix, ``total`` (B, n) -> a vector;
``place`` puts a gathered matrix into a larger one."""


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One value.

    Attributes:
        op: What computes it.
        inputs: From what.
        width: Features of a row, or length of a vector.
        attrs: What else the operation needs: names, bounds, numbers.
        rows: Whether there is one a row of the batch, rather than one a call.
        number: In the order of building, so inputs come before what uses them.
    """

    op: str
    inputs: tuple["Node", ...]
    width: int
    attrs: tuple[Any, ...]
    rows: bool
    number: int

    def __repr__(self) -> str:
        """Give the node as one line of a listing."""
        told = [f"%{node.number}" for node in self.inputs] + [str(a) for a in self.attrs]
        return f"%{self.number} = {self.op}({', '.join(told)}) [{self.width}]"


@dataclass
class Graph:
    """Builds nodes, each once, simplifying what is plain to see."""

    nodes: list[Node] = field(default_factory=list)
    _known: dict[tuple[Any, ...], Node] = field(default_factory=dict)

    def leaf(self, op: str, *attrs: Any, width: int = 1, rows: bool = True) -> Node:  # noqa: ANN401
        """Give an input of the step, a parameter value or a constant."""
        return self._node(op, (), width, attrs, rows)

    def const(self, value: float) -> Node:
        """Give a number."""
        return self._node("const", (), 1, (float(value),), False)

    def apply(self, op: str, *inputs: Node) -> Node:
        """Apply an element-wise operation; inputs of width 1 are broadcast."""
        width = max(node.width for node in inputs)
        inputs = tuple(node.inputs[0] if node.op == "expand" else node for node in inputs)
        node = _simplify(self, op, inputs)
        if node is None:
            width_now = max(node.width for node in inputs)
            node = self._node(op, inputs, width_now, (), any(node.rows for node in inputs))
        return self.expand(node, width)

    def matmul(self, a: Node, weight: Node, *, transposed: bool) -> Node:
        """Multiply rows a (B, k) by a matrix: (k, n), or (n, k) where `transposed`."""
        n, k = weight.attrs[-1] if transposed else reversed(weight.attrs[-1])
        if a.width != k:
            raise ValueError(f"a product of rows {a.width} wide with a matrix of {k} rows")
        return self._node("matmul", (a, weight), n, (transposed,), True)

    def part(self, weight: Node, first: int, last: int, *, transposed: bool) -> Node:
        """Take of a matrix what the features [first, last) of a product's rows meet."""
        shape = weight.attrs[-1]
        shape = (shape[0], last - first) if transposed else (last - first, shape[1])
        width = shape[0] * shape[1]
        return self._node("part", (weight,), width, (first, last, transposed, shape), False)

    def place(self, a: Node, part: Node) -> Node:
        """Put the gradient of a part into one of the whole."""
        return self._node("place", (a,), part.inputs[0].width, part.attrs[:3], False)

    def slice(self, a: Node, start: int, stop: int) -> Node:
        """Take the features [start, stop) of rows."""
        if (start, stop) == (0, a.width):
            return a
        if a.op == "slice":
            return self.slice(a.inputs[0], a.attrs[0] + start, a.attrs[0] + stop)
        if a.op == "concat":
            offset = 0
            for part in a.inputs:
                if offset <= start and stop <= offset + part.width:
                    return self.slice(part, start - offset, stop - offset)
                offset += part.width
        if a.op == "expand":
            return self.expand(a.inputs[0], stop - start)
        return self._node("slice", (a,), stop - start, (start, stop), a.rows)

    def concat(self, parts: Iterable[Node]) -> Node:
        """Put rows side by side."""
        merged: list[Node] = []
        for part in (
            p for whole in parts for p in (whole.inputs if whole.op == "concat" else (whole,))
        ):
            last = merged[-1] if merged else None
            if (
                last is not None
                and last.op == part.op == "slice"
                and last.inputs == part.inputs
                and last.attrs[1] == part.attrs[0]
            ):
                merged[-1] = self.slice(part.inputs[0], last.attrs[0], part.attrs[1])
            elif last is not None and (number := _number(part)) and number is _number(last):
                merged[-1] = self.expand(number, last.width + part.width)
            else:
                merged.append(part)
        if len(merged) == 1:
            return merged[0]
        # Parts of vectors are written side by side like rows; only gathered gradients are no rows.
        rows = any(part.rows or _number(part) for part in merged) or not any(map(_gathered, merged))
        return self._node("concat", tuple(merged), sum(part.width for part in merged), (), rows)

    def expand(self, a: Node, width: int) -> Node:
        """Repeat a row of width 1."""
        return a if a.width == width else self._node("expand", (a,), width, (), a.rows)

    def reduce(self, op: str, a: Node) -> Node:
        """Reduce the features of rows to one."""
        if op == "sum" and a.op == "neg":
            return self.apply("neg", self.reduce(op, a.inputs[0]))
        if a.op == "expand":
            one = a.inputs[0]
            return one if op == "amax" else self.apply("mul", one, self.const(a.width))
        return a if a.width == 1 else self._node(op, (a,), 1, (), a.rows)

    def outer(self, a: Node, b: Node) -> Node:
        """Sum over all rows and steps of a (n) times b (k): a matrix (n, k)."""
        return self._node("outer", (a, b), a.width, (), False)

    def total(self, a: Node) -> Node:
        """Sum over all rows and steps of a (n): a vector."""
        return self._node("total", (a,), a.width, (), False)

    def _node(
        self, op: str, inputs: tuple[Node, ...], width: int, attrs: tuple[Any, ...], rows: bool
    ) -> Node:
        key = (op, tuple(node.number for node in inputs), attrs, width, rows)
        if key not in self._known:
            node = Node(op, inputs, width, attrs, rows, len(self.nodes))
            self.nodes.append(node)
            self._known[key] = node
        return self._known[key]


def reachable(roots: Iterable[Node]) -> list[Node]:
    """All nodes that the roots need, themselves included, inputs first."""
    found: dict[int, Node] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node.number not in found:
            found[node.number] = node
            waiting += node.inputs
    return [found[number] for number in sorted(found)]


def depending(nodes: Iterable[Node], on: Iterable[Node]) -> set[Node]:
    """Those of the nodes, given inputs first, that need any of `on`; `on` included."""
    needing = set(on)
    for node in nodes:
        if any(node_input in needing for node_input in node.inputs):
            needing.add(node)
    return needing


def listing(nodes: Iterable[Node]) -> Iterator[str]:
    """One line a node."""
    return map(repr, nodes)


def _number(node: Node) -> Node | None:
    """The constant that a value is, or repeats."""
    node = node.inputs[0] if node.op == "expand" else node
    return node if node.op == "const" else None


def _gathered(node: Node) -> bool:
    """Whether a value is made of what is summed over all rows and steps."""
    return node.op in GATHERED or (
        node.op in ("add", "concat") and any(map(_gathered, node.inputs))
    )


def _simplify(graph: Graph, op: str, inputs: tuple[Node, ...]) -> Node | None:
    """Drop what does nothing: x + 0, x * 1, -(-x); compute what is known."""

    def is_number(node: Node, value: float) -> bool:
        return node.op == "const" and node.attrs[0] == value

    if op in KNOWN and all(node.op == "const" for node in inputs):
        return graph.const(KNOWN[op](*(node.attrs[0] for node in inputs)))
    a = inputs[0]
    b = inputs[1] if len(inputs) > 1 else a
    # What is left alone must be as wide as the result.
    if op in ("add", "sub", "mul", "div", "pow"):
        if is_number(b, 1 if op in ("mul", "div", "pow") else 0):
            return a
        if op in ("add", "mul") and is_number(a, 1 if op == "mul" else 0):
            return b
        if op == "pow" and is_number(b, 2):
            return graph.apply("mul", a, a)
        if op == "div" and b.op == "const" and _halves(b.attrs[0]):
            return graph.apply("mul", a, graph.const(1 / b.attrs[0]))
    if op == "neg" and a.op == "neg":
        return a.inputs[0]
    if op == "detach" and a.op in ("detach", "const"):
        return a
    return None


def _halves(value: float) -> bool:
    """Whether dividing by a number is exactly multiplying by its reciprocal: a power of two."""
    return abs(math.frexp(value)[0]) == 0.5 and 2.0**-100 < abs(value) < 2.0**100
