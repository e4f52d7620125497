"""Which examples train, validate and test, and in which order they train."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from unrolled.data.splits import SPLITS, Split, borders, numbered, parts_of, shares, sources_of
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.examples import Found, marks_of
from unrolled.tasks.pictures import HELD_OUT

BLOCK = 32
"""Batches in which texts are sorted by length, so that less is read of what pads them."""


_log = logging.getLogger(__name__)


def split_rows(found: Found, settings: Settings, unit: str = "examples") -> dict[Split, np.ndarray]:
    """Give the rows of each split, such that all rows with the same text or signal are in one.

    With ``data.stratify`` each label's different examples are shared out in the same proportion. Texts and
    signals of files whose names tell that they are a part are this part, unless the settings name another
    or ask for folds; then those for validation and test are left out, or shared out as well.

    Args:
        found: The examples.
        settings: ``data`` and ``training.seed`` count.
        unit: What the examples are called.

    Raises:
        InputError: If there are too few for a split that should have some, or stratifying finds a label
            with one example.
    """
    data, marks = settings.data, found.marks()
    named = np.full(len(marks), "", "U10")
    if found.pictures and not (data.folds or data.test):
        held = np.array([bool(HELD_OUT.search(name)) for name in found.where])
        named[held & (not held.all())] = "test"
    elif not (found.pictures or data.folds):
        named = parts_of(name.rpartition(":")[0] for name in found.where)
    apart = np.isin(named, SPLITS[1:])
    distinct = numbered(marks[~apart])
    count = int(distinct.max(initial=-1)) + 1
    random = np.random.default_rng([settings.training.seed])
    places = random.permutation(count)
    if data.stratify:
        often, labels = Counter(found.labels), np.array(found.labels, object)[~apart]
        by_rarity = np.argsort([-often[label] for label in labels], kind="stable")
        label_of = np.empty(count, object)
        label_of[distinct[by_rarity]] = labels[by_rarity]  # of several labels the rarest
        places = _stratified(label_of.tolist(), places, random)
    part = np.full(count, 2)  # of each distinct text
    if data.folds:
        if count < data.folds:
            raise InputError(f"{count} different examples are too few for {data.folds} folds")
        # Labels come round in places; every so manieth might be always the same.
        fold = places * data.folds // count if data.stratify else places % data.folds
        rest = np.flatnonzero(fold != data.fold)
    else:
        rest = np.arange(count)
    elsewhere = {*sources_of(data), *named[apart], *(["test"] if data.folds else [])}
    ends = borders(len(rest), shares(data.split, elsewhere), f"{count} different {unit}")
    within = np.argsort(np.argsort(places[rest]))
    part[rest] = np.searchsorted(ends[1:], within, side="right")
    of_row = np.array(SPLITS)[part[distinct]] if count else []
    named[~apart] = of_row
    return {split: np.flatnonzero(named == split) for split in SPLITS}


def _stratified(
    labels: Sequence[str], places: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Spread the examples of each label evenly over all places, in the order of `places`.

    So whatever stretch of places becomes a split has its share of each label.
    """
    along, of = np.empty(len(labels)), np.array(labels, object)
    for label in dict.fromkeys(labels):
        here = np.flatnonzero(of == label)
        if len(here) == 1:
            raise InputError(
                f"the label {label!r} has one example; --stratify takes two of each or more, so add "
                "some, or leave it out"
            )
        along[here[np.argsort(places[here])]] = (np.arange(len(here)) + random.random()) / len(here)
    return np.argsort(np.argsort(along, kind="stable"))


def read_splits(
    load: Callable[[Sequence[str]], Found], settings: Settings, unit: str = "examples"
) -> dict[Split, tuple[Found, np.ndarray]]:
    """Read the examples of each split: what they were read with, and their rows in it.

    Args:
        load: Sources -> labelled examples.
        settings: ``data`` and ``training.seed`` count.
        unit: What the examples are called.

    Raises:
        InputError: If data is missing or damaged, there are too few to split, or data of its own for a
            split has a label that the other has not.
    """
    data = settings.data
    found = load(data.source)
    parts: dict[Split, tuple[Found, np.ndarray]]
    parts = {split: (found, rows) for split, rows in split_rows(found, settings, unit).items()}
    for split, sources in sources_of(data).items():
        other = load(sources)
        check_labels(other, set(found.labels))
        parts[split] = other, np.arange(len(other.labels))
    return parts


def check_labels(found: Found, known: Collection[str]) -> None:
    """Refuse examples with a label that a model does not know.

    Raises:
        InputError: If there is one; the sentence says where.
    """
    for row, label in enumerate(found.labels):
        if label not in known:
            raise InputError(
                f"{found.where[row]}: the model does not know the label {label!r}; "
                f"it was trained on {', '.join(sorted(known))}"
            )


def warn_of_leaks(items: Mapping[Split, Any], unit: str) -> None:
    """Warn if held-out examples stand among those that are learned from."""
    known = np.unique(marks_of(items["training"]))
    for split in ("validation", "test"):
        count = np.isin(marks_of(items[split]), known).sum()
        if count:
            _log.warning(
                "%d of the %d %s %s are learned from as well, so its figures flatter the model",
                *(count, len(items[split]), split, unit),
            )


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
