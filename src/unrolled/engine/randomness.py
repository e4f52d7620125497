"""Random numbers that depend on (seed, step, layer, row) and on nothing else.

A mask drawn here is the same whatever the number of threads or processes and however rows are
batched: every row of every layer at every training step has a Philox counter of its own
(Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op

try:
    from unrolled.engine import _native  # pyright: ignore
except ImportError:
    _native = None


LEVELS = 2**16
"""Probabilities of masks are multiples of one in this many."""


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
    return np.random.Generator(_bits(seed, step, layer, row))


def _bits(seed: int, step: int, layer: int, row: int) -> np.random.Philox:
    return np.random.Philox(key=seed, counter=[0, row, layer, step])


def uniform(shape: Sequence[int], layer: int, like: Tensor, *, shared: bool = False) -> Tensor:
    """Uniform numbers in [0, 1) of a shape (T, B, n), rows along dimension 1.

    With `shared`, all processes and pieces of a batch draw the same. Outside :func:`counter` the seed
    is drawn from torch's default generator, so that ``torch.manual_seed`` decides.
    """
    return _drawn(shape, layer, shared).to(like)


# An operation of its own, so that compiled and exported models draw anew at every call.
@custom_op("unrolled::uniform", mutates_args=(), tags=torch.Tag.nondeterministic_seeded)
def _drawn(shape: Sequence[int], layer: int, shared: bool) -> Tensor:
    here = _counter.get() or Counter(int(torch.randint(2**62, ())))
    first = 0 if shared else here.first_row
    steps, rows, *rest = shape
    drawn = np.empty((rows, steps, *rest), dtype=np.float32)
    for row in range(rows):
        generator(here.seed, here.step, layer, first + row).random(out=drawn[row], dtype=np.float32)
    return torch.from_numpy(drawn).transpose(0, 1).contiguous()


@_drawn.register_fake
def _(shape: Sequence[int], layer: int, shared: bool) -> Tensor:
    return torch.empty(shape, dtype=torch.float32)


def keep(
    shape: Sequence[int], p: float, layer: int, like: Tensor, *, shared: bool = False
) -> Tensor:
    """Draw ones, and with probability p zeros, of a shape (T, B, n), rows along dimension 1.

    Args:
        shape: Of what is drawn.
        p: In steps of 2^-16.
        layer: Which of the streams of random numbers.
        like: Gives dtype and device.
        shared: Whether all processes draw the same, as masks of weights must be.
    """
    return _kept(shape, round(p * LEVELS), layer, shared).to(like)


# Sixteen bits an entry: numbers with more would take most of the time of a small layer.
@custom_op("unrolled::keep", mutates_args=(), tags=torch.Tag.nondeterministic_seeded)
def _kept(shape: Sequence[int], threshold: int, layer: int, shared: bool) -> Tensor:
    here = _counter.get() or Counter(int(torch.randint(2**62, ())))
    steps, rows, *rest = shape
    width, first = math.prod(rest), 0 if shared else here.first_row
    if _native is not None:
        out = torch.empty(shape)
        stream = (here.seed, first, layer, here.step)
        threads = torch.get_num_threads()
        _native.keep(stream, steps, rows, width, threshold, out.data_ptr(), threads)
        return out
    drawn = np.empty((rows, -(-steps * width // 4)), dtype="<u8")
    for row in range(rows):
        drawn[row] = _bits(here.seed, here.step, layer, first + row).random_raw(drawn.shape[1])
    kept = drawn.view("<u2")[:, : steps * width].reshape(rows, steps, *rest) >= threshold
    return torch.from_numpy(kept.astype(np.float32)).transpose(0, 1).contiguous()


@_kept.register_fake
def _(shape: Sequence[int], threshold: int, layer: int, shared: bool) -> Tensor:
    return torch.empty(shape, dtype=torch.float32)


def dropout(x: Tensor, p: float, layer: int, *, fixed: bool = False) -> Tensor:
    """Set entries of x (T, B, n) to zero with probability p and scale the others by 1 / (1 - p).

    With `fixed`, the same entries at all steps (Gal & Ghahramani 2016).
    """
    kept = keep((1, *x.shape[1:]) if fixed else x.shape, p, layer, x)
    return x * kept if p == 1 else x * (kept / (1 - p))
