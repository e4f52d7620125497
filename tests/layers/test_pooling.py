"""Pooling against a worked example, torch, and windows taken one by one."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import unrolled as ur
from unrolled import layers
from unrolled.layers import (
    adaptive_pool,
    average_pool,
    k_max_pool,
    l2_pool,
    log_sum_exp_pool,
    max_pool,
    max_pool_switches,
    unpool,
)

EXAMPLE = torch.tensor(
    [[1, 2, 3, 4, 5], [9, 8, 7, 6, 0], [0, 2, 4, 6, 8], [2, 3, 4, 5, 1], [6, 7, 8, 9, 0]],
    dtype=torch.float64,
)[None, None]
AROUND = [(0, 1), (0, 1)]  # right and below


def normal(*size, **options):
    return torch.randn(*size, dtype=torch.float64, **options)


@pytest.mark.parametrize(
    ("stride", "wanted"),
    [
        ((2, 1), [[9, 8, 7, 6, 5], [3, 4, 6, 8, 8], [7, 8, 9, 9, 0]]),
        ((1, 2), [[9, 7, 5], [9, 7, 8], [3, 6, 8], [7, 9, 1], [7, 9, 0]]),
    ],
)
def test_the_worked_example_of_the_maximum(stride, wanted):
    assert max_pool(EXAMPLE, 2, stride, AROUND)[0, 0].tolist() == wanted
    y, switches = max_pool_switches(EXAMPLE, 2, stride, AROUND)
    assert y[0, 0].tolist() == wanted
    assert torch.equal(EXAMPLE.flatten(2).gather(2, switches.flatten(2)), y.flatten(2))


def test_the_worked_example_of_the_average():
    wanted = [[5, 5, 5, 3.75, 1.25], [1.75, 3.25, 4.75, 5, 2.25], [3.25, 3.75, 4.25, 2.25, 0]]
    assert average_pool(EXAMPLE, 2, (2, 1), AROUND)[0, 0].tolist() == wanted


def test_the_worked_example_backward():
    x = EXAMPLE.clone().requires_grad_()
    y, switches = max_pool_switches(x, 2, (2, 1), AROUND)
    (dx,) = torch.autograd.grad(y.sum(), x)
    wanted = torch.zeros(5, 5, dtype=torch.float64)
    for place in [
        (0, 4),
        *((1, j) for j in range(4)),
        (2, 2),
        (2, 3),
        (3, 1),
        (4, 1),
        (4, 2),
        (4, 4),
    ]:
        wanted[place] = 1
    wanted[2, 4] = wanted[4, 3] = 2
    assert torch.equal(dx[0, 0], wanted)
    assert torch.equal(unpool(torch.ones_like(y), switches, (5, 5))[0, 0], wanted)


def test_a_tie_goes_to_the_first():
    x = torch.ones(1, 1, 4, requires_grad=True)
    (dx,) = torch.autograd.grad(max_pool(x, 2).sum(), x)
    assert dx[0, 0].tolist() == [1, 0, 1, 0]


def test_l2_is_the_root_of_the_mean_square():
    x = torch.tensor([[[1.0, 2, 3, 4]]])
    assert l2_pool(x, 4).item() == pytest.approx(2.738613, abs=1e-6)
    assert l2_pool(x, 4, mean=False).item() == pytest.approx(5.477226, abs=1e-6)
    torch.testing.assert_close(l2_pool(x, 2, mean=False), functional.lp_pool1d(x, 2.0, 2))
    zeros = torch.zeros(1, 1, 4, requires_grad=True)
    (dx,) = torch.autograd.grad(l2_pool(zeros, 2).sum(), zeros)
    assert not dx.any()


REDUCE = {
    max_pool: lambda real, zeros: max(real),
    average_pool: lambda real, zeros: sum(real) / (len(real) + zeros),
    l2_pool: lambda real, zeros: math.sqrt(sum(v * v for v in real) / (len(real) + zeros)),
    log_sum_exp_pool: lambda real, zeros: math.log(sum(map(math.exp, real)) / len(real)),
}


@pytest.mark.parametrize("pool", REDUCE, ids=lambda f: f.__name__)
@given(data=st.data())
def test_every_window_by_itself(pool, data):
    d = data.draw(st.integers(1, 2), "d")
    size = [data.draw(st.integers(3, 7)) for _ in range(d)]
    width = [data.draw(st.integers(1, 3)) for _ in range(d)]
    stride = [data.draw(st.integers(1, 4)) for _ in range(d)]
    sides = [tuple(data.draw(st.integers(0, w - 1)) for _ in "ab") for w in width]
    torch.manual_seed(data.draw(st.integers(0, 9)))
    x = normal(1, 2, *size)
    y = pool(x, width, stride, sides)
    counts = [
        (n + a + b - w) // s + 1 for n, w, s, (a, b) in zip(size, width, stride, sides, strict=True)
    ]
    assert list(y.shape) == [1, 2, *counts]
    for channel, place in itertools.product(range(2), itertools.product(*map(range, counts))):
        starts = [i * s - a for i, s, (a, _) in zip(place, stride, sides, strict=True)]
        window = [
            range(max(0, i), min(n, i + w)) for i, w, n in zip(starts, width, size, strict=True)
        ]
        real = [x[0, channel][where].item() for where in itertools.product(*window)]
        wanted = REDUCE[pool](real, math.prod(width) - len(real))
        assert y[0, channel][place].item() == pytest.approx(wanted, abs=1e-12)


def test_log_sum_exp_lies_between_mean_and_maximum():
    x = normal(2, 3, 8, 8)
    for sharpness, wanted in ((1e-5, average_pool(x, 2)), (1e4, max_pool(x, 2))):
        found = log_sum_exp_pool(x, 2, sharpness=sharpness)
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


def test_large_numbers_do_not_overflow():
    x = torch.full((1, 1, 4), 1e4)
    assert log_sum_exp_pool(x, 2).tolist() == [[[1e4, 1e4]]]


def test_k_max_keeps_the_order():
    x = torch.tensor([[[3.0, 1, 5, 5, 2, 9], [1, 1, 1, 1, 1, 0]]], requires_grad=True)
    y = k_max_pool(x, 3)
    assert y.tolist() == [[[5, 5, 9], [1, 1, 1]]]
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert dx.tolist() == [[[0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0]]]
    assert torch.equal(k_max_pool(x, 1), max_pool(x, 6))
    assert torch.equal(k_max_pool(x, 6), x)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_adaptive_from_any_size_to_one(d):
    average = getattr(functional, f"adaptive_avg_pool{d}d")
    largest = getattr(functional, f"adaptive_max_pool{d}d")
    for size in ((3, 4, 5), (7, 6, 8), (12, 1, 3)):
        x, wanted = normal(2, 3, *size[:d]), (4, 3, 2)[:d]
        torch.testing.assert_close(adaptive_pool(x, wanted), largest(x, wanted))
        torch.testing.assert_close(adaptive_pool(x, wanted, "average"), average(x, wanted))
        torch.testing.assert_close(adaptive_pool(x, wanted, "l2"), average(x * x, wanted).sqrt())
        torch.testing.assert_close(
            adaptive_pool(x, wanted, "log-sum-exp"), average(x.exp(), wanted).log()
        )


def test_unpooling_undoes_pooling():
    x = normal(2, 3, 6, 6)
    y, switches = max_pool_switches(x, 2)
    wanted = functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2)
    assert torch.equal(unpool(y, switches, (6, 6)), wanted)
    assert torch.equal(max_pool(unpool(y.abs(), switches, (6, 6)), 2), y.abs())


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 9))
def test_unpooling_is_the_backward_pass(width, stride, before, seed):
    torch.manual_seed(seed)
    x = normal(1, 2, 7, 5, requires_grad=True)
    sides = [(min(before, width - 1), 0), (0, width - 1)]
    y, switches = max_pool_switches(x, width, stride, sides)
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    torch.testing.assert_close(unpool(dy, switches, (7, 5)), dx)


@pytest.mark.parametrize(
    "layer",
    [
        layers.MaxPool(2), layers.AveragePool((3, 2), (1, 2), [(0, 2), (1, 0)]), layers.L2Pool(2, mean=False),
        layers.LogSumExpPool(3, 2, 1, sharpness=4.0), layers.KMaxPool(2), layers.AdaptivePool(3, "l2"),
        layers.AdaptivePool(2, "log-sum-exp"),
    ],
    ids=str,
)  # fmt: skip
def test_gradients(layer):
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(layer, normal(2, 2, 6, 5, requires_grad=True))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda x: max_pool(x, 2, padding=2), "must be smaller than the pool"),
        (lambda x: average_pool(x, 2, padding=[(0, 3)]), "must be smaller than the pool"),
        (lambda x: max_pool(x, 6), "larger than the padded input"),
        (lambda x: max_pool(x, 0), "pool must be"),
        (lambda x: max_pool(x[0], 2), "pooling takes"),
        (lambda x: k_max_pool(x, 6), "from 1 to the length 5, not 6"),
        (lambda x: k_max_pool(x, 0), "from 1 to the length"),
        (lambda x: log_sum_exp_pool(x, 2, sharpness=0), "sharpness"),
        (lambda x: adaptive_pool(x, 2, "most"), "no pooling 'most'"),
        (lambda x: adaptive_pool(x[..., :0], 2), "nothing to pool"),
        (lambda x: unpool(x, torch.zeros(1, 1, 2, dtype=torch.int64), (5,)), "switches"),
        (lambda x: unpool(x, torch.full_like(x, 9).long(), (5,)), "outside"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(run, words):
    with pytest.raises(ur.InputError, match=words):
        run(torch.ones(1, 1, 5))
