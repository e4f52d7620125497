"""Activations against their derivatives by hand, autograd, differences and torch."""

import pytest
import torch
from torch.nn import functional

import unrolled as ur
from unrolled.layers import (
    ACTIVATIONS,
    LeakyReLU,
    Maxout,
    MaxoutGroups,
    PReLU,
    RadialBasis,
    leaky_relu,
    make_activation,
    radial_basis,
)


def normal(*size, **options):
    return torch.randn(*size, dtype=torch.float64, **options)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_by_hand(name):
    x = torch.linspace(-4, 4, 400, dtype=torch.float64, requires_grad=True)  # without 0
    activation = ACTIVATIONS[name]
    module = activation.module().double()
    (found,) = torch.autograd.grad(module(x).sum(), x)
    torch.testing.assert_close(activation.derivative(x.detach()), found)
    assert torch.autograd.gradcheck(module, x[::37].detach().requires_grad_())


@pytest.mark.parametrize(
    ("name", "torchs"),
    [
        ("hard tanh", functional.hardtanh),
        ("leaky relu", functional.leaky_relu),
        ("prelu", lambda x: functional.prelu(x, torch.tensor([0.25], dtype=torch.float64))),
        ("gelu", functional.gelu),
        ("radial basis", lambda x: torch.exp(-x * x)),
    ],
)
def test_values(name, torchs):
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(make_activation(name).double()(x), torchs(x))


def test_a_leak_above_one_is_a_maximum_and_not_torchs():
    x = torch.tensor([-2.0, 3.0])
    assert leaky_relu(x, 2.0).tolist() == [-2, 6]
    assert functional.leaky_relu(x, 2.0).tolist() == [-4, 3]
    assert LeakyReLU(2.0)(x).tolist() == [-2, 6]
    prelu = PReLU(alpha=2.0)
    (d_alpha,) = torch.autograd.grad(prelu(x).sum(), prelu.alpha)
    assert d_alpha.tolist() == [3]


def test_an_alpha_for_each_channel():
    prelu, x = PReLU(3).double(), normal(2, 3, 4, 5)
    with torch.no_grad():
        prelu.alpha.copy_(torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(prelu(x), functional.prelu(x, prelu.alpha))
    with pytest.raises(ur.InputError, match="3 alpha do not fit"):
        prelu(x[:, :2])


def test_radial_basis_falls_off_with_distance():
    layer = RadialBasis(3, 2).double()
    assert torch.equal(
        layer(layer.weight), layer(layer.weight).T
    )  # a distance is the same both ways
    assert layer(layer.weight).diagonal().tolist() == [1, 1]
    one = RadialBasis(1, 1).double()
    x = normal(5, 1)
    torch.testing.assert_close(one(x), radial_basis(x, one.weight, one.width))
    assert torch.autograd.gradcheck(layer, normal(2, 4, 3, requires_grad=True))


def test_maxout_over_pieces():
    layer, x = Maxout(4, 3, pieces=5).double(), normal(2, 7, 4)
    pieces = functional.linear(x, layer.linear.weight, layer.linear.bias).view(2, 7, 3, 5)
    assert torch.equal(layer(x), pieces.amax(-1))
    with torch.no_grad():  # two pieces make the absolute value
        absolute = Maxout(1, 1, 2, bias=False).double()
        absolute.linear.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        torch.testing.assert_close(absolute(x[..., :1]), x[..., :1].abs())


def test_maxout_over_groups():
    x = normal(2, 6, 4)
    assert torch.equal(MaxoutGroups(3)(x), torch.stack([x[:, :3].amax(1), x[:, 3:].amax(1)], 1))
    with pytest.raises(ur.InputError, match="6 channels cannot be cut into groups of 4"):
        MaxoutGroups(4)(x)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: make_activation("swoosh"), "no activation 'swoosh'; take sigmoid"),
        (lambda: Maxout(2, 2, 0), "pieces"),
        (lambda: MaxoutGroups(0), "at least 1 channel"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(run, words):
    with pytest.raises(ur.InputError, match=words):
        run()
