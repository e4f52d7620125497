"""Write a program as the flat list of integers that the native engine reads (``native/program.hpp``)."""

from unrolled.engine.compile import SECTIONS, Program
from unrolled.engine.program import Gather, Instruction, Kernel, Operand, Product, Ref, Temp

KINDS = ["rows", "batch", "scratch", "once", "previous"]
UNARY = [
    *("copy", "neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal"),
    *("sigmoid", "tanh", "relu", "erf", "softplus", "sin", "cos", "sign", "floor", "ceil"),
    *("round", "trunc", "square"),
]
BINARY = [
    *("add", "sub", "mul", "div", "min", "max", "pow", "fmod", "atan2"),
    *("eq", "ne", "lt", "le", "gt", "ge", "sigmoid_grad", "tanh_grad"),
]
TERNARY = ["where", "multiply_add", "multiply_subtract", "multiply_multiply", "lerp"]
REDUCTIONS = ["sum", "amax", "amin"]
NOTHING = (-1, 0)


def encode(program: Program) -> tuple[list[int], list[float]]:
    """Give the integers, and the numbers that kernels name by their place."""
    code: list[int] = []
    numbers: list[float] = []
    arrays = program.memory.arrays
    code.append(len(arrays))
    for index, array in enumerate(arrays):
        code += [KINDS.index(array.kind), array.width, *program.earlier.get(index, (-1, 1))]
    for name in SECTIONS:
        instructions = program.sections.get(name, [])
        code.append(len(instructions))
        for instruction in instructions:
            code += _instruction(instruction, numbers)
    return code, numbers


def _instruction(instruction: Instruction, numbers: list[float]) -> list[int]:
    if isinstance(instruction, Kernel):
        return _kernel(instruction, numbers)
    if isinstance(instruction, Product):
        p = instruction
        matrix = [p.weight, p.offset, p.stride, int(p.transposed)]
        return [1, p.k, p.n, *_ref(p.out), *_ref(p.a), *matrix, *_ref(p.bias)]
    if isinstance(instruction, Gather):
        g = instruction
        return [3, g.width, g.b_width, *_ref(g.out), g.stride, *_ref(g.a), *_ref(g.b)]
    reduce = instruction
    return [2, REDUCTIONS.index(reduce.name), reduce.width, *_ref(reduce.out), *_ref(reduce.a)]


def _kernel(kernel: Kernel, numbers: list[float]) -> list[int]:
    temps = 1 + max(
        (o.number for op in kernel.ops for o in (op.out, *op.inputs) if isinstance(o, Temp)),
        default=-1,
    )
    code = [0, kernel.width, temps, len(kernel.ops)]
    for op in kernel.ops:
        inputs = op.inputs
        arity = len(inputs) - 1
        name = "copy" if op.name == "detach" else op.name
        code += [arity, (UNARY, BINARY, TERNARY)[arity].index(name)]
        code += [1, op.out.number, 0] if isinstance(op.out, Temp) else [0, *_ref(op.out)]
        for operand in inputs:
            code += _operand(operand, numbers)
    return code


def _operand(operand: Operand, numbers: list[float]) -> list[int]:
    if isinstance(operand, Temp):
        return [0, operand.number, 0]
    if isinstance(operand, Ref):
        return [2 if operand.spread else 1, *_ref(operand)]
    if operand not in numbers:
        numbers.append(operand)
    return [3, numbers.index(operand), 0]


def _ref(ref: Ref | None) -> tuple[int, int]:
    return NOTHING if ref is None else (ref.array, ref.column)
