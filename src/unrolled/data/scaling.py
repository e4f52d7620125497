"""What columns are divided by."""

import numpy as np


def divisors(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Give what to divide columns by so that they deviate by 1.

    Args:
        mean: Of each column.
        deviation: Standard deviation of each, shaped alike.

    Returns:
        The deviations, but 1 for a column whose values are all the same: what such a column deviates by is
        nothing, or the rounding of its mean.
    """
    return np.where(deviation > 16 * np.finfo(deviation.dtype).eps * np.abs(mean), deviation, 1.0)
