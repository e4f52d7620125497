"""Linear recurrences computed over all steps at once (Blelloch 1990; Martin & Cundy 2018).

T steps. Two steps h -> a h + b in a row are one such step, with a_2 a_1 and a_2 b_1 + b_2. So the
odd steps are a recurrence of half the length, and the even ones follow from them: log2 T levels, each
one operation over all rows. Nothing is divided and no logarithm taken, so that decays of zero, of
either sign, and products that vanish are all right.
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from unrolled.engine.cell import Cell, recording_gates
from unrolled.engine.check import check_input, check_lengths, complete_states
from unrolled.engine.reference import Outputs


class LinearCell(Cell):
    """A cell with h_t = a_t h_{t-1} + b_t, element by element. State: h.

    Where a and b are complex, h holds the real parts before the imaginary ones, and the cell says
    itself what a step and its outputs are.
    """

    @abstractmethod
    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give a and b for x (..., I): each (..., H), or broadcast to it, real or complex."""

    def outputs(self, x: Tensor, h: Tensor) -> Tensor:
        """Read y out of x (..., I) and h (..., width): h itself unless overridden."""
        return h

    def step(self, x: Tensor, h: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        a, b = self.coefficients(x)
        return a * h + b


def scan(decay: Tensor, value: Tensor, initial: Tensor | None = None) -> Tensor:
    """Compute h_t = a_t h_{t-1} + b_t for all t; differentiable, twice too.

    Args:
        decay: a, (T, ...) or what broadcasts to it, real or complex.
        value: b (T, ...).
        initial: h_0 (...), zero if left out.

    Returns:
        h (T, ...) of the steps 1 to T.

    Raises:
        ValueError: If `value` has no steps or the shapes do not fit.
    """
    if not value.dim() or not len(value):
        raise ValueError(f"value must be (steps, ...) with a step, not {tuple(value.shape)}")
    try:
        decay = decay.expand(value.shape)
        initial = None if initial is None else initial.expand(value.shape[1:])
    except RuntimeError as error:
        raise ValueError(
            f"decay and initial must broadcast to value {tuple(value.shape)}: {error}"
        ) from None
    if initial is not None:
        first = torch.addcmul(value[:1], decay[:1], initial.unsqueeze(0))
        value = torch.cat([first, value[1:]])
    return _Scan.apply(decay, value)  # pyright: ignore


def run_linear(
    cell: LinearCell,
    x: Tensor,
    states: Mapping[str, Tensor] | None = None,
    *,
    lengths: Tensor | None = None,
    reverse: bool = False,
    keep: bool = False,
) -> Outputs:
    """Run a cell that is linear in its state over a sequence by a scan.

    What is given, found and raised is as with :func:`unrolled.engine.run`.
    """
    check_input(cell, x)
    initial = complete_states(cell, x, states)["h"]
    steps, batch = x.shape[:2]
    row = torch.arange(batch, device=x.device)
    ends = torch.full((batch,), steps) if lengths is None else check_lengths(lengths, steps, batch)
    ends = ends.to(x.device)
    t = torch.arange(steps, device=x.device)[:, None]
    inside = (t < ends)[..., None]
    back = torch.where(t < ends, ends - 1 - t, t)

    def turned(values: Tensor) -> Tensor:
        values = values if lengths is None else torch.where(inside, values, 0)
        return values[back, row] if reverse else values

    x = turned(x)
    with recording_gates() if keep else nullcontext({}) as gates:
        a, b = cell.coefficients(x)
    if b.is_complex():
        z = scan(a, b, torch.complex(*initial.chunk(2, -1)))
        h = torch.cat([z.real, z.imag], -1)
    else:
        h = scan(a, b, initial)
    last = torch.where(ends[:, None] > 0, h[ends - 1, row], initial)
    y = turned(cell.outputs(x, h))
    history = {"h": turned(h), **dict.fromkeys(cell.output_names, y)} if keep else {}
    return Outputs(y, {"h": last}, history | {name: turned(gate) for name, gate in gates.items()})


class _Scan(torch.autograd.Function):
    """The scan from h_0 = 0. Its gradient is a scan too, from the last step to the first."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, value: Tensor) -> Tensor:  # noqa: ANN401
        h = _scan(decay, value)
        ctx.save_for_backward(decay, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        # delta_t = grad_t + conj(a_{t+1}) delta_{t+1}; db_t = delta_t, da_t = delta_t conj(h_{t-1}).
        decay, h = ctx.saved_tensors
        back = torch.cat([torch.zeros_like(decay[:1]), decay[1:].flip(0)]).conj()
        delta = scan(back, grads[0].flip(0)).flip(0)
        before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
        return delta * before.conj(), delta


def _scan(a: Tensor, b: Tensor) -> Tensor:
    steps = len(b)
    if steps == 1:
        return b.clone()
    odd, even = slice(1, None, 2), slice(0, steps - steps % 2, 2)
    h = torch.empty_like(b)
    h[odd] = _scan(a[odd] * a[even], torch.addcmul(b[odd], a[odd], b[even]))
    h[0] = b[0]
    later = slice(2, None, 2)
    h[later] = torch.addcmul(b[later], a[later], h[1 : steps - 1 : 2])
    return h
