"""Lags, futures, least squares and seasons, by hand and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.lagged import find_season, futures, lags, least_squares, seasonal_naive

SERIES = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]])


def test_lags_by_hand():
    expected = [[0, 0, 1, 10], [1, 10, 2, 20], [2, 20, 3, 30], [3, 30, 4, 40]]
    np.testing.assert_array_equal(lags(SERIES, 2), expected)
    np.testing.assert_array_equal(lags(SERIES, 1), SERIES)


def test_futures_by_hand():
    found = futures(SERIES, 2)
    assert found.shape == (4, 2, 2)
    np.testing.assert_array_equal(found[:, 0], [[2, 3], [3, 4], [4, 0], [0, 0]])
    np.testing.assert_array_equal(found[1, 1], [30, 40])


@given(st.integers(1, 6), st.integers(1, 6), st.integers(7, 20))
def test_lags_and_futures_meet(k, horizon, steps):
    values = np.arange(1.0, steps + 1)[:, None]
    for t in range(k - 1, steps - horizon):
        assert lags(values, k)[t].tolist() == list(range(t + 2 - k, t + 2))
        assert futures(values, horizon)[t, 0].tolist() == list(range(t + 2, t + 2 + horizon))


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_least_squares_are_those_of_scikit_learn(ridge):
    from sklearn.linear_model import LinearRegression, Ridge

    random = np.random.default_rng(0)
    x, y = random.standard_normal((30, 4)) + 5, random.standard_normal((30, 2)) - 3
    model = Ridge(alpha=ridge) if ridge else LinearRegression()
    model.fit(x, y)
    weight, bias = least_squares(x, y, ridge)
    np.testing.assert_allclose(weight, model.coef_.T, atol=1e-12)
    np.testing.assert_allclose(bias, model.intercept_, atol=1e-12)


def test_least_squares_of_columns_that_are_alike():
    x = np.repeat(np.arange(5.0)[:, None], 2, 1)
    weight, bias = least_squares(x, 4 * x[:, :1] + 1)
    np.testing.assert_allclose(weight, 2)
    np.testing.assert_allclose(bias, 1)


def test_the_seasonal_naive_by_hand():
    found = seasonal_naive(np.array([[1.0], [2], [3], [4], [5]]), 2, 3)
    np.testing.assert_array_equal(found[4, 0], [4, 5, 4])
    np.testing.assert_array_equal(found[0, 0], [1, 1, 1])  # nothing was before


@pytest.mark.parametrize("period", [2.0, 7, 12, 40])
def test_finds_a_season_under_a_trend_and_noise(period):
    t = np.arange(240.0)
    noise = np.random.default_rng(0).standard_normal(240)
    values = 3 + 0.1 * t + 2 * np.cos(2 * np.pi * t / period) + 0.1 * noise
    assert find_season(values[:, None]) == period


def test_no_season_in_what_does_not_move():
    assert find_season(np.ones((50, 1))) == 1
