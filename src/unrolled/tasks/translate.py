"""Translate: a text for each text, of any length.

T symbols of the source, S of the target, B rows.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from unrolled.data import Vocabulary
from unrolled.data.pairs import MADE, Pairs, read_pairs
from unrolled.data.side import Side, padded
from unrolled.data.splits import SPLITS, sources_of
from unrolled.errors import InputError
from unrolled.layers.encoder_decoder import Encoder
from unrolled.settings import Settings
from unrolled.tasks.drawing import alignments
from unrolled.tasks.examples import Found
from unrolled.tasks.nearest import NearestText
from unrolled.tasks.splitting import split_rows, warn_of_leaks
from unrolled.tasks.task import Artefacts, Criterion, Split
from unrolled.tasks.writing import ROWS_AT_ONCE, Writer, check_settings
from unrolled.tasks.written import Items, Manner, Rows

DRAWN = 4
"""Alignments that are drawn."""


class Translate(Writer):
    """Write the target of each source.

    Pairs are shuffled by the seed and then split, such that pairs with the same source (of ``noisy``, the
    same target) are in one split; `validation` and `test` name data of their own for these splits.
    """

    name = "translate"
    summary = "translator: text -> another text"
    headline = "bleu"
    examples = ("'a text of yours'", "more-data.tsv")
    unit = "pairs"
    spelt = tuple(MADE)
    losses = ("cross-entropy",)
    defaults: ClassVar = {
        "data": {"source": ("dates",), "split": (0.9, 0.05, 0.05), "symbols": "subword"},
        "model": {"hidden": 128, "bidirectional": True, "embedding": 128},
        "training": {"steps": 1500, "lr": 0.002, "batch_size": 64, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        read: Side,
        wrote: Side,
        longest: int,
        nearest: NearestText,
        splits: dict[Split, Rows] | None = None,
    ) -> None:
        self.settings, self.read, self.wrote = settings, read, wrote
        self.longest, self.nearest, self.splits = longest, nearest, splits
        self.criterion = Criterion("bleu", "higher")
        if settings.data.symbols in ("character", "byte"):
            self.criterion, self.headline = Criterion("character_error_rate"), "exact"

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the pairs; fit the vocabularies and the baseline on the training split.

        Raises:
            InputError: If the data is missing or damaged, or there are too few pairs to split.
        """
        check_settings(settings)
        data = settings.data
        pairs = read_pairs(data.source, data.encoding)
        key = int(data.source == ("noisy",))  # where what tells pairs apart stands
        keys = (pairs.sources, pairs.targets)[key]
        places = split_rows(Found(keys, [], pairs.where), settings)
        parts: dict[Split, tuple[Pairs, np.ndarray]]
        parts = {split: (pairs, rows) for split, rows in places.items()}
        for split, sources in sources_of(data).items():
            other = read_pairs(sources, data.encoding)
            parts[split] = other, np.arange(len(other))
        sides: dict[Split, tuple[list[str], list[str]]] = {
            split: ([of.sources[i] for i in rows], [of.targets[i] for i in rows])
            for split, (of, rows) in parts.items()
        }
        warn_of_leaks({split: side[key] for split, side in sides.items()}, "pairs")
        sources, targets = sides["training"]
        shared = settings.decoder.shared_vocabulary
        read = Side.fit([*sources, *targets] if shared else sources, data)
        wrote = read if shared else Side.fit(targets, data)
        nearest = NearestText(sources, targets, characters=data.symbols in ("character", "byte"))
        task = cls(settings, read, wrote, 0, nearest, {})
        task.splits = {split: task._rows(*sides[split]) for split in SPLITS}
        task.longest = 1 + max(len(ids) for _, ids in task.splits["training"].pairs)
        return task

    def _rows(self, sources: list[str], targets: list[str]) -> Rows:
        references = [(target,) for target in targets]
        return Rows(sources, self._ids(sources), references, self.pairs_of(references))

    def _ids(self, sources: Sequence[str]) -> list[np.ndarray]:
        return [self.read.ids(source) for source in sources]

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its vocabularies and the pairs its baseline knows."""
        table, where = artefacts.vocabulary, "vocabulary.json"
        try:
            wrote = Side(Vocabulary.from_json(table["target"], where))
            shared = settings.decoder.shared_vocabulary
            read = wrote if shared else Side(Vocabulary.from_json(table["source"], where))
            longest = int(table["longest"])
        except KeyError as error:
            raise InputError(f"{where} has no {error}; it is of no translator") from None
        nearest = NearestText.from_arrays(
            artefacts.baseline, characters=settings.data.symbols in ("character", "byte")
        )
        return cls(settings, read, wrote, longest, nearest)

    def artefacts(self) -> Artefacts:
        """Give the vocabularies, the longest target's symbols, and the pairs the baseline knows."""
        table = {"target": self.wrote.vocabulary.to_json(), "longest": self.longest}
        if not self.settings.decoder.shared_vocabulary:
            table["source"] = self.read.vocabulary.to_json()
        return Artefacts(table, self.nearest.to_arrays())

    def encoder(self) -> Encoder:
        """Build what reads sources."""
        return Encoder(len(self.read.vocabulary) + 1, self.settings.model)

    @property
    def data_digest(self) -> str:
        """A hash of the pairs, how they are split, and the vocabularies."""
        digest = hashlib.sha256(json.dumps(self.artefacts().vocabulary).encode())
        for split, rows in (self.splits or {}).items():
            digest.update(json.dumps([split, rows.items, rows.references]).encode())
        return digest.hexdigest()

    def laid(self, inputs: Items) -> tuple[np.ndarray, ...]:
        """Pad sources to ids (T, B), and give their lengths (B,)."""
        return padded(inputs)

    def lengths(self, inputs: Items) -> np.ndarray:
        """Count the symbols of each source."""
        return np.array([len(ids) for ids in inputs], np.int64)

    def guesses(self, items: Items) -> dict[str, list[str]]:
        """Give the source itself, and the target of the training pair whose source is most like it."""
        return {"copy": list(items), "nearest": self.nearest.write(items)}

    def shown(self, item: Items) -> str:
        """Give the source."""
        return str(item)

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other pairs, and the baselines beside it.

        Returns:
            ``bleu``, ``exact``, ``character_error_rate``, ``nats_per_symbol``, ``pairs``, ``signature`` (how
            BLEU is computed), ``unknown_symbols`` (of the sources), and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged.
        """
        pairs = read_pairs(sources, self.settings.data.encoding, seed=1)
        rows = self._rows(pairs.sources, pairs.targets)
        unknown = self.read.vocabulary.unknown
        lost = sum(int(np.sum(ids == unknown)) for ids in rows.inputs)
        return {**self.judged(model, rows), "unknown_symbols": lost}

    def predict(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        **options: Any,  # noqa: ANN401
    ) -> Iterator[dict[str, Any]]:
        """Translate each text; the options are those of :meth:`Writer.manner`.

        Raises:
            InputError: If a text is empty, or an option is out of range.
        """
        manner = self.manner(**options)
        for place, source in enumerate(inputs, 1):
            if not source.strip():
                raise InputError(f"text {place} to translate is empty")
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            some = inputs[start : start + ROWS_AT_ONCE]
            for source, text in zip(
                some, self.written(model, some, self._ids(some), manner), strict=True
            ):
                yield {"source": source, "text": text}

    def allowed(self, logits: Tensor) -> Tensor:
        """Write the unknown symbol only where it is replaced by what was looked at."""
        return logits if self.settings.decoder.copy_unknown else super().allowed(logits)

    def finished(
        self, model: nn.Module, items: Items, inputs: Items, ids: list[list[int]]
    ) -> list[str]:
        """Give the texts of what was written, with the words most looked at for unknown ones."""
        unknown = self.wrote.vocabulary.unknown
        texts = super().finished(model, items, inputs, ids)
        for row, one in enumerate(ids):
            if unknown in one:
                (seen,) = self.looked(model, [inputs[row]], [one]) or [None]
                assert seen is not None
                words, symbols = self.read.spelt(items[row]), self.wrote.vocabulary.symbols
                texts[row] = "".join(
                    words[int(at.argmax())] if i == unknown else symbols[i]
                    for i, at in zip(self.open(one), seen, strict=False)
                ).strip()
        return texts

    def aligned(
        self, model: nn.Module, sources: Sequence[str]
    ) -> list[tuple[list[str], list[str], np.ndarray]]:
        """Translate greedily: the symbols read, those written, and how much of each was looked at (S, T).

        Raises:
            InputError: If the model has no attention.
        """
        inputs = self._ids(sources)
        ids = self.found(model, inputs, Manner())
        weights = self.looked(model, inputs, ids)
        if weights is None:
            raise InputError("the model has no attention; train one with --attention general")
        symbols = [*self.wrote.vocabulary.symbols, "(end)"]
        return [
            (self.read.spelt(source), [symbols[i] for i in [*self.open(one), self.end]], seen)
            for source, one, seen in zip(sources, ids, weights, strict=True)
        ]

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw what a few validation sources had looked at while they were translated."""
        if self.settings.decoder.attention == "none" or not self.settings.data.validates:
            return {}
        sources = self.rows("validation").items
        chosen = np.random.default_rng([self.settings.training.seed, 6]).permutation(len(sources))
        return {
            "attention.png": alignments(self.aligned(model, [sources[i] for i in chosen[:DRAWN]]))
        }
