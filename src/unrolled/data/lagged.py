"""Values that came before: lags, least squares over them, seasons.

n steps, C columns, k lags, O outputs, H steps ahead.
"""

import numpy as np


def lags(values: np.ndarray, k: int) -> np.ndarray:
    """Lay the last k values of each step side by side, the oldest first: (n, C) -> (n, k C).

    Before the first step there are zeros.
    """
    padded = np.concatenate([np.zeros((k - 1, values.shape[1])), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, k, axis=0)  # (n, C, k)
    return windows.swapaxes(1, 2).reshape(len(values), -1)


def futures(values: np.ndarray, horizon: int) -> np.ndarray:
    """Give the values 1 to H steps ahead of each step, zero beyond the last: (n, C) -> (n, C, H)."""
    padded = np.concatenate([values, np.zeros((horizon, values.shape[1]))])
    return np.lib.stride_tricks.sliding_window_view(padded, horizon, axis=0)[1:]


def least_squares(
    x: np.ndarray, y: np.ndarray, ridge: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Solve y = x W + b for the smallest sum of squares, plus ridge times that of W; b is not shrunk.

    Args:
        x: (n, F).
        y: (n, O).
        ridge: At 0, the W of the smallest norm among several.

    Returns:
        W (F, O) and b (O,).
    """
    centre_x, centre_y = x.mean(0), y.mean(0)
    x, y = x - centre_x, y - centre_y
    if ridge:
        width = x.shape[1]
        x = np.concatenate([x, ridge**0.5 * np.eye(width)])
        y = np.concatenate([y, np.zeros((width, y.shape[1]))])
    weight, *_ = np.linalg.lstsq(x, y, rcond=None)
    return weight, centre_y - centre_x @ weight


def seasonal_naive(values: np.ndarray, season: int, horizon: int) -> np.ndarray:
    """Forecast what was there one season earlier, or as many as it takes: (n, C) -> (n, C, H).

    Where the series does not reach so far back, its first value stands for what came before.
    """
    ahead = np.arange(1, horizon + 1)
    back = ahead - season * -(-ahead // season)  # 0 or less
    places = np.maximum(np.arange(len(values))[:, None] + back, 0)
    return values[places].swapaxes(1, 2)


def find_season(values: np.ndarray) -> int:
    """Find the period that holds most of the variance of a series (n, C), by its Fourier transform.

    Periods of 2 steps up to a third of the series count; a straight line is taken off first.
    """
    steps = np.arange(len(values))
    trend, start = least_squares(steps[:, None].astype(float), values)
    power = (np.abs(np.fft.rfft(values - steps[:, None] * trend - start, axis=0)) ** 2).sum(1)
    power[:3] = 0
    return max(1, round(len(values) / power.argmax())) if power.any() else 1
