"""What a classifier of signals must beat: the most frequent label, statistics, the nearest example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from unrolled.data.scaling import divisors
from unrolled.tasks.bag import Baseline, regress
from unrolled.tasks.signal_models import statistics

LONGEST = 200
"""Steps to which signals are resampled at most, to be compared."""
KEPT = 4_000_000
"""Numbers of examples that are kept to compare with."""


@dataclass(frozen=True)
class SignalBaseline(Baseline):
    """``majority``, ``summary_statistics`` and ``nearest_neighbour``.

    The second is a logistic regression on what :func:`~unrolled.tasks.signal_models.statistics` gives; the
    third gives the label of the training signal at the smallest Euclidean distance, all signals scaled alike
    and resampled to one number of steps.
    """

    frequency: np.ndarray
    """(C,): how often each label occurred."""
    mean: np.ndarray
    """Of each channel, to scale by; as a step is laid out or broadcast to it."""
    deviation: np.ndarray
    weight: np.ndarray
    """(statistics, C) float32."""
    bias: np.ndarray
    """(C,) float32; -inf for a label that did not occur."""
    examples: np.ndarray
    """(N, L, numbers of a step) float32."""
    labels: np.ndarray
    """(N,)."""

    @classmethod
    def fit(
        cls,
        items: Sequence[np.ndarray],
        labels: np.ndarray,
        classes: int,
        mean: np.ndarray,
        deviation: np.ndarray,
    ) -> Self:
        """Fit all three.

        Args:
            items: Signals (T, C), or films (T, C, H, W).
            labels: Number of each one's label (n,); at least two different ones.
            classes: Number of labels.
            mean: Of each channel.
            deviation: Of each channel.
        """
        scaled = [(item - mean) / deviation for item in items]
        features = _features(scaled)
        middle = features.mean(0)
        spread = divisors(middle, features.std(0))
        weight, bias = regress((features - middle) / spread, labels, classes)
        weight = weight / spread[:, None]
        length = min(LONGEST, int(np.median([len(item) for item in items])))
        most = max(classes, KEPT // (length * scaled[0][0].size))
        chosen = np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).astype(int))
        return cls(
            np.bincount(labels, minlength=classes),
            np.asarray(mean),
            np.asarray(deviation),
            weight.astype(np.float32),
            (bias - middle @ weight).astype(np.float32),
            np.stack([resampled(scaled[i], length) for i in chosen]),
            labels[chosen],
        )

    def predict(self, items: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Name of a model -> number of the label it gives each signal, (n,)."""
        from sklearn.neighbors import KNeighborsClassifier

        scaled = [(item - self.mean) / self.deviation for item in items]
        scores = _features(scaled) @ self.weight + self.bias
        nearest = KNeighborsClassifier(1, algorithm="brute")
        nearest.fit(self.examples.reshape(len(self.examples), -1), self.labels)
        length = self.examples.shape[1]
        told = nearest.predict([resampled(item, length).ravel() for item in scaled])
        return {
            "majority": np.full(len(items), self.frequency.argmax()),
            "summary_statistics": scores.argmax(axis=1),
            "nearest_neighbour": np.asarray(told),
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give everything as arrays."""
        return dict(vars(self))

    @classmethod
    def from_arrays(
        cls, classes: int, shape: tuple[int, ...], arrays: Mapping[str, np.ndarray]
    ) -> Self:
        """Rebuild from the number of labels, the shape of a step, and what :meth:`to_arrays` gave.

        Raises:
            InputError: If an array is missing or has the wrong shape.
        """
        numbers = int(np.prod(shape))
        channel = (shape[0], 1, 1) if len(shape) == 3 else shape
        shapes: dict[str, tuple[int | None, ...]] = {
            "frequency": (classes,),
            "mean": channel,
            "deviation": channel,
            "weight": (5 * numbers + 1, classes),
            "bias": (classes,),
            "examples": (None, None, numbers),
            "labels": (len(arrays.get("examples", ())),),
        }
        return cls(**cls.checked(arrays, shapes))


def resampled(values: np.ndarray, steps: int) -> np.ndarray:
    """Stretch a signal (T, ...) to so many steps, on straight lines between its own -> (steps, numbers)."""
    values = values.reshape(len(values), -1)
    place = np.linspace(0, len(values) - 1, steps)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    part = (place - low)[:, None]
    return ((1 - part) * values[low] + part * values[high]).astype(np.float32)


def _features(items: Sequence[np.ndarray]) -> np.ndarray:
    each = (torch.from_numpy(np.ascontiguousarray(item)).double()[:, None] for item in items)
    return np.concatenate([statistics(one).numpy() for one in each])
