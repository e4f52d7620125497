"""Figures of tags: spans by seqeval and by hand, numbers by scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.tagged import Labels, Numbers
from unrolled.tasks.tag_figures import Judged, Tally, are_spans, figures, spans


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-A I-A O B-A", [(0, 2, "A"), (3, 4, "A")]),
        ("I-A I-A I-B O", [(0, 2, "A"), (2, 3, "B")]),  # IOB1
        ("B-A B-A", [(0, 1, "A"), (1, 2, "A")]),
        ("S-A B-A I-A E-A S-B", [(0, 1, "A"), (1, 4, "A"), (4, 5, "B")]),  # IOBES
        ("U-A B-A L-A O", [(0, 1, "A"), (1, 3, "A")]),  # BILOU
        ("O O", []),
        ("E-A E-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A-x I-A-x", [(0, 2, "A-x")]),
    ],
)
def test_spans(tags, found):
    assert list(spans(tags.split())) == found


@pytest.mark.parametrize(
    ("names", "yes"),
    [
        ("O B-A I-A", True),
        ("I-A O", True),
        ("S-A E-A B-A I-A O", True),
        ("O", False),
        ("NOUN VERB", False),
        ("B-A X", False),
    ],
)
def test_what_spans_look_like(names, yes):
    assert are_spans(names.split()) is yes


MARKS = ["O", *(f"{mark}-{kind}" for mark in "BIESLU" for kind in "AB")]
PAIR = st.tuples(st.sampled_from(MARKS), st.sampled_from(MARKS))


@given(st.lists(st.lists(PAIR, min_size=1, max_size=8), min_size=1, max_size=4))
def test_span_f1_is_that_of_seqeval(rows):
    metrics = pytest.importorskip("seqeval.metrics")
    names = [mark for mark in MARKS if mark[0] not in "LU"]  # seqeval knows no L and U by default
    fix = {"L": "E", "U": "S"}
    rows = [[tuple(fix.get(m[0], m[0]) + m[1:] for m in pair) for pair in row] for row in rows]
    judged = []
    for row in rows:
        told, truth = (
            np.array([[names.index(m)] for m in side]) for side in zip(*row, strict=True)
        )
        judged.append(Judged(truth, told, np.array([len(row)]), 0.0))
    found = figures(judged, Labels(names))
    sides = [[[pair[side] for pair in row] for row in rows] for side in (1, 0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("precision", "recall", "f1"):
            expected = getattr(metrics, f"{name}_score")(*sides, zero_division=0)
            assert found[name] == pytest.approx(expected)


def test_accuracy_and_errors_by_hand():
    truth = np.array([[0, 1], [1, -1], [1, -1]])
    told = np.array([[0, 0], [1, 1], [0, 1]])
    judged = [
        Judged(truth, told, np.array([3, 1]), 2.0),
        Judged(truth[:1], told[:1], np.array([1, 1]), 1.0),
    ]
    tally = Tally(Labels(["X", "Y"]))
    for one in judged:
        tally.add(one)
    assert tally.figures() == {"accuracy": 3 / 6, "nats_per_step": 3 / 6}
    assert tally.error_by_step() == [2 / 4, 0, 1]


def test_numbers_by_hand():
    outputs = Numbers(["x", "y"], np.zeros(2), np.array([2.0, 1.0]))
    truth = np.array([[[0.0, 1.0]], [[1.0, 3.0]], [[np.nan, np.nan]]])
    told = np.array([[[0.0, 2.0]], [[0.0, 3.0]], [[9.0, 9.0]]])
    found = figures([Judged(truth, told, np.array([2]), 0.0)], outputs)
    assert found["mse"] == pytest.approx((0.5 * 4 + 0.5) / 2)
    assert found["r2"] == pytest.approx(((1 - 1 / 0.5) + (1 - 1 / 2)) / 2)
