"""The n-gram baselines against fractions worked out by hand and a dictionary that counts."""

import gzip
import os
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import InputError
from unrolled.tasks import ngram
from unrolled.tasks.ngram import NGram, Smoothing

SMOOTHINGS = get_args(Smoothing)
smoothings = st.sampled_from(SMOOTHINGS)


@st.composite
def texts(draw):
    """A size, a training text and another text over the same symbols; either may be empty."""
    size = draw(st.integers(1, 5))
    text = st.lists(st.integers(0, size - 1), max_size=40)
    return size, draw(text), draw(text)


def brute_force(train, size, context, symbol, order, smoothing):
    """P(symbol | context) in exact fractions, from the formulas of the papers alone."""

    def counts_of(length):
        return Counter(tuple(train[i : i + length]) for i in range(len(train) - length + 1))

    def probability(context, longest):
        if context is None:
            return Fraction(1, size)
        grams = counts_of(len(context) + 1)
        if smoothing == "kneser-ney" and not longest:
            grams = Counter(gram[1:] for gram in counts_of(len(context) + 2))
        after = {gram[-1]: n for gram, n in grams.items() if gram[:-1] == context}
        shorter = probability(context[1:] if context else None, False)
        if not after:
            return shorter
        c, total, kinds = after.get(symbol, 0), sum(after.values()), len(after)
        if smoothing == "witten-bell":
            return (c + kinds * shorter) / (total + kinds)
        tally = Counter(grams.values())
        n1, n2 = tally[1], tally[2]
        d = Fraction(n1, n1 + 2 * n2) if n1 and n2 else Fraction(1, 2)
        return (max(c - d, 0) + d * kinds * shorter) / total

    return probability(tuple(context[max(0, len(context) - order + 1) :]), True)


# The text a b a b b over the symbols a b c.
# Grams: a 2, b 3; ab 2, ba 1, bb 1. After a: 2 grams of 1 kind; after b: 2 grams of 2 kinds.
BY_HAND = {
    # P(a) = (2 + 2/3) / (5 + 2) = 8/21, P(b) = (3 + 2/3) / 7 = 11/21, P(c) = 2/21;
    # P(b|a) = (2 + 11/21) / 3 = 53/63; P(a|b) = (1 + 2 * 8/21) / 4 = 37/84.
    "witten-bell": {
        (): [8 / 21, 11 / 21, 2 / 21],
        (0,): [8 / 63, 53 / 63, 2 / 63],
        (1,): [37 / 84, 43 / 84, 4 / 84],
        (2,): [8 / 21, 11 / 21, 2 / 21],
    },
    # Alone, a and b have no count of 1, so d = 1/2: P(a) = (2 - 1/2 + 1/2 * 2/3) / 5 = 11/30.
    # Pairs: n1 = 2, n2 = 1, d = 1/2. Below them a is seen after b, b after a and b: 1 and 2, so
    # d = 1/3 and P'(a) = (1 - 1/3 + 1/3 * 2/3) / 3 = 8/27, P'(b) = (2 - 1/3 + 2/9) / 3 = 17/27;
    # P(b|a) = (2 - 1/2 + 1/2 * 17/27) / 2 = 49/54; P(a|b) = (1 - 1/2 + 8/27) / 2 = 43/108.
    "kneser-ney": {
        (): [11 / 30, 17 / 30, 2 / 30],
        (0,): [4 / 54, 49 / 54, 1 / 54],
        (1,): [43 / 108, 61 / 108, 4 / 108],
        (2,): [8 / 27, 17 / 27, 2 / 27],
    },
}


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_hand_computed(smoothing):
    model = NGram.fit(np.array([0, 1, 0, 1, 1]), size=3, order=2, smoothing=smoothing)
    for context, expected in BY_HAND[smoothing].items():
        np.testing.assert_allclose(model.distribution(np.array(context)), expected, rtol=1e-14)
    alone, after = BY_HAND[smoothing][()], BY_HAND[smoothing]
    nats = -np.log([alone[1], after[1,][0], after[0,][2]])
    np.testing.assert_allclose(model.nats(np.array([1, 0, 2])), nats, rtol=1e-14)
    assert model.cross_entropy(np.array([1, 0, 2])) == pytest.approx(
        {1: -np.log([alone[1], alone[0], alone[2]]).mean(), 2: nats.mean()}, rel=1e-14
    )


@given(texts(), st.integers(1, 4), smoothings)
def test_agrees_with_a_dictionary(case, order, smoothing):
    size, train, text = case
    nats = NGram.fit(np.array(train, int), size, 4, smoothing=smoothing).nats(
        np.array(text, int), order
    )
    expected = [
        float(brute_force(train, size, text[:i], symbol, order, smoothing))
        for i, symbol in enumerate(text)
    ]
    np.testing.assert_allclose(np.exp(-nats), expected, rtol=1e-12)


@given(texts(), st.integers(1, 4), smoothings)
def test_probabilities_sum_to_one(case, order, smoothing):
    size, train, context = case
    model = NGram.fit(np.array(train, int), size, 4, smoothing=smoothing)
    p = model.distribution(np.array(context, int), order)
    assert p.shape == (size,)
    assert p.min() > 0
    assert p.sum() == pytest.approx(1, abs=1e-12)


@given(texts(), st.integers(1, 4), smoothings)
def test_distribution_and_nats_agree(case, order, smoothing):
    size, train, text = case
    model = NGram.fit(np.array(train, int), size, 4, smoothing=smoothing)
    expected = [
        model.distribution(np.array(text[:i], int), order)[symbol] for i, symbol in enumerate(text)
    ]
    nats = model.nats(np.array(text, int), order)
    np.testing.assert_allclose(np.exp(-nats), expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_long_texts_are_read_in_chunks(smoothing, monkeypatch, tmp_path):
    ids = np.random.default_rng(0).integers(0, 4, 1000, dtype=np.uint8)
    ids.tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", np.uint8, "r")
    model = NGram.fit(mapped[:600], 5, smoothing=smoothing)
    whole = model.nats(ids)
    monkeypatch.setattr(ngram, "CHUNK", 7)
    np.testing.assert_array_equal(model.nats(mapped), whole)
    assert model.cross_entropy(mapped)[7] == pytest.approx(whole.mean(), rel=1e-12)


def test_what_stands_before_is_context_only():
    ids = np.random.default_rng(0).integers(0, 4, 300)
    model = NGram.fit(ids, 4, order=5)
    np.testing.assert_array_equal(
        model.nats(ids[100:], context_from=ids[:100]), model.nats(ids)[100:]
    )
    without = model.nats(ids[100:])
    assert len(without) == 200
    assert not np.allclose(without[:4], model.nats(ids)[100:104])


def test_cap_counts_the_start_only():
    ids = np.array([0, 1, 0, 1, 2, 2, 2])
    capped, start = NGram.fit(ids, 3, 2, cap=4), NGram.fit(ids[:4], 3, 2)
    np.testing.assert_array_equal(capped.nats(ids), start.nats(ids))


@pytest.mark.parametrize("n", [0, 1, 6, 7, 500])
def test_grams_that_fill_several_numbers_are_those_that_fill_one(n):
    ids = np.random.default_rng(n).integers(0, 5, n)
    few, many = (NGram.fit(ids, size).to_arrays() for size in (5, 100_000))
    assert few.pop("head")[0] == 5
    assert many.pop("head")[0] == 100_000
    assert few.keys() == many.keys()
    assert all(np.array_equal(few[name], many[name]) for name in few)


def test_a_large_alphabet():
    ids = np.random.default_rng(0).integers(0, 50_000, 5000)
    model = NGram.fit(ids, 50_000, order=3)
    context = ids[100:102]
    assert model.distribution(context).argmax() == ids[102]
    assert model.distribution(context).sum() == pytest.approx(1, abs=1e-12)


@given(texts(), smoothings)
def test_arrays_and_back(case, smoothing):
    size, train, text = case
    model = NGram.fit(np.array(train, int), size, 3, smoothing=smoothing)
    again = NGram.from_arrays(model.to_arrays())
    assert (again.size, again.order, again.smoothing) == (size, 3, smoothing)
    for order in (1, 2, 3):
        np.testing.assert_array_equal(
            again.nats(np.array(text, int), order), model.nats(np.array(text, int), order)
        )


DAMAGE = {
    "no head": lambda a: a.pop("head"),
    "size below a symbol": lambda a: a.update(head=np.array([2, 0])),
    "size 0": lambda a: a.update(head=np.array([0, 0])),
    "unknown smoothing": lambda a: a.update(head=np.array([3, 9])),
    "a part is missing": lambda a: a.pop("counts.2"),
    "a level is missing": lambda a: [a.pop(f"{part}.2") for part in ("symbols", "counts", "kinds")],
    "nothing but the head": lambda a: [a.pop(key) for key in list(a) if key != "head"],
    "cut short": lambda a: a.update({"symbols.3": a["symbols.3"][:-1]}),
    "count of zero": lambda a: a.update({"counts.1": a["counts.1"] * 0}),
    "fractions": lambda a: a.update({"counts.1": a["counts.1"] * 1.5}),
    "two dimensions": lambda a: a.update({"symbols.1": a["symbols.1"][None]}),
    "order of symbols": lambda a: a.update({"symbols.1": a["symbols.1"][::-1]}),
    "kinds do not add up": lambda a: a.update(
        {"kinds.2": a["kinds.2"] + a["kinds.1"].dtype.type(1)}
    ),
    "a tail without its gram": lambda a: a.update({"symbols.3": np.array([2, 1, 2], np.uint8)}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_arrays(damage):
    arrays = NGram.fit(np.array([0, 1, 2, 0, 2]), 3, order=3).to_arrays()
    NGram.from_arrays(arrays)
    damage(arrays)
    with pytest.raises(InputError, match="n-gram baselines are damaged"):
        NGram.from_arrays(arrays)


def test_symbols_out_of_range():
    model = NGram.fit(np.array([0, 1]), 2)
    for ids in ([0, 2], [-1]):
        with pytest.raises(InputError, match="none of the 2 symbols"):
            NGram.fit(np.array(ids), 2)
        with pytest.raises(InputError, match="none of the 2 symbols"):
            model.nats(np.array(ids))
    with pytest.raises(InputError, match="no text"):
        model.cross_entropy(np.array([], int))


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
def test_shakespeare():
    path = Path(os.environ["UNROLLED_DATA_DIR"]) / "tinyshakespeare" / "input.txt.gz"
    if not path.exists():
        pytest.skip("tinyshakespeare is not there")
    text = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    symbols, ids = np.unique(text, return_inverse=True)
    train, held_out = np.split(ids, [len(ids) * 9 // 10])
    nats = {
        smoothing: NGram.fit(train, len(symbols) + 1, smoothing=smoothing).cross_entropy(held_out)
        for smoothing in SMOOTHINGS
    }
    # A character tells much of the next; long contexts help until they become too rare.
    assert all(a > b for a, b in pairwise(list(nats["kneser-ney"].values())[:6]))
    assert min(nats["witten-bell"], key=nats["witten-bell"].__getitem__) == 5
    assert nats["witten-bell"][5] == pytest.approx(1.669, abs=0.002)
    assert nats["kneser-ney"][6] == pytest.approx(1.558, abs=0.002)
