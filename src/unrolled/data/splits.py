"""The parts of a data set, and the order in which rows train."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from unrolled.errors import InputError
from unrolled.settings import DataSettings

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")
PARTS: dict[Split, re.Pattern[str]] = {
    "training": re.compile(r"(?<![a-z])train"),
    "validation": re.compile(r"(?<![a-z])(dev|valid|val(?![a-z]))"),
    "test": re.compile(r"(?<![a-z])test"),
}
"""How files that are the parts of a data set are called, in lower case."""


@lru_cache(maxsize=64)
def part_of(file: str) -> Split | None:
    """Tell by a file's name which part of a data set it is; ``None`` if it does not say."""
    name = Path(file).name.lower()
    found: list[Split] = [split for split, pattern in PARTS.items() if pattern.search(name)]
    return found[0] if len(found) == 1 else None


def parts_of(files: Iterable[str]) -> np.ndarray:
    """Tell of each example's file which part it is (n,), "" if it does not say; all "" if none trains."""
    named = np.array([part_of(file) or "" for file in files], "U10")
    return named if "training" in named else np.full(len(named), "", "U10")


def sources_of(data: DataSettings) -> dict[Split, tuple[str, ...]]:
    """Give the splits that have data of their own, and where it is."""
    given: dict[Split, tuple[str, ...]] = {"validation": data.validation, "test": data.test}
    return {split: sources for split, sources in given.items() if sources}


def shares(split: Sequence[float], elsewhere: Collection[Split] = ()) -> np.ndarray:
    """Give the fraction of each split (3,): none of those that come from elsewhere, 1 in all."""
    fractions = np.where(np.isin(SPLITS, [*elsewhere]), 0, split)
    return fractions / fractions.sum()


def borders(count: int, fractions: Sequence[float] | np.ndarray, what: str) -> np.ndarray:
    """Give where splits begin and end in `count` places (4,), from 0 on.

    Args:
        count: How many there are to share out.
        fractions: Of each split.
        what: They, as in "12 different texts".

    Raises:
        InputError: If a split that has a fraction has no place.
    """
    ends = np.rint(np.cumsum((0, *fractions)) * count).astype(int)
    for split, fraction, size in zip(SPLITS, fractions, np.diff(ends), strict=True):
        if fraction and not size:
            raise InputError(f"{what} are too few to split: none is left for {split}")
    return ends


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
