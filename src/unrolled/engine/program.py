"""Instructions that an engine runs on a block of rows, and the memory that they read and write.

An instruction is a product of rows with a matrix, an element-wise kernel over rows of one width, or
a reduction of rows. A kernel's values that nothing else reads never touch memory; everything else
lies in arrays. A concatenation is an array whose parts are written where they belong, a slice is an
offset: neither is ever copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from unrolled.engine.graph import Node


@dataclass(frozen=True)
class Array:
    """Memory the instructions read and write.

    Attributes:
        name: What it holds.
        kind: ``rows``: one row for each row and step. ``batch``: one for each row of the batch.
            ``scratch``: one for each row of the block at hand, gone at the next step. ``once``: a
            vector or matrix. ``previous``: the rows of another array one step earlier.
        width: Of a row.
    """

    name: str
    kind: str
    width: int


class Ref(NamedTuple):
    """Columns of an array, from `column` on; `spread` where one column stands for all."""

    array: int
    column: int = 0
    spread: bool = False


class Temp(NamedTuple):
    """A value inside a kernel."""

    number: int


Operand = Ref | Temp | float


@dataclass(frozen=True)
class Op:
    """One element-wise operation of a kernel."""

    name: str
    out: Ref | Temp
    inputs: tuple[Operand, ...]


@dataclass(frozen=True)
class Kernel:
    """Element-wise operations over rows of one width."""

    width: int
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Product:
    """out (n) = a (k) times a matrix (k, n), plus `bias`.

    The matrix lies in the array `weight` from `offset` on, its rows `stride` apart; where
    `transposed`, it is the transpose of the (n, k) matrix that lies there.
    """

    out: Ref
    a: Ref
    weight: int
    offset: int
    stride: int
    transposed: bool
    k: int
    n: int
    bias: Ref | None = None


@dataclass(frozen=True)
class Reduce:
    """out (1) = the sum or largest of a's `width` features."""

    name: str
    out: Ref
    a: Ref
    width: int


@dataclass(frozen=True)
class Gather:
    """out (+)= a^T b over all rows and steps; without b the sum of a."""

    out: Ref
    stride: int
    a: Ref
    width: int
    b: Ref | None = None
    b_width: int = 1
    add: bool = False


Instruction = Kernel | Product | Reduce | Gather


def last_read(instructions: Sequence[Instruction], array: int) -> tuple[int, int]:
    """Instruction, and operation within it, that is the last to read an array."""
    found = (-1, 0)
    for place, i in enumerate(instructions):
        if isinstance(i, Kernel):
            reads = [k for k, op in enumerate(i.ops) if any(_is(o, array) for o in op.inputs)]
            found = (place, reads[-1]) if reads else found
        elif any(_is(o, array) for o in (i.a, getattr(i, "b", None), getattr(i, "bias", None))):
            found = (place, 1)  # a product reads while it writes
    return found


def first_write(instructions: Sequence[Instruction], array: int) -> tuple[int, int]:
    """Instruction, and operation within it, that is the first to write an array."""
    for place, i in enumerate(instructions):
        ops = i.ops if isinstance(i, Kernel) else (i,)
        for k, op in enumerate(ops):
            if _is(op.out, array):
                return place, k
    return len(instructions), 0


def redirect(instructions: list[Instruction], array: int, to: int) -> None:
    """Let instructions use another array in place of one."""

    def other(operand: Any) -> Any:  # noqa: ANN401
        return operand._replace(array=to) if _is(operand, array) else operand

    for place, i in enumerate(instructions):
        if isinstance(i, Kernel):
            ops = (Op(op.name, other(op.out), tuple(map(other, op.inputs))) for op in i.ops)
            instructions[place] = Kernel(i.width, tuple(ops))
        else:
            names = [name for name in ("out", "a", "b", "bias") if hasattr(i, name)]
            instructions[place] = replace(i, **{name: other(getattr(i, name)) for name in names})


def _is(operand: object, array: int) -> bool:
    return isinstance(operand, Ref) and operand.array == array


@dataclass
class Memory:
    """The arrays of a program, and where each value lies."""

    arrays: list[Array] = field(default_factory=list)
    where: dict[Node, Ref] = field(default_factory=dict)

    def new(self, name: str, kind: str, width: int) -> Ref:
        """Add an array."""
        self.arrays.append(Array(name, kind, width))
        return Ref(len(self.arrays) - 1)

    def find(self, node: Node) -> Ref | float | None:
        """Where a value lies, or its number; ``None`` if it is nowhere yet."""
        if node in self.where:
            ref = self.where[node]
            return ref._replace(spread=True) if node.width == 1 else ref
        if node.op == "const":
            return node.attrs[0]
        if node.op in ("expand", "part"):
            return self.find(node.inputs[0])
        if node.op == "slice":
            base = self.find(node.inputs[0])
            if isinstance(base, Ref):
                return (
                    base
                    if base.spread
                    else base._replace(column=base.column + node.attrs[0], spread=node.width == 1)
                )
        return None
