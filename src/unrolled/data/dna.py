"""DNA that is made: promoters by their two boxes, among sequences of the very same letters."""

import numpy as np
from numpy.random import Generator

BASES = "ACGT"
BOXES = ("TTGACA", "TATAAT")
"""What stands about 35 and 10 bases before a gene of Escherichia coli (Hawley & McClure 1983)."""
GAP = (15, 19)
"""Bases between the two, at least and at most."""
MUTATED = 0.05
"""Probability that a base of a box is drawn anew."""
LENGTH, COUNT = 60, 4000


def promoters(rows: int, random: Generator, length: int = LENGTH) -> list[tuple[str, str]]:
    """Make sequences that are promoters or not, in turn.

    A promoter is a random sequence into which both boxes are planted, 15 to 19 bases apart, each base of
    them drawn anew with a probability of 0.05. What is none has boxes too, whose letters are shuffled: so
    how often each base occurs says nothing, and only the order of neighbours does.

    Args:
        rows: How many.
        random: What to draw from.
        length: Bases of each, at least 31.

    Returns:
        Sequence and label, ``promoter`` or ``other``.
    """
    sequences = random.integers(0, len(BASES), (rows, length))
    boxes = np.array([[[BASES.index(base) for base in box] for box in BOXES]] * rows)
    boxes[1::2] = random.permuted(boxes[1::2], axis=-1)
    changed = random.random(boxes.shape) < MUTATED
    boxes[changed] = random.integers(0, len(BASES), changed.sum())
    count, width = boxes.shape[1:]
    gap = random.integers(GAP[0], GAP[1] + 1, rows)
    start = random.integers(0, length - gap - count * width + 1)
    for box in range(count):
        places = (start + box * (width + gap))[:, None] + np.arange(width)
        np.put_along_axis(sequences, places, boxes[:, box], axis=1)
    texts = ("".join(BASES[base] for base in row) for row in sequences.tolist())
    return [(text, "other" if row % 2 else "promoter") for row, text in enumerate(texts)]


def dna() -> str:
    """Give 4,000 sequences as a table, always the same."""
    rows = promoters(COUNT, np.random.default_rng([35, 10]))
    return "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
