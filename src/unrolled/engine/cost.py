"""What a section of a program computes and moves. Counted by hand, as a person would, not measured."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unrolled.engine.compile import SECTIONS, Program
from unrolled.engine.program import Array, Gather, Instruction, Kernel, Product, Ref


class Cost(NamedTuple):
    """What a section costs, in numbers; times the bytes of a number, in bytes.

    Attributes:
        multiply_adds: Of matrix products, for one row at one step.
        operations: Element-wise ones, sums and copies aside from products, for one row at one step.
        rows: Numbers of rows read from and written to memory, for one row at one step. What only one
            section needs at one step stays in the cache and is not counted, nor is a second reading.
        weights: Numbers of matrices and vectors read or written, for any number of rows: in the loop
            at every step, before and after it once a call.
    """

    multiply_adds: int
    operations: int
    rows: int
    weights: int


def count(instructions: Sequence[Instruction], arrays: Sequence[Array]) -> Cost:
    """Count what instructions do and move."""
    multiply_adds = operations = 0
    touched: set[tuple[int, int]] = set()
    weights: dict[tuple[int, ...], int] = {}
    for i in instructions:
        if isinstance(i, Kernel):
            operations += i.width * sum(op.name not in ("copy", "detach") for op in i.ops)
        elif isinstance(i, Product):
            multiply_adds += i.k * i.n
            operations += i.n * (i.bias is not None)
            weights[i.weight, i.offset, i.k, i.n] = i.k * i.n
        elif isinstance(i, Gather):
            multiply_adds += i.width * i.b_width * (i.b is not None)
            operations += i.width * (i.b is None)
            weights[i.out] = i.width * i.b_width
        else:
            operations += i.width
        for ref, width in operands(i):
            kind = arrays[ref.array].kind
            if kind == "once":
                weights[ref.array, ref.column, width] = width
            elif kind != "scratch":
                touched |= {(ref.array, ref.column + place) for place in range(width)}
    return Cost(multiply_adds, operations, len(touched), sum(weights.values()))


def operands(i: Instruction) -> Iterator[tuple[Ref, int]]:
    """Give each operand of an instruction that lies in memory, and its width; matrices aside."""
    if isinstance(i, Kernel):
        for op in i.ops:
            for operand in (op.out, *op.inputs):
                if isinstance(operand, Ref):
                    yield operand, 1 if operand.spread else i.width
    elif isinstance(i, Product):
        yield from ((i.out, i.n), (i.a, i.k))
        if i.bias is not None:
            yield i.bias, i.n
    elif isinstance(i, Gather):
        yield i.a, i.width
        if i.b is not None:
            yield i.b, i.b_width
    else:
        yield from ((i.out, 1), (i.a, i.width))


def kept(program: Program) -> tuple[list[int], list[int]]:
    """Tell what is there for the backward pass: arrays the forward pass makes, and given inputs."""

    def used(sections: Sequence[str]) -> set[int]:
        found = (
            ref.array
            for s in sections
            for i in program.sections.get(s, [])
            for ref, _ in operands(i)
        )
        return {program.earlier.get(index, (index, 0))[0] for index in found}

    forward, backward = used(SECTIONS[:3]), used(SECTIONS[3:])
    given = set(program.inputs.values())
    states = [*program.states.values()]
    rows = {i for i, array in enumerate(program.memory.arrays) if array.kind == "rows"}
    made = rows & backward & forward - given
    return [*(i for i in states if i in made), *sorted(made - {*states})], sorted(given & backward)
