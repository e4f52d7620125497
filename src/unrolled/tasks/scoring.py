"""Figures of written texts beside what should have been written."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

LONGEST_NGRAM = 4
References = Sequence[Sequence[str]]
"""Of each text, all that would be right."""


def scores(texts: Sequence[str], references: References) -> dict[str, float]:
    """Judge texts.

    Returns:
        ``bleu``, from 0 to 100 (Papineni et al. 2002, by sacrebleu; :func:`signature` says how); ``exact``,
        the share of texts that are a reference; ``character_error_rate``, the edits to the nearest
        reference by the length of these.

    Raises:
        ValueError: If there is no text.
    """
    if not texts:
        raise ValueError("there is no text to judge")
    nearest = [
        min(
            ((edits(text, right), len(right)) for right in rights),
            key=lambda e: e[0] / max(e[1], 1),
        )
        for text, rights in zip(texts, references, strict=True)
    ]
    exact = [text in rights for text, rights in zip(texts, references, strict=True)]
    return {
        "bleu": float(_judged(texts, references)[0]),
        "exact": float(np.mean(exact)),
        "character_error_rate": sum(n for n, _ in nearest) / max(1, sum(n for _, n in nearest)),
    }


def signature(references: References) -> str:
    """Say how sacrebleu computes BLEU: how many references, case, tokens, smoothing, version."""
    return str(_judged([rights[0] for rights in references], references)[1].get_signature())


def _judged(texts: Sequence[str], references: References) -> "tuple[float, BLEU]":
    from sacrebleu.metrics.bleu import BLEU

    # Texts of a word or three have no four words in a row, and would all score 0.
    short = all(len(right.split()) < LONGEST_NGRAM for rights in references for right in rights)
    metric = BLEU(max_ngram_order=LONGEST_NGRAM, effective_order=short)
    streams: Any = [list(stream) for stream in zip_longest(*references)]
    return metric.corpus_score(texts, streams).score, metric


def edits(text: str, other: str) -> int:
    """Count the letters to put in, leave out or replace to make one text of another (Levenshtein 1966)."""
    letters = np.array(list(other), "U1")
    places = np.arange(len(other) + 1)
    row = places
    for letter in text:
        kept = row[:-1] + (letters != letter)
        best = np.concatenate([row[:1] + 1, np.minimum(kept, row[1:] + 1)])
        row = np.minimum.accumulate(best - places) + places  # letters put in, one after another
    return int(row[-1])
