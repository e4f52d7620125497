"""The cells against torch.nn and against their equations written in NumPy."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import unrolled as ur
from unrolled import cells

PEERS = {
    "rnn": (cells.Elman, nn.RNN),
    "lstm": (cells.LSTM, nn.LSTM),
    "gru": (cells.GRU, nn.GRU),
}


def _pair(name, layers, both, inputs=3, hidden=5):
    make, peer = PEERS[name]
    torch.manual_seed(0)
    ours = ur.Recurrent(make(inputs, hidden), layers, bidirectional=both).double()
    theirs = peer(inputs, hidden, layers, bidirectional=both).double()
    with torch.no_grad():
        for place, cell in enumerate(ours.cells):
            suffix = f"_l{place // (1 + both)}" + ("_reverse" if both and place % 2 else "")
            getattr(theirs, "weight_ih" + suffix).copy_(cell.x.weight)
            getattr(theirs, "weight_hh" + suffix).copy_(cell.h.weight)
            getattr(theirs, "bias_ih" + suffix).copy_(cell.x.bias)
            bias = getattr(theirs, "bias_hh" + suffix)
            bias.copy_(torch.zeros_like(bias) if cell.h.bias is None else cell.h.bias)
    return ours, theirs


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", PEERS)
def test_equal_to_torch(name, layers, both):
    ours, theirs = _pair(name, layers, both)
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    h0 = torch.randn(layers * (1 + both), 4, 5, dtype=torch.float64)
    start = {"h": h0, "c": h0.flip(0)} if name == "lstm" else {"h": h0}
    y, states = ours(x, start)
    expected, last = theirs(x, tuple(start.values()) if name == "lstm" else h0)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)
    last = last if isinstance(last, tuple) else (last,)
    for state, value in zip(states.values(), last, strict=True):
        torch.testing.assert_close(state, value, rtol=0, atol=1e-13)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(
        ours.cells[0].x.weight.grad, theirs.weight_ih_l0.grad, rtol=0, atol=1e-11
    )
    torch.testing.assert_close(
        ours.cells[0].h.weight.grad, theirs.weight_hh_l0.grad, rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_packed_sequences_as_torch(name, sort):
    ours, theirs = _pair(name, 2, True)
    lengths = torch.tensor([6, 3, 2, 1]) if sort else torch.tensor([3, 6, 1, 2])
    packed = pack_padded_sequence(
        torch.randn(6, 4, 3, dtype=torch.float64), lengths, enforce_sorted=sort
    )
    y, states = ours(packed)
    expected, last = theirs(packed)
    assert isinstance(y, PackedSequence)
    for a, b in zip(pad_packed_sequence(y), pad_packed_sequence(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    torch.testing.assert_close(y.data, expected.data, rtol=0, atol=1e-13)
    torch.testing.assert_close(states["h"], last[0] if name == "lstm" else last, rtol=0, atol=1e-13)


def _sigmoid(v):
    return 1 / (1 + np.exp(-v))


@pytest.mark.parametrize("phi", ["tanh", "relu", "sigmoid"])
def test_elman_equation(phi):
    cell = cells.Elman(3, 4, phi).double()
    functions = {"tanh": np.tanh, "relu": lambda v: np.maximum(v, 0), "sigmoid": _sigmoid}
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    w_x, b, w_h = (p.detach().numpy() for p in (cell.x.weight, cell.x.bias, cell.h.weight))
    h, expected = np.zeros((2, 4)), []
    for x_t in x:
        h = functions[phi](x_t @ w_x.T + b + h @ w_h.T)
        expected.append(h)
    y, _ = ur.Recurrent(cell)(torch.from_numpy(x))
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=1e-14)


def test_lstm_equation():
    cell = cells.LSTM(3, 2).double()
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    w_x, b, w_h = (p.detach().numpy() for p in (cell.x.weight, cell.x.bias, cell.h.weight))
    h, c = np.zeros((2, 2)), np.zeros((2, 2))
    for x_t in x:
        a = x_t @ w_x.T + b + h @ w_h.T
        i, f, g, o = a[:, :2], a[:, 2:4], a[:, 4:6], a[:, 6:]
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
    _, states = ur.Recurrent(cell)(torch.from_numpy(x))
    np.testing.assert_allclose(states["h"][0].detach().numpy(), h, atol=1e-14)
    np.testing.assert_allclose(states["c"][0].detach().numpy(), c, atol=1e-14)


@pytest.mark.parametrize("name", PEERS)
def test_starts_as_torch_does(name):
    make, _ = PEERS[name]
    for parameter in make(10, 400).parameters():
        assert parameter.abs().max() <= 0.05
        assert parameter.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.2)
