"""What runs on CUDA tensors, on the CPU: torch's own kernels for the standard layers and cells."""

import pytest
import torch
from peers import GRID, gradients, pair, parts, states_for

import unrolled as ur
from unrolled.cells.standard import StandardCell
from unrolled.engine import choose
from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.layers.standard import StandardLayers


def same(a, b):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.fixture
def ran(monkeypatch):
    """Let layers and cells take the CPU for a CUDA device, and record what torch's kernels ran."""
    found = []
    for of in (StandardLayers, StandardCell):
        real = of._run_torch

        def run(self, *given, real=real):
            found.append(type(self).__name__)
            return real(self, *given)

        monkeypatch.setattr(of, "_run_torch", run)
    for room in ("layers", "cells"):
        monkeypatch.setattr(f"unrolled.{room}.standard.torch_runs", lambda x: True)
    return found


@pytest.mark.parametrize(("kind", "layers", "both", "first", "bias", "proj"), GRID)
def test_layers(kind, layers, both, first, bias, proj, ran):
    options = {"proj_size": proj} if proj else {}
    theirs, ours = pair(
        kind, 3, 4, layers, bidirectional=both, batch_first=first, bias=bias, **options
    )
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    rows = 5 if first else 2
    for states in (None, states_for(ours, rows)):
        results = [parts(layer(x, states)) for layer in (ours, theirs)]
        same(*results)
        wanted = [[x, *layer.parameters()] for layer in (ours, theirs)]
        same(*(gradients(r, w) for r, w in zip(results, wanted, strict=True)))
    assert ran == [kind] * 2


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [[3, 5, 1], [0, 5, 2], [0, 0, 0]])
def test_lengths(kind, lengths, ran, monkeypatch):
    _, ours = pair(kind, 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 3, 3, dtype=torch.float64, requires_grad=True)
    states = states_for(ours, 3, requires_grad=True)
    outcomes = []
    for torch_runs in (True, False):
        for room in ("layers", "cells"):
            monkeypatch.setattr(f"unrolled.{room}.standard.torch_runs", lambda x: torch_runs)  # noqa: B023
        results = parts(ours(x, states, lengths=torch.tensor(lengths)))
        given = states if isinstance(states, tuple) else (states,)
        outcomes.append([*results, *gradients(results, [x, *given, *ours.parameters()])])
    same(*outcomes)
    assert ran == [kind]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_dropout_is_ours(kind, ran, monkeypatch):
    _, ours = pair(kind, 3, 4, 3, bidirectional=True, dropout=0.5)
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    with counter(seed=1):
        first = parts(ours(x))
    monkeypatch.setattr("unrolled.layers.standard.torch_runs", lambda x: False)
    with counter(seed=1):
        same(first, parts(ours(x)))
    assert ran == [kind]


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [True, False])
def test_cells(name, bias, ran):
    theirs, ours = pair(name, 3, 4, bias=bias)
    x = torch.randn(2, 3, dtype=torch.float64)
    results = [cell(x) for cell in (ours, theirs)]
    same(*(r if name == "LSTMCell" else (r,) for r in results))
    assert ran == [name]


def test_when():
    class Input:
        device = torch.device("cuda", 0)

    assert choose.torch_runs(Input())
    assert not choose.torch_runs(torch.zeros(1))
    with ur.engine("reference"):
        assert not choose.torch_runs(Input())
    with torch.autograd.forward_ad.dual_level():
        assert not choose.torch_runs(Input())


def test_a_device_that_nobody_has_tested(monkeypatch):
    layer = ur.LSTM(3, 4, device="meta")
    x = torch.empty(5, 2, 3, device="meta")
    assert layer(x)[0].shape == (5, 2, 4)
    monkeypatch.setattr(choose, "DEVICES", ("cpu", "cuda"))
    with pytest.raises(InputError, match="not tested on meta; move the module"):
        layer(x)
    with pytest.raises(InputError, match="not tested on meta"), ur.engine("reference"):
        ur.Recurrent(ur.cells.LSTM(3, 4).to("meta"))(x)
