"""The linear-chain CRF against sums over all sequences of tags."""

from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unrolled as ur
from unrolled.engine import engine as engine_of
from unrolled.layers import CRF
from unrolled.layers.crf import LogForward


def chain(tags, seed=0):
    crf = CRF(tags).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in crf.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double()
    return crf


def inputs(steps, lengths, tags, seed=1):
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(steps, len(lengths), tags, generator=generator).double()
    y = torch.randint(tags, (steps, len(lengths)), generator=generator)
    return scores, y, torch.tensor(lengths)


def by_hand(crf, scores, y):
    """s(x, y) of one row: scores (T, C), y a tuple of T tags."""
    total = crf.start[y[0]] + crf.end[y[-1]]
    total = total + sum(scores[t, tag] for t, tag in enumerate(y))
    return total + sum(crf.transition[a, b] for a, b in pairwise(y))


def all_of(crf, scores):
    """Every sequence of tags of one row, and its score."""
    every = list(product(range(crf.tags), repeat=len(scores)))
    return every, torch.stack([by_hand(crf, scores, y) for y in every])


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize(("tags", "lengths"), [(1, [3, 1]), (3, [4, 1, 3]), (4, [5, 5])])
def test_against_all_sequences(tags, lengths, engine):
    crf = chain(tags)
    scores, y, ends = inputs(max(lengths), lengths, tags)
    with engine_of(engine):
        nats = crf(scores, y, ends, "none")
        assert crf(scores, y, ends).item() == pytest.approx(nats.mean().item())
        assert crf(scores, y, ends, "sum").item() == pytest.approx(nats.sum().item())
        marginals = crf.marginals(scores, ends)
    best, score = crf.decode(scores, ends)
    for row, length in enumerate(lengths):
        own = scores[:length, row]
        every, totals = all_of(crf, own)
        truth = tuple(y[:length, row].tolist())
        expected = totals.logsumexp(0) - by_hand(crf, own, truth)
        torch.testing.assert_close(nats[row], expected)
        assert every[totals.argmax()] == tuple(best[:length, row].tolist())
        torch.testing.assert_close(score[row], totals.max())
        assert (best[length:, row] == -1).all()
        p = totals.softmax(0)
        for t in range(length):
            of_tag = [sum(p[n] for n, y in enumerate(every) if y[t] == c) for c in range(tags)]
            torch.testing.assert_close(marginals[t, row], torch.stack(of_tag))
        assert not marginals[length:, row].any()


@pytest.mark.parametrize("lengths", [None, [4, 1, 3]])
def test_gradients(lengths):
    crf = chain(3)
    scores, y, ends = inputs(4, [4, 4, 4], 3)
    ends = None if lengths is None else torch.tensor(lengths)
    names = [name for name, _ in crf.named_parameters()]

    def nats(scores, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(crf, given, (scores, y, ends, "sum"))

    values = [p.detach().clone().requires_grad_() for p in crf.parameters()]
    assert torch.autograd.gradcheck(nats, (scores.requires_grad_(), *values))


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    tags=st.integers(1, 4),
    more=st.integers(0, 2),
)
def test_padding_and_other_rows_make_no_difference(lengths, tags, more):
    crf = chain(tags)
    scores, y, ends = inputs(max(lengths) + more, lengths, tags)
    nats = crf(scores, y, ends, "none")
    best, _ = crf.decode(scores, ends)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone = crf(scores[:length, one], y[:length, one], reduction="none")
        torch.testing.assert_close(alone[0], nats[row])
        torch.testing.assert_close(crf.decode(scores[:length, one])[0], best[:length, one])


def test_large_scores_do_not_overflow():
    crf = CRF(3)
    scores = torch.tensor([[[1e4, -1e4, 0.0]]]).repeat(50, 1, 1)
    assert crf.log_partition(scores).item() == pytest.approx(50e4)
    assert crf(scores, torch.zeros(50, 1, dtype=torch.long)).item() == pytest.approx(0, abs=0.1)


def test_the_forward_algorithm_is_compiled():
    assert ur.explain(LogForward(5)).engine == "native"


def test_learns_what_follows_what():
    """Scores tell nothing; tags alternate."""
    crf = CRF(2)
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.2)
    y = torch.arange(8)[:, None] % 2
    for _ in range(100):
        optimizer.zero_grad()
        crf(torch.zeros(8, 1, 2), y).backward()
        optimizer.step()
    best, _ = crf.decode(torch.zeros(8, 1, 2))
    assert best.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(3, 2, 4), torch.zeros(3, 2).long()), "steps, rows, 3"),
        ((torch.zeros(0, 2, 3), torch.zeros(0, 2).long()), "with a step"),
        ((torch.zeros(3, 2, 3), torch.zeros(2, 3).long()), "tags must be"),
        ((torch.zeros(3, 2, 3), torch.full((3, 2), 3)), "from 0 to 2"),
        ((torch.zeros(3, 2, 3), torch.zeros(3, 2).long(), torch.tensor([3, 0])), "needs a step"),
        ((torch.zeros(3, 2, 3), torch.zeros(3, 2).long(), None, "median"), "reduction"),
    ],
)
def test_wrong_input(arguments, words):
    with pytest.raises(ValueError, match=words):
        CRF(3)(*arguments)


def test_no_tags():
    with pytest.raises(ValueError, match="at least one tag"):
        CRF(0)
