"""The parts of a data set, and the order in which rows train."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")


def mark(content: bytes) -> int:
    """Give 64 bits of a hash, by which different examples are told apart."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def numbered(marks: np.ndarray) -> np.ndarray:
    """Number different marks (n,) in the order in which they first come: (n,), from 0."""
    _, first, which = np.unique(marks, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` training rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def in_batch(
    count: int, size: int, step: int, rows: slice, order: Callable[[int], np.ndarray]
) -> list[int]:
    """Find rows of a batch: epochs are laid end to end and cut, so that all batches are full.

    Args:
        count: Training rows.
        size: Rows of a batch.
        step: Number of the batch.
        rows: Which of its rows.
        order: Epoch -> the order of all training rows in it.

    Returns:
        Their places among the training rows.
    """
    epochs, within = np.divmod(np.arange(step * size, (step + 1) * size)[rows], count)
    orders = {int(epoch): order(int(epoch)) for epoch in np.unique(epochs)}
    return [int(orders[int(e)][w]) for e, w in zip(epochs, within, strict=True)]


def drawn(count: int, seed: int, size: int, step: int, rows: slice) -> list[int]:
    """Places, in `count` rows, of some rows of batch number `step`, every epoch shuffled anew."""
    return in_batch(count, size, step, rows, lambda epoch: shuffled(count, seed, epoch))
