"""The copying problem as what a tagger learns from: made as it is needed.

T steps, B rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unrolled.data.made import COPIED, SYMBOLS, copying
from unrolled.data.splits import SPLITS, Split
from unrolled.data.tagged import Labels, TagBatch, Words
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import tag_baselines
from unrolled.tasks.tag_figures import Judged
from unrolled.tasks.tag_sources import Source, texts
from unrolled.tasks.tag_splits import ROWS_AT_ONCE

COPYING = "copying"
HELD_OUT = 1000
"""Rows of the validation and of the test split."""
EPOCH = 100_000
"""Rows that are called an epoch."""


class Copying(Source):
    """The copying problem with a pause of ``data.length`` steps."""

    headline, criterion = "accuracy", ("nats_per_step", False)
    examples = ("'tokens of yours'", COPYING)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pause = settings.data.length or 100
        self.inputs = Words([str(n) for n in range(SYMBOLS + 2)])
        self.outputs = Labels([str(n) for n in range(SYMBOLS + 1)])
        self.fitted = {}

    @property
    def epoch(self) -> int:
        """As many as are called one."""
        return EPOCH

    def _draw(self, rows: int, seed: Sequence[int]) -> TagBatch:
        x, y = copying(self.pause, rows, np.random.default_rng(seed))
        return TagBatch((x,), y, np.full(rows, len(x), np.int64))

    def batch(self, step: int, rows: slice) -> TagBatch:
        """New rows at each step."""
        training = self.settings.training
        drawn = self._draw(training.batch_size, [training.seed, 0, step])
        return TagBatch((drawn.inputs[0][:, rows],), drawn.tags[:, rows], drawn.lengths[rows])

    def held_out(self, split: Split) -> Iterator[TagBatch]:
        """The same rows every time."""
        for start in range(0, HELD_OUT, ROWS_AT_ONCE):
            yield self._draw(ROWS_AT_ONCE, [SPLITS.index(split), start, 1])

    def other(self, sources: Sequence[str]) -> Iterator[TagBatch]:
        """The test split."""
        if list(sources) != [COPYING]:
            raise InputError(
                f"{', '.join(sources)}: this model learned copying, which is made, not read; "
                "evaluate it on copying"
            )
        return self.held_out("test")

    def asked(self, inputs: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Symbols with spaces between."""
        yield from texts(inputs, characters=False)

    def baselines(self, batch: TagBatch) -> dict[str, Judged]:
        """Tell blanks until the answer is due, then any symbol."""
        return {"memoryless": tag_baselines.tell(batch, _memoryless(batch.tags))}

    @property
    def digest(self) -> str:
        """A hash of the pause."""
        return hashlib.sha256(f"{COPYING} {self.pause}".encode()).hexdigest()


def _memoryless(tags: np.ndarray) -> np.ndarray:
    """Blanks until the answer is due, then any symbol (T + 20, B, 9)."""
    p = np.zeros((*tags.shape, SYMBOLS + 1))
    p[:-COPIED, :, SYMBOLS] = 1
    p[-COPIED:, :, :SYMBOLS] = 1 / SYMBOLS
    return p
