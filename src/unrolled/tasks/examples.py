"""What a classifier learns from, texts or pictures, behind one face.

B rows of a batch, C labels.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data import Vocabulary, fit_vocabulary, read_table
from unrolled.data.images import read_images, read_pictures
from unrolled.errors import InputError
from unrolled.settings import DataSettings, Settings
from unrolled.tasks.augment import augment, augments
from unrolled.tasks.bag import Bag, Baseline, Nearest
from unrolled.tasks.picture_models import Shape, picture_model
from unrolled.tasks.pictures import as_text, as_words
from unrolled.tasks.text_models import text_model


@dataclass(frozen=True)
class Found:
    """Labelled examples as they were read."""

    items: Any
    """Texts, or pictures (N, C, H, W)."""
    labels: list[str]
    where: list[str]
    phrases: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    """Of each tree, all phrases with their labels."""
    others: list[tuple[str, str]] = field(default_factory=list)
    """Phrases of trees that themselves have none of the labels."""
    skipped: list[str] = field(default_factory=list)

    def keys(self) -> list[str]:
        """Give what two examples that are the same share: the text, or a picture's file."""
        return self.items if isinstance(self.items, list) else self.where

    def of(self, rows: np.ndarray) -> Any:  # noqa: ANN401 - texts or pictures
        """Give the examples of some rows."""
        return [self.items[i] for i in rows] if isinstance(self.items, list) else self.items[rows]


class Examples(ABC):
    """One kind of example: how it is read, encoded, laid side by side, shown, and which models read it."""

    unit: ClassVar[str]
    """What they are called."""
    word: ClassVar[str]
    """What one is called."""
    shown: ClassVar[int]
    """How many a person is shown."""
    settings: Settings
    classes: int

    @classmethod
    @abstractmethod
    def fit(cls, settings: Settings, classes: int, items: Any) -> Self:  # noqa: ANN401
        """Learn from the training examples how to encode all."""

    @abstractmethod
    def read(self, sources: Sequence[str]) -> Found:
        """Read labelled examples.

        Raises:
            InputError: If they are missing or damaged.
        """

    @abstractmethod
    def inputs(self, items: Any) -> Sequence[np.ndarray] | np.ndarray:  # noqa: ANN401
        """Encode examples, one array each."""

    @abstractmethod
    def batch(self, inputs: Any, place: tuple[int, int] | None) -> tuple[np.ndarray, ...]:  # noqa: ANN401
        """Lay encoded examples side by side, as the model takes them.

        `place` is (step, first row) while training, which may vary them.
        """

    @abstractmethod
    def model(self) -> nn.Module:
        """Build the model, its weights drawn from torch's generator."""

    @abstractmethod
    def baseline(self, items: Any, labels: np.ndarray) -> Baseline:  # noqa: ANN401
        """Fit the simple models."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """Give what :meth:`restore` reads, for JSON."""

    @classmethod
    @abstractmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Baseline]:
        """Undo :meth:`saved`, and the baseline's `to_arrays`."""

    @abstractmethod
    def wanted(self, inputs: Sequence[str]) -> tuple[Any, list[str]]:
        """Give what a person wants labelled as examples, and what each is called.

        Raises:
            InputError: If one is empty or cannot be read.
        """

    @abstractmethod
    def drawn(self, items: Any, verdicts: Sequence[str]) -> str:  # noqa: ANN401
        """Show some examples with what is said of each."""

    def lengths(self, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """Give the steps of each example; those of like length are best read together."""
        return np.zeros(len(inputs), np.int64)


class Texts(Examples):
    """Texts of symbols.

    Args:
        settings: Of the run.
        classes: Number of labels.
        vocabulary: The symbols.
    """

    unit, word, shown = "texts", "text", 6

    def __init__(self, settings: Settings, classes: int, vocabulary: Vocabulary) -> None:
        self.settings, self.classes, self.vocabulary = settings, classes, vocabulary

    @classmethod
    def fit(cls, settings: Settings, classes: int, items: Iterable[str]) -> Self:
        """Fit the vocabulary on texts."""
        # a line end after each, so that no word runs on into the next text
        ended = (f"{_spaced(text, settings.data)}\n" for text in items)
        return cls(settings, classes, fit_vocabulary(ended, settings.data))

    def read(self, sources: Sequence[str]) -> Found:
        """Read a table, see :func:`unrolled.data.read_table`."""
        return read_texts(sources, self.settings.data)

    def inputs(self, items: Sequence[str]) -> list[np.ndarray]:
        """Give the ids of each text."""
        return [self.vocabulary.encode(_spaced(text, self.settings.data)) for text in items]

    def spelt(self, text: str) -> list[str]:
        """Give the symbols of a text as they stand in it, those too that the vocabulary lacks."""
        known, unknown = self.vocabulary.symbols, self.vocabulary.unknown
        (ids,) = self.inputs([text])
        pattern = "".join(r"( ?\S+?)" if i == unknown else f"({re.escape(known[i])})" for i in ids)
        found = re.fullmatch(pattern, _spaced(text, self.settings.data))
        return [*found.groups()] if found else [known[i] for i in ids]

    def batch(
        self, inputs: Sequence[np.ndarray], place: tuple[int, int] | None
    ) -> tuple[np.ndarray, ...]:
        """Pad texts to ids (T, B), at least one step, and lengths (B,); both int64."""
        lengths = self.lengths(inputs)
        ids = np.zeros((max(1, lengths.max()), len(inputs)), np.int64)
        for row, text in enumerate(inputs):
            ids[: len(text), row] = text
        return ids, lengths

    def lengths(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Count the symbols of each text."""
        return np.array([len(text) for text in inputs], np.int64)

    def model(self) -> nn.Module:
        """Build the model of the settings."""
        return text_model(len(self.vocabulary), self.classes, self.settings)

    def baseline(self, items: Sequence[str], labels: np.ndarray) -> Bag:
        """Fit bags of characters, or of words."""
        words = self.settings.data.symbols in ("word", "subword")
        return Bag.fit(items, labels, self.classes, words=words)

    def saved(self) -> dict[str, Any]:
        """Give the symbols."""
        return {"symbols": self.vocabulary.to_json()}

    @classmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Bag]:
        """Rebuild from the symbols."""
        vocabulary = Vocabulary.from_json(table["symbols"], "vocabulary.json")
        return cls(settings, classes, vocabulary), Bag.from_arrays(classes, arrays)

    def wanted(self, inputs: Sequence[str]) -> tuple[list[str], list[str]]:
        """Give the texts."""
        for place, text in enumerate(inputs, 1):
            if not text.strip():
                raise InputError(f"text {place} to label is empty")
        return [_cased(text, self.settings.data) for text in inputs], list(inputs)

    def drawn(self, items: Sequence[str], verdicts: Sequence[str]) -> str:
        """Give a line for each text."""
        short = (text if len(text) <= 50 else f"{text[:49]}…" for text in items)
        return "\n".join(f"{text} -> {said}" for text, said in zip(short, verdicts, strict=True))


class Pictures(Examples):
    """Pictures of one size.

    Args:
        settings: Of the run.
        classes: Number of labels.
        shape: Channels, height and width.
        mean: Of all numbers, where white is 1.
        deviation: Their standard deviation.
    """

    unit, word, shown = "pictures", "picture", 3

    def __init__(
        self, settings: Settings, classes: int, shape: Shape, mean: float, deviation: float
    ) -> None:
        self.settings, self.classes, self.shape = settings, classes, shape
        self.mean, self.deviation = mean, deviation

    @classmethod
    def fit(cls, settings: Settings, classes: int, items: np.ndarray) -> Self:
        """Measure pictures (N, C, H, W)."""
        mean, deviation = float(items.mean()) / 255, float(items.std()) / 255
        _, *shape = items.shape
        return cls(settings, classes, (shape[0], shape[1], shape[2]), mean, deviation or 1.0)

    def read(self, sources: Sequence[str]) -> Found:
        """Read labelled pictures, see :func:`unrolled.data.images.read_images`."""
        images = read_labelled_pictures(sources, self.settings)
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
        return {"pictures": [*self.shape], "mean": self.mean, "deviation": self.deviation}

    @classmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Nearest]:
        """Rebuild from size, mean and deviation."""
        channels, height, width = (int(n) for n in table["pictures"])
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

    def drawn(self, items: np.ndarray, verdicts: Sequence[str]) -> str:
        """Draw pictures with characters, side by side, and what is said of each below."""
        return "\n".join([as_text(items / np.float32(255)), *verdicts])


def read_texts(sources: Sequence[str], data: DataSettings) -> Found:
    """Read labelled texts in the case and with the labels that the settings ask for.

    Raises:
        InputError: If they are missing or damaged, or `merge` leaves none.
    """
    table = read_table(sources, data.encoding)
    merged = {old: new for new, olds in data.merge.items() for old in olds}
    if not merged:
        merged = {label: label for label in table.labels}
        merged |= {label: label for parts in table.phrases for _, label in parts}
    phrases = [
        tuple((_cased(text, data), merged[label]) for text, label in parts if label in merged)
        for parts in table.phrases
    ]
    kept = [row for row, label in enumerate(table.labels) if label in merged]
    if not kept:
        found = ", ".join(sorted(set(table.labels)))
        raise InputError(f"--merge names none of the labels of {', '.join(sources)}: {found}")
    gone = (row for row, label in enumerate(table.labels) if label not in merged)
    return Found(
        [_cased(table.texts[row], data) for row in kept],
        [merged[table.labels[row]] for row in kept],
        [table.where[row] for row in kept],
        [phrases[row] for row in kept],
        [pair for row in gone for pair in phrases[row]],
    )


def read_labelled_pictures(sources: Sequence[str], settings: Settings) -> Found:
    """Read labelled pictures of the size that the settings ask for."""
    pictures = settings.pictures
    images = read_images(sources, size=pictures.size, unreadable=pictures.unreadable)
    return Found(images.pixels, images.labels, images.where, skipped=images.skipped)


def tensors(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Give arrays to a device."""
    return [torch.from_numpy(array).to(device) for array in arrays]


def _cased(text: str, data: DataSettings) -> str:
    """Write a text as the settings want it read; Kim 2014 cleans texts much as `simplify` does."""
    if data.simplify:
        text = re.sub(r"[^\w(),!?]+", " ", text.replace("'", "")).strip()
    return text.lower() if data.lowercase else text


def _spaced(text: str, data: DataSettings) -> str:
    """Begin a text of words with a space, as a word of the vocabulary begins with the one before it."""
    return f" {text}" if data.symbols in ("word", "subword") and text[:1] != " " else text
