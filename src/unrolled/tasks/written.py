"""What a task that writes texts learns from, and in what manner it writes.

S symbols written, B rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.tasks.decoding import Drawing
from unrolled.tasks.examples import picked
from unrolled.tasks.scoring import References

PADDING = -100
"""Stands for what is to be written past a row's end."""
Items = Any
"""What is read, as a person sees it or as the model does: a list, or an array of rows."""


@dataclass(frozen=True)
class Rows:
    """What is read, and what may be written of it."""

    items: Items
    """As a person sees them: texts, or pictures (n, C, H, W)."""
    inputs: Items
    """What the model reads of each."""
    references: References
    """Of each, all that would be right."""
    pairs: list[tuple[int, np.ndarray]]
    """Place of an item and the ids of a reference, each of which is learned from."""

    def __len__(self) -> int:
        return len(self.references)

    def some(self, rows: Sequence[int] | np.ndarray) -> tuple[Any, Any, References]:
        """Give items, inputs and references of some rows."""
        return (
            picked(self.items, rows),
            picked(self.inputs, rows),
            [self.references[i] for i in rows],
        )


@dataclass(frozen=True)
class Batch:
    """Rows side by side."""

    inputs: tuple[np.ndarray, ...]
    """What the encoder takes."""
    before: np.ndarray
    """The symbol before each that is to be written, (S, B) int64."""
    after: np.ndarray
    """What is to be written, (S, B) int64, `PADDING` past a row's end."""
    told: float = 1.0
    """Probability that the decoder reads the true symbol."""


@dataclass(frozen=True)
class Manner:
    """How a text is found: by beam search, or drawn.

    Args:
        beam: Width of the search; 1 is greedy.
        length_penalty: See :func:`~unrolled.tasks.decoding.beam_search`.
        drawing: How symbols are drawn instead.
        seed: Of what is drawn.
    """

    beam: int = 1
    length_penalty: float = 1.0
    drawing: Drawing | None = None
    seed: int = 0
