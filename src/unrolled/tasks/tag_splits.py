"""Sequences to tag of each split, and how they are laid side by side. T steps, B rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from unrolled.data.splits import (
    SPLITS,
    Split,
    borders,
    in_batch,
    numbered,
    parts_of,
    shares,
    sources_of,
)
from unrolled.data.tagged import TagBatch, Tagged, Told, Vectors, Words, side_by_side
from unrolled.settings import Settings
from unrolled.tasks.examples import marks_of, picked
from unrolled.tasks.splitting import shuffled
from unrolled.tasks.task import in_split

ROWS_AT_ONCE = 250
_EACH_WORD = 7  # names the stream of random numbers of word dropout


class BySplit:
    """Sequences of each split, as batches.

    Args:
        settings: ``training`` counts.
        inputs: What steps are.
        outputs: What is told of them.
        splits: The sequences of each split; ``None`` if restored.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Words | Vectors,
        outputs: Told,
        splits: Mapping[Split, Sequence[Tagged]] | None,
    ) -> None:
        self.settings, self.inputs, self.outputs, self.splits = settings, inputs, outputs, splits

    def part(self, split: Split) -> Sequence[Tagged]:
        """Give the sequences of a split.

        Raises:
            InputError: If it is empty.
            RunError: If there are none, for the task was restored.
        """
        return in_split(self.splits, split)

    @cached_property
    def _lengths(self) -> bytes:
        """Steps of each training sequence, as something that can be a key."""
        return np.array([len(one) for one in self.part("training")], np.int64).tobytes()

    def batch(self, step: int, rows: slice) -> TagBatch:
        """Rows of batch number `step`: shuffled anew in every epoch, those of like length mostly together."""
        part = self.part("training")
        size, seed = self.settings.training.batch_size, self.settings.training.seed

        def order(epoch: int) -> np.ndarray:
            return shuffled(len(part), seed, epoch, size, self._lengths)

        chosen = in_batch(len(part), size, step, rows, order)
        random = [np.random.default_rng([seed, _EACH_WORD, step, row]) for row in range(size)[rows]]
        return side_by_side([part[i] for i in chosen], self.inputs, self.outputs, random)

    def held_out(self, split: Split) -> Iterator[TagBatch]:
        """All of a split."""
        return self.batches(self.part(split))

    def batches(self, sequences: Sequence[Tagged]) -> Iterator[TagBatch]:
        """Cut into what is judged side by side, sequences of like length together."""
        order = np.argsort([len(one) for one in sequences], kind="stable")
        for start in range(0, len(order), ROWS_AT_ONCE):
            some = picked(sequences, order[start : start + ROWS_AT_ONCE])
            yield side_by_side([*some], self.inputs, self.outputs)


def split_sequences(
    sequences: Sequence[Tagged],
    settings: Settings,
    read: Callable[[Sequence[str]], Sequence[Tagged]],
) -> dict[Split, Sequence[Tagged]]:
    """Take out what has its place, by the settings or by its file's name; share out the rest.

    What the settings name comes instead of files whose names tell that they are this part.
    Sequences with the same steps all go to the same split, so that none is judged on what was learned.
    """
    data = settings.data
    parts: dict[Split, Sequence[Tagged]]
    parts = {split: read(sources) for split, sources in sources_of(data).items()}
    named = parts_of(one.file for one in sequences)
    for split in SPLITS[1:]:
        if len(rows := np.flatnonzero(named == split)) and split not in parts:
            parts[split] = picked(sequences, rows)
    rest = np.flatnonzero(~np.isin(named, SPLITS[1:]))
    alike = numbered(marks_of(sequences[row] for row in rest.tolist()))
    count = int(alike.max(initial=-1)) + 1
    order = np.random.default_rng([settings.training.seed]).permutation(count)
    places = np.argsort(order)[alike]  # of those that are alike the same
    drawn = np.argsort(places, kind="stable")
    ends = borders(count, shares(data.split, parts), f"{count} different sequences")
    first = np.searchsorted(places[drawn], ends)
    for number, split in enumerate(SPLITS):
        rows = rest[drawn[first[number] : first[number + 1]]]
        parts.setdefault(split, picked(sequences, rows))
    return parts
