"""Losses that torch does not have, or has in other terms. Each gives one number a prediction.

What torch has is used as it is: ``mse_loss``, ``l1_loss``, ``huber_loss``, ``cross_entropy``, ...
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def gaussian_nll(mean: Tensor, log_deviation: Tensor, y: Tensor) -> Tensor:
    """Compute -ln N(y; m, s^2) = ln s + ((y - m) / s)^2 / 2 + ln(2 pi) / 2, in nats.

    The deviation comes as its logarithm, so that any number will do. (Nix & Weigend 1994, eq. 5, with
    the constant.)

    Args:
        mean: m, of any shape.
        log_deviation: ln s, shaped alike.
        y: What came, shaped alike.

    Returns:
        A tensor of the same shape.
    """
    return log_deviation + 0.5 * ((y - mean) * (-log_deviation).exp()).square() + HALF_LOG_2_PI


def quantile_loss(told: Tensor, y: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Compute the pinball loss max(q (y - u), (q - 1) (y - u)), whose least mean the q-quantile u has.

    (Koenker & Bassett 1978.)

    Args:
        told: Forecasts u of each quantile, (..., Q).
        y: What came, (...).
        quantiles: The Q numbers q, each between 0 and 1.

    Returns:
        (..., Q).

    Raises:
        ValueError: If `told` has another number of quantiles, or one is not between 0 and 1.
    """
    if told.shape[-1] != len(quantiles):
        raise ValueError(f"{told.shape[-1]} forecasts a number, but {len(quantiles)} quantiles")
    if not all(0 < q < 1 for q in quantiles):
        raise ValueError(f"quantiles must be between 0 and 1, not {tuple(quantiles)}")
    q = torch.tensor(quantiles, dtype=told.dtype, device=told.device)
    over = y[..., None] - told
    return torch.maximum(q * over, (q - 1) * over)
