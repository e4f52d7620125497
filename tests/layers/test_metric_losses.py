"""Losses of metric learning against numbers worked by hand, plain loops, and differences."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from unrolled.layers.metric_losses import (
    contrastive_loss,
    distances,
    group_loss,
    n_pairs_loss,
    triplet_loss,
)

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2])


@pytest.fixture
def x():
    return torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def triplets(labels):
    n = range(len(labels))
    return [
        (a, p, k)
        for a, p, k in itertools.product(n, n, n)
        if a != p and labels[a] == labels[p] and labels[a] != labels[k]
    ]


def test_the_group_loss_by_hand():
    x, labels = torch.tensor([[0.0], [1], [3], [5]]), torch.tensor([0, 0, 1, 1])
    # of the point 0: |0 - 1| - (|0 - 3| + |0 - 5|) = 1 - 8; of 1: 1 - (2 + 4)
    assert group_loss(x, labels, torch.eye(1)).tolist() == [-7, -5, 2 - 5, 2 - 9]
    assert group_loss(x, labels).tolist() == [-7, -5, -3, -7]
    assert group_loss(x, labels, torch.tensor([[3.0, 4.0]])).tolist() == [-35, -25, -15, -35]


def test_contrastive_by_hand():
    x, labels = torch.tensor([[0.0], [3], [4]]), torch.tensor([0, 0, 1])
    # pairs 0-3: 9 / 2; 0-4: beyond the margin; 3-4: (2 - 1)^2 / 2
    assert contrastive_loss(x, labels, margin=2).item() == pytest.approx((4.5 + 0.5) / 3)
    # rows 0, 3: 4.5 each; the nearest others are 4, 1 and 1 away
    assert contrastive_loss(x, labels, 2, "hard").item() == pytest.approx((9 + 0 + 0.5 + 0.5) / 5)


def test_all_triplets_are_those_of_torch(x):
    chosen = torch.tensor(triplets(LABELS.tolist()))
    anchors, positives, negatives = x[chosen].unbind(1)
    theirs = functional.triplet_margin_loss(anchors, positives, negatives, margin=1.5, eps=0)
    torch.testing.assert_close(triplet_loss(x, LABELS, 1.5), theirs)


def test_mined_triplets_by_loops(x):
    d, labels = distances(x), LABELS.tolist()
    hard, semi = [], []
    for a in range(7):
        same = [p for p in range(7) if p != a and labels[p] == labels[a]]
        other = [k for k in range(7) if labels[k] != labels[a]]
        hard.append(max(0, max(d[a, p] for p in same) - min(d[a, k] for k in other) + 0.3))
        for p in same:
            far = [d[a, k] for k in other if d[a, k] > d[a, p]]
            semi.append(max(0, d[a, p] - (min(far) if far else max(d[a, k] for k in other)) + 0.3))
    for mining, terms in (("hard", hard), ("semi-hard", semi)):
        found = triplet_loss(x, LABELS, 0.3, mining)
        assert found.item() == pytest.approx(float(sum(terms)) / len(terms))


def test_n_pairs_by_hand():
    x, labels = torch.tensor([[1.0, 0], [1, 1], [0, 2]]), torch.tensor([0, 0, 1])
    # products: 0-1: 1, 0-2: 0, 1-2: 2
    expected = (math.log(1 + math.exp(0 - 1)) + math.log(1 + math.exp(2 - 1))) / 2
    assert n_pairs_loss(x, labels).item() == pytest.approx(expected)
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    assert n_pairs_loss(x, labels, temperature=0.5).item() == pytest.approx(expected)


def test_n_pairs_by_loops(x):
    """Sohn 2016, eq. 4, for every ordered pair of a class."""
    products, labels = (x @ x.T).tolist(), LABELS.tolist()
    terms = []
    for i, j in itertools.permutations(range(7), 2):
        if labels[i] == labels[j]:
            others = (k for k in range(7) if labels[k] != labels[i])
            terms.append(
                math.log(1 + sum(math.exp(products[i][k] - products[i][j]) for k in others))
            )
    assert n_pairs_loss(x, LABELS).item() == pytest.approx(sum(terms) / len(terms))


LOSSES = {
    "group": lambda x, labels: group_loss(x, labels).sum(),
    "contrastive": lambda x, labels: contrastive_loss(x, labels, 2.0),
    "contrastive, hard": lambda x, labels: contrastive_loss(x, labels, 2.0, "hard"),
    "triplet": lambda x, labels: triplet_loss(x, labels, 0.5),
    "triplet, semi-hard": lambda x, labels: triplet_loss(x, labels, 0.5, "semi-hard"),
    "triplet, hard": lambda x, labels: triplet_loss(x, labels, 0.5, "hard"),
    "n-pairs": lambda x, labels: n_pairs_loss(x, labels, 0.7),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_derivatives(x, loss):
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS), (x.requires_grad_(),))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "group"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]], ids=["one class", "none alike"])
def test_nothing_to_learn_is_no_loss_and_no_nan(name, labels):
    x = torch.ones(3, 2, requires_grad=True)  # all at one place, too
    loss = LOSSES[name](x, torch.tensor(labels))
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    if name == "n-pairs" or name.startswith("triplet"):
        assert loss.item() == 0


def test_the_order_of_points_makes_no_difference(x):
    order = torch.randperm(7)
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(x[order], LABELS[order]), loss(x, LABELS))


def test_mining_there_is_not(x):
    with pytest.raises(ValueError, match="all or hard, not semi-hard"):
        contrastive_loss(x, LABELS, mining="semi-hard")
    with pytest.raises(ValueError, match="not some"):
        triplet_loss(x, LABELS, mining="some")  # pyright: ignore[reportArgumentType]
