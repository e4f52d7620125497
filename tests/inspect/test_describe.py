"""Descriptions against formulas, counts of papers, and what a spoilt input reaches."""

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.inspect.describe import connections, describe
from unrolled.layers import (
    AdaptivePool,
    Convolution1d,
    Convolution2d,
    Inception,
    L2Pool,
    LeNet5,
    LocallyConnected,
    LogSumExpPool,
    MaxPool,
    Residual,
    TemporalConvolution,
)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "wanted"),
    [
        *((32, 5, 1, 0, 28), (28, 5, 1, 0, 24)),
        *((7, 3, 1, 0, 5), (7, 3, 2, 0, 3), (7, 3, 1, 1, 7), (7, 3, 3, 0, 2)),
    ],
)
def test_sizes_of_outputs(size, kernel, stride, padding, wanted):
    net = nn.Sequential(Convolution2d(1, 2, kernel, stride, padding))
    (layer,) = describe(net, (1, size, size)).layers
    assert layer.output == (2, wanted, wanted)
    assert wanted == (size - kernel + 2 * padding) // stride + 1


def test_lenet_as_its_paper_counts_it():
    found = describe(LeNet5(), (1, 32, 32))
    rows = {layer.name: layer for layer in found.layers}
    assert found.parameters == 60_000
    assert [rows[n].output for n in "13579"] == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1)
    ]  # fmt: skip
    assert [rows[n].receptive_field for n in "13579"] == [(n, n) for n in (5, 6, 14, 16, 32)]
    assert [rows[n].stride for n in "1357"] == [(n, n) for n in (1, 2, 2, 4)]
    assert rows["1"].parameters == 156
    assert rows["1"].multiply_adds == 28 * 28 * 6 * 25
    assert rows["1"].bytes == 4 * 6 * 28 * 28
    assert rows["12"].receptive_field == "all"
    assert found.bytes == sum(layer.bytes for layer in found.layers)


def reached(net, shape):
    """Give, for each output place along the last dimension, the input places that can change it."""
    rows = torch.randn(1, *shape).expand(shape[-1], *shape).clone()
    for t in range(shape[-1]):
        rows[t, ..., t] = torch.nan
    with torch.no_grad():
        y = net.eval()(rows).isnan().flatten(1, -2).any(1)
    return [y[:, place].nonzero().flatten().tolist() for place in range(y.shape[1])]


@given(st.data())
def test_fields_are_what_a_spoilt_number_reaches(data):
    layers = []
    for _ in range(data.draw(st.integers(1, 3))):
        k, s = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
        layers.append(
            data.draw(
                st.sampled_from([
                    Convolution1d(1, 1, k, s, dilation=s, method="direct"),
                    MaxPool(k, s), L2Pool(k, s), LogSumExpPool(k, s), nn.AvgPool1d(k, s),
                    nn.Conv1d(1, 1, k, s, padding="valid"),
                ])
            )
        )  # fmt: skip
    net = nn.Sequential(*layers)
    last = describe(net, (1, 60)).layers[-1]
    seen = reached(net, (1, 60))
    assert {places[-1] - places[0] + 1 for places in seen} == {*last.receptive_field}
    assert {b[0] - a[0] for a, b in itertools.pairwise(seen)} == {*last.stride}


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (TemporalConvolution(2, [4, 4], 3), (2, 40)),
        (nn.Sequential(LocallyConnected(1, 2, (9, 20), 3, 2), nn.ReLU()), (1, 9, 20)),
        (nn.Sequential(Inception(2, 2, (2, 2), (2, 2), 2), Residual(8, 4, 2)), (2, 16, 40)),
        (nn.Sequential(Convolution2d(1, 1, 3), nn.ConvTranspose2d(1, 1, 4, 2)), (1, 8, 30)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fields_through_branches(net, shape):
    last = describe(net, shape).layers[-1]
    widest = max(len(range(places[0], places[-1] + 1)) for places in reached(net, shape))
    assert last.receptive_field[-1] == widest


def test_places_end_where_a_layer_sees_everything():
    for head in (
        AdaptivePool(1),
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Flatten(), nn.Linear(36, 2)),
    ):
        found = describe(nn.Sequential(Convolution2d(1, 1, 3), head), (1, 8, 8))
        assert found.layers[-1].receptive_field == "all"


def test_one_step_of_many_sees_its_field():
    class Last(nn.Module):
        def forward(self, x):
            return x[..., -1]

    net = nn.Sequential(TemporalConvolution(2, [4, 4], 3), Last(), nn.Linear(4, 3), nn.Tanh())
    assert describe(net, (2, 40)).layers[-1].receptive_field == (13,)


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (nn.GroupNorm(1, 2), "all"),
        (nn.LayerNorm(4), "all"),
        (nn.Linear(4, 4), None),
        (nn.Softmax(-1), None),
        (nn.BatchNorm1d(2), (3,)),
    ],
)
def test_layers_that_mix_places(layer, wanted):
    net = nn.Sequential(Convolution1d(1, 2, 3), layer)
    assert describe(net, (1, 6)).layers[-1].receptive_field == wanted


def test_what_is_not_known_is_not_made_up():
    class Turned(nn.Module):
        def forward(self, x):
            return functional.interpolate(x, size=(3, 5)).transpose(1, 2)

    (layer,) = describe(nn.Sequential(Turned()), (2, 4, 6)).layers
    assert layer.receptive_field is None
    assert layer.stride is None


def test_words():
    net = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(40, 3))
    found = describe(net, torch.zeros(1, 5, dtype=torch.int64))
    assert [layer.output for layer in found.layers] == [(5, 8), (40,), (3,)]
    assert found.layers[-1].multiply_adds == 120
    assert [layer.receptive_field for layer in found.layers] == [None] * 3


def test_the_model_is_as_before():
    net = nn.Sequential(Convolution2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    describe(net, (1, 5, 5))
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net)


def test_long_kernels_are_counted_as_if_done_directly():
    net = Convolution1d(1, 1, 1024)
    assert describe(net, (1, 65_536)).multiply_adds == 1024 * (65_536 - 1023)


def test_it_reads_as_a_table_and_as_json():
    found = describe(nn.Sequential(Convolution2d(1, 2, 3), nn.Flatten()), (1, 5, 5))
    head, first, layer, *_ = str(found).splitlines()
    assert head.split() == [
        "layer", "kind", "output", "sees", "stride", "parameters", "multiply-adds", "bytes"
    ]  # fmt: skip
    assert first.split() == ["input", "1", "x", "5", "x", "5"]
    assert layer.split()[:5] == ["0", "Convolution2d", "2", "x", "3"]
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["parameters"] == 20


def test_three_ways_to_connect_a_layer():
    fully, locally, shared = connections((1, 100, 100), 10, 1000)
    assert [fully.weights, locally.weights, shared.weights] == [10**7, 10**5, 100]
    assert locally.multiply_adds == shared.multiply_adds == 10**5


@given(st.integers(1, 3), st.integers(3, 8), st.integers(1, 3), st.integers(1, 3))
def test_ways_to_connect_are_those_of_real_layers(channels, size, kernel, filters):
    places = (size - kernel + 1) ** 2
    found = connections((channels, size, size), kernel, filters * places, filters)
    layers = (
        nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, filters * places, bias=False)),
        LocallyConnected(channels, filters, (size, size), kernel, bias=False),
        Convolution2d(channels, filters, kernel, bias=False),
    )
    for connection, layer in zip(found, layers, strict=True):
        described = describe(nn.Sequential(layer), (channels, size, size))
        assert described.parameters == connection.weights
        assert described.multiply_adds == connection.multiply_adds
        assert described.parameter_bytes == connection.bytes


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            lambda: describe(nn.Sequential(Convolution2d(1, 1, 3), nn.Flatten(), nn.Linear(9, 2)), (1, 6, 6)),
            "layer 2 says.*AdaptivePool",
        ),
        (lambda: describe(nn.Sequential(Convolution2d(1, 1, 7)), (1, 6, 6)), "layer 0 says: the kernel"),
        (lambda: connections((1, 5, 5), 6, 10), "larger than the input"),
        (lambda: connections((1, 5, 5), 3, 10, 3), "cannot be shared out"),
    ],
)  # fmt: skip
def test_wrong_input_is_told_in_a_sentence(run, words):
    with pytest.raises(ur.InputError, match=words):
        run()
