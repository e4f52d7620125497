"""Random numbers that depend on (seed, step, layer, row) and on nothing else.

A mask drawn here is the same whatever the number of threads or processes and however rows are
batched: every row of every layer at every training step has a Philox counter of its own
(Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op


@dataclass(frozen=True)
class Counter:
    """Where in the random stream a forward pass stands."""

    seed: int
    step: int = 0
    first_row: int = 0
    """Index of this process's first row within the global batch."""


_counter: ContextVar[Counter | None] = ContextVar("counter", default=None)


@contextmanager
def counter(seed: int, step: int = 0, first_row: int = 0) -> Iterator[None]:
    """Draw what is random meanwhile from this seed, at this step."""
    token = _counter.set(Counter(seed, step, first_row))
    try:
        yield
    finally:
        _counter.reset(token)


def generator(seed: int, step: int, layer: int, row: int) -> np.random.Generator:
    """The generator of one row of one layer at one step."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, row, layer, step]))


def uniform(shape: Sequence[int], layer: int, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of a shape (T, B, n), rows along dimension 1.

    Outside :func:`counter` the seed is drawn from torch's default generator, so that
    ``torch.manual_seed`` decides.
    """
    return _drawn(shape, layer).to(like)


# An operation of its own, so that compiled and exported models draw anew at every call.
@custom_op("unrolled::uniform", mutates_args=(), tags=torch.Tag.nondeterministic_seeded)
def _drawn(shape: Sequence[int], layer: int) -> Tensor:
    here = _counter.get() or Counter(int(torch.randint(2**62, ())))
    steps, rows, *rest = shape
    drawn = np.empty((rows, steps, *rest), dtype=np.float32)
    for row in range(rows):
        generator(here.seed, here.step, layer, here.first_row + row).random(
            out=drawn[row], dtype=np.float32
        )
    return torch.from_numpy(drawn).transpose(0, 1).contiguous()


@_drawn.register_fake
def _(shape: Sequence[int], layer: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32)


def dropout(x: Tensor, p: float, layer: int) -> Tensor:
    """Set entries of x (T, B, n) to zero with probability p and scale the others by 1 / (1 - p)."""
    kept = uniform(x.shape, layer, x) >= p
    return x * kept / (1 - p) if p < 1 else x * kept
