"""Convolution against SciPy, torch and differences; through the Fourier transform against directly."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled import layers
from unrolled.layers import convolution_cost, filter_bank
from unrolled.layers.convolution_cost import Work, best_tiles, transform_pays
from unrolled.layers.fourier import correlate_by_fourier, fast_size

MODES = ("full", "same", "valid")
SHAPES = [
    *[((7,), (k,)) for k in (1, 2, 3, 4, 7, 9, 10)],
    *[((6,), (k,)) for k in (2, 3, 8)],
    ((6, 7), (2, 3)),
    ((5, 4), (4, 2)),
    ((3, 2), (6, 5)),
    ((4, 5, 3), (3, 2, 1)),
]


def normal(*size, **options):
    return torch.randn(*size, dtype=torch.float64, **options)


@pytest.mark.parametrize("method", ["direct", "fft", "auto"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_as_scipy_has_them(shapes, mode, method):
    torch.manual_seed(0)
    x, w = (normal(*shape) for shape in shapes)
    for ours, scipys in ((layers.convolve, signal.convolve), (layers.correlate, signal.correlate)):
        wanted = scipys(x.numpy(), w.numpy(), mode, method="direct")
        np.testing.assert_allclose(ours(x, w, mode, method=method).numpy(), wanted, atol=1e-12)


def test_valid_needs_one_to_hold_the_other():
    with pytest.raises(ur.InputError, match="as large as the other"):
        layers.convolve(torch.ones(3, 5), torch.ones(5, 3), "valid")
    with pytest.raises(ur.InputError, match="dimensions"):
        layers.correlate(torch.ones(3), torch.ones(3, 3))
    for other in (torch.ones(3).double(), torch.ones(3).long(), torch.ones(0)):
        with pytest.raises(ur.InputError, match="of one dtype, and not empty"):
            layers.convolve(torch.ones(3), other)


OPTIONS = [
    {},
    {"stride": 2},
    {"dilation": 2, "padding": 1},
    {"groups": 2},
    {"groups": 4, "stride": 3, "padding": "same"},
    {"padding": "full", "bias": True},
    {"padding": "first", "bias": True, "dilation": 3, "stride": 2},
]


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_as_torch_has_it_forward_and_backward(options, d, method):
    torch.manual_seed(0)
    options = dict(options)
    groups = options.get("groups", 1)
    kernel = (3, 2, 1)[:d]
    x = normal(2, 4, *(13, 11, 7)[:d], requires_grad=True)
    w = normal(8, 4 // groups, *kernel, requires_grad=True)
    b = normal(8, requires_grad=True) if options.pop("bias", False) else None
    gap = options.get("dilation", 1)
    around = options.pop("padding", 0)
    sides = {
        "full": [((k - 1) * gap,) * 2 for k in kernel],
        "same": [(k // 2, (k - 1) // 2) for k in kernel],
        "first": [((k - 1) * gap, 1) for k in kernel],
    }.get(around, [(around, around)] * d)
    padding = sides if around == "first" else around
    y = filter_bank(x, w, b, padding=padding, method=method, **options)
    padded = functional.pad(x, [n for side in reversed(sides) for n in side])
    wanted = (functional.conv1d, functional.conv2d, functional.conv3d)[d - 1](
        padded, w, b, **options
    )
    torch.testing.assert_close(y, wanted)
    leaves = [x, w] if b is None else [x, w, b]
    dy = torch.randn_like(y)
    for ours, torchs in zip(
        torch.autograd.grad(y, leaves, dy), torch.autograd.grad(wanted, leaves, dy), strict=True
    ):
        torch.testing.assert_close(ours, torchs)


def test_flipping_turns_the_kernel_round():
    x, w = normal(1, 2, 6, 6), normal(3, 2, 2, 3)
    y = filter_bank(x, w, flip=True)
    torch.testing.assert_close(y, functional.conv2d(x, w.flip(2, 3)))


def test_a_row_alone():
    x, w = normal(2, 9), normal(3, 2, 4)
    assert torch.equal(filter_bank(x, w), filter_bank(x[None], w)[0])


@settings(max_examples=60)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 2), st.integers(1, 90), st.integers(1, 90), st.integers(0, 99),
)  # fmt: skip
def test_every_tiling_gives_the_same(rows, groups, inputs, outputs, d, length, kernel, seed):
    length = max(length, kernel) if d == 1 else max(length, kernel) // 4 + 1
    kernel = kernel if d == 1 else kernel // 4 + 1
    work = Work(rows, groups, inputs, outputs, (length,) * d, (kernel,) * d, (1,) * d, (1,) * d)
    torch.manual_seed(seed)
    x = normal(rows, groups * inputs, *work.size, requires_grad=True)
    w = normal(groups * outputs, inputs, *work.kernel, requires_grad=True)
    direct = (functional.conv1d, functional.conv2d)[d - 1](x, w, groups=groups)
    dy = torch.randn_like(direct)
    wanted = torch.autograd.grad(direct, (x, w), dy)
    for tiles in itertools.islice(work.tilings(), 6):
        y = correlate_by_fourier(x, w, groups, tiles)
        torch.testing.assert_close(y, direct)
        for ours, torchs in zip(torch.autograd.grad(y, (x, w), dy), wanted, strict=True):
            torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("channels", [(1, 1), (2, 4)])
def test_long_kernels_in_float32_within_1e_5(channels):
    torch.manual_seed(0)
    inputs, outputs = channels
    x = torch.randn(1, inputs, 16_384, requires_grad=True)
    w = torch.randn(outputs, inputs, 1024, requires_grad=True)
    found = []
    for method in ("fft", "direct"):
        y = filter_bank(x, w, method=method)
        torch.manual_seed(1)
        found.append([y, *torch.autograd.grad(y, (x, w), torch.randn_like(y))])
    for ours, torchs in zip(*found, strict=True):
        assert (ours - torchs).abs().max() <= 1e-5 * torchs.abs().max()


def test_derivatives_of_first_and_second_order():
    torch.manual_seed(0)
    x, w = normal(2, 2, 12, requires_grad=True), normal(3, 2, 4, requires_grad=True)
    for run in (
        lambda x, w: filter_bank(x, w, padding=[(3, 1)], flip=True, method="fft"),
        lambda x, w: filter_bank(x, w, dilation=2, stride=2, method="fft"),
    ):
        assert torch.autograd.gradcheck(run, (x, w))
        assert torch.autograd.gradgradcheck(run, (x, w))


def test_only_what_is_asked_for_is_computed():
    x, w = normal(1, 1, 20), normal(1, 1, 4, requires_grad=True)
    (dw,) = torch.autograd.grad(filter_bank(x, w, method="fft").sum(), w)
    torch.testing.assert_close(dw[0, 0], x[0, 0].unfold(0, 17, 1).sum(1))


def line(length, kernel, inputs=1, outputs=1, rows=1):
    return Work(rows, 1, inputs, outputs, (length,), (kernel,), (1,), (1,))


def test_the_choice_is_known_beforehand():
    for training in (False, True):
        assert transform_pays(line(65_536, 1024), training=training)
        assert transform_pays(line(65_536, 1024, 16, 16), training=training)
        assert not transform_pays(line(65_536, 3, 16, 16), training=training)
        assert not transform_pays(line(64, 5, 64, 64, 32), training=training)
        pictures = Work(32, 1, 64, 64, (34, 34), (3, 3), (1, 1), (1, 1))
        assert not transform_pays(pictures, training=training)
    tiles = best_tiles(line(65_536, 1024), training=True)
    assert 2048 <= tiles.size[0] < 65_536


def test_auto_takes_the_way_it_chose():
    short, long = torch.randn(1, 1, 3), torch.randn(1, 1, 1024)
    x = torch.randn(1, 1, 32_768)
    assert torch.equal(filter_bank(x, long), filter_bank(x, long, method="fft"))
    assert not torch.equal(filter_bank(x, long), functional.conv1d(x, long))
    assert torch.equal(filter_bank(x, short), functional.conv1d(x, short))


def test_costs_are_there_and_grow_with_work():
    for table in (convolution_cost.DIRECT, convolution_cost.FOURIER):
        assert all(min(costs) >= 0 and max(costs) > 0 for costs in table.values())


def test_what_transforms_fast():
    assert [fast_size(n) for n in (1, 2, 3, 5, 9, 11, 13, 15, 17)] == [
        2,
        2,
        4,
        6,
        10,
        12,
        14,
        16,
        20,
    ]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_layers_begin_as_torchs(d):
    ours = (layers.Convolution1d, layers.Convolution2d, layers.Convolution3d)[d - 1]
    torchs = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[d - 1]
    torch.manual_seed(0)
    mine = ours(4, 6, 3, stride=2, padding=1, groups=2)
    torch.manual_seed(0)
    other = torchs(4, 6, 3, stride=2, padding=1, groups=2)
    for name, value in other.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value)
    x = torch.randn(2, 4, *[7] * d)
    torch.testing.assert_close(mine(x), other(x))
    assert "groups=2" in repr(mine)


def test_one_by_one_is_a_product_at_every_place():
    layer = layers.Convolution2d(3, 5, 1)
    x = torch.randn(2, 3, 4, 4)
    wanted = functional.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda x: filter_bank(x, torch.ones(2, 3, 5)), "filters take 3 channels.*has 4"),
        (
            lambda x: filter_bank(x, torch.ones(4, 3, 5), groups=2),
            "3 channels in each of 2 groups, 6",
        ),
        (lambda x: filter_bank(x, torch.ones(3, 2, 5), groups=2), "3 filters cannot be shared"),
        (
            lambda x: filter_bank(x, torch.ones(2, 4, 12), padding=1),
            r"\(12,\) is larger than .*\(11,\)",
        ),
        (lambda x: filter_bank(x, torch.ones(2, 4, 5), dilation=3), r"\(13,\) is larger"),
        (lambda x: filter_bank(x, torch.ones(2, 4, 3, 3, 3)), "B, C"),
        (lambda x: filter_bank(x, torch.ones(2, 4)), "weight must be"),
        (lambda x: filter_bank(x, torch.ones(2, 4, 3), padding=-1), "padding"),
        (lambda x: filter_bank(x, torch.ones(2, 4, 3), padding=(1, 2)), "padding"),
        (lambda x: filter_bank(x, torch.ones(2, 4, 3), padding="most"), "full, same or valid"),
        (lambda x: filter_bank(x, torch.ones(2, 4, 3), stride=0), "stride"),
        (lambda x: filter_bank(x, torch.ones(2, 4, 3), method="slow"), "auto, direct or fft"),
        (
            lambda x: filter_bank(x.bfloat16(), torch.ones(2, 4, 3).bfloat16(), method="fft"),
            "bfloat16",
        ),
        (lambda x: layers.Convolution1d(4, 6, 3, groups=4), "shared out"),
        (lambda x: layers.Convolution2d(4, 6, (3, 3, 3)), "kernel_size"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(run, words):
    with pytest.raises(ur.InputError, match=words):
        run(torch.ones(2, 4, 9))
