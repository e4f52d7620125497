"""Penalties on weights and activations, against values worked by hand and derivatives."""

import pytest
import torch
from torch import nn

from unrolled.cells import LSTM
from unrolled.errors import InputError
from unrolled.layers import Recurrent
from unrolled.layers.penalties import (
    ActivationPenalty,
    activation_penalty,
    chosen,
    elastic_penalty,
    l1_penalty,
    l2_penalty,
    penalty,
    temporal_penalty,
)

ONE, SPREAD = torch.tensor([1.0, 0, 0, 0]), torch.full((4,), 0.25)


@pytest.mark.parametrize(
    ("size", "one", "spread"),
    [
        (l2_penalty, 1, 0.25),
        (l1_penalty, 1, 1),
        (lambda w: elastic_penalty(w, beta=0.5), 1.5, 1.125),
    ],
)
def test_values_by_hand(size, one, spread):
    assert (size(ONE).item(), size(SPREAD).item()) == (one, spread)


@pytest.mark.parametrize(
    ("strengths", "slope"),
    [
        ({"l1": 0.1}, lambda w: 0.1 * w.sign()),
        ({"l2": 0.1}, lambda w: 2 * 0.1 * w),
        ({"elastic": 0.1, "beta": 0.3}, lambda w: 0.1 * (2 * 0.3 * w + w.sign())),
        ({"l1": 0.2, "l2": 0.1}, lambda w: 0.2 * w.sign() + 0.2 * w),
    ],
)
def test_gradients_are_those_of_the_formulas(strengths, slope):
    torch.manual_seed(0)
    w = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(penalty([w], **strengths), w)
    torch.testing.assert_close(found, slope(w.detach()))


def test_twice_weight_decay_is_torchs():
    """The gradient of lambda sum w^2 is what torch adds for weight_decay = 2 lambda."""
    w, v = (nn.Parameter(torch.tensor([2.0, -1.0])) for _ in range(2))
    penalty([w], l2=0.05).backward()
    torch.optim.SGD([w], lr=0.1).step()
    v.grad = torch.zeros(2)
    torch.optim.SGD([v], lr=0.1, weight_decay=0.1).step()
    torch.testing.assert_close(w, v)


def test_biases_are_not_chosen_unless_named():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    assert [*chosen(net)] == ["0.weight", "2.weight"]
    assert [*chosen(net, ("0.*",))] == ["0.weight", "0.bias"]
    assert [*chosen(net, ("*.bias",))] == ["0.bias", "2.bias"]
    with pytest.raises(InputError, match=r"--penalised 1.*: no parameter is named so; .* 0.weight"):
        chosen(net, ("1.*",))


def test_activations_by_hand():
    h = torch.tensor([[[1.0]], [[3.0]], [[0.0]]])
    assert activation_penalty(h).item() == pytest.approx((1 + 9 + 0) / 3)
    assert temporal_penalty(h).item() == pytest.approx((4 + 9) / 2)
    assert temporal_penalty(h[:1]).item() == 0


def test_padding_does_not_count():
    torch.manual_seed(0)
    h, lengths = torch.randn(5, 3, 4), torch.tensor([5, 2, 1])
    rows = [h[:length, row] for row, length in enumerate(lengths.tolist())]
    squares = torch.cat([row.square().flatten() for row in rows])
    changes = torch.cat([(row[1:] - row[:-1]).square().flatten() for row in rows])
    torch.testing.assert_close(activation_penalty(h, lengths), squares.mean())
    torch.testing.assert_close(temporal_penalty(h, lengths), changes.mean())


@pytest.mark.parametrize("batch_first", [False, True])
def test_nets_are_watched_only_meanwhile(batch_first):
    torch.manual_seed(0)
    net = Recurrent(LSTM(3, 4), batch_first=batch_first)
    x = torch.randn(2, 6, 3) if batch_first else torch.randn(6, 2, 3)
    with ActivationPenalty(nn.ModuleList([net]), 0.3, 0.7).watch() as told:
        y, _ = net(x)
        net(x)
    net(x)
    h = y.transpose(0, 1) if batch_first else y
    once = 0.3 * activation_penalty(h) + 0.7 * temporal_penalty(h)
    torch.testing.assert_close(torch.as_tensor(told()), 2 * once)
    torch.as_tensor(told()).backward()
    assert all(w.grad is not None and w.grad.any() for w in net.parameters())


def test_without_a_recurrent_net_there_is_nothing_to_watch():
    with pytest.raises(InputError, match="need a recurrent net"):
        ActivationPenalty(nn.Linear(2, 2), 0.1)
    with ActivationPenalty(nn.Linear(2, 2)).watch() as told:
        pass
    assert told() == 0
