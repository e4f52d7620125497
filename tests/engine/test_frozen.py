"""Weights packed once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_native import needs_core
from torch import nn

import unrolled as ur
from unrolled.engine import frozen as packing

pytestmark = needs_core


class Leaky(ur.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Parameter(0.3 * torch.randn(hidden_size, hidden_size))
        self.rate = nn.Parameter(torch.zeros(hidden_size))

    def step(self, x, h):
        r = self.rate.sigmoid()
        return r * h + (1 - r) * (self.x(x) + h @ (self.h - self.h.T)).tanh()


NETS = {
    "LSTM": lambda: ur.LSTM(3, 20, 2, bidirectional=True),
    "GRU": lambda: ur.GRU(3, 20),
    "RNN": lambda: ur.RNN(3, 20),
    "LSTMCell": lambda: ur.LSTMCell(3, 20),
    "own": lambda: ur.Recurrent(Leaky(3, 20), 2),
    "model": lambda: nn.Sequential(nn.Linear(3, 5), ur.GRU(5, 4)),
}


def tensors(result):
    if isinstance(result, torch.Tensor):
        return [result]
    values = result.values() if isinstance(result, dict) else result
    return [tensor for value in values for tensor in tensors(value)]


def example(name):
    return torch.randn(2, 3) if name == "LSTMCell" else torch.randn(5, 2, 3)


def gradients(net, x):
    x = x.clone().requires_grad_()
    loss = sum(tensor.sin().sum() for tensor in tensors(net(x)))
    wanted = [x, *(p for p in net.parameters() if p.requires_grad)]
    return torch.autograd.grad(loss, wanted)


@pytest.fixture
def packed(monkeypatch):
    """Count how often weights are packed ahead."""
    count = []
    real = packing._pack
    monkeypatch.setattr(packing, "_pack", lambda *given: count.append(1) or real(*given))
    return count


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mode", ["float32", "float64", "bfloat16", "autocast"])
def test_the_bits_are_the_same_and_packing_is_not_repeated(name, mode, packed):
    torch.manual_seed(0)
    net, x = NETS[name](), example(name)
    if mode not in ("float32", "autocast"):
        net, x = net.to(getattr(torch, mode)), x.to(getattr(torch, mode))
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"), torch.no_grad():
        before = tensors(net(x))
        with ur.frozen(net):
            first = tensors(net(x))
            once = len(packed)
            again = tensors(net(x))
            more = tensors(net(torch.cat([x, x], -2)))[0]
    assert once > 0
    assert len(packed) == once
    assert all(map(torch.equal, before, first))
    assert all(map(torch.equal, before, again))
    if name != "LSTMCell":
        torch.testing.assert_close(more[:, :2].float(), before[0].float(), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"), torch.no_grad():
        net(x)
    assert len(packed) == once


@pytest.mark.parametrize("name", ["LSTM", "own"])
@pytest.mark.parametrize("learns", [False, True])
def test_gradients(name, learns, packed):
    net, x = NETS[name]().requires_grad_(learns), example(name)
    expected = gradients(net, x)
    with ur.frozen(net):
        for _ in range(3):
            assert all(map(torch.equal, gradients(net, x), expected))
    assert 0 < len(packed) <= 4


@pytest.mark.parametrize("name", ["LSTM", "own", "model"])
def test_a_change_is_an_error(name):
    net, x = NETS[name](), example(name)
    with torch.no_grad():
        with ur.frozen(net):
            net(x)
            [*net.parameters()][-1].mul_(2)
            with pytest.raises(RuntimeError, match=r"was changed inside unrolled\.frozen"):
                net(x)
        changed = tensors(net(x))  # after the block it counts
        with ur.frozen(net):
            assert all(map(torch.equal, tensors(net(x)), changed))


def test_a_change_that_cannot_be_seen():
    net, x = ur.GRU(3, 4, bias=False), torch.randn(5, 2, 3)
    with torch.no_grad(), ur.frozen(net):
        before = net(x)[0]
        net.weight_hh_l0.data.mul_(2)
        assert torch.equal(net(x)[0], before)
    assert not torch.equal(net(x)[0], before)


def test_a_weight_that_is_replaced_counts_at_once():
    net, x = ur.GRU(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad(), ur.frozen(net):
        before = net(x)[0]
        net.weight_hh_l0 = nn.Parameter(2 * net.weight_hh_l0)
        inside = net(x)[0]
    assert not torch.equal(inside, before)
    assert torch.equal(inside, net(x)[0])


def test_blocks_in_blocks_and_other_modules(packed):
    net, other, x = ur.GRU(3, 4), ur.GRU(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad(), ur.frozen(net):
        other(x)
        assert not packed
        with ur.frozen(other):
            other(x), net(x)
        other.weight_hh_l0.mul_(2)
        other(x), net(x)
    assert len(packed) == 2
    assert not packing.held


def test_threads(packed):
    net = ur.LSTM(3, 8)
    inputs = [torch.randn(6, 2, 3) for _ in range(40)]

    def run(x):
        with torch.no_grad():
            return net(x)[0]

    expected = [*map(run, inputs)]
    with ur.frozen(net), ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(run, inputs), expected))
    assert len(packed) == 1
