"""Run a compiled cell in the C++ core.

Rows of the batch stand sorted by length and packed: step t's rows, longest first, follow those of
step t - 1, with no padding between them. N is the number of rows in all steps together.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine.cell import Cell
from unrolled.engine.compile import Program, build
from unrolled.engine.encode import encode
from unrolled.engine.interpret import differentiate, in_dual_level, unroll
from unrolled.engine.packing import Packing
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace
from unrolled.errors import InputError

try:
    from unrolled.engine import _native  # pyright: ignore
except ImportError:
    _native = None


_KINDS = (Tensor, nn.Parameter)
_NO_DISPATCH = torch._C._disabled_torch_dispatch_impl


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


def ordinary(tensor: Tensor | None) -> bool:
    """Whether a tensor is numbers in memory, and no more: nothing that torch computes with by other rules."""
    if tensor is None:
        return True
    kind = type(tensor)
    if kind not in _KINDS and kind.__torch_dispatch__ is not _NO_DISPATCH:  # pyright: ignore
        return False
    return torch._C._has_storage(tensor) and not tensor._is_zerotensor()


def _plain(tensor: Tensor) -> Tensor:
    """Give a tensor whose numbers lie one after another, with their signs."""
    if tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    return tensor.resolve_neg().contiguous()


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
        join: bool = True,
    ) -> None:
        with torch.device("cpu"):  # whatever the caller has for a default
            self.step = rewrite(trace(cell, extras, dtype), join=join)
        self.cell_name = type(cell).__name__
        self.dtype = dtype
        names = self.step.states | self.step.outputs | self.step.gates
        self.wanted = [first, *(name for name in names if keep and name != first)]
        self.inputs = ["x", *extras]
        self.state_names = list(cell.state_names)
        self.widths = [self.step.states[name].width for name in self.state_names]
        self.depths = [max(self.step.lags[name]) for name in self.state_names]
        self.count = self.step.count
        """How many constants a run is given."""
        self.tangents: dict[tuple[bool, ...], Compiled] = {}
        """See :mod:`unrolled.engine.tangent`."""
        self._training: dict[tuple[bool, ...], Plan] = {}

    @cached_property
    def name(self) -> str:
        """The cell's name and a hash of all that a run computes: the same in every process."""
        step = self.step
        nodes = [(n.op, [i.number for i in n.inputs], n.width, n.attrs) for n in step.graph.nodes]
        roots = [[*r.items()] for r in (step.states, step.outputs, step.gates)]
        places = [[(name, node.number) for name, node in root] for root in roots]
        told = (self.inputs, self.wanted, self.state_names, self.dtype, nodes, places)
        content = repr((told, step.once.code, step.joined)).encode()
        return f"{self.cell_name}-{sha256(content).hexdigest()[:32]}"

    @cached_property
    def inference(self) -> "Plan":
        """The program of the forward pass alone."""
        return Plan(build(self.step, self.wanted, differentiate=False), self)

    def training(self, needs: tuple[bool, ...] | None = None) -> "Plan":
        """Give the program with its backward pass.

        Args:
            needs: Of each input and constant, whether its gradient is wanted; all by default.
        """
        needs = needs or (True,) * (len(self.inputs) + self.count)
        plan = self._training.get(needs)
        if plan is None:
            constants = {k for k, needed in enumerate(needs[len(self.inputs) :]) if needed}
            inputs = {name for name, needed in zip(self.inputs, needs, strict=False) if needed}
            program = build(self.step, self.wanted, differentiate=True, needs=inputs | constants)
            plan = self._training[needs] = Plan(program, self)
        return plan

    def run(
        self,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor | None],
        constants: Sequence[Tensor],
        packing: Packing,
        *,
        bfloat16: bool = False,
        ahead: Any = None,  # noqa: ANN401
    ) -> tuple[Tensor, ...]:
        """Run over packed rows.

        Args:
            inputs: x and the further inputs, each with N rows laid out as `packing` says.
            states: (D * B, width) each, rows sorted, D steps of the past, the oldest first; ``None``
                for zeros.
            constants: What the step's ``once`` leaves hold.
            packing: Which rows run at which step.
            bfloat16: Round what is multiplied by matrices to bfloat16; sums and states stay float32.
            ahead: Where weights are packed ahead: see :class:`unrolled.engine.frozen.Ready`.

        Returns:
            The wanted results, laid out as the inputs, and the last states, (D * B, width).
        """
        if torch.is_grad_enabled():
            needs = (
                *(tensor.requires_grad for tensor in inputs),
                *(tensor.requires_grad for tensor in constants),
            )
            if True in needs or any(s is not None and s.requires_grad for s in states):
                plan = self.training(needs)
                return _Loop.apply(plan, packing, bfloat16, ahead, *inputs, *states, *constants)
        return self.inference.forward(packing, inputs, states, constants, bfloat16, ahead)[0]

    def empty_states(self, like: Tensor, batch: int) -> list[Tensor]:
        """Empty tensors for the states of B rows, (D * B, width)."""
        return [
            like.new_empty(depth * batch, width)
            for depth, width in zip(self.depths, self.widths, strict=True)
        ]


class Plan:
    """A program and its engine."""

    def __init__(self, program: Program, compiled: Compiled) -> None:
        self.program = program
        self.compiled = compiled
        code, numbers = encode(program)
        instruction_set()  # a wrong UNROLLED_ISA is said before anything else
        assert _native is not None
        arrays = program.memory.arrays
        results = [program.results[name] for name in compiled.wanted]
        states = []
        for name, width in zip(compiled.state_names, compiled.widths, strict=True):
            values, carried = program.states[name], program.carried.get(name, -1)
            states += [values, carried, width, program.depths[name]]
        leaves = range(compiled.count)
        roles = [
            [program.inputs.get(name, -1) for name in compiled.inputs],
            states,
            [program.once.get(leaf, -1) for leaf in leaves],
            results,
            [program.grads.get(name, -1) for name in compiled.wanted],
            [program.input_gradients.get(name, -1) for name in compiled.inputs],
            [program.once_gradients.get(leaf, -1) for leaf in leaves],
        ]
        self.engine = _native.Engine(code, numbers, roles, compiled.dtype == torch.float64)
        self.state_of = {
            program.states[name]: place for place, name in enumerate(compiled.state_names)
        }
        self.results = [(index, arrays[index].width) for index in results]
        # Of each result, the numbers a row of the initial states, which stand before it.
        self.before = {
            i: width * compiled.depths[self.state_of[i]] if i in self.state_of else 0
            for i, width in self.results
        }
        self.gradients = [index >= 0 for index in (*roles[5], *roles[6])]

    def forward(
        self,
        packing: Packing,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor | None],
        constants: Sequence[Tensor],
        bfloat16: bool,
        ahead: Any = None,  # noqa: ANN401
        into: Tensor | None = None,
    ) -> tuple[tuple[Tensor, ...], Any]:
        """Run the forward pass: the results and last states, and what the backward pass needs.

        With `ahead`, weights are packed already; with `into`, what the backward pass needs goes there.
        """
        x = inputs[0]
        batch, n, shape = packing.batch, packing.rows, packing.shape
        inputs = [_plain(t) for t in inputs]
        constants = [_plain(t) for t in constants]
        states = [None if t is None else _plain(t) for t in states]
        made: dict[int, Tensor] = {}
        results = []
        for index, width in self.results:
            # No result is a view: autograd would not let anyone change it in place.
            if index in made:
                results.append(x.new_empty(0).set_(made[index]))  # pyright: ignore
                continue
            # It begins at a cache line, after the initial states.
            first = (batch * self.before[index] + 15) // 16 * 16
            whole = x.new_empty(first + n * width)
            strides = (width, 1) if len(shape) == 1 else (batch * width, width, 1)
            made[index] = whole.as_strided_((*shape, width), strides, first)
            results.append(made[index])
        last = self.compiled.empty_states(x, batch)
        size = x.itemsize
        at = [
            *(t.data_ptr() for t in inputs),
            *(0 if t is None else t.data_ptr() for t in states),
            *(t.data_ptr() for t in constants),
            *(made[i].data_ptr() - batch * self.before[i] * size for i, _ in self.results),
            *(t.data_ptr() for t in last),
        ]
        call = (*packing.geometry, at, torch.get_num_threads(), bfloat16)
        if into is None and ahead is None:
            saved = self.engine.forward(*call)
        else:
            packed = None if ahead is None else ahead.packed(self, constants, bfloat16)
            saved = self.engine.forward_with(packed, 0 if into is None else into.data_ptr(), *call)
        return (*results, *last), saved

    def _with_initial(
        self, results: Sequence[Tensor], states: Sequence[Tensor | None], batch: int
    ) -> list[Tensor]:
        """Put the initial states before results that came without them, as copies do."""
        found = [*results]
        for place, (index, width) in enumerate(self.results):
            result, ahead = results[place], batch * self.before[index]
            if result.storage_offset() < ahead:
                state = states[self.state_of[index]]
                whole = result.new_zeros(ahead + result.numel())
                whole[ahead:] = result.reshape(-1)
                if state is not None:
                    whole[:ahead] = state.reshape(-1)
                found[place] = whole[ahead:].view(-1, width)
        return found

    def backward(
        self,
        packing: Packing,
        given: Sequence[Tensor | None],
        results: Sequence[Tensor],
        saved: int,
        grads: Sequence[Tensor | None],
        states_need: Sequence[bool],
        bfloat16: bool,
    ) -> list[Tensor | None]:
        """Run the backward pass: the gradient of everything given.

        `saved` is where what the forward pass saved lies.
        """
        compiled = self.compiled
        many, count = len(compiled.inputs), len(compiled.state_names)
        inputs, constants = given[:many], given[many + count :]
        given_rows = [_plain(t) for t in inputs if t is not None]
        given_constants = [_plain(t) for t in constants if t is not None]
        grads = [None if t is None else _plain(t) for t in grads]
        wanted = len(compiled.wanted)
        new = [
            torch.empty_like(t, memory_format=torch.contiguous_format) if needed else None
            for t, needed in zip((*given_rows, *given_constants), self.gradients, strict=True)
        ]
        x, batch = given_rows[0], packing.batch
        results = self._with_initial(results, given[many : many + count], batch)
        initial = [
            x.new_empty(depth * batch, width) if needed else None
            for depth, width, needed in zip(
                compiled.depths, compiled.widths, states_need, strict=True
            )
        ]
        at = [
            *(t.data_ptr() for t in given_rows),
            *(t.data_ptr() for t in given_constants),
            *(
                result.data_ptr() - batch * self.before[index] * x.itemsize
                for result, (index, _) in zip(results, self.results, strict=True)
            ),
            *(0 if t is None else t.data_ptr() for t in grads[:wanted]),
            *(0 if t is None else t.data_ptr() for t in grads[wanted:]),
            *(0 if t is None else t.data_ptr() for t in new[:many]),
            *(0 if t is None else t.data_ptr() for t in initial),
            *(0 if t is None else t.data_ptr() for t in new[many:]),
        ]
        self.engine.backward(saved, *packing.geometry, at, torch.get_num_threads(), bfloat16)
        return [*new[:many], *initial, *new[many:]]


class _Loop(torch.autograd.Function):
    """The compiled loop, for autograd."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        plan: Plan,
        packing: Packing,
        bfloat16: bool,
        ahead: Any,  # noqa: ANN401
        *given: Tensor | None,
    ) -> tuple[Tensor, ...]:
        compiled = plan.compiled
        many = len(compiled.inputs)
        after = many + len(compiled.state_names)
        inputs, constants = given[:many], given[after:]
        states = given[many:after]
        outputs, saved = plan.forward(packing, inputs, states, constants, bfloat16, ahead)  # pyright: ignore
        ctx.plan, ctx.packing, ctx.bfloat16 = plan, packing, bfloat16
        # A tensor, since autograd frees those after the backward pass.
        block = torch.frombuffer(saved, dtype=torch.uint8)
        ctx.save_for_backward(*given, *outputs[: len(compiled.wanted)], block)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # noqa: ANN401
        plan: Plan = ctx.plan
        *tensors, block = ctx.saved_tensors
        split = len(tensors) - len(plan.compiled.wanted)
        given, results = tensors[:split], tensors[split:]
        if torch.is_grad_enabled() or in_dual_level() or not all(map(ordinary, grads)):
            return None, None, None, None, *_twice(plan, ctx.packing, given, grads)
        many = len(plan.compiled.inputs)
        states_need = ctx.needs_input_grad[4 + many : 4 + many + len(plan.compiled.state_names)]
        found = plan.backward(
            ctx.packing, given, results, block.data_ptr(), grads, states_need, ctx.bfloat16
        )
        return None, None, None, None, *found


def _twice(
    plan: Plan,
    packing: Packing,
    given: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The gradient as torch operations, where its own derivative is wanted."""
    return differentiate(lambda apart: unroll(plan.compiled, packing, apart), given, grads)
