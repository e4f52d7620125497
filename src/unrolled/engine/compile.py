"""From a cell to a program: trace, rewrite, partition, schedule."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from unrolled.engine.graph import Node
from unrolled.engine.lower import Declined
from unrolled.engine.partition import Partition, Section, base, partition
from unrolled.engine.program import (
    Gather,
    Instruction,
    Kernel,
    Memory,
    Op,
    Ref,
    first_write,
    last_read,
    redirect,
)
from unrolled.engine.schedule import UNSCHEDULED, schedule
from unrolled.engine.trace import Step

SECTIONS = ("before", "loop", "after", "back_before", "back_loop", "back_after")


@dataclass
class Program:
    """What an engine runs. Arrays are named by their place in ``memory.arrays``.

    Attributes:
        memory: The arrays.
        sections: Name -> instructions, in the order of :data:`SECTIONS`.
        inputs: ``x`` and the further inputs.
        once: Leaf -> its vector or matrix.
        states: Name -> its values at all steps.
        depths: Name of a state -> how many steps back it is read.
        previous: Name and how many steps back -> the same then; the initial state before the first.
        results: Name -> its values at all steps.
        grads: Name of a result -> its gradient at all steps, an input of the backward pass.
        carried: Name of a state -> its gradient, handed from step to step; of a state that is read
            from further back than one step, at all steps.
        earlier: Array -> the one whose earlier rows it holds, and how many steps back.
        input_gradients: Name of an input -> its gradient at all steps, a result.
        once_gradients: Leaf -> its gradient, a result.
        kept: Arrays the forward pass writes for the backward pass.
    """

    memory: Memory = field(default_factory=Memory)
    sections: dict[str, list[Instruction]] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    once: dict[int, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    previous: dict[tuple[str, int], int] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    grads: dict[str, int] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)
    earlier: dict[int, tuple[int, int]] = field(default_factory=dict)
    input_gradients: dict[str, int] = field(default_factory=dict)
    once_gradients: dict[int, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)


def build(
    step: Step,
    wanted: Sequence[str],
    *,
    differentiate: bool,
    needs: Collection[str | int] | None = None,
) -> Program:
    """Schedule a traced step, for inference or with its backward pass.

    Args:
        step: A traced step.
        wanted: States, outputs or gates whose values at every step are results.
        differentiate: Whether the backward pass is wanted too.
        needs: Inputs (by name) and constants (by number) whose gradient is wanted; all by default.

    Raises:
        Declined: If the engine has no instruction for something.
    """
    cut = partition(step, wanted, differentiate=differentiate, needs=needs)
    program = Program(depths={name: max(lags) for name, lags in step.lags.items()})
    memory = program.memory
    for leaf in (node for node in step.graph.nodes if not node.inputs):
        _leaf(program, leaf)
    for name in SECTIONS[:3]:
        section = getattr(cut, name)
        targets = _targets(memory, section, name)
        program.sections[name] = schedule(section.nodes, memory, targets)
    for name, new in cut.states.items():
        # Each state has an array of its own, before whose rows its initial value stands.
        taken = program.states.values()
        program.states[name] = _rows(program, "loop", new, f"state {name}", taken)
    for (name, lag), array in program.previous.items():
        program.earlier[array] = program.states[name], lag
    for name, node in cut.wanted.items():
        section = "loop" if node in set(cut.states.values()) else "after"
        program.results[name] = _rows(program, section, node, f"result {name}")
    for node in (node for node in cut.kept if node.op == "slice"):
        memory.where[node] = Ref(_rows(program, "loop", node, f"%{node.number} slice"))
    program.kept = [memory.where[node].array for node in cut.kept if node in memory.where]
    if differentiate:
        _backward(program, cut)
    return program


def _leaf(program: Program, leaf: Node) -> None:
    memory = program.memory
    name = str(leaf.attrs[0])
    if leaf.op in ("x", "extra"):
        memory.where[leaf] = memory.new(name, "rows", leaf.width)
        program.inputs[name] = memory.where[leaf].array
    elif leaf.op == "once":
        memory.where[leaf] = memory.new(f"once {name}", "once", leaf.width)
        program.once[leaf.attrs[0]] = memory.where[leaf].array
    elif leaf.op == "state":
        memory.where[leaf] = memory.new(f"previous {name}", "previous", leaf.width)
        program.previous[name, leaf.attrs[1]] = memory.where[leaf].array
    elif leaf.op == "grad":
        memory.where[leaf] = memory.new(f"gradient of {name}", "rows", leaf.width)
        program.grads[name] = memory.where[leaf].array
    elif leaf.op == "carried":
        kind = "batch" if program.depths[name] == 1 else "rows"
        memory.where[leaf] = memory.new(f"carried {name}", kind, leaf.width)
        program.carried[name] = memory.where[leaf].array


def _targets(memory: Memory, section: Section, name: str) -> dict[Node, Ref]:
    """Give each stored value an array with all its rows."""
    return {
        node: memory.new(f"%{node.number} {node.op}", "rows", node.width)
        for node in section.stored
        if node.op not in UNSCHEDULED or (node.op == "concat" and node.rows)
    }


def _rows(
    program: Program, section: str, node: Node, name: str, taken: Collection[int] = ()
) -> int:
    """The array that holds nothing but a value, for all rows; copied where it has none of its own."""
    memory = program.memory
    found = memory.find(node)
    if isinstance(found, Ref) and found.column == 0:
        array = memory.arrays[found.array]
        alone = (array.kind, array.width) == ("rows", node.width)
        if alone and found.array not in (*program.inputs.values(), *taken):
            return found.array
    out = memory.new(name, "rows", node.width)
    operand = found
    if operand is None:
        raise Declined(f"{name} is nowhere")
    program.sections[section].append(Kernel(node.width, (Op("copy", out, (operand,)),)))
    return out.array


def _backward(program: Program, cut: Partition) -> None:
    memory = program.memory
    gradients = cut.gradients
    for name in SECTIONS[3:]:
        section: Section = getattr(cut, name)
        again = [node for node in section.nodes if node not in cut.kept]
        for node in again:
            if (
                memory.where.get(node) is not None
                and memory.arrays[memory.where[node].array].kind == "scratch"
            ):
                del memory.where[node]
        targets = _targets(memory, section, name)
        if name == "back_loop":
            _side_by_side(memory, section, cut.back_after, targets)
            for leaf, gradient in gradients.items():
                lies = base(gradient)
                if leaf.op == "state" and lies in again and lies not in targets:
                    called = f"next {leaf.attrs[0]}" if lies is gradient else f"%{lies.number}"
                    targets[lies] = memory.new(called, "scratch", lies.width)
        program.sections[name] = schedule(again, memory, targets)
        if name == "back_loop":
            _carry(program, cut)
    for leaf, gradient in gradients.items():
        if leaf.op in ("x", "extra"):
            name = str(leaf.attrs[0])
            taken = (*program.grads.values(), *program.input_gradients.values())
            program.input_gradients[name] = _rows(
                program, "back_after", gradient, f"gradient of {name}", taken
            )
        elif leaf.op == "once":
            out = memory.new(f"gradient of once {leaf.attrs[0]}", "once", leaf.width)
            program.once_gradients[leaf.attrs[0]] = out.array
            shape = leaf.attrs[-1]
            stride = shape[-1] if len(shape) == 2 else leaf.width
            _gather(program, gradient, out, stride)


def _side_by_side(
    memory: Memory, section: Section, later: Section, targets: dict[Node, Ref]
) -> None:
    """Let values that a later section reads side by side be written so, and not copied there."""
    stored, placed = set(section.stored), set[Node]()
    for concat in later.nodes:
        parts = set(concat.inputs)
        apart = len(parts) == len(concat.inputs) and not parts & placed
        if concat.op != "concat" or not apart or not parts <= stored & set(targets):
            continue
        whole = memory.where[concat] = memory.new(f"%{concat.number}", "rows", concat.width)
        column = 0
        for part in concat.inputs:
            targets[part] = whole._replace(column=column)
            column += part.width
        placed |= parts


def _carry(program: Program, cut: Partition) -> None:
    """Hand the gradient of each state to earlier steps, after everything that reads the old one."""
    memory, instructions = program.memory, program.sections["back_loop"]
    copies: list[Instruction] = []
    held: dict[int, int] = {}
    for leaf in cut.leaves:
        name, lag = leaf.attrs
        carried = program.carried[name]
        gradient = cut.gradients.get(leaf)
        operand = 0.0 if gradient is None else memory.find(gradient)
        if operand is None:
            raise Declined(f"the gradient of {name} is nowhere")
        if program.depths[name] == 1 and operand == Ref(carried, spread=leaf.width == 1):
            continue
        if isinstance(operand, Ref) and memory.arrays[operand.array].kind == "batch":
            operand = _hold(program, operand, held)
        if program.depths[name] > 1:
            if operand != 0.0:
                out = memory.new(f"carried {name}", "previous", leaf.width)
                program.earlier[out.array] = carried, lag
                copies.append(Kernel(leaf.width, (Op("add", out, (out, operand)),)))
            continue
        if (
            isinstance(operand, Ref)
            and memory.arrays[operand.array].name == f"next {name}"
            and last_read(instructions, carried) <= first_write(instructions, operand.array)
        ):
            redirect(instructions, operand.array, carried)
            redirect(copies, operand.array, carried)
            continue
        copies.append(Kernel(leaf.width, (Op("copy", Ref(carried), (operand,)),)))
    instructions += copies


def _hold(program: Program, operand: Ref, held: dict[int, int]) -> Ref:
    """Copy what another state carries, before anything writes over it."""
    if operand.array not in held:
        carried = program.memory.arrays[operand.array]
        copy = program.memory.new(f"held {carried.name}", "scratch", carried.width)
        held[operand.array] = copy.array
        first = Kernel(carried.width, (Op("copy", copy, (Ref(operand.array),)),))
        program.sections["back_loop"].insert(0, first)
    return operand._replace(array=held[operand.array])


def _all_rows(program: Program, node: Node) -> Ref:
    """Where a value lies for all rows at once."""
    found = program.memory.find(node)
    if (
        isinstance(found, Ref)
        and (not found.spread or node.width == 1)
        and program.memory.arrays[found.array].kind in ("rows", "previous")
    ):
        return found
    return Ref(_rows(program, "back_after", node, f"rows of %{node.number}"))


def _gather(program: Program, node: Node, out: Ref, stride: int) -> None:
    """Add a gradient summed over all rows and steps to `out`, which starts at zero."""
    instructions = program.sections["back_after"]
    if node.op in ("outer", "total"):
        a, *second = (_all_rows(program, source) for source in node.inputs)
        b = second[0] if second else None
        widths = [source.width for source in node.inputs] + [1]
        instructions.append(Gather(out, stride, a, widths[0], b, widths[1], add=True))
    elif node.op == "place":
        first, _, transposed = node.attrs
        column = out.column + (first if transposed else first * stride)
        _gather(program, node.inputs[0], out._replace(column=column), stride)
    elif node.op == "concat":
        column = out.column
        for part in node.inputs:
            _gather(program, part, out._replace(column=column), stride)
            column += part.width
    elif node.op == "add":
        for source in node.inputs:
            _gather(program, source, out, stride)
    elif not (node.op == "expand" and node.inputs[0].op == "const" and not node.inputs[0].attrs[0]):
        raise Declined(f"the gradient of a parameter is {node.op} of sums over the rows")
