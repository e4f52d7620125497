"""How well tags or numbers are told: accuracy and nats a step, spans, each tag, squared error."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.data.tagged import Labels, Numbers

SPAN = re.compile(r"(O|[BIESLU]-.+)")
"""Tags that make spans: BIO (one of each span's steps begins it, or not) and IOBES or BILOU."""


@dataclass(frozen=True)
class Judged:
    """What was told of sequences side by side, and what is true. Past a row's end anything."""

    truth: np.ndarray
    """(T, B), or numbers (T, B, O)."""
    told: np.ndarray
    """As `truth`."""
    lengths: np.ndarray
    """(B,)."""
    nats: float
    """-log p of what is true, summed over all steps; of numbers anything."""

    @property
    def inside(self) -> np.ndarray:
        """Where there are steps (T, B)."""
        return np.arange(len(self.truth))[:, None] < self.lengths


def are_spans(names: Sequence[str]) -> bool:
    """Tell whether tags make spans, as B-LOC, I-LOC and O do."""
    return any(name != "O" for name in names) and all(SPAN.fullmatch(name) for name in names)


def spans(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Find the spans of a sequence: first step, end, type.

    As conlleval of CoNLL-2000 finds them: a span begins at B, S or U, at any tag that is not O behind
    the end of one (O, E, L, S, U), and where the type changes.
    """
    start, kind, before = 0, "", "O"
    for t, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        begins = mark != "O" and (mark in "BSU" or before in "OELSU" or name != kind)
        if before != "O" and (begins or mark == "O" or before in "ELSU"):
            yield start, t, kind
        if begins:
            start = t
        kind, before = name, mark


def figures(judged: Iterable[Judged], outputs: Labels | Numbers) -> dict[str, float]:
    """Judge what was told.

    Returns:
        Of tags ``accuracy`` and ``nats_per_step``, of those that make spans also ``precision``, ``recall``
        and ``f1`` of whole spans. Of numbers ``mse`` in the data's units and ``r2``, the mean over targets
        of 1 - squared error / variance.
    """
    judged = list(judged)
    if isinstance(outputs, Numbers):
        return _of_numbers(judged, outputs)
    steps = sum(int(one.lengths.sum()) for one in judged)
    right = sum(int(((one.told == one.truth) & one.inside).sum()) for one in judged)
    found = {
        "accuracy": right / steps,
        "nats_per_step": float(sum(one.nats for one in judged)) / steps,
    }
    return found | (_of_spans(judged, outputs.names) if are_spans(outputs.names) else {})


def _of_spans(judged: Sequence[Judged], names: Sequence[str]) -> dict[str, float]:
    right = told = true = 0
    for one in judged:
        for row, length in enumerate(one.lengths):
            found, wanted = (
                set(spans([names[int(tag)] for tag in side[:length, row]]))
                for side in (one.told, one.truth)
            )
            right, told, true = right + len(found & wanted), told + len(found), true + len(wanted)
    return {
        "precision": right / told if told else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (told + true) if told + true else 0.0,
    }


def _of_numbers(judged: Sequence[Judged], outputs: Numbers) -> dict[str, float]:
    from sklearn.metrics import r2_score

    truth, told = together(judged)
    squares = ((told - truth) ** 2).mean(0) * outputs.deviation**2
    found = {"mse": float(squares.mean())}
    return found | ({"r2": float(r2_score(truth, told))} if len(truth) > 1 else {})


def together(judged: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Put what is true and what was told of all steps in a row: (n,), or numbers (n, O)."""
    truth = np.concatenate([one.truth[one.inside] for one in judged])
    return truth, np.concatenate([one.told[one.inside] for one in judged])


def error_by_step(judged: Sequence[Judged]) -> list[float]:
    """Give the share of wrong tags at the first step, the second, ..."""
    wrong = np.zeros(max(len(one.truth) for one in judged))
    count = np.zeros_like(wrong)
    for one in judged:
        wrong[: len(one.truth)] += ((one.told != one.truth) & one.inside).sum(1)
        count[: len(one.truth)] += one.inside.sum(1)
    return (wrong[count > 0] / count[count > 0]).tolist()
