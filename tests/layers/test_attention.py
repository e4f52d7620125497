"""Pooling over time against its formula, and rows by themselves."""

import numpy as np
import pytest
import torch

from unrolled.engine.cell import recording_gates
from unrolled.layers import attention
from unrolled.layers.attention import ATTENTIONS, POOLS, pool_over_time

NAMES = [*POOLS, *ATTENTIONS]
STEPS, WIDTH = 11, 5
LENGTHS = torch.tensor([4, 11, 0, 1, 7])


def make(name, dtype=torch.float64, width=WIDTH, **options):
    torch.manual_seed(0)
    return pool_over_time(name, width, **options).to(dtype)


def rows(steps=STEPS, lengths=LENGTHS, width=WIDTH, dtype=torch.float64):
    torch.manual_seed(1)
    y = torch.randn(steps, len(lengths), width, dtype=dtype)
    y[torch.arange(steps)[:, None] >= lengths] = float("nan")
    return y


def formula(name, pool, y):
    """Pool one row (n, H) in NumPy; give the weights too."""
    if not len(y):
        return np.zeros(y.shape[1])
    if name in ("last", "mean", "max"):
        return {"last": y[-1], "mean": y.mean(0), "max": y.max(0)}[name]
    p = {name: value.detach().numpy() for name, value in pool.score.named_parameters()}
    if name == "dot":
        scores = y @ p["q.weight"][0] / np.sqrt(y.shape[1])
    else:
        scores = np.tanh(y @ p["y.weight"].T + p["y.bias"]) @ p["v.weight"][0]
    weights = np.exp(scores) / np.exp(scores).sum()
    return weights @ y


@pytest.mark.parametrize("name", [name for name in NAMES if name != "whole"])
def test_the_formula(name, engine):
    pool, y = make(name), rows()
    found = pool(y, LENGTHS).detach().numpy()
    for row, n in enumerate(LENGTHS.tolist()):
        np.testing.assert_allclose(
            found[row], formula(name, pool, y[:n, row].numpy()), rtol=0, atol=1e-14
        )
    whole = torch.randn(3, 2, WIDTH, dtype=torch.float64)
    expected = [formula(name, pool, whole[:, row].numpy()) for row in range(2)]
    np.testing.assert_allclose(pool(whole).detach().numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("batch", "width"), [(5, 5), (33, 24), (4, 1)])
def test_a_row_alone_is_the_row_in_a_batch_bit_for_bit(name, dtype, batch, width):
    pool = make(name, dtype, width)
    steps = 37
    lengths = torch.randint(1, steps + 1, (batch,), generator=torch.Generator().manual_seed(2))
    lengths[0] = steps
    y = rows(steps, lengths, width, dtype).requires_grad_()
    pooled = pool(y, lengths)
    back = torch.randn_like(pooled)
    (grad,) = torch.autograd.grad(pooled, y, back)
    assert grad.isfinite().all()
    for row, n in enumerate(lengths.tolist()):
        alone = y.detach()[:n, row : row + 1].clone().requires_grad_()
        found = pool(alone)
        at = (slice(0, n), slice(row, row + 1)) if name == "whole" else slice(row, row + 1)
        assert torch.equal(found, pooled[at])
        assert torch.equal(torch.autograd.grad(found, alone, back[at])[0], grad[:n, row : row + 1])
        assert not grad[n:, row].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_row_without_steps_gives_zero_and_no_gradient(name):
    pool, y = make(name), rows().requires_grad_()
    pooled = pool(y, LENGTHS)
    pooled.square().sum().backward()
    assert not pooled[:, 2].any() if name == "whole" else not pooled[2].any()
    assert y.grad is not None
    assert y.grad.isfinite().all()
    assert not y.grad[:, 2].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pool.parameters())
    nothing = pool(y.detach(), torch.zeros(5, dtype=torch.int64))
    assert not nothing.any()


@pytest.mark.parametrize("name", NAMES)
def test_batch_first(name):
    y = rows()
    expected = make(name)(y, LENGTHS)
    found = make(name, batch_first=True)(y.transpose(0, 1), LENGTHS)
    assert torch.equal(found, expected.transpose(0, 1) if name == "whole" else expected)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows(name):
    y = torch.zeros(3, 0, WIDTH, dtype=torch.float64)
    for lengths in (None, torch.zeros(0, dtype=torch.int64)):
        assert make(name)(y, lengths).shape == ((3, 0, WIDTH) if name == "whole" else (0, WIDTH))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_on_cuda(name):
    pool = make(name)
    expected = pool(rows(), LENGTHS)
    pool.cuda()
    for lengths in (LENGTHS, LENGTHS.cuda()):
        y = rows().cuda().requires_grad_()
        pooled = pool(y, lengths)
        torch.testing.assert_close(pooled.cpu(), expected, rtol=0, atol=1e-12)
        pooled.square().sum().backward()
        assert y.grad is not None
        assert y.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, engine):
    pool = make(name)
    y = torch.randn(4, 3, WIDTH, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([4, 0, 2])
    names = [key for key, _ in pool.named_parameters()]

    def call(y, *parameters):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(pool, given, (y, lengths))

    assert torch.autograd.gradcheck(call, (y, *pool.parameters()))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_weights_add_up_to_one_and_are_recorded(name):
    pool, y = make(name), rows()
    with recording_gates() as gates:
        pooled, weights = pool(y, LENGTHS, return_weights=True)
    assert weights.shape == (STEPS, 5)
    torch.testing.assert_close(
        weights.sum(0), (LENGTHS > 0).double(), rtol=0, atol=1e-15, check_dtype=False
    )
    assert not weights[torch.arange(STEPS)[:, None] >= LENGTHS].any()
    assert torch.equal(gates["attention"], weights)
    assert torch.equal(pool.weights(y, LENGTHS), weights)
    assert torch.equal(pool(y, LENGTHS), pooled)
    first = make(name, batch_first=True)
    assert torch.equal(first.weights(y.transpose(0, 1), LENGTHS), weights.T)


def test_large_scores_do_not_overflow():
    pool = make("dot", torch.float32)
    with torch.no_grad():
        pool.score.q.weight.fill_(1e4)
    pooled, weights = pool(rows(dtype=torch.float32), LENGTHS, return_weights=True)
    assert pooled.isfinite().all()
    assert weights[:, 0].max() == 1


def test_not_scaled():
    torch.manual_seed(0)
    pool = attention.DotAttention(WIDTH, scaled=False).double()
    y = rows(lengths=torch.tensor([STEPS]))
    expected = (y[:, 0] @ pool.score.q.weight[0]).softmax(0)
    torch.testing.assert_close(pool.weights(y)[:, 0], expected, rtol=0, atol=1e-15)


def test_equal_numbers_the_first_takes_the_gradient():
    y = torch.zeros(3, 1, 1, requires_grad=True)
    attention.max_over_time(y, torch.tensor([2])).sum().backward()
    assert y.grad is not None
    assert y.grad.flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "lengths", "match"),
    [
        ((3, 2), None, "steps, rows, width"),
        ((0, 2, WIDTH), None, "with a step"),
        ((3, 2, WIDTH), [1, 4], "between 0 and 3"),
        ((3, 2, WIDTH), [-1, 3], "between 0 and 3"),
        ((3, 2, WIDTH), [1], "2 integers"),
    ],
)
def test_bad_input(name, shape, lengths, match):
    lengths = None if lengths is None else torch.tensor(lengths)
    with pytest.raises(ValueError, match=match):
        make(name)(torch.zeros(shape, dtype=torch.float64), lengths)


def test_bad_names():
    with pytest.raises(ValueError, match="no pooling over time 'median'; give one of last, mean"):
        pool_over_time("median")
    with pytest.raises(ValueError, match="give the width"):
        pool_over_time("dot")
