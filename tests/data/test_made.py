"""Problems made by a formula."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from unrolled.data.made import adding, copying, mackey_glass


@given(st.integers(2, 60), st.integers(1, 20), st.integers(0, 100))
def test_adding(steps, rows, seed):
    x, total = adding(steps, rows, np.random.default_rng(seed))
    numbers, marks = x[..., 0], x[..., 1]
    assert x.shape == (steps, rows, 2)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert set(np.unique(marks)) <= {0, 1}
    assert (marks[: steps // 2].sum(0) == 1).all()
    assert (marks[steps // 2 :].sum(0) == 1).all()
    np.testing.assert_array_equal(total, [numbers[marks[:, r] > 0, r].sum() for r in range(rows)])


def test_always_one_is_wrong_by_a_sixth():
    _, total = adding(100, 20_000, np.random.default_rng(0))
    assert np.mean((total - 1) ** 2) == pytest.approx(1 / 6, rel=0.03)


@given(st.integers(1, 50), st.integers(1, 10))
def test_copying(steps, rows):
    x, y = copying(steps, rows, np.random.default_rng(0))
    assert x.shape == y.shape == (steps + 20, rows)
    assert x[:10].max() < 8
    assert (x[10 : steps + 9] == 8).all()
    assert (x[steps + 9] == 9).all()
    assert (x[steps + 10 :] == 8).all()
    assert (y[:-10] == 8).all()
    np.testing.assert_array_equal(y[-10:], x[:10])


def exact(until, start, delay=17.0):
    """Integrate span by span, each with the last one's dense output for the past (method of steps)."""
    spans = [lambda t: np.full_like(t, start)]

    def f(t, x):
        past = spans[-1](np.atleast_1d(t - delay))
        return 0.2 * past / (1 + past**10) - 0.1 * x

    value, found = start, []
    for n in range(math.ceil(until / delay)):
        times = np.arange(math.ceil(n * delay), min(until, (n + 1) * delay))
        solved = solve_ivp(
            f, (n * delay, (n + 1) * delay), [value], "DOP853", dense_output=True,
            rtol=1e-12, atol=1e-13, max_step=0.5,
        )  # fmt: skip
        found.append(solved.sol(times)[0])
        spans.append(lambda t, sol=solved.sol: sol(t)[0])
        value = solved.y[0, -1]
    return np.concatenate(found)


def test_mackey_glass_is_what_scipy_integrates():
    start = 1.2 + np.random.default_rng([3]).uniform(-0.1, 0.1)
    mine = mackey_glass(170, seed=3, transient=0)
    np.testing.assert_allclose(mine, exact(170, start), rtol=0, atol=2e-8)


def test_mackey_glass_is_of_fourth_order():
    fine = mackey_glass(100, transient=0, substeps=32)
    errors = [np.abs(mackey_glass(100, transient=0, substeps=n) - fine).max() for n in (2, 4)]
    assert errors[0] / errors[1] > 12


def test_mackey_glass_is_chaotic_and_bounded():
    one, other = mackey_glass(1500, seed=0), mackey_glass(1500, seed=1)
    assert 0.2 < one.min() < 0.5
    assert 1.2 < one.max() < 1.4
    assert np.abs(one - other).max() > 0.5
    np.testing.assert_array_equal(one, mackey_glass(1500, seed=0))


@pytest.mark.parametrize("delay", [0, -1, 17.05])
def test_a_delay_that_is_no_multiple(delay):
    with pytest.raises(ValueError, match="positive multiple of 1/10"):
        mackey_glass(10, delay)
