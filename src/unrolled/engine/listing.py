"""A program as lines that a person reads: one an instruction, in the names of the cell.

``h[t-1]`` is a state one step earlier, ``dh`` the gradient with respect to h, ``dh[t-1]`` what the
step before is handed of it. ``a1`` and ``d1`` are values without a name of their own, forwards and
backwards, ``u1`` one that stays in registers. ``a1[4:8]`` are features of a row.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from torch import fx

from unrolled.engine.compile import SECTIONS, Program
from unrolled.engine.formula import TWICE, Formula, apply
from unrolled.engine.program import Gather, Instruction, Kernel, Operand, Product, Reduce, Ref, Temp
from unrolled.engine.trace import Piece, Step

LONGEST = 64
"""Longest formula that is written into another one, in characters."""
NUMBERED = re.compile(r"%(\d+)")


@dataclass(frozen=True)
class Line:
    """A line of a listing.

    Attributes:
        number: Of the instruction, or ``None`` for a further line of the same kernel.
        text: A formula.
        shape: Width of the result; of a product ``k -> n``; of a sum over rows and steps ``n x k``.
    """

    number: int | None
    text: str
    shape: str


def write(program: Program, names: "Names") -> dict[str, list[Line]]:
    """List a program, with or without its backward pass: name of a section -> its lines."""
    return {
        section: list(_Section(names, backward=section.startswith("back")).write(instructions))
        for section in SECTIONS
        if (instructions := program.sections.get(section)) is not None
    }


def gradient(name: str) -> str:
    """Name the gradient with respect to something."""
    return f"d{name}" if name.isidentifier() else f"d({name})"


class Names:
    """What the arrays of a program are called."""

    def __init__(self, step: Step, program: Program) -> None:
        self.arrays = program.memory.arrays
        self.whole: dict[int, str] = {}
        self.parts: dict[tuple[int, int, int], str] = {}
        self.matrices: dict[int, tuple[int, ...]] = {}
        self.carried = {index: name for name, index in program.carried.items()}
        self.parameters, self.made = parameters(step)
        self._name_given(step, program)
        self._name_values(step, program)
        self._taken = {*self.whole.values(), *self.parts.values()}
        self._free = {letter: count(1) for letter in "adu"}

    def _name_given(self, step: Step, program: Program) -> None:
        name_of = self.whole
        shapes = {n.attrs[0]: n.attrs[1] for n in step.graph.nodes if n.op == "once"}
        for leaf, index in program.once.items():
            name_of[index] = self.parameters[leaf]
            self.matrices[index] = shapes[leaf]
        for leaf, index in program.once_gradients.items():
            name_of[index] = f"d({self.parameters[leaf]})"
            self.matrices[index] = shapes[leaf]
        name_of |= {index: name for name, index in program.inputs.items()}
        name_of |= {index: gradient(name) for name, index in program.input_gradients.items()}
        name_of |= {index: f"{name}[t-{lag}]" for (name, lag), index in program.previous.items()}
        name_of |= {index: gradient(name) for name, index in program.carried.items()}
        for index, (of, lag) in program.earlier.items():
            name_of.setdefault(index, f"{name_of.get(of)}[t-{lag}]")
        first = next(iter(program.results), None)
        for name, index in program.grads.items():
            plain = "dy" if name == first and "y" not in program.states else gradient(name)
            name_of[index] = f"{plain}[t]" if plain in name_of.values() else plain

    def _name_values(self, step: Step, program: Program) -> None:
        """Name what states, outputs and gates lie in."""
        by_number: dict[int, str] = {}
        for name, node in (step.states | step.outputs | step.gates).items():
            by_number.setdefault(node.number, name)
            place = program.memory.find(node)
            if isinstance(place, Ref) and (node.width == 1 or not place.spread):
                self.parts.setdefault((place.array, place.column, node.width), name)
        for name, index in (program.states | program.results).items():
            self.whole.setdefault(index, name)
        for index, array in enumerate(self.arrays):
            found = NUMBERED.match(array.name)
            if found and int(found[1]) in by_number:
                self.whole.setdefault(index, by_number[int(found[1])])

    def new(self, letter: str) -> str:
        """Give a name that nothing has."""
        return next(name for k in self._free[letter] if (name := f"{letter}{k}") not in self._taken)

    def of(self, ref: Ref, width: int, letter: str) -> str:
        """Name columns of an array; `letter` begins the name of one that has none yet."""
        width = 1 if ref.spread else width
        if (known := self.parts.get((ref.array, ref.column, width))) is not None:
            return known
        if ref.array not in self.whole:
            self.whole[ref.array] = self.new(letter)
        base, all_of_it = self.whole[ref.array], self.arrays[ref.array].width
        return base + columns(ref.column, width, all_of_it)

    def matrix(self, array: int, offset: int, stride: int, height: int, width: int) -> str:
        """Name a part of a matrix, whose rows are `stride` apart."""
        if self.arrays[array].width == height * width:
            return self.whole[array]
        row, column = divmod(offset, stride)
        rows = self.arrays[array].width // stride
        across = columns(column, width, stride)[1:-1] or ":"
        along = columns(row, height, rows)[1:-1] or ":"
        return f"{self.whole[array]}[{along}, {across}]"


def columns(start: int, width: int, of: int) -> str:
    """Write which of the columns are meant, as Python does; nothing where it is all of them."""
    if (start, width) == (0, of):
        return ""
    if width == 1:
        return f"[{start}]"
    stop = start + width
    return f"[{start or ''}:{'' if stop == of else stop}]"


def parameters(step: Step) -> tuple[dict[int, str], list[str]]:
    """Name what a step computes from parameters alone.

    Returns:
        Leaf -> its name; and a formula for each that is more than a parameter.
    """
    placeholders = [n for n in step.once.graph.nodes if n.op == "placeholder"]
    known = dict(zip(placeholders, step.named, strict=False))
    (output,) = (n for n in step.once.graph.nodes if n.op == "output")
    names, made = {}, []

    def keep(leaf: int, formula: str, plain: bool) -> None:
        names[leaf] = formula if plain else f"p{len(made) + 1}"
        if not plain:
            made.append(f"{names[leaf]} = {formula}")

    for leaf, node in enumerate(output.args[0]):
        keep(leaf, _formula(node, known), node in known)
    first = len(names)
    for place, (axis, pieces) in enumerate(step.joined):
        told = ", ".join(names[piece.leaf] + _bounds(piece) for piece in pieces)
        keep(first + place, f"cat([{told}], {axis})", plain=False)
    return names, made


def _bounds(piece: Piece) -> str:
    """Write which part of a matrix is meant."""
    if piece.last is None:
        return ""
    return f"[{':, ' * piece.axis}{piece.first or ''}:{piece.last}]"


def _formula(node: object, known: dict[fx.Node, str]) -> str:
    """Write how torch computes a value from parameters."""
    if isinstance(node, list | tuple):
        return f"[{', '.join(_formula(part, known) for part in node)}]"
    if not isinstance(node, fx.Node):
        return str(node)
    if node in known:
        return known[node]
    if node.op != "call_function":
        return "a constant"
    packet = getattr(node.target, "overloadpacket", node.target)
    told = ", ".join(_formula(argument, known) for argument in node.args)
    return f"{getattr(packet, '__name__', packet)}({told})"


class _Section:
    """Writes the instructions of one section."""

    def __init__(self, names: Names, *, backward: bool) -> None:
        self.names = names
        self.letter = "d" if backward else "a"
        self.written: set[int] = set()

    def write(self, instructions: list[Instruction]) -> Iterator[Line]:
        for place, instruction in enumerate(instructions, start=1):
            first: int | None = place
            for text, shape in self._lines(instruction):
                yield Line(first, text, shape)
                first = None

    def _lines(self, i: Instruction) -> Iterator[tuple[str, str]]:
        if isinstance(i, Kernel):
            yield from ((text, str(i.width)) for text in self._kernel(i))
        elif isinstance(i, Product):
            a = self._read(i.a, i.k)
            size = (i.n, i.k) if i.transposed else (i.k, i.n)
            weight = self.names.matrix(i.weight, i.offset, i.stride, *size)
            text = f"{a} @ {weight}{'.T' if i.transposed else ''}"
            text += "" if i.bias is None else f" + {self._read(i.bias, i.n)}"
            yield f"{self._target(i.out, i.n)} = {text}", f"{i.k} -> {i.n}"
        elif isinstance(i, Reduce):
            text = f"{self._read(i.a, i.width)}.{i.name}(-1)"
            yield f"{self._target(i.out, 1)} = {text}", f"{i.width} -> 1"
        else:
            yield self._gather(i)

    def _gather(self, i: Gather) -> tuple[str, str]:
        a = self._read(i.a, i.width)
        if i.b is None:
            out = self.names.of(i.out, i.width, self.letter)
            return f"{out} += {a}.sum(0)", str(i.width)
        size = (i.width, i.b_width)
        out = self.names.matrix(i.out.array, i.out.column, i.stride, *size)
        return f"{out} += {a}.T @ {self._read(i.b, i.b_width)}", f"{i.width} x {i.b_width}"

    def _kernel(self, kernel: Kernel) -> Iterator[str]:
        """Write a kernel: what is used once in the formula that uses it, the rest on a line each."""
        uses = _uses(kernel)
        temps: dict[Temp, Formula] = {}
        for place, op in enumerate(kernel.ops):
            inputs = [self._operand(o, kernel.width, temps) for o in op.inputs]
            formula = apply(op.name, inputs)
            if isinstance(op.out, Ref):
                yield f"{self._target(op.out, kernel.width)} = {formula.text}"
            elif uses[place] == 1 and len(formula.text) <= LONGEST:
                temps[op.out] = formula
            elif uses[place]:
                temps[op.out] = Formula(self.names.new("u"))
                yield f"{temps[op.out].text} = {formula.text}"

    def _operand(self, o: Operand, width: int, temps: dict[Temp, Formula]) -> Formula | float:
        if isinstance(o, Temp):
            return temps[o]
        return Formula(self._read(o, width)) if isinstance(o, Ref) else o

    def _read(self, ref: Ref, width: int) -> str:
        name = self.names.of(ref, width, self.letter)
        return f"{name}[t-1]" if ref.array in self.written else name

    def _target(self, ref: Ref, width: int) -> str:
        if ref.array in self.names.carried:
            self.written.add(ref.array)
        return self._read(ref, width)


def _uses(kernel: Kernel) -> list[int]:
    """How often what each operation leaves in a register is read; more where a formula repeats it."""
    uses = [0] * len(kernel.ops)
    latest: dict[Operand, int] = {}
    for place, op in enumerate(kernel.ops):
        for position, operand in enumerate(op.inputs):
            if isinstance(operand, Temp):
                uses[latest[operand]] += 1 + (TWICE.get(op.name) == position)
        if isinstance(op.out, Temp):
            latest[op.out] = place
    return uses
