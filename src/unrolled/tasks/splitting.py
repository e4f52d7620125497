"""Which examples train, validate and test, and in which order they train."""

from functools import lru_cache

import numpy as np

from unrolled.data.splits import SPLITS, Split
from unrolled.errors import InputError
from unrolled.settings import DataSettings, Settings
from unrolled.tasks.examples import Found
from unrolled.tasks.pictures import HELD_OUT

BLOCK = 32
"""Batches in which texts are sorted by length, so that less is read of what pads them."""


def split_rows(found: Found, settings: Settings) -> dict[Split, np.ndarray]:
    """Give the rows of each split, such that all rows with the same text are in one.

    Raises:
        InputError: If there are too few for a split that should have some.
    """
    data, keys = settings.data, found.keys()
    kept = [bool(HELD_OUT.search(name)) for name in found.where]
    texts = isinstance(found.items, list)
    own_test = any(kept) and not all(kept) and not (texts or data.folds or data.test)
    apart = np.array(kept) & own_test
    distinct = {key: i for i, key in enumerate(dict.fromkeys(np.array(keys, object)[~apart]))}
    count = len(distinct)
    places = np.random.default_rng([settings.training.seed]).permutation(count)
    part = np.full(count, 2)  # of each distinct text
    if data.folds:
        if count < data.folds:
            raise InputError(f"{count} different examples are too few for {data.folds} folds")
        rest = np.flatnonzero(places % data.folds != data.fold)
    else:
        rest = np.arange(count)
    fractions = _fractions(data, test_elsewhere=bool(data.folds or data.test) or own_test)
    ends = np.rint(np.cumsum(fractions) * len(rest))
    for split, fraction, size in zip(SPLITS, fractions, np.diff(ends, prepend=0), strict=True):
        if fraction and not size:
            raise InputError(
                f"{count} different {'texts' if texts else 'pictures'} are too "
                f"few to split: none is left for {split}"
            )
    within = np.argsort(np.argsort(places[rest]))
    part[rest] = np.searchsorted(ends, within, side="right")
    of_row = np.array(
        [2 if gone else part[distinct[key]] for key, gone in zip(keys, apart, strict=True)]
    )
    return {split: np.flatnonzero(of_row == i) for i, split in enumerate(SPLITS)}


def _fractions(data: DataSettings, *, test_elsewhere: bool) -> np.ndarray:
    """Share out the rows among the splits that have no data of their own."""
    fractions = np.array(data.split)
    if data.validation:
        fractions[1] = 0
    if test_elsewhere:
        fractions[2] = 0
    return fractions / fractions.sum()


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int, size: int, lengths: bytes) -> np.ndarray:
    """Give the order of `count` training rows in an epoch, in batches of like length.

    Args:
        count: Rows.
        seed: Of the run.
        epoch: From 0.
        size: Rows of a batch.
        lengths: Steps of each row, int64; where all are 0 nothing is sorted.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(count)
    of = np.frombuffer(lengths, np.int64)
    if not of.any():
        return order
    for start in range(0, count, size * BLOCK):
        block = order[start : start + size * BLOCK]
        block = block[np.argsort(of[block], kind="stable")]
        batches = np.split(block, range(size, len(block), size))
        whole = [batches[i] for i in random.permutation(len(block) // size)]
        order[start : start + len(block)] = np.concatenate([*whole, *batches[len(whole) :]])
    return order
