"""Attention of queries over a sequence, against its formulas, and rows by themselves."""

from typing import get_args

import numpy as np
import pytest
import torch

from unrolled.engine.randomness import counter
from unrolled.layers.attend import NOWHERE, Attend, Choice, Score

SCORES, CHOICES = get_args(Score), get_args(Choice)
QUERIES, STEPS, WIDTH = 4, 9, 5
LENGTHS = torch.tensor([6, 9, 0, 1, 7])


def make(score="additive", choice="soft", width=WIDTH, **options):
    torch.manual_seed(0)
    return Attend(width, WIDTH, score, choice, **options).double().eval()


def rows(lengths=LENGTHS, steps=STEPS):
    torch.manual_seed(1)
    y = torch.randn(steps, len(lengths), WIDTH, dtype=torch.float64)
    y[torch.arange(steps)[:, None] >= lengths] = float("nan")
    return torch.randn(QUERIES, len(lengths), WIDTH, dtype=torch.float64), y


def formula(attend, query, y):
    """Weights (T,) of one query (Q,) over one row (n, H), in NumPy."""
    p = {name: value.detach().numpy() for name, value in attend.named_parameters()}
    if attend.score == "dot":
        scores = y @ query
    elif attend.score == "general":
        scores = y @ (p["query.weight"] @ query)
    else:
        both = p["query.weight"] @ query + p["query.bias"] + y @ p["key.weight"].T
        scores = np.tanh(both) @ p["v.weight"][0]
    if attend.choice in ("hard", "sampled"):
        return np.eye(len(y))[scores.argmax()]
    if attend.choice == "top-k":
        scores = np.where(scores >= np.sort(scores)[-min(attend.k, len(y))], scores, -np.inf)
    return np.exp(scores) / np.exp(scores).sum()


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("score", SCORES)
def test_the_formula(score, choice):
    attend = make(score, choice)
    query, y = rows()
    context, weights, chosen = attend(query, y, LENGTHS)
    assert context.shape == (QUERIES, 5, WIDTH)
    assert weights.shape == (QUERIES, 5, STEPS)
    for row, n in enumerate(LENGTHS.tolist()):
        for s in range(QUERIES if n else 0):
            own = y[:n, row].numpy()
            expected = formula(attend, query[s, row].numpy(), own)
            np.testing.assert_allclose(weights[s, row, :n].detach(), expected, rtol=0, atol=1e-14)
            np.testing.assert_allclose(context[s, row].detach(), expected @ own, rtol=0, atol=1e-13)
            if chosen is not None:
                kept = [step for step in chosen[s, row].tolist() if step != NOWHERE]
                assert kept == np.argsort(-expected, kind="stable")[: len(kept)].tolist()
                assert set(kept) == set(np.flatnonzero(expected))
    assert not weights[torch.arange(STEPS) >= LENGTHS[:, None].expand(QUERIES, -1, 1)].any()
    assert not context[:, 2].any()
    if chosen is None:
        assert choice == "soft"
    else:
        assert (chosen[:, 2] == NOWHERE).all()


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("score", SCORES)
def test_a_row_alone_is_the_row_in_a_batch(score, choice):
    attend = make(score, choice)
    query, y = rows()
    y.requires_grad_()
    whole = attend(query, y, LENGTHS)
    back = torch.randn_like(whole.context)
    (grad,) = torch.autograd.grad(whole.context, y, back)
    assert grad.isfinite().all()
    for row, n in enumerate(LENGTHS.tolist()):
        assert not grad[n:, row].any()
        if n:
            own = y.detach()[:n, row : row + 1].requires_grad_()
            alone = attend(query[:, row : row + 1], own)
            torch.testing.assert_close(
                alone.context[:, 0], whole.context[:, row], rtol=0, atol=1e-14
            )
            (mine,) = torch.autograd.grad(alone.context, own, back[:, row : row + 1])
            torch.testing.assert_close(mine[:, 0], grad[:n, row], rtol=0, atol=1e-13)


@pytest.mark.parametrize("choice", ["soft", "top-k"])
@pytest.mark.parametrize("score", SCORES)
def test_gradients(score, choice):
    attend = make(score, choice)
    query, y = (torch.randn(3, 2, WIDTH, dtype=torch.float64, requires_grad=True) for _ in "qy")
    names = [name for name, _ in attend.named_parameters()]

    def call(query, y, *parameters):
        given = dict(zip(names, parameters, strict=True))
        found = torch.func.functional_call(attend, given, (query, y, torch.tensor([3, 1])))
        return found.context

    assert torch.autograd.gradcheck(call, (query, y, *attend.parameters()))


@pytest.mark.parametrize("choice", ["hard", "sampled"])
def test_the_gradient_of_a_choice_is_that_of_soft_attention(choice):
    query, y = rows()
    own = query.requires_grad_()
    (hard,) = torch.autograd.grad(make("general", choice)(own, y, LENGTHS).weights.cos().sum(), own)
    weights = make("general")(own, y, LENGTHS).weights
    taken = make("general", choice)(query, y, LENGTHS).weights.detach()
    (soft,) = torch.autograd.grad((weights * -taken.sin()).sum(), own)
    torch.testing.assert_close(hard, soft, rtol=0, atol=1e-14)


def test_what_is_sampled_follows_the_weights():
    attend = make("dot", "sampled").train()
    query = torch.randn(1, 1, WIDTH, dtype=torch.float64).expand(4000, 1, WIDTH)
    y = torch.randn(3, 1, WIDTH, dtype=torch.float64)
    with counter(0):
        drawn = attend(query, y).weights.mean((0, 1))
    expected = make("dot")(query[:1], y).weights[0, 0]
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.03)
    with counter(0):
        again = attend(query, y, torch.tensor([2])).chosen
    assert again is not None
    assert set(again.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("choice", CHOICES)
def test_batch_first(choice):
    query, y = rows()
    expected = make("general", choice)(query, y, LENGTHS)
    first = make("general", choice, batch_first=True)
    found = first(query.transpose(0, 1), y.transpose(0, 1), LENGTHS)
    for one, other in zip(found, expected, strict=True):
        assert (one is None and other is None) or torch.equal(one, other.transpose(0, 1))


def test_few_steps_and_large_k():
    query, y = rows(torch.tensor([2, 2]), steps=2)
    attend = make("dot", "top-k", k=7)
    torch.testing.assert_close(attend(query, y).weights, make("dot")(query, y).weights)
    assert attend(query, y).chosen.shape == (QUERIES, 2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": "cosine"}, "no attention 'cosine'; give one of additive"),
        ({"choice": "best"}, "no attention 'best'; give one of soft"),
        ({"choice": "top-k", "k": 0}, "at least 1 step, not 0"),
        ({"score": "dot", "width": 3}, "the query has 3, a step 5; take general"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


@pytest.mark.parametrize(
    ("query", "y", "lengths", "words"),
    [
        ((2, 3, WIDTH), (4, 3), None, "y must be"),
        ((2, 3, WIDTH), (0, 3, WIDTH), None, "with a step"),
        ((2, 3, WIDTH), (4, 3, WIDTH + 1), None, "rows, 5"),
        ((2, 3, WIDTH), (4, 2, WIDTH), None, "2 rows, width"),
        ((3, WIDTH), (4, 3, WIDTH), None, "queries must be"),
        ((2, 3, WIDTH), (4, 3, WIDTH), [1, 5, 2], "between 0 and 4"),
    ],
)
def test_bad_input(query, y, lengths, words):
    given = None if lengths is None else torch.tensor(lengths)
    with pytest.raises(ValueError, match=words):
        make()(torch.zeros(query).double(), torch.zeros(y).double(), given)
