"""Blocks against their papers' counts, what they see, and layers of torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.layers import (
    Convolution2d,
    Inception,
    LeNet5,
    LocallyConnected,
    MaxPool,
    Residual,
    Stage,
    TemporalConvolution,
    filter_bank,
)
from unrolled.layers.lenet import SEEN_BY, Codes, PartlyConnected, Subsampling


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def seen_by(net, x, place):
    """Tell which inputs an output depends on: those a number that is none reaches it from."""
    found = []
    for t in range(x.shape[-1]):
        spoilt = x.clone()
        spoilt[..., t] = torch.nan
        found.append(bool(net(spoilt)[..., place].isnan().any()))
    return [t for t, reached in enumerate(found) if reached]


def test_lenet_has_the_counts_of_the_paper():
    net = LeNet5()
    sizes = [count(layer) for layer in net if count(layer)]
    assert sizes == [156, 12, 1516, 32, 48_120, 10_164]
    assert count(net) == 60_000
    shapes, x = [], torch.randn(2, 1, 32, 32)
    for layer in net:
        x = layer(x)
        shapes += [tuple(x.shape[1:])] * bool(count(layer))
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,)]
    assert x.shape == (2, 10)


def test_lenet_of_today():
    net = LeNet5(modern=True)
    assert count(net) == 61_706
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(net(x), net(functional.pad(x, [2] * 4)))
    assert LeNet5(3, channels=2)(torch.randn(1, 2, 28, 28)).shape == (1, 3)


def test_lenet_codes_are_pictures_of_digits():
    codes = LeNet5()[-1].codes
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1, 1}
    assert codes[1].view(12, 7)[5].tolist() == [-1, -1, -1, 1, -1, -1, -1]
    distances = torch.cdist(codes, codes, p=0) + 100 * torch.eye(10)
    assert distances.min() >= 5  # no two alike
    x = torch.randn(3, 84)
    torch.testing.assert_close(Codes(codes)(x), -(torch.cdist(x, codes) ** 2))


def test_lenet_learns_both_ways():
    torch.manual_seed(0)
    x, labels = torch.randn(20, 1, 28, 28), torch.arange(20) % 10
    for modern in (False, True):
        net = LeNet5(modern=modern)
        optimiser = torch.optim.Adam(net.parameters(), 2e-3)
        losses = []
        for _ in range(40):
            loss = functional.cross_entropy(net(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2


def test_partly_connected_is_a_masked_convolution():
    torch.manual_seed(0)
    layer, x = PartlyConnected(SEEN_BY, 5), torch.randn(2, 6, 9, 9)
    kernels, pairs = torch.zeros(16, 6, 5, 5), iter(layer.weight.detach())
    for output, channels in enumerate(SEEN_BY):
        for channel in channels:
            kernels[output, channel] = next(pairs)
    torch.testing.assert_close(layer(x), functional.conv2d(x, kernels, layer.bias))


def test_subsampling():
    layer = Subsampling(1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(0.5)
    assert layer(torch.arange(4.0).view(1, 1, 2, 2)).item() == 12.5


def test_a_stage_is_bank_activation_pool_normalisation():
    bank = Convolution2d(3, 4, 3)
    stage = Stage(bank, "tanh", MaxPool(2), nn.BatchNorm2d(4))
    assert [name for name, _ in stage.named_children()] == [
        "bank", "activation", "pool", "normalisation"
    ]  # fmt: skip
    stage.eval()
    x = torch.randn(2, 3, 8, 8)
    wanted = stage.normalisation(functional.max_pool2d(bank(x).tanh(), 2))
    torch.testing.assert_close(stage(x), wanted)
    assert [*Stage(bank, "identity")][1](x) is x


def test_inception_joins_four_ways():
    # GoogLeNet's first, 3a: 163,696 weights and biases, 256 channels out.
    block = Inception(192, 64, (96, 128), (16, 32), 32)
    assert count(block) == 163_696
    x = torch.randn(1, 192, 6, 6)
    y = block(x)
    assert y.shape == (1, 256, 6, 6)
    torch.testing.assert_close(y[:, 64:192], block.threes(x))
    torch.testing.assert_close(y[:, 224:], block.pooled[1](functional.max_pool2d(x, 3, 1, 1)))


def test_residual():
    block = Residual(8).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        block.norm_second.weight.zero_()  # nothing learned: the input comes through
    torch.testing.assert_close(block(x), x.relu())
    wider = Residual(8, 16, stride=2)
    assert wider(torch.randn(2, 8, 7, 7)).shape == (2, 16, 4, 4)
    assert count(Residual(64)) == 73_984


def test_temporal_convolution_sees_its_field_and_no_future():
    torch.manual_seed(0)
    net = TemporalConvolution(2, [4, 4], kernel_size=3).eval()
    assert net.receptive_field == 1 + 2 * 2 * 3
    seen = seen_by(net, torch.randn(1, 2, 30), 20)
    assert seen == [*range(20 - net.receptive_field + 1, 21)]
    assert TemporalConvolution(1, [2] * 8, 7).receptive_field == 1 + 2 * 6 * 255
    with pytest.raises(ur.InputError, match="at least one block"):
        TemporalConvolution(1, [])


@pytest.mark.parametrize("d", [1, 2])
def test_locally_connected_with_equal_weights_is_a_convolution(d):
    torch.manual_seed(0)
    size, kernel = (9, 7)[:d], (3, 2)[:d]
    layer = LocallyConnected(2, 4, size, kernel, stride=2, padding="same").double()
    shared = torch.randn(4, 2, *kernel, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(shared.flatten(1).T.expand_as(layer.weight))
        layer.bias.copy_(bias.view(-1, *[1] * d).expand_as(layer.bias))
    x = torch.randn(3, 2, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), filter_bank(x, shared, bias, stride=2, padding="same"))


def test_locally_connected_has_weights_of_its_own_everywhere():
    layer = LocallyConnected(1, 1, (5, 5), 2, bias=False)
    x = torch.randn(1, 1, 5, 5)
    windows = x.unfold(2, 2, 1).unfold(3, 2, 1).reshape(16, 4)
    wanted = (windows * layer.weight[:, :, 0]).sum(1).view(1, 1, 4, 4)
    torch.testing.assert_close(layer(x), wanted)
    assert count(layer) == 16 * 4


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: LeNet5()(torch.ones(1, 1, 30, 30)), "28 x 28 or 32 x 32, not .*AdaptivePool"),
        (lambda: LocallyConnected(1, 1, (4, 4), 5), "larger than the padded input"),
        (lambda: LocallyConnected(1, 1, (4, 4), 2)(torch.ones(1, 1, 5, 5)), "made for rows of"),
        (lambda: Stage(nn.Identity(), "swish"), "no activation 'swish'"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(run, words):
    with pytest.raises(ur.InputError, match=words):
        run()
