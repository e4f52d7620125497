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


class Tally:
    """Figures of what is told batch by batch, of which none is kept; of numbers all are.

    Args:
        outputs: What is told.
    """

    def __init__(self, outputs: Labels | Numbers) -> None:
        self.outputs, self.nats = outputs, 0.0
        self.wrong = np.zeros(0, np.int64)
        """Wrong tags at the first step, the second, ..."""
        self.steps = np.zeros(0, np.int64)
        """Tags at each."""
        self.spans = np.zeros(3, np.int64)
        """Right, told, true."""
        size = 0 if isinstance(outputs, Numbers) else outputs.size
        self.confusion = np.zeros((size, size), np.int64)
        """How often each tag was taken for each."""
        self._numbers: list[Judged] = []

    def add(self, one: Judged) -> None:
        """Judge one more batch."""
        if isinstance(self.outputs, Numbers):
            self._numbers.append(one)
            return
        self.nats += one.nats
        self.wrong = _longer(self.wrong, ((one.told != one.truth) & one.inside).sum(1))
        self.steps = _longer(self.steps, one.inside.sum(1))
        np.add.at(self.confusion, (one.truth[one.inside], one.told[one.inside]), 1)
        if are_spans(self.outputs.names):
            self.spans += _spans_of(one, self.outputs.names)

    def figures(self) -> dict[str, float]:
        """Give the figures of :func:`figures`."""
        if isinstance(self.outputs, Numbers):
            return _of_numbers(self._numbers, self.outputs)
        steps = int(self.steps.sum())
        found = {
            "accuracy": (steps - int(self.wrong.sum())) / steps,
            "nats_per_step": self.nats / steps,
        }
        if not are_spans(self.outputs.names):
            return found
        right, told, true = self.spans.tolist()
        return found | {
            "precision": right / told if told else 0.0,
            "recall": right / true if true else 0.0,
            "f1": 2 * right / (told + true) if told + true else 0.0,
        }

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give true tags, what they were taken for, and how often (n,)."""
        truth, told = np.nonzero(self.confusion)
        return truth, told, self.confusion[truth, told]

    def error_by_step(self) -> list[float]:
        """Give the share of wrong tags at the first step, the second, ..."""
        return (self.wrong[self.steps > 0] / self.steps[self.steps > 0]).tolist()


def figures(judged: Iterable[Judged], outputs: Labels | Numbers) -> dict[str, float]:
    """Judge what was told.

    Returns:
        Of tags ``accuracy`` and ``nats_per_step``, of those that make spans also ``precision``, ``recall``
        and ``f1`` of whole spans. Of numbers ``mse`` in the data's units and ``r2``, the mean over targets
        of 1 - squared error / variance.
    """
    tally = Tally(outputs)
    for one in judged:
        tally.add(one)
    return tally.figures()


def _longer(total: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Add up counts by step, of which one has more steps."""
    width = max(len(total), len(more))
    return np.pad(total, (0, width - len(total))) + np.pad(more, (0, width - len(more)))


def _spans_of(one: Judged, names: Sequence[str]) -> np.ndarray:
    """Count the spans that are right, told, and true (3,)."""
    counts = np.zeros(3, np.int64)
    for row, length in enumerate(one.lengths):
        told, true = (
            set(spans([names[int(tag)] for tag in side[:length, row]]))
            for side in (one.told, one.truth)
        )
        counts += len(told & true), len(told), len(true)
    return counts


def _of_numbers(judged: Sequence[Judged], outputs: Numbers) -> dict[str, float]:
    from sklearn.metrics import r2_score

    truth, told = together(judged)
    squares = ((told - truth) ** 2).mean(0) * outputs.deviation**2
    found = {"mse": float(squares.mean())}
    return found | ({"r2": float(r2_score(truth, told))} if len(truth) > 1 else {})


def together(judged: Iterable[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Put what is true and what was told of all steps in a row: (n,), or numbers (n, O)."""
    pairs = [(one.truth[one.inside], one.told[one.inside]) for one in judged]
    truth, told = zip(*pairs, strict=True)
    return np.concatenate(truth), np.concatenate(told)
