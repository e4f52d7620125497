"""Schedule the sections of a partition into instructions."""

from collections.abc import Iterable, Mapping, Sequence

from unrolled.engine.graph import POINTWISE, REDUCTIONS, Node
from unrolled.engine.lower import Declined
from unrolled.engine.partition import base
from unrolled.engine.program import (
    Instruction,
    Kernel,
    Memory,
    Op,
    Operand,
    Product,
    Reduce,
    Ref,
    Temp,
)

UNSCHEDULED = {"slice", "concat", "expand", "part", "place", "outer", "total"}
"""Nodes that are places in memory, or gathered when all rows are done."""


def schedule(
    nodes: Sequence[Node], memory: Memory, targets: Mapping[Node, Ref]
) -> list[Instruction]:
    """Order the nodes of a section into instructions.

    Args:
        nodes: What to compute, inputs first.
        memory: Gets scratch arrays, and where each value comes to lie.
        targets: Where values must lie that others read.
    """
    planner = _Planner(nodes, memory, targets)
    planner.run()
    return planner.instructions


class _Planner:
    def __init__(self, nodes: Sequence[Node], memory: Memory, targets: Mapping[Node, Ref]) -> None:
        self.memory = memory
        self.targets = dict(targets)
        self.instructions: list[Instruction] = []
        self.copies: list[tuple[Node, Ref]] = []
        self.readers: dict[Node, set[Node]] = {}
        self.repeated: dict[Node, Ref] = {}
        self.waiting = [n for n in nodes if n.inputs and n.op not in UNSCHEDULED]
        self.biased = self._biased()
        for node in self.waiting:
            for source in node.inputs:
                self._read(source, node)
        self.concats = [n for n in nodes if n.op == "concat" and n.rows]
        # The longest first: a shorter one may be a part of it.
        for node in sorted(self.concats, key=lambda n: -len(n.inputs)):
            if node in self.readers or node in targets:
                self._place(node)

    def _read(self, source: Node, reader: Node) -> None:
        self.readers.setdefault(source, set()).add(reader)
        if source.op in ("slice", "expand") and source not in self.memory.where:
            self._read(source.inputs[0], reader)

    def _biased(self) -> dict[Node, Node]:
        """Products whose only use is to have a vector added: product -> sum."""
        users: dict[Node, list[Node]] = {}
        for node in self.waiting:
            for source in node.inputs:
                users.setdefault(source, []).append(node)
        found = {}
        for product, readers in users.items():
            (reader, *others) = readers
            if (
                product.op == "matmul"
                and product in self.waiting  # and not kept from the forward pass
                and not others
                and reader.op == "add"
                and product not in self.targets
            ):
                other = reader.inputs[1] if reader.inputs[0] is product else reader.inputs[0]
                if (
                    other.op == "once"
                    and other.width == product.width
                    and reader.inputs[0] is product
                ):
                    found[product] = reader
        self.waiting = [n for n in self.waiting if n not in found.values()]
        return found

    def _place(self, concat: Node) -> None:
        """Give a concatenation its array, and its parts their places in it."""
        if concat in self.memory.where:
            return
        whole = (
            self._within(concat)
            or self.targets.get(concat)
            or self.memory.new(f"%{concat.number}", "scratch", concat.width)
        )
        self.memory.where[concat] = whole
        column = whole.column
        for part in concat.inputs:
            place = whole._replace(column=column)
            column += part.width
            if self.targets.get(part) == place:
                continue
            if part in self.targets or part not in self.waiting:
                self.copies.append((part, place))
                self._read(part, concat)
                if (whole_part := base(part)) in self.concats:  # a slice of another concatenation
                    self._place(whole_part)
            else:
                self.targets[part] = place

    def _within(self, concat: Node) -> Ref | None:
        """Where the parts of a concatenation lie side by side already, as parts of a longer one."""
        first = self.targets.get(concat.inputs[0])
        if first is None:
            return None
        rows = self.memory.arrays[first.array].kind == "rows"
        column = first.column
        for part in concat.inputs:
            if self.targets.get(part) != first._replace(column=column):
                return None
            column += part.width
        return first if rows or concat not in self.targets else None

    def run(self) -> None:
        self._copy_ready()
        while self.waiting:
            kernel = self._kernel()
            if kernel:
                self._emit_kernel(kernel)
            else:
                node = next(
                    (n for n in self.waiting if n.op not in POINTWISE and self._ready(n)), None
                )
                if node is None:
                    raise Declined(f"its step cannot be ordered into instructions: {self.waiting}")
                self._emit(node)
            self._copy_ready()

    def _ready(self, node: Node, group: Iterable[Node] = ()) -> bool:
        return all(self._at_hand(source, group) for source in node.inputs)

    def _at_hand(self, node: Node, group: Iterable[Node]) -> bool:
        if node in group:
            return True
        if node.op == "concat":
            return node in self.memory.where and self._written(node, 0, node.width)
        if node in self.memory.where:
            return True
        if node.op == "expand":
            return self._at_hand(node.inputs[0], group)
        if node.op == "slice":
            (whole,) = node.inputs
            if whole.op == "concat":
                return whole in self.memory.where and self._written(whole, *node.attrs)
            return self._at_hand(whole, ())
        return self.memory.find(node) is not None

    def _written(self, concat: Node, start: int, stop: int) -> bool:
        """Whether the parts of a concatenation have been written that some features lie in."""
        pending = {result for product, result in self.biased.items() if product in self.waiting}
        pending |= set(self.waiting)
        whole, column = self.memory.where[concat], 0
        for part in concat.inputs:
            place = whole._replace(column=whole.column + column)
            needed = column < stop and start < column + part.width
            if needed and (part in pending or (part, place) in self.copies):
                return False
            column += part.width
        return True

    def _kernel(self) -> list[Node]:
        """The element-wise nodes of one width that can be computed now."""
        group: dict[Node, None] = {}
        width = None
        for node in self.waiting:
            if node.op in POINTWISE and width in (None, node.width) and self._ready(node, group):
                width = node.width
                group[node] = None
        return list(group)

    def _emit_kernel(self, group: list[Node]) -> None:
        members = set(group)
        temps: dict[Node, Temp] = {}
        last_use = {s: place for place, n in enumerate(group) for s in self._sources(n)}
        free: list[Temp] = []
        ops, count = [], 0
        for place, node in enumerate(group):
            inputs = tuple(self._operand(source, temps) for source in node.inputs)
            for source in set(self._sources(node)):
                if source in temps and last_use[source] == place:
                    free.append(temps[source])
            outside = self.readers.get(node, set()) - members
            if node in self.targets or outside:
                out: Ref | Temp = self.targets.get(node) or self.memory.new(
                    f"%{node.number}", "scratch", node.width
                )
                self.memory.where[node] = out
            else:
                out = free.pop() if free else Temp(count)
                count += out == Temp(count)
                temps[node] = out
            ops.append(Op(node.op, out, inputs))
        for part, place in self.copies:
            if part in members:
                ops.append(Op("copy", place, (self._operand(part, temps),)))
        self.copies = [copy for copy in self.copies if copy[0] not in members]
        self.instructions.append(Kernel(group[0].width, tuple(ops)))
        self.waiting = [n for n in self.waiting if n not in members]

    def _sources(self, node: Node) -> list[Node]:
        """The inputs of a node, seen through repetitions."""
        found = []
        for source in node.inputs:
            while source.op == "expand" and source not in self.memory.where:
                source = source.inputs[0]
            found.append(source)
        return found

    def _operand(self, node: Node, temps: Mapping[Node, Temp]) -> Operand:
        while node.op == "expand" and node not in self.memory.where:
            node = node.inputs[0]
        if node in temps:
            return temps[node]
        found = self.memory.find(node)
        assert found is not None
        return found

    def _emit(self, node: Node) -> None:
        result = self.biased.get(node, node)
        out = self.targets.get(result) or self.memory.new(
            f"%{result.number}", "scratch", result.width
        )
        a = self._array(node.inputs[0])
        if node.op == "matmul":
            weight, offset = node.inputs[1], 0
            stride = weight.attrs[-1][-1]
            if weight.op == "part":
                first, _, columns, _ = weight.attrs
                weight = weight.inputs[0]
                stride = weight.attrs[-1][-1]
                offset = first if columns else first * stride
            bias = self.memory.find(result.inputs[1]) if result is not node else None
            self.instructions.append(
                Product(
                    out,
                    a,
                    self.memory.where[weight].array,
                    offset,
                    stride,
                    node.attrs[0],
                    node.inputs[0].width,
                    node.width,
                    bias if isinstance(bias, Ref) else None,
                )
            )
        elif node.op in REDUCTIONS:
            self.instructions.append(Reduce(node.op, out, a, node.inputs[0].width))
        else:
            raise Declined(f"the engine has no instruction for {node.op}")
        self.memory.where[result] = out
        self.waiting.remove(node)

    def _array(self, node: Node) -> Ref:
        """Where the rows of a product or reduction lie; constants and repetitions are written out."""
        found = self.memory.find(node)
        if isinstance(found, Ref) and (not found.spread or node.width == 1):
            return found
        assert found is not None
        if node not in self.repeated:
            # Of this section alone: later ones find the number itself, and not what this one wrote.
            out = self.repeated[node] = self.memory.new(f"%{node.number}", "scratch", node.width)
            self.instructions.append(Kernel(node.width, (Op("copy", out, (found,)),)))
        return self.repeated[node]

    def _copy_ready(self) -> None:
        """Write the parts of concatenations that come from elsewhere."""
        while True:
            ready = [c for c in self.copies if c[0] not in self.waiting and self._at_hand(c[0], ())]
            if not ready:
                return
            for part, place in ready:
                operand = self._operand(part, {})
                self.instructions.append(Kernel(part.width, (Op("copy", place, (operand,)),)))
            self.copies = [copy for copy in self.copies if copy not in ready]
