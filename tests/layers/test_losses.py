"""Losses against numbers worked by hand, torch's own, and derivatives by differences."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from unrolled.engine.randomness import counter, uniform
from unrolled.layers.losses import (
    CLASS_LOSSES,
    NUMBER_LOSSES,
    AdaptiveSoftmax,
    SampledSoftmax,
    absolute_error,
    bias,
    cross_entropy,
    ctc,
    gaussian_nll,
    hinge,
    huber,
    quantile_loss,
    reduced,
    squared_error,
    squared_hinge,
)


def test_gaussian_by_hand():
    # N(3; 1, 2^2): ln 2 + (2 / 2)^2 / 2 + ln(2 pi) / 2
    found = gaussian_nll(torch.tensor(1.0), torch.tensor(2.0).log(), torch.tensor(3.0))
    assert found.item() == pytest.approx(math.log(2) + 0.5 + 0.5 * math.log(2 * math.pi))


def test_gaussian_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_deviation, y = torch.randn(3, 5, 7, dtype=torch.float64).unbind()
    own = gaussian_nll(mean, log_deviation, y)
    assert own.shape == (5, 7)
    theirs = functional.gaussian_nll_loss(
        mean, y, (2 * log_deviation).exp(), full=True, reduction="none"
    )
    torch.testing.assert_close(own, theirs)
    normal = torch.distributions.Normal(mean, log_deviation.exp())
    torch.testing.assert_close(own, -normal.log_prob(y))


def test_quantile_by_hand():
    told = torch.tensor([[1.0, 2.0, 5.0]])
    found = quantile_loss(told, torch.tensor([3.0]), (0.1, 0.5, 0.9))
    torch.testing.assert_close(found, torch.tensor([[0.1 * 2, 0.5 * 1, 0.1 * 2]]))


@pytest.mark.parametrize("q", [0.05, 0.5, 0.8])
def test_the_quantile_makes_it_least(q):
    torch.manual_seed(0)
    y = torch.randn(1001, dtype=torch.float64)
    candidates = y.sort().values
    losses = quantile_loss(
        candidates[:, None], y[:, None, None].expand(1001, 1001, 1)[..., 0], (q,)
    )
    best = candidates[losses[..., 0].mean(0).argmin()]
    assert best.item() == pytest.approx(y.quantile(q).item(), abs=0.01)


def test_derivatives():
    torch.manual_seed(0)
    mean, log_deviation, y = (
        part.requires_grad_() for part in torch.randn(3, 4, dtype=torch.float64).unbind()
    )
    assert torch.autograd.gradcheck(gaussian_nll, (mean, log_deviation, y))
    told = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, y: quantile_loss(t, y, (0.2, 0.7)), (told, y))


def test_wrong_quantiles():
    with pytest.raises(ValueError, match="3 forecasts a number, but 2 quantiles"):
        quantile_loss(torch.zeros(4, 3), torch.zeros(4), (0.1, 0.9))
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_loss(torch.zeros(4, 1), torch.zeros(4), (1.0,))


def test_hinge_by_hand():
    # max(0, 5.1 - 3.2 + 1) + max(0, -1.7 - 3.2 + 1); (1.3 - 4.9 + 1), (2 - 4.9 + 1); 6.3 and 6.6 over
    scores = torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    y = torch.tensor([0, 1, 2])
    torch.testing.assert_close(hinge(scores, y), torch.tensor([2.9, 0.0, 12.9]))
    expected = torch.tensor([2.9**2, 0.0, 6.3**2 + 6.6**2])
    torch.testing.assert_close(squared_hinge(scores, y), expected)
    torch.testing.assert_close(hinge(scores, y) / 3, theirs(scores, y, p=1))
    torch.testing.assert_close(squared_hinge(scores, y) / 3, theirs(scores, y, p=2))


def theirs(scores, y, p):
    return functional.multi_margin_loss(scores, y, p=p, reduction="none")


def test_cross_entropy_by_hand():
    scores = torch.tensor([0.5, 0.25, 0.25]).log()
    y = torch.tensor(0)
    assert cross_entropy(scores, y).item() == pytest.approx(math.log(2))
    smoothed = 0.9 * math.log(2) + 0.1 / 3 * (math.log(2) + 2 * math.log(4))
    assert cross_entropy(scores, y, smoothing=0.1).item() == pytest.approx(smoothed)
    alike = cross_entropy(torch.zeros(4, 2, 7), torch.zeros(4, 2, dtype=torch.long))
    torch.testing.assert_close(alike, torch.full((4, 2), math.log(7)))


@pytest.mark.parametrize(
    ("loss", "near", "far"),
    [
        (squared_error, 0.25, 9.0),
        (absolute_error, 0.5, 3.0),
        (bias, -0.5, 3.0),
        (huber, 0.125, 2.5),
    ],
)
def test_errors_by_hand(loss, near, far):
    found = loss(torch.tensor([1.0, 5.0]), torch.tensor([1.5, 2.0]))
    assert found.tolist() == [near, far]


def test_ctc_by_hand():
    # "a" in two steps: a a, a -, - a
    p = torch.tensor([[[0.4, 0.6]], [[0.7, 0.3]]])
    found = ctc(p.log(), torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]))
    assert found.item() == pytest.approx(-math.log(0.6 * 0.3 + 0.6 * 0.7 + 0.4 * 0.3))
    # "a a" needs a blank between, and so three steps
    found = ctc(p.log(), torch.tensor([[1, 1]]), torch.tensor([2]), torch.tensor([2]))
    assert found.item() == 0


def test_adaptive_softmax_is_a_distribution_and_its_loss():
    torch.manual_seed(0)
    net = AdaptiveSoftmax(32, 40)
    h, y = torch.randn(5, 3, 32), torch.randint(40, (5, 3))
    scores = net.scores(h)
    assert net.cutoffs == [2, 10, 40]
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(5, 3))
    torch.testing.assert_close(net.loss_of(h, y), cross_entropy(scores, y))
    net.loss_of(h, y).mean().backward()
    full = nn.Linear(32, 40)
    assert sum(w.numel() for w in net.parameters()) < sum(w.numel() for w in full.parameters())


def test_common_last_symbols_count_as_frequent():
    torch.manual_seed(0)
    net = AdaptiveSoftmax(16, 40, (4, 20), common=2)
    h, y = torch.randn(5, 16), torch.tensor([38, 39, 0, 1, 37])
    scores = net.scores(h)
    torch.testing.assert_close(net.loss_of(h, y), cross_entropy(scores, y))
    # All of the first cluster, the two last symbols and the two first, have weights of their own.
    head = net.head(h).log_softmax(-1)
    torch.testing.assert_close(scores[:, [38, 39, 0, 1]], head[:, :4])


@pytest.mark.parametrize(
    ("width", "cutoffs", "sentence"),
    [(8, (4, 20), "a width of 8"), (16, (20, 4), "must rise"), (16, (40,), "must rise below 40")],
)
def test_clusters_that_cannot_be(width, cutoffs, sentence):
    with pytest.raises(ValueError, match=sentence):
        AdaptiveSoftmax(width, 40, cutoffs)


def sampled(samples, common=0):
    torch.manual_seed(0)
    return SampledSoftmax(6, 50, samples, common).double()


@pytest.mark.parametrize("common", [0, 2])
def test_a_sampled_softmax_by_hand(common):
    net = sampled(7, common)
    h, y = torch.randn(3, 2, 6).double(), torch.randint(50, (3, 2))
    with counter(1, 2):
        found = net.loss_of(h, y)
        u = uniform((1, 1, 7), net.stream, h)[0, 0].numpy()
    scores = net(h).detach().numpy()
    for place in np.ndindex(3, 2):
        s, own = scores[place], int(y[place])
        total = np.exp(s[own])
        for number in u:
            rank = int(np.exp(number * np.log(51))) - 1
            k = (rank - common) % 50
            if k != own:
                total += np.exp(s[k]) / (7 * np.log((rank + 2) / (rank + 1)) / np.log(51))
        assert found[place].item() == pytest.approx(np.log(total) - s[own], rel=1e-9)


def test_a_sampled_softmax_is_right_on_average():
    net = sampled(20)
    h, y = torch.randn(2, 6).double(), torch.tensor([3, 40])
    found = []
    for step in range(600):
        with counter(0, step), torch.no_grad():
            found.append(net.loss_of(h, y).exp())
    inverse = torch.stack(found)  # 1 / p, whose sum is estimated
    spread = inverse.std(0) / 600**0.5
    assert ((inverse.mean(0) - cross_entropy(net(h), y).exp()).abs() < 4 * spread).all()
    with counter(0, 0):
        many = sampled(200_000).loss_of(h, y)
    torch.testing.assert_close(many, cross_entropy(net(h), y), rtol=0.02, atol=0)


def test_derivatives_of_a_sampled_softmax():
    net = sampled(9)
    h, y = torch.randn(4, 6, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 1, 49])

    def loss(h, *weights):
        with counter(0, 0):
            return net.loss_of(h, y)

    assert torch.autograd.gradcheck(loss, (h, net.weight, net.bias))


def test_reducing_by_hand():
    losses = torch.tensor([[1.0, 2.0], [3.0, math.inf], [5.0, math.nan]])
    lengths = torch.tensor([3, 1])
    assert reduced(losses, lengths).item() == pytest.approx((1 + 3 + 5 + 2) / 4)
    assert reduced(losses, lengths, reduction="sum").item() == pytest.approx((9 + 2) / 2)
    weights = torch.tensor([1.0, 3.0])
    assert reduced(losses, lengths, weights).item() == pytest.approx((9 + 3 * 2) / (3 + 3))
    assert reduced(losses[:1, :]).item() == 1.5
    assert reduced(torch.tensor([4.0, 8.0]), weights=weights).item() == 7
    assert reduced(losses, torch.zeros(2, dtype=torch.long)).item() == 0


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_derivatives_of_losses_of_classes(name):
    torch.manual_seed(0)
    scores = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randint(4, (3, 2))
    assert torch.autograd.gradcheck(lambda s: CLASS_LOSSES[name](s, y), scores)
    assert (CLASS_LOSSES[name](scores, y) >= 0).all()


@pytest.mark.parametrize("name", NUMBER_LOSSES)
def test_derivatives_of_losses_of_numbers(name):
    torch.manual_seed(0)
    told, y = torch.randn(2, 3, 2, dtype=torch.float64).unbind()
    told.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: NUMBER_LOSSES[name](u, y), told)
    assert (NUMBER_LOSSES[name](told, y) >= 0).all()
