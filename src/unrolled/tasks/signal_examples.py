"""Signals and films as examples of a classifier. T steps, B rows, C channels."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from torch import nn

from unrolled.data.scaling import divisors
from unrolled.data.signals import Signals as Labelled
from unrolled.data.signals import as_words, is_signals, read_signals
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.examples import Examples, Found
from unrolled.tasks.pictures import as_text
from unrolled.tasks.signal_baseline import SignalBaseline, resampled
from unrolled.tasks.signal_models import signal_model
from unrolled.tasks.vary import vary_signal

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 50


class Signals(Examples):
    """Signals of any length, or films, of as many channels each.

    Args:
        settings: Of the run.
        classes: Number of labels.
        mean: Of each channel over all steps (C,), or (C, 1, 1) of films.
        deviation: Its standard deviation, shaped alike.
        shape: Of a step: (C,) or (C, H, W).
    """

    key, unit, word, shown = "signals", "signals", "signal", 4
    asked = ("a-signal.csv", "more.ts")
    defaults: ClassVar = {
        "classifier": {"model": "rnn", "filters": 64, "filter_widths": (5,)},
        "training": {"lr": 0.003, "batch_size": 16, "steps": 1000},
    }

    def __init__(
        self,
        settings: Settings,
        classes: int,
        mean: np.ndarray,
        deviation: np.ndarray,
        shape: tuple[int, ...],
    ) -> None:
        self.settings, self.classes, self.shape = settings, classes, shape
        self.mean, self.deviation = mean, deviation

    @classmethod
    def takes(cls, sources: Sequence[str]) -> bool:
        """Tell whether sources are signals."""
        return is_signals(sources)

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Give a convolutional net three blocks."""
        layers = {"model": {"layers": 3}} if settings.classifier.model == "cnn" else {}
        return {**cls.defaults, **layers}

    @classmethod
    def load(cls, sources: Sequence[str], settings: Settings) -> Found:
        """Read labelled signals, see :func:`unrolled.data.signals.read_signals`."""
        found = read_signals(sources, settings.data, size=settings.pictures.size)
        return Found(found.items, found.labels, found.where)

    @classmethod
    def fit(cls, settings: Settings, classes: int, items: Sequence[np.ndarray]) -> Self:
        """Measure the channels of the training signals."""
        shape = items[0].shape[1:]
        others = tuple(axis for axis in range(items[0].ndim) if axis != 1)
        count = sum(item.size for item in items) / shape[0]

        def mean_of(moments: list[np.ndarray]) -> np.ndarray:
            return np.sum(moments, axis=0) / count

        mean = mean_of([item.sum(others, dtype=np.float64) for item in items])
        at = mean.reshape(-1, *[1] * (len(shape) - 1))
        deviation = np.sqrt(mean_of([np.square(item - at).sum(others) for item in items]))
        deviation = divisors(mean, deviation).reshape(at.shape)
        return cls(settings, classes, at, deviation, shape)

    def read(self, sources: Sequence[str]) -> Found:
        """Read labelled signals with as many channels as those the model was trained on."""
        found = self.load(sources, self.settings)
        self._check(found.items[0], found.where[0])
        return found

    def _check(self, item: np.ndarray, where: str) -> None:
        if item.shape[1:] != self.shape:
            raise InputError(
                f"{where} has {as_words(item.shape[1:])}, but the model was trained on "
                f"{as_words(self.shape)}"
            )

    def inputs(self, items: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Give signals of mean 0 and deviation 1, as the training signals are in each channel."""
        dtype = self.settings.model.dtype
        return [((item - self.mean) / self.deviation).astype(dtype) for item in items]

    def batch(
        self, inputs: Sequence[np.ndarray], place: tuple[int, int] | None
    ) -> tuple[np.ndarray, ...]:
        """Pad signals to (T, B, C), or films to (T, B, C, H, W), with lengths (B,); varied in training."""
        if place is not None:
            step, first = place
            varied, seed = self.settings.varied, self.settings.training.seed
            inputs = [
                vary_signal(x, varied, seed, step, first + row) for row, x in enumerate(inputs)
            ]
        lengths = self.lengths(inputs)
        x = np.zeros((lengths.max(), len(inputs), *self.shape), self.settings.model.dtype)
        for row, values in enumerate(inputs):
            x[: len(values), row] = values
        return x, lengths

    def lengths(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Count the steps of each signal."""
        return np.array([len(values) for values in inputs], np.int64)

    def model(self) -> nn.Module:
        """Build the model of the settings."""
        return signal_model(self.shape, self.classes, self.settings)

    def baseline(self, items: Sequence[np.ndarray], labels: np.ndarray) -> SignalBaseline:
        """Fit statistics and nearest neighbours."""
        return SignalBaseline.fit(items, labels, self.classes, self.mean, self.deviation)

    def saved(self) -> dict[str, Any]:
        """Give shape, mean and deviation."""
        return {
            self.key: list(self.shape),
            "mean": self.mean.ravel().tolist(),
            "deviation": self.deviation.ravel().tolist(),
        }

    @classmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, SignalBaseline]:
        """Rebuild from shape, mean and deviation."""
        shape = tuple(int(n) for n in table[cls.key])
        as_step = (-1, *[1] * (len(shape) - 1))
        mean, deviation = (np.array(table[name]).reshape(as_step) for name in ("mean", "deviation"))
        own = cls(settings, classes, mean, deviation, shape)
        return own, SignalBaseline.from_arrays(classes, shape, arrays)

    def wanted(self, inputs: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
        """Read the signals in files and folders; a file may hold several."""
        size, found = self.settings.pictures.size, Labelled([], [], [])
        for name in inputs:
            one = read_signals([name], self.settings.data, size=size, labelled=False)
            self._check(one.items[0], one.where[0])
            found.items.extend(one.items)
            found.where.extend(one.where)
        return found.items, found.where

    def drawn(self, items: Sequence[np.ndarray], verdicts: Sequence[str]) -> str:
        """Draw the first channel of each as a line of blocks, or the middle frame of each film."""
        if len(self.shape) == 3:
            middle = np.stack([item[len(item) // 2] for item in items])
            return "\n".join([as_text(middle), *verdicts])
        lines = (_line(resampled(item[:, :1], WIDTH)[:, 0]) for item in items)
        return "\n".join(f"{line} -> {said}" for line, said in zip(lines, verdicts, strict=True))


def _line(values: np.ndarray) -> str:
    span = float(values.max() - values.min()) or 1.0
    return "".join(BLOCKS[int(7.99 * (value - values.min()) / span)] for value in values)
