"""Run a compiled cell in the C++ core.

Rows of the batch stand sorted by length and packed: step t's rows, longest first, follow those of
step t - 1, with no padding between them. N is the number of rows in all steps together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unrolled.engine.cell import Cell
from unrolled.engine.compile import SECTIONS, Program, build
from unrolled.engine.encode import encode
from unrolled.engine.graph import reachable
from unrolled.engine.interpret import evaluate
from unrolled.engine.program import Gather, Kernel, Product, Ref
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace
from unrolled.errors import InputError

try:
    from unrolled.engine import _native  # pyright: ignore
except ImportError:
    _native = None


def available() -> bool:
    """Whether the C++ core is installed."""
    return _native is not None


def instruction_set() -> str | None:
    """The instruction set whose kernels the C++ core runs here; ``None`` where it is not installed.

    Raises:
        InputError: If ``UNROLLED_ISA`` names one that is unknown or that this machine lacks.
    """
    if _native is None:
        return None
    try:
        return _native.instruction_set()
    except ValueError as error:
        raise InputError(str(error)) from None


@dataclass(frozen=True)
class Packing:
    """Which rows run at which step.

    Attributes:
        steps: T.
        batch: B.
        offsets: First row of each step, and N at the end: (T + 1,) int64.
        running: Rows of each step (T,) int64.
        last: Where each row's last state stands among B initial and N others (B,); ``None`` where
            all rows are as long.
    """

    steps: int
    batch: int
    offsets: Tensor
    running: Tensor
    last: Tensor | None

    @property
    def rows(self) -> int:
        """N."""
        return int(self.offsets[-1])


class Compiled:
    """A traced step, its programs, and their engines."""

    def __init__(
        self,
        cell: Cell,
        extras: Mapping[str, int],
        dtype: torch.dtype,
        first: str,
        *,
        keep: bool = False,
    ) -> None:
        self.step = rewrite(trace(cell, extras, dtype))
        self.dtype = dtype
        names = self.step.states | self.step.outputs | self.step.gates
        self.wanted = [first, *(name for name in names if keep and name != first)]
        self.extras = list(extras)
        self.state_names = list(cell.state_names)

    @cached_property
    def training(self) -> "Plan":
        """The program with its backward pass."""
        return Plan(build(self.step, self.wanted, differentiate=True), self)

    @cached_property
    def inference(self) -> "Plan":
        """The program of the forward pass alone."""
        return Plan(build(self.step, self.wanted, differentiate=False), self)

    def run(
        self,
        x: Tensor,
        states: Mapping[str, Tensor],
        extras: Mapping[str, Tensor],
        constants: Sequence[Tensor],
        packing: Packing,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run over packed rows.

        Args:
            x: (N, I).
            states: Name -> (B, width), rows sorted.
            extras: Name -> (N, n).
            constants: What the step's ``once`` leaves hold.
            packing: Which rows run at which step.

        Returns:
            The wanted results, name -> (N, width), and the last states, name -> (B, width).
        """
        given = [x, *(extras[name] for name in self.extras), *(states[n] for n in self.state_names)]
        given += constants
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            flat = _Loop.apply(self.training, packing, *given)
        else:
            flat, _ = self.inference.forward(packing, given)
        split = len(self.wanted)
        return (
            dict(zip(self.wanted, flat[:split], strict=True)),
            dict(zip(self.state_names, flat[split:], strict=True)),
        )

    def interpret(self, packing: Packing, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the same with torch operations, of which any derivative exists."""
        graph = self.step
        names = ["x", *self.extras]
        rows = dict(zip(names, given, strict=False))
        states = dict(zip(self.state_names, given[len(names) :], strict=False))
        constants = given[len(names) + len(self.state_names) :]
        named = graph.states | graph.outputs | graph.gates
        roots = [*graph.states.values(), *(named[name] for name in self.wanted)]
        nodes = reachable(roots)
        results: dict[str, list[Tensor]] = {name: [] for name in self.wanted}
        for t in range(packing.steps):
            start, n = int(packing.offsets[t]), int(packing.running[t])
            leaves = {}
            for node in nodes:
                if node.op in ("x", "extra"):
                    leaves[node] = rows[node.attrs[0]][start : start + n]
                elif node.op == "state":
                    leaves[node] = states[node.attrs[0]][:n]
                elif node.op == "once":
                    leaves[node] = constants[node.attrs[0]]
            values = evaluate(nodes, leaves, given[0][start : start + n])
            for name in self.wanted:
                results[name].append(values[named[name]].expand(n, named[name].width))
            states = {
                name: torch.cat([values[node].expand(n, node.width), states[name][n:]])
                for name, node in graph.states.items()
            }
        return (*(torch.cat(results[name]) for name in self.wanted), *states.values())


Saved = tuple[Any, ...]
"""Addresses of the arrays, and what keeps them alive."""


class Plan:
    """A program, its engine, and which arrays a pass must be given."""

    def __init__(self, program: Program, compiled: Compiled) -> None:
        self.program = program
        self.compiled = compiled
        code, numbers = encode(program)
        instruction_set()  # a wrong UNROLLED_ISA is said before anything else
        assert _native is not None
        self.engine = _native.Engine(code, numbers, compiled.dtype == torch.float64)
        arrays = program.memory.arrays
        self.names = ["x", *compiled.extras]
        forward = _used(program, SECTIONS[:3])
        backward = _used(program, SECTIONS[3:])
        given = set(program.inputs.values())
        states = set(program.states.values())
        made = [i for i in sorted(forward) if arrays[i].kind == "rows" and i not in given | states]
        results = [program.results[name] for name in compiled.wanted]
        self.own = [i for i in results if i not in states and i in made]
        made = [i for i in made if i not in self.own]
        self.kept = [i for i in made if i in backward]
        self.passing = [i for i in made if i not in backward]
        grads = set(program.grads.values())
        self.backward_rows = [
            i for i in sorted(backward - forward) if arrays[i].kind == "rows" and i not in grads
        ]

    def forward(
        self, packing: Packing, given: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], Saved]:
        """Run the forward pass: the results and last states, and what the backward pass needs."""
        program, compiled = self.program, self.compiled
        arrays = program.memory.arrays
        x = given[0]
        n, batch = packing.rows, packing.batch
        at = [0] * len(arrays)
        alive = []
        for name, tensor in zip(self.names, given, strict=False):
            if name in program.inputs:
                tensor = tensor.contiguous()
                alive.append(tensor)
                at[program.inputs[name]] = tensor.data_ptr()
        offset = len(self.names) + len(compiled.state_names)
        for leaf, index in program.once.items():
            tensor = given[offset + leaf].contiguous()
            alive.append(tensor)
            at[index] = tensor.data_ptr()
        sequences = {}
        for name, initial in zip(compiled.state_names, given[len(self.names) :], strict=False):
            index = program.states[name]
            if index in sequences:
                continue
            width = arrays[index].width
            sequence = x.new_empty(batch + n, width)
            sequence[:batch] = initial
            sequences[index] = sequence
            at[index] = sequence.data_ptr() + batch * width * x.element_size()
            at[program.previous[name]] = sequence.data_ptr()
        own = {index: x.new_empty(n, arrays[index].width) for index in self.own}
        for index, tensor in own.items():
            at[index] = tensor.data_ptr()
        kept = _allot(self.kept, arrays, n, x, at)
        passing = _allot(self.passing, arrays, n, x, at)
        self._run(False, packing, at)
        del passing
        results = []
        for name in compiled.wanted:
            index = program.results[name]
            results.append(own[index] if index in own else sequences[index][batch:])
        last = []
        for name in compiled.state_names:
            sequence = sequences[program.states[name]]
            if packing.last is None:
                last.append(sequence[sequence.shape[0] - batch :].clone())
            else:
                last.append(sequence.index_select(0, packing.last))
        return (*results, *last), (at, kept, alive, sequences, own)

    def backward(
        self,
        packing: Packing,
        given: Sequence[Tensor],
        saved: Saved,
        grads: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """Run the backward pass: the gradient of everything given."""
        program, compiled = self.program, self.compiled
        arrays = program.memory.arrays
        at = list(saved[0])
        x = given[0]
        n = packing.rows
        alive = []
        for name, grad in zip(compiled.wanted, grads, strict=False):
            if name in program.grads:
                index = program.grads[name]
                grad = x.new_zeros(n, arrays[index].width) if grad is None else grad.contiguous()
                alive.append(grad)
                at[index] = grad.data_ptr()
        carried = {}
        for name, grad in zip(compiled.state_names, grads[len(compiled.wanted) :], strict=True):
            index = program.carried[name]
            width = arrays[index].width
            # Written over by the engine, so never autograd's own tensor.
            carry = (
                x.new_zeros(packing.batch, width)
                if grad is None
                else grad.clone(memory_format=torch.contiguous_format)
            )
            carried[name] = carry
            at[index] = carry.data_ptr()
        inputs = {
            name: x.new_empty(n, arrays[index].width)
            for name, index in program.input_gradients.items()
        }
        for name, index in program.input_gradients.items():
            at[index] = inputs[name].data_ptr()
        others = [i for i in self.backward_rows if i not in program.input_gradients.values()]
        own = _allot(others, arrays, n, x, at)
        offset = len(self.names) + len(compiled.state_names)
        constants: dict[int, Tensor] = {}
        for leaf, index in program.once_gradients.items():
            constants[leaf] = torch.zeros_like(
                given[offset + leaf], memory_format=torch.contiguous_format
            )
            at[index] = constants[leaf].data_ptr()
        self._run(True, packing, at)
        del own, alive
        return [
            *(inputs.get(name) for name in self.names),
            *(carried[name] for name in compiled.state_names),
            *(constants.get(leaf) for leaf in range(len(given) - offset)),
        ]

    def _run(self, backwards: bool, packing: Packing, at: list[int]) -> None:
        self.engine.run(
            backwards,
            packing.steps,
            packing.batch,
            packing.offsets.data_ptr(),
            packing.running.data_ptr(),
            at,
            torch.get_num_threads(),
        )


class _Loop(torch.autograd.Function):
    """The compiled loop, for autograd."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, packing: Packing, *given: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        results, saved = plan.forward(packing, given)
        ctx.plan, ctx.packing, ctx.saved = plan, packing, saved
        ctx.save_for_backward(*given)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # noqa: ANN401
        given = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, *_twice(ctx.plan, ctx.packing, given, grads)
        return None, None, *ctx.plan.backward(ctx.packing, given, ctx.saved, grads)


def _twice(
    plan: Plan, packing: Packing, given: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradient as torch operations, where its own derivative is wanted."""
    results = plan.compiled.interpret(packing, given)
    pairs = [
        (r, g) for r, g in zip(results, grads, strict=True) if g is not None and r.requires_grad
    ]
    wanted = [tensor for tensor in given if tensor.requires_grad]
    found = torch.autograd.grad(
        [r for r, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
    )
    by_tensor = {id(tensor): gradient for tensor, gradient in zip(wanted, found, strict=True)}
    return [by_tensor.get(id(tensor)) for tensor in given]


def _allot(
    indices: Sequence[int], arrays: Sequence[Any], rows: int, like: Tensor, at: list[int]
) -> Any:  # noqa: ANN401
    """Give arrays with all rows their places in one allocation."""
    size = like.element_size()
    places, total = [], 0
    for index in indices:
        places.append(total)
        total += -(-rows * arrays[index].width // 16) * 16
    assert _native is not None
    block = _native.Block(total * size)
    address = block.address
    for index, place in zip(indices, places, strict=True):
        at[index] = address + place * size
    return block


def _used(program: Program, sections: Sequence[str]) -> set[int]:
    """The arrays that sections name."""
    found: set[int] = set()
    for name in sections:
        for i in program.sections.get(name, []):
            if isinstance(i, Kernel):
                found |= {
                    o.array for op in i.ops for o in (op.out, *op.inputs) if isinstance(o, Ref)
                }
            elif isinstance(i, Product):
                found |= {i.out.array, i.a.array, i.weight, *([i.bias.array] if i.bias else [])}
            elif isinstance(i, Gather):
                found |= {i.out.array, i.a.array, *([i.b.array] if i.b else [])}
            else:
                found |= {i.out.array, i.a.array}
    found |= {program.states[k] for k, index in program.previous.items() if index in found}
    return found
