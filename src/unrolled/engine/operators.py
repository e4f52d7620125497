"""The compiled loop as operations of torch, so that ``torch.compile`` and ``torch.export`` keep it whole.

torch's compilers see three operations: ``unrolled::once`` computes what needs parameters alone,
``unrolled::loop_forward`` runs the loop over a sequence and ``unrolled::loop_backward`` gives its
gradients. A program is named by a hash of its content, so that the name means the same in another
process. Calls outside torch's compilers do not come here: :mod:`unrolled.engine.choose` runs them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.engine.cell import Cell
from unrolled.engine.check import check_lengths
from unrolled.engine.interpret import differentiate, in_dual_level, unroll
from unrolled.engine.native import Plan
from unrolled.engine.packing import Way
from unrolled.engine.programs import named

_library = torch.library.Library("unrolled", "FRAGMENT")
_TAGS = torch.Tag.pt2_compliant_tag
_library.define("once(str program, Tensor[] tensors) -> Tensor[]", tags=_TAGS)
_library.define(
    "loop_forward(str program, Tensor[] inputs, Tensor?[] states, Tensor[] constants, "
    "Tensor? lengths, bool reverse, bool bfloat16, bool[] needs) -> Tensor[]",
    tags=_TAGS,
)
_library.define(
    "loop_backward(str program, Tensor[] inputs, Tensor?[] states, Tensor[] constants, "
    "Tensor? lengths, bool reverse, bool bfloat16, bool[] needs, Tensor[] results, Tensor saved, "
    "Tensor?[] grads) -> Tensor[]",
    tags=_TAGS,
)
_ops = torch.ops.unrolled
MARGIN = 64
"""Numbers more than an array needs, so that it may begin at a cache line."""


_NOTHING = Cell(1, 1)
"""A cell without parameters."""


class _Call(NamedTuple):
    """What both operations are given.

    Attributes:
        program: Its name.
        inputs: x and the further inputs, (T, B, n) each.
        states: (B, n) each, zeros where ``None``.
        constants: What the step's ``once`` leaves hold.
        lengths: Steps of each row (B,).
        reverse: Whether rows are read from their end.
        bfloat16: Whether what is multiplied is rounded to bfloat16.
        needs: Of each input and constant, whether its gradient is wanted; empty for no gradients.
    """

    program: str
    inputs: list[Tensor]
    states: list[Tensor | None]
    constants: list[Tensor]
    lengths: Tensor | None
    reverse: bool
    bfloat16: bool
    needs: list[bool]

    @property
    def splits(self) -> tuple[int, int]:
        """Where, in a list of all that is given, the states begin and the constants."""
        many = len(self.inputs)
        return many, many + len(self.states)

    def holding(self, given: Sequence[Any], splits: tuple[int, int]) -> "_Call":
        """Give the same call of other tensors."""
        many, last = splits
        return self._replace(
            inputs=[*given[:many]], states=[*given[many:last]], constants=[*given[last:]]
        )

    @property
    def plan(self) -> Plan:
        found = named(self.program)
        return found.training(tuple(self.needs)) if self.needs else found.inference

    def empty(self) -> list[Tensor]:
        """Empty tensors for results (T, B, n), last states (D * B, n) and, with `needs`, what is saved."""
        plan, x = self.plan, self.inputs[0]
        steps, batch = x.shape[:2]
        widths = dict(zip(_distinct(plan), (width for _, width in plan.results), strict=True))
        made = [x.new_empty(steps, batch, width) for width in widths.values()]
        made += plan.compiled.empty_states(x, batch)
        if self.needs:
            of_rows, of_batch, arrays = plan.engine.saved()
            made.append(x.new_empty(steps * batch * of_rows + batch * of_batch + arrays * MARGIN))
        return made

    def empty_gradients(self) -> list[Tensor]:
        """Empty tensors for the gradients of what needs one, and of all initial states."""
        x, needs = self.inputs[0], self.needs[len(self.inputs) :]
        return [
            *(t.new_empty(t.shape) for t, n in zip(self.inputs, self.needs, strict=False) if n),
            *named(self.program).empty_states(x, x.shape[1]),
            *(t.new_empty(t.shape) for t, n in zip(self.constants, needs, strict=False) if n),
        ]


def _way(call: _Call) -> Way:
    steps, batch = call.inputs[0].shape[:2]
    lengths = None if call.lengths is None else check_lengths(call.lengths, steps, batch)
    return Way(lengths, steps, batch, call.reverse)


def _given(call: _Call, way: Way) -> list[Tensor | None]:
    """All that is given to the loop, as it stands inside."""
    return [*map(way.enter, call.inputs), *map(way.sort, call.states), *call.constants]


def _once(program: str, tensors: list[Tensor]) -> list[Tensor]:
    step = named(program).step
    return step.constants(_NOTHING, dict(zip(step.named, tensors, strict=True)))


def _distinct(plan: Plan) -> list[int]:
    """Of each wanted result, which of the distinct ones it is."""
    places: dict[int, int] = {}
    return [places.setdefault(index, len(places)) for index, _ in plan.results]


def _without_repeats(plan: Plan, found: Sequence[Tensor]) -> list[Tensor]:
    first = dict(reversed([*zip(_distinct(plan), found, strict=False)]))
    return [first[place] for place in range(len(first))]


def _forward(*arguments: Any) -> list[Tensor]:  # noqa: ANN401
    call = _Call(*arguments)
    plan, rows = call.plan, _way(call)
    if not rows.packing.rows:
        return _nothing(call)
    saved = call.empty()[-1] if call.needs else None
    given, (many, last) = _given(call, rows), call.splits
    found, _ = plan.forward(
        rows.packing,
        given[:many],  # pyright: ignore[reportArgumentType]
        given[many:last],
        call.constants,
        call.bfloat16,
        into=saved,
    )
    results = map(rows.leave, _without_repeats(plan, found))
    states = map(rows.unsort, found[len(plan.results) :])
    return [*results, *states, *([] if saved is None else [saved])]


def _nothing(call: _Call) -> list[Tensor]:
    """The results where no row has a step."""
    made = [tensor.zero_() for tensor in call.empty()]
    first = 1 + max(_distinct(call.plan))
    for new, old in zip(made[first:], call.states, strict=False):
        if old is not None:
            new.copy_(old)
    return made


def _backward(*arguments: Any) -> list[Tensor]:  # noqa: ANN401
    call = _Call(*arguments[:-3])
    results, saved, grads = arguments[-3:]
    plan, rows = call.plan, _way(call)
    many, last = call.splits
    of_last = grads[len(results) :]
    if not rows.packing.rows:
        made = [tensor.zero_() for tensor in call.empty_gradients()]
        for new, grad in zip(made[sum(call.needs[:many]) :], of_last, strict=False):
            if grad is not None:
                new.copy_(grad)
        return made
    entered = [None if grad is None else rows.enter(grad) for grad in grads[: len(results)]]
    places = _distinct(plan)
    new = plan.backward(
        rows.packing,
        _given(call, rows),
        [rows.enter(results[place]) for place in places],
        saved.data_ptr(),
        # The gradient of a result that is wanted twice counts once.
        [
            *(None if p in places[:k] else entered[p] for k, p in enumerate(places)),
            *map(rows.sort, of_last),
        ],
        [True] * len(call.states),
        call.bfloat16,
    )
    of_inputs = [rows.leave(grad) for grad in new[:many] if grad is not None]
    of_states = [rows.unsort(grad) for grad in new[many:last] if grad is not None]
    return [*of_inputs, *of_states, *(grad for grad in new[last:] if grad is not None)]


class _Loop(torch.autograd.Function):
    """The loop, for autograd."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *given: Tensor | None) -> tuple[Tensor, ...]:  # noqa: ANN401
        many, last = ctx.splits = call.splits
        wanted = ctx.needs_input_grad[1:]
        ctx.call = call._replace(
            inputs=[], states=[], constants=[], lengths=None, needs=[*wanted[:many], *wanted[last:]]
        )
        with torch._C._AutoDispatchBelowAutograd():
            *found, saved = _ops.loop_forward(*call._replace(needs=ctx.call.needs))
        ctx.count = len(found) - len(call.states)
        ctx.save_for_backward(*given, *found[: ctx.count], call.lengths, saved)
        ctx.set_materialize_grads(False)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:  # noqa: ANN401
        *given, lengths, saved = ctx.saved_tensors
        given, results = given[: len(given) - ctx.count], given[len(given) - ctx.count :]
        call: _Call = ctx.call.holding(given, ctx.splits)._replace(lengths=lengths)
        if torch.is_grad_enabled() or in_dual_level():
            return None, *_twice(call, given, grads)
        found = iter(_ops.loop_backward(*call, results, saved, [*grads]))
        many = len(call.inputs)
        needed = [*call.needs[:many], *(True for _ in call.states), *call.needs[many:]]
        gradients = [next(found) if needs else None for needs in needed]
        return None, *(
            None if tensor is None else grad for tensor, grad in zip(given, gradients, strict=True)
        )


def _twice(
    call: _Call, given: Sequence[Tensor | None], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradient as torch operations, where its own derivative is wanted."""
    plan, rows = call.plan, _way(call)

    def compute(apart: Sequence[Tensor | None]) -> list[Tensor]:
        again = _given(call.holding(apart, call.splits), rows)
        found = unroll(plan.compiled, rows.packing, again)
        results = map(rows.leave, _without_repeats(plan, found[: len(plan.results)]))
        return [*results, *map(rows.unsort, found[len(plan.results) :])]

    return differentiate(compute, given, grads)


def _with_autograd(*arguments: Any) -> list[Tensor]:  # noqa: ANN401
    call = _Call(*arguments)
    given = [*call.inputs, *call.states, *call.constants]
    if in_dual_level() and any(
        t is not None and forward_ad.unpack_dual(t).tangent is not None for t in given
    ):
        raise RuntimeError(
            "a compiled loop has no forward-mode derivative; call the module itself instead of its "
            "compiled or exported form"
        )
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        return [*_Loop.apply(call, *given)]  # pyright: ignore
    with torch._C._AutoDispatchBelowAutograd():
        return _ops.loop_forward(*call)


_library.impl("once", _once, "CompositeImplicitAutograd")
_library.impl("loop_forward", _forward, "CPU")
_library.impl("loop_forward", _with_autograd, "Autograd")
_library.impl("loop_backward", _backward, "CPU")
torch.library.register_fake(
    "unrolled::loop_forward", lambda *call: _Call(*call).empty(), lib=_library
)
torch.library.register_fake(
    "unrolled::loop_backward", lambda *call: _Call(*call[:-3]).empty_gradients(), lib=_library
)
