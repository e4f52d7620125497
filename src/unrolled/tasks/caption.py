"""Caption: a sentence about each picture.

B pictures, C channels, H x W pixels.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data import Vocabulary
from unrolled.data.captions import (
    NEIGHBOURS,
    Captioned,
    listed_rows,
    neighbours,
    read_captioned,
)
from unrolled.data.images import read_pictures
from unrolled.data.side import Side
from unrolled.data.splits import SPLITS, Split, sources_of
from unrolled.errors import InputError
from unrolled.layers.encoder_decoder import EncoderDecoder, Reading
from unrolled.layers.pooling import AdaptivePool
from unrolled.settings import Settings
from unrolled.tasks.drawing import maps
from unrolled.tasks.examples import Found
from unrolled.tasks.nearest import NearestPicture
from unrolled.tasks.pictures import as_text, as_words
from unrolled.tasks.splitting import split_rows, warn_of_leaks
from unrolled.tasks.task import Artefacts, Criterion
from unrolled.tasks.writing import ROWS_AT_ONCE, Writer, check_settings
from unrolled.tasks.written import Items, Manner, Rows

MAP = 8
"""Most places a side of the map that attention looks at."""
CHANNELS = (32, 64, 96, 128)
DRAWN = 4


class PictureEncoder(nn.Module):
    """Convolutions and pooling -> a map of places to look at, and a summary of all of them.

    Blocks of a 3 x 3 convolution, group normalisation (Wu & He 2018), ReLU and max pooling over 2 x 2 follow
    each other until no side of the map has more than `MAP` places, then one more without pooling. The summary
    is a layer of GELU units over the whole map, pooled to 4 x 4 if it is larger.

    Args:
        shape: C, H, W.
        units: Width of the summary.
    """

    def __init__(self, shape: tuple[int, int, int], units: int) -> None:
        super().__init__()
        channels, *sides = shape
        layers: list[nn.Module] = []
        while True:
            width = CHANNELS[min(len(layers) // 4, len(CHANNELS) - 1)]
            layers += _seen(channels, width)
            channels = width
            if max(sides) <= MAP:
                break
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            sides = [(side + 1) // 2 for side in sides]
        self.layers = nn.Sequential(*layers, *_seen(channels, 64))
        self.pool = AdaptivePool(4, "average") if min(sides) > 4 else nn.Identity()
        places = 16 if min(sides) > 4 else sides[0] * sides[1]
        self.units = nn.Linear(64 * places, units)
        self.width, self.summary_size, self.sides = 64, units, (sides[0], sides[1])

    def forward(self, x: Tensor) -> Reading:
        """Look at pictures (B, C, H, W)."""
        seen = self.layers(x)  # (B, 64, h, w)
        summary = functional.gelu(self.units(self.pool(seen).flatten(1)))
        return Reading(summary, seen.flatten(2).permute(2, 0, 1), None)


def _seen(channels: int, width: int) -> list[nn.Module]:
    # Without the norm a few large steps make attention see one place alone, from which it learns nothing.
    convolution = nn.Conv2d(channels, width, 3, padding=1)
    return [convolution, nn.GroupNorm(8, width), nn.ReLU()]


class VectorEncoder(nn.Module):
    """One layer of GELU units over all numbers of a picture, or of any vector.

    Args:
        shape: Of what is read.
        units: Width of the summary.
    """

    def __init__(self, shape: Sequence[int], units: int) -> None:
        super().__init__()
        self.units = nn.Linear(int(np.prod(shape)), units)
        self.width, self.summary_size, self.sides = units, units, (1, 1)

    def forward(self, x: Tensor) -> Reading:
        """Read (B, ...)."""
        summary = functional.gelu(self.units(x.flatten(1)))
        return Reading(summary, summary[None], None)


class Caption(Writer):
    """Write a sentence about each picture.

    Pictures are shuffled by the seed and then split, unless lists beside them, as Flickr8k has them, name
    those of each split; those of ``neighbours`` are composed for each split.
    `validation` and `test` name data of their own for these splits.
    """

    name = "caption"
    summary = "captioner: picture -> sentence"
    headline = "exact"
    examples = ("a-picture.png", "more-pictures/")
    unit = "pictures"
    spelt = ("digits", "mnist")
    losses = ("cross-entropy",)
    defaults: ClassVar = {
        "data": {"source": ("digits",), "split": (0.8, 0.1, 0.1), "symbols": "word"},
        "model": {"hidden": 128, "embedding": 64},
        "decoder": {"attention": "none"},
        "training": {"steps": 800, "lr": 0.002, "batch_size": 64, "clip_norm": 1.0},
        "classifier": {"model": "cnn"},
    }

    def __init__(
        self,
        settings: Settings,
        shape: tuple[int, int, int],
        wrote: Side,
        longest: int,
        nearest: NearestPicture,
        splits: dict[Split, Rows] | None = None,
    ) -> None:
        self.settings, self.shape, self.wrote = settings, shape, wrote
        self.longest, self.nearest, self.splits = longest, nearest, splits
        letters = settings.data.symbols in ("character", "byte")
        self.criterion = Criterion("nats_per_symbol") if letters else Criterion("bleu", "higher")

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read or compose, and split the pictures; fit vocabulary and baselines on the training split.

        Raises:
            InputError: If the data is missing or damaged, has pictures of unlike size, or is too little to
                split.
        """
        check_settings(settings)
        if settings.classifier.model not in ("cnn", "mlp"):
            raise InputError(
                f"--model {settings.classifier.model}: a captioner reads by cnn or mlp"
            )
        found = _split(settings)
        training = found["training"]
        shape: Any = training.pixels.shape[1:]
        for split, part in found.items():
            if len(part) and part.pixels.shape[1:] != shape:
                raise InputError(
                    f"the pictures of {split} are {as_words(part.pixels.shape[1:])}, those of training "
                    f"{as_words(shape)}; give --size 64 to scale all"
                )
        wrote = Side.fit((text for texts in training.captions for text in texts), settings.data)
        nearest = NearestPicture(training.pixels, [texts[0] for texts in training.captions])
        task = cls(settings, shape, wrote, 0, nearest, {})
        task.splits = {split: task._rows(part) for split, part in found.items()}
        task.longest = 1 + max(len(ids) for _, ids in task.splits["training"].pairs)
        return task

    def _rows(self, found: Captioned) -> Rows:
        pairs = self.pairs_of(found.captions)
        return Rows(found.pixels, found.pixels, found.captions, pairs)

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its vocabulary and the pictures its baselines know."""
        table, where = artefacts.vocabulary, "vocabulary.json"
        try:
            wrote = Side(Vocabulary.from_json(table["target"], where))
            channels, height, width = table["pictures"]
            longest = int(table["longest"])
        except KeyError as error:
            raise InputError(f"{where} has no {error}; it is of no captioner") from None
        nearest = NearestPicture.from_arrays(artefacts.baseline)
        return cls(settings, (channels, height, width), wrote, longest, nearest)

    def artefacts(self) -> Artefacts:
        """Give the vocabulary, the pictures' shape, the symbols of the longest caption, and the baselines."""
        table = {
            "target": self.wrote.vocabulary.to_json(),
            "pictures": list(self.shape),
            "longest": self.longest,
        }
        return Artefacts(table, self.nearest.to_arrays())

    def encoder(self) -> PictureEncoder | VectorEncoder:
        """Build what looks at pictures.

        Raises:
            InputError: If attention is to look at what has no places.
        """
        kind = PictureEncoder if self.settings.classifier.model == "cnn" else VectorEncoder
        if kind is VectorEncoder and self.settings.decoder.attention != "none":
            raise InputError("--attention looks at the map of a cnn; an mlp gives one vector")
        return kind(self.shape, self.settings.model.hidden)

    @property
    def data_digest(self) -> str:
        """A hash of the pictures, their captions, how they are split, and the vocabulary."""
        digest = hashlib.sha256(json.dumps(self.artefacts().vocabulary).encode())
        for split, rows in (self.splits or {}).items():
            digest.update(json.dumps([split, rows.references]).encode())
            digest.update(np.ascontiguousarray(rows.items).data)
        return digest.hexdigest()

    def laid(self, inputs: Items) -> tuple[np.ndarray, ...]:
        """Give pictures (B, C, H, W), from 0 to 1."""
        dtype = self.settings.model.dtype
        return ((np.asarray(inputs) / np.float32(255)).astype(dtype),)

    def lengths(self, inputs: Items) -> np.ndarray:
        """All pictures are of one size."""
        return np.zeros(len(inputs), np.int64)

    def guesses(self, items: Items) -> dict[str, list[str]]:
        """Give the caption there is most often, and that of the training picture with the nearest pixels."""
        common = [self.nearest.common] * len(items)
        return {"most_common": common, "nearest": self.nearest.write(items)}

    def shown(self, item: Items) -> str:
        """Draw the picture with characters."""
        return as_text(item[None] / np.float32(255))

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other pictures with captions, and the baselines beside it.

        Returns:
            ``bleu``, ``exact``, ``character_error_rate``, ``nats_per_symbol``, ``pictures``, ``signature``
            (how BLEU is computed), and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged, or the pictures are of another size.
        """
        if len(sources) == 1 and sources[0] in NEIGHBOURS:
            found = neighbours(sources[0], seed=1)["test"]
        else:
            found = read_captioned(sources, self.settings.pictures)
        self._check(found.pixels, found.where[0])
        return self.judged(model, self._rows(found))

    def predict(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        **options: Any,  # noqa: ANN401
    ) -> Iterator[dict[str, Any]]:
        """Write about each file of pictures; the options are those of :meth:`Writer.manner`.

        Raises:
            InputError: If a file is no picture of the model's size, or an option is out of range.
        """
        manner = self.manner(**options)
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            some = inputs[start : start + ROWS_AT_ONCE]
            pixels, names = self.named(some)
            for name, text in zip(names, self.written(model, pixels, pixels, manner), strict=True):
                yield {"picture": name, "text": text}

    def named(self, paths: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Read files of pictures as the model takes them, (n, C, H, W) uint8, and say what each is called.

        Raises:
            InputError: If one is no picture of the model's size.
        """
        pixels, names = read_pictures(paths, self.settings.pictures.size, self.shape[0])
        self._check(pixels, names[0])
        return pixels, names

    def _check(self, pixels: np.ndarray, name: str) -> None:
        if pixels.shape[1:] != self.shape:
            raise InputError(
                f"{name} is {as_words(pixels.shape[1:])}, but the model was trained on "
                f"{as_words(self.shape)}; scale it, or train with --size"
            )

    def looks(
        self, model: nn.Module, pixels: np.ndarray
    ) -> list[tuple[np.ndarray, list[str], np.ndarray]]:
        """Write greedily: pictures (C, H, W) from 0 to 1, symbols, and where it looked at each (S, h, w).

        Raises:
            InputError: If the model has no attention.
        """
        assert isinstance(model, EncoderDecoder)
        ids = self.found(model, pixels, Manner())
        weights = self.looked(model, pixels, ids)
        if weights is None:
            raise InputError("the model has no attention; train one with --attention general")
        assert isinstance(model.encoder, PictureEncoder)
        symbols, sides = [*self.wrote.vocabulary.symbols, "(end)"], model.encoder.sides
        return [
            (
                picture / np.float32(255),
                [symbols[i] for i in [*self.open(one), self.end]],
                seen.reshape(len(seen), *sides),
            )
            for picture, one, seen in zip(pixels, ids, weights, strict=True)
        ]

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw where a few validation pictures were looked at while each symbol was written."""
        if self.settings.decoder.attention == "none" or not self.settings.data.validates:
            return {}
        return {"attention.png": maps(self.looks(model, self.rows("validation").items[:DRAWN]))}


def _split(settings: Settings) -> dict[Split, Captioned]:
    data = settings.data
    if len(data.source) == 1 and data.source[0] in NEIGHBOURS:
        return neighbours(data.source[0])
    whole = read_captioned(data.source, settings.pictures)
    rows = split_rows(Found(whole.pixels, [], whole.where), settings, "pictures")
    rows |= listed_rows(whole, data.source, settings.pictures)
    found: dict[Split, Captioned] = {split: whole.of(rows[split]) for split in SPLITS}
    for split, sources in sources_of(data).items():
        found[split] = read_captioned(sources, settings.pictures)
    warn_of_leaks({split: one.pixels for split, one in found.items()}, "pictures")
    return found
