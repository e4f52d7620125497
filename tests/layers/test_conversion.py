"""Modules of torch.nn inside a model become ours, and stay the same objects."""

import copy

import pytest
import torch
from peers import gradients, pair, parts
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import unrolled as ur

X = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, 3)
        self.layers = nn.ModuleList([nn.LSTM(3, 4, 2, bidirectional=True), nn.GRU(8, 5)])
        self.again = self.layers[1]
        self.top = nn.ModuleDict({"cell": nn.RNNCell(5, 3, nonlinearity="relu")})

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x, _ = layer(x)
        return self.top["cell"](x[-1])


def test_a_model_stays_what_it_is():
    torch.manual_seed(0)
    model = Model().double()
    model.layers[1].register_forward_hook(lambda m, args, result: (result[0] * 2, result[1]))
    before, weights, modules = model(X), [*model.parameters()], [*model.modules()]
    slopes = gradients([before], weights)
    text = repr(model)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    assert ur.convert(model) is model
    assert [type(m) for m in model.layers] == [ur.LSTM, ur.GRU]
    assert type(model.top["cell"]) is ur.RNNCell
    assert model.again is model.layers[1]
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert repr(model) == text
    after = model(X)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    for a, b in zip(gradients([after], weights), slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    optimiser.zero_grad()
    model(X).sum().backward()
    optimiser.step()
    assert not torch.equal(model(X), after)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_a_module_itself(name):
    theirs, ours = pair(name, 2, 4)
    theirs.eval()
    converted = ur.convert(copy.deepcopy(theirs))
    assert type(converted) is type(ours)
    assert not converted.training
    again = ur.convert(converted)
    assert again is converted
    x = X[0] if name.endswith("Cell") else X
    for a, b in zip(_flat(converted(x)), _flat(theirs(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    copied = copy.deepcopy(converted)
    torch.testing.assert_close(_flat(copied(x)), _flat(converted(x)), rtol=0, atol=0)


def _flat(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [part for item in result for part in _flat(item)]


def test_a_converted_cell_can_be_built_again():
    cell = ur.convert(nn.RNNCell(2, 4, bias=False, nonlinearity="relu"))
    net = ur.Recurrent(cell, 2)
    assert net.cells[1].nonlinearity == "relu"
    assert net.cells[1].bias_ih is None
    assert net.cells[1].input_size == 4


def test_options_are_kept():
    made = nn.LSTM(2, 5, 3, bias=False, batch_first=True, dropout=0.5, proj_size=3)
    made = made.double().eval()
    x = X.transpose(0, 1)
    expected = parts(made(x))
    for a, b in zip(parts(ur.convert(made)(x)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    relu = nn.RNN(2, 5, nonlinearity="relu").double()
    expected = relu(X)[0]
    torch.testing.assert_close(ur.convert(relu)(X)[0], expected, rtol=0, atol=1e-12)


def test_parametrised_modules_keep_their_parametrisation():
    theirs, _ = pair("LSTM", 2, 4)
    parametrizations.weight_norm(theirs, "weight_hh_l0")
    other = copy.deepcopy(theirs)
    expected = parts(theirs(X))
    ours = ur.convert(theirs)
    assert isinstance(ours, ur.LSTM)
    assert parametrize.is_parametrized(ours, "weight_hh_l0")
    for a, b in zip(parts(ours(X)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert not isinstance(other, ur.LSTM)
    torch.testing.assert_close(parts(other(X)), expected, rtol=0, atol=0)
    parametrize.remove_parametrizations(ours, "weight_hh_l0")
    assert type(ours) is ur.LSTM
    torch.testing.assert_close(parts(ours(X)), expected, rtol=0, atol=1e-12)


def test_subclasses_are_left_alone():
    class Mine(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    model = nn.Sequential(Mine(2, 4), nn.LSTM(4, 4))
    ur.convert(model)
    assert [type(m) for m in model] == [Mine, ur.LSTM]


@pytest.mark.parametrize("what", [None, 5, "lstm"])
def test_what_is_no_module(what):
    with pytest.raises(TypeError, match=f"not {type(what).__name__}"):
        ur.convert(what)
    with pytest.raises(TypeError, match=f"not {type(what).__name__}"), ur.frozen(what):
        pass
