"""Pictures of one size as examples of a classifier. N pictures, C channels, H x W pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from unrolled.data.images import is_images, read_images, read_pictures
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.augment import augment, augments
from unrolled.tasks.bag import Nearest
from unrolled.tasks.examples import Examples, Found
from unrolled.tasks.picture_models import Shape, picture_model
from unrolled.tasks.pictures import as_text, as_words


class Pictures(Examples):
    """Pictures of one size.

    Args:
        settings: Of the run.
        classes: Number of labels.
        shape: Channels, height and width.
        mean: Of all numbers, where white is 1.
        deviation: Their standard deviation.
    """

    key, unit, word, shown = "pictures", "pictures", "picture", 3
    asked = ("a-picture.png", "more-pictures/")

    def __init__(
        self, settings: Settings, classes: int, shape: Shape, mean: float, deviation: float
    ) -> None:
        self.settings, self.classes, self.shape = settings, classes, shape
        self.mean, self.deviation = mean, deviation

    @classmethod
    def takes(cls, sources: Sequence[str]) -> bool:
        """Tell whether sources are pictures."""
        return is_images(sources)

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Take a cnn."""
        return {"classifier": {"model": "cnn"}, "training": {"lr": 0.002, "batch_size": 64}}

    @classmethod
    def load(cls, sources: Sequence[str], settings: Settings) -> Found:
        """Read labelled pictures of the size that the settings ask for."""
        size, unreadable = settings.pictures.size, settings.pictures.unreadable
        images = read_images(sources, size=size, unreadable=unreadable)
        return Found(images.pixels, images.labels, images.where, skipped=images.skipped)

    @classmethod
    def fit(cls, settings: Settings, classes: int, items: np.ndarray) -> Self:
        """Measure pictures (N, C, H, W)."""
        mean, deviation = float(items.mean()) / 255, float(items.std()) / 255
        _, *shape = items.shape
        return cls(settings, classes, (shape[0], shape[1], shape[2]), mean, deviation or 1.0)

    def read(self, sources: Sequence[str]) -> Found:
        """Read labelled pictures of the model's size."""
        images = self.load(sources, self.settings)
        if images.items.shape[1:] != self.shape:
            raise InputError(
                f"these pictures are {as_words(images.items.shape[1:])}, but the model was trained on "
                f"{as_words(self.shape)}; give it such, or train with --size"
            )
        return images

    def inputs(self, items: np.ndarray) -> np.ndarray:
        """Give the pixels as they are, bytes."""
        return items

    def batch(self, inputs: np.ndarray, place: tuple[int, int] | None) -> tuple[np.ndarray, ...]:
        """Give pictures (B, C, H, W) of mean 0 and deviation 1; while training, varied."""
        x = torch.from_numpy(np.ascontiguousarray(inputs)).float() / 255
        if place is not None and augments(self.settings.pictures):
            x = augment(x, self.settings.pictures, self.settings.training.seed, *place)
        dtype = getattr(torch, self.settings.model.dtype)
        return (((x - self.mean) / self.deviation).to(dtype).numpy(),)

    def model(self) -> nn.Module:
        """Build the model of the settings."""
        return picture_model(self.shape, self.classes, self.settings)

    def baseline(self, items: np.ndarray, labels: np.ndarray) -> Nearest:
        """Fit the mean picture of each label."""
        return Nearest.fit(items, labels, self.classes)

    def saved(self) -> dict[str, Any]:
        """Give size, mean and deviation."""
        return {self.key: [*self.shape], "mean": self.mean, "deviation": self.deviation}

    @classmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Nearest]:
        """Rebuild from size, mean and deviation."""
        channels, height, width = (int(n) for n in table[cls.key])
        shape = channels, height, width
        own = cls(settings, classes, shape, float(table["mean"]), float(table["deviation"]))
        return own, Nearest.from_arrays(classes, int(np.prod(shape)), arrays)

    def wanted(self, inputs: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Read pictures, scaled to the size of those the model was trained on if they were scaled too."""
        size = self.settings.pictures.size
        pixels, names = read_pictures(inputs, size, channels=self.shape[0])
        if pixels.shape[1:] != self.shape:
            raise InputError(
                f"{names[0]} is {as_words(pixels.shape[1:])}, but the model was trained on "
                f"{as_words(self.shape)}; scale it, or train with --size"
            )
        return pixels, names

    def lost(self, found: Found, inputs: np.ndarray) -> dict[str, int]:
        """Count files that are no pictures."""
        return {"skipped": len(found.skipped)}

    def drawn(self, items: np.ndarray, verdicts: Sequence[str]) -> str:
        """Draw pictures with characters, side by side, and what is said of each below."""
        return "\n".join([as_text(items / np.float32(255)), *verdicts])
