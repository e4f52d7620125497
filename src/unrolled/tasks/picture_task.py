"""What tasks on pictures have in common."""

import math
from typing import Self

import numpy as np

from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import pictures as data
from unrolled.tasks.pictures import Pictures
from unrolled.tasks.task import Artefacts, Split, Task, in_split

Size = tuple[int, int, int]
"""Channels, height and width."""


class PictureTask(Task):
    """Reads pictures, splits them, and gives batches of them.

    Args:
        settings: Of the run.
        size: Of the pictures.
        splits: None when it was restored.
    """

    examples = ("a-picture.png", "more-pictures")

    def __init__(
        self, settings: Settings, size: Size, splits: dict[Split, Pictures] | None = None
    ) -> None:
        self.settings = settings
        self.size = size
        self._splits = splits
        self._digest = data.digest(splits) if splits else ""

    @classmethod
    def from_pictures(cls, settings: Settings, pictures: Pictures) -> Self:
        """Split pictures.

        Raises:
            InputError: If they are too few.
        """
        return cls(settings, pictures.size, data.split_pictures(pictures, settings))

    def part(self, split: Split) -> Pictures:
        """Give the pictures of a split.

        Raises:
            InputError: If the split is empty.
            RunError: If the task was restored and has no data.
        """
        return in_split(self._splits, split, "pictures")

    def some(self, count: int) -> Pictures:
        """Give the first pictures for validation, or to train on where there are none."""
        found = self.part("validation" if self.settings.data.validates else "training")
        return found[np.arange(min(count, len(found)))]

    @property
    def data_digest(self) -> str:
        """A hash of the pictures, their labels, and how they are split."""
        return self._digest

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training picture comes once; the last may begin the next epoch."""
        return math.ceil(len(self.part("training")) / self.settings.training.batch_size)

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is: of whatever is being trained by then."""
        return {"loss": loss}

    def throughput(self) -> tuple[int, str]:
        """Pictures that one update reads."""
        return self.settings.training.batch_size, "pictures"


def saved_size(artefacts: Artefacts) -> Size:
    """Read the size of the pictures that a model takes.

    Raises:
        InputError: If it is not there.
    """
    try:
        channels, height, width = artefacts.vocabulary["size"]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            "vocabulary.json has no size of pictures; it is of no autoencoder"
        ) from None
    return channels, height, width
