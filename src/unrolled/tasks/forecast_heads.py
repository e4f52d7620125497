"""What a forecaster tells of a number: itself, quantiles, mean and deviation, or whether it will be higher.

Of numbers y of any shape (...), a model gives (...) or, with P numbers each, (..., P).
"""

import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.losses import NUMBER_LOSSES, gaussian_nll, quantile_loss
from unrolled.settings.forecast import ForecastSettings


@dataclass(frozen=True)
class Told:
    """Forecasts in numbers, each array shaped as what is forecast."""

    point: np.ndarray
    """Or probabilities, if binary."""
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    raw: np.ndarray | None = None
    """What the model gave."""


class Head(ABC):
    """How forecasts are read out, judged while learning, and told."""

    metric: ClassVar[str]
    """The figure people read, and by which the best weights are chosen."""
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    unit: str
    """What the loss is called."""
    extra: tuple[int, ...] = ()
    """(P,)."""
    level: float | None = None
    """Probability of the intervals."""

    @abstractmethod
    def loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """Compute the loss, a scalar."""

    @abstractmethod
    def told(self, raw: np.ndarray) -> Told:
        """Say what the model gave."""

    def shifted(self, raw: Tensor, by: Tensor) -> Tensor:
        """Add what was taken off the numbers (...) to what the model gave."""
        return raw + by

    def around(self, errors: np.ndarray) -> np.ndarray:
        """Give what a model says around 0 that has made these errors: (n, ...) -> (...) or (..., P)."""
        return np.zeros(errors.shape[1:])

    def figures(self, told: Told, truth: np.ndarray) -> dict[str, float]:
        """Judge what goes beyond the point."""
        if told.low is None or told.high is None:
            return {}
        inside = (told.low <= truth) & (truth <= told.high)
        return {"coverage": float(inside.mean())}


class Point(Head):
    """One value: the mean, as squares are made small; as absolute errors are, the median.

    Args:
        loss: One of :data:`~unrolled.layers.losses.NUMBER_LOSSES`.
    """

    metric = "mse"

    def __init__(self, loss: str = "squared") -> None:
        self.measure = NUMBER_LOSSES[loss]
        self.unit = "mse" if loss == "squared" else f"{loss}_error"

    def loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """Mean of the error as it is measured."""
        return self.measure(raw, y).mean()

    def told(self, raw: np.ndarray) -> Told:
        """Give the value."""
        return Told(raw)


class Binary(Head):
    """The logit of a probability of 1."""

    metric = unit = "nats_per_step"

    def loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """Nats a step, summed over what is told at it."""
        nats = functional.binary_cross_entropy_with_logits(raw, y, reduction="sum")
        return nats / len(y)

    def told(self, raw: np.ndarray) -> Told:
        """Give the probability."""
        return Told(torch.from_numpy(raw).sigmoid().numpy())


class Direction(Binary):
    """The logit of the probability that the value will be higher than now."""

    metric = "accuracy"
    better = "higher"

    def shifted(self, raw: Tensor, by: Tensor) -> Tensor:
        """A direction stays as it is."""
        return raw


class Quantile(Head):
    """Some quantiles; the one nearest the median is the point, the outermost are the interval.

    Args:
        quantiles: Rising numbers between 0 and 1.

    Raises:
        InputError: If they are not.
    """

    metric = unit = "pinball"

    def __init__(self, quantiles: Sequence[float]) -> None:
        if len(quantiles) < 2 or sorted({*quantiles}) != [*quantiles] or not quantiles[0] > 0:
            shown = ",".join(map(str, quantiles))
            raise InputError(
                f"--quantiles {shown}: give two or more between 0 and 1, in rising order"
            )
        self.quantiles = quantiles
        self.extra = (len(quantiles),)
        self.level = quantiles[-1] - quantiles[0]
        self.middle = int(np.abs(np.array(quantiles) - 0.5).argmin())

    def loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """Mean pinball loss over all quantiles."""
        return quantile_loss(raw, y, self.quantiles).mean()

    def told(self, raw: np.ndarray) -> Told:
        """Put quantiles that cross into order."""
        raw = np.sort(raw, -1)
        return Told(raw[..., self.middle], raw[..., 0], raw[..., -1], raw)

    def shifted(self, raw: Tensor, by: Tensor) -> Tensor:
        """Add to every quantile."""
        return raw + by[..., None]

    def around(self, errors: np.ndarray) -> np.ndarray:
        """Give the quantiles of the errors."""
        return np.moveaxis(np.quantile(errors, self.quantiles, axis=0), 0, -1)

    def figures(self, told: Told, truth: np.ndarray) -> dict[str, float]:
        """Judge the quantiles by the pinball loss, and the interval by the share that lies in it."""
        if told.raw is None:
            return {}
        pinball = quantile_loss(torch.from_numpy(told.raw), torch.from_numpy(truth), self.quantiles)
        return {"pinball": float(pinball.mean()), **super().figures(told, truth)}


class Gaussian(Head):
    """Mean and log deviation.

    Args:
        level: Probability of the intervals that are told.
    """

    metric = unit = "nll"
    extra = (2,)

    def __init__(self, level: float) -> None:
        self.level = level
        self.reach = statistics.NormalDist().inv_cdf((1 + level) / 2)

    def loss(self, raw: Tensor, y: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        return gaussian_nll(raw[..., 0], raw[..., 1], y).mean()

    def told(self, raw: np.ndarray) -> Told:
        """Give the mean, and so many deviations to both sides."""
        mean, around = raw[..., 0], self.reach * np.exp(raw[..., 1])
        return Told(mean, mean - around, mean + around, raw)

    def shifted(self, raw: Tensor, by: Tensor) -> Tensor:
        """Add to the mean."""
        return torch.stack([raw[..., 0] + by, raw[..., 1]], -1)

    def around(self, errors: np.ndarray) -> np.ndarray:
        """Give 0 and the logarithm of the errors' deviation."""
        deviation = np.sqrt(np.mean(errors**2, 0)).clip(1e-6)
        return np.stack([np.zeros_like(deviation), np.log(deviation)], -1)

    def figures(self, told: Told, truth: np.ndarray) -> dict[str, float]:
        """Judge the distribution by its nats, and the interval by the share that lies in it."""
        if told.raw is None:
            return {}
        raw = torch.from_numpy(told.raw)
        nats = gaussian_nll(raw[..., 0], raw[..., 1], torch.from_numpy(truth))
        return {"nll": float(nats.mean()), **super().figures(told, truth)}


def make_head(own: ForecastSettings, loss: str | None = None, *, binary: bool) -> Head:
    """Build the head of the settings.

    Args:
        own: The settings.
        loss: Of a point (default: squared).
        binary: Whether the data itself holds zeros and ones.

    Raises:
        InputError: If the quantiles are not in order, or a loss is given to what has its own.
    """
    if loss is not None and (binary or own.head != "point"):
        what = "music" if binary else f"--head {own.head}"
        raise InputError(f"--loss {loss}: {what} has a loss of its own; leave it out")
    match own.head:
        case "quantile":
            return Quantile(own.quantiles)
        case "gaussian":
            return Gaussian(own.interval)
        case "direction":
            return Direction()
        case "point":
            return Binary() if binary else Point(loss or "squared")
