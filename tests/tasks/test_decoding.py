"""Drawing symbols and beam search, against brute force."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unrolled.errors import InputError
from unrolled.tasks.decoding import Drawing, Sampler, beam_search

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        (Drawing(), [0.1, 0.4, 0.2, 0.3]),
        (Drawing(temperature=0), [0, 1, 0, 0]),
        (Drawing(temperature=0.5), np.square([0.1, 0.4, 0.2, 0.3]) / 0.3),
        (Drawing(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Drawing(top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (Drawing(top_p=0.39), [0, 1, 0, 0]),
        (Drawing(top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (Drawing(top_p=1), [0.1, 0.4, 0.2, 0.3]),
        (Drawing(top_k=3, top_p=0.75), [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_probabilities(drawing, expected):
    np.testing.assert_allclose(drawing.probabilities(LOGITS), expected, atol=1e-12)


def test_what_is_minus_infinity_never_comes():
    p = Drawing(temperature=5).probabilities(np.array([0.0, -np.inf, 1.0]))
    assert p[1] == 0
    assert p.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperature": -1}, "--temperature must be 0"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"top_k": 0}, "--top-k must be at least 1"),
        ({"top_p": 0}, "--top-p must lie above 0"),
        ({"top_p": 1.1}, "--top-p"),
    ],
)
def test_out_of_range(arguments, words):
    with pytest.raises(InputError, match=words):
        Drawing(**arguments)


def test_draws_follow_the_probabilities_and_the_seed():
    def draws(seed, sample, n):
        sampler = Sampler(Drawing(), seed, sample)
        return [sampler.draw(torch.from_numpy(LOGITS)) for _ in range(n)]

    counts = np.bincount(draws(0, 0, 4000), minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.1, 0.4, 0.2, 0.3], atol=0.03)
    assert draws(1, 0, 50) == draws(1, 0, 50)
    assert draws(1, 0, 50) != draws(1, 1, 50) != draws(2, 0, 50)


def test_a_negative_seed():
    with pytest.raises(InputError, match="--seed must be 0 or more, not -1"):
        Sampler(Drawing(), -1)


def _model(table):
    """A first-order chain as a recurrent model: its state is the last symbol, (1, W, V)."""

    def step(ids, states):
        assert states["h"].shape[1] == len(ids)
        return table[ids], {"h": torch.nn.functional.one_hot(ids, len(table)).unsqueeze(0)}

    return step, {"h": torch.zeros(1, 1, len(table))}


@given(arrays(np.float64, (4, 3), elements=st.floats(-3, 3, width=16)), st.integers(1, 4))
def test_a_wide_beam_finds_the_likeliest_sequence(table, length):
    table = torch.from_numpy(table)
    step, states = _model(table[1:])
    (found,) = beam_search(step, table[:1], states, width=100, length=length)

    def score(ids):
        rows = table.log_softmax(-1)
        return sum(rows[p, i] for p, i in zip([0, *(k + 1 for k in ids)], ids, strict=False))

    best = max(score(ids) for ids in itertools.product(range(3), repeat=length))
    assert float(score(found)) == pytest.approx(float(best))


def test_a_beam_of_one_is_greedy_and_a_complete_sequence_ends():
    table = torch.tensor([[0.0, 2, 1], [5, 0, 0], [0, 0, 9.0]])
    step, states = _model(table)
    assert beam_search(step, table[:1], states, width=1, length=4) == [[1, 0, 1, 0]]
    table[0] = torch.tensor([0.0, 2, 6])
    first = torch.tensor([0.0, 2, -9])
    found = beam_search(
        step, first[None], states, width=3, length=50, ended=lambda ids: ids[-1] == 2
    )
    assert found == [[1, 0, 2]]
    with pytest.raises(InputError, match="--beam must be at least 1"):
        beam_search(step, table[:1], states, width=0, length=4)
