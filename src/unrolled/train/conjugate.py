"""Conjugate gradients for a linear system whose matrix is known by its products (Hestenes & Stiefel 1952)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

PROGRESS = 5e-4
"""Relative progress of an iteration below which it ends (Martens 2010, section 4.4)."""
GROWTH = 1.3
"""Iterates are kept at powers of this (Martens 2010, section 4.6)."""


@dataclass(frozen=True)
class Iterate:
    """An approximate solution after so many iterations."""

    iteration: int
    x: Tensor


@dataclass(frozen=True)
class Solution:
    """What was found.

    Attributes:
        kept: Some of the iterates, the last one included, in order.
        iterations: How many there were.
    """

    kept: list[Iterate]
    iterations: int

    @property
    def x(self) -> Tensor:
        """The last iterate."""
        return self.kept[-1].x


@torch.no_grad()
def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    start: Tensor,
    precondition: Tensor | None = None,
    iterations: int = 100,
) -> Solution:
    """Solve A x = b for a positive definite A, minimising x'Ax / 2 - b'x.

    It ends where the last k iterations, k a tenth of all but at least 10, together lowered that by less than
    k :data:`PROGRESS` of what was reached (Martens 2010, section 4.4).

    Args:
        product: v -> A v.
        b: The right side (n,).
        start: Where to begin (n,).
        precondition: A diagonal near that of A (n,).
        iterations: Most iterations.

    Returns:
        The iterates kept, at least one.
    """
    x = start.clone()
    r = product(x) - b
    y = r if precondition is None else r / precondition
    p, rho = -y, r @ y
    reached = [float(0.5 * x @ (r - b))]
    kept: list[Iterate] = []
    done = 0
    for done in range(1, iterations + 1):
        bent = product(p)
        curvature = p @ bent
        if not curvature > 0:  # rounding: nothing is left to gain along p
            break
        alpha = rho / curvature
        x = x + alpha * p
        r = r + alpha * bent
        y = r if precondition is None else r / precondition
        rho, last = r @ y, rho
        p = rho / last * p - y
        reached.append(float(0.5 * x @ (r - b)))
        if done >= GROWTH ** len(kept):
            kept.append(Iterate(done, x))
        k = max(10, done // 10)
        if (
            done > k
            and reached[-1] < 0
            and (reached[-1] - reached[-1 - k]) / reached[-1] < k * PROGRESS
        ) or not rho > 0:
            break
    if not kept or kept[-1].x is not x:
        kept.append(Iterate(done, x))
    return Solution(kept, done)
