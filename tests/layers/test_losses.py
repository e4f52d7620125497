"""Losses against numbers worked by hand, torch's own, and derivatives by differences."""

import math

import pytest
import torch
from torch.nn import functional

from unrolled.layers.losses import gaussian_nll, quantile_loss


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
