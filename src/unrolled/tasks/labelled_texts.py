"""Texts with labels, as a language model reads them: each by itself, knowing its label.

T symbols of the longest text of a batch and one more, B rows.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data import Vocabulary, fit_vocabulary
from unrolled.data.splits import in_batch, sources_of
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.language import units
from unrolled.tasks.language_texts import Figures, Texts
from unrolled.tasks.ngram import NGram
from unrolled.tasks.splitting import check_labels, shuffled, split_rows, warn_of_leaks
from unrolled.tasks.task import Artefacts, Carry, Split, in_split
from unrolled.tasks.text_examples import read_texts, spaced

PADDING = -100
"""Stands for what follows past a row's end."""
ROWS_AT_ONCE = 256
ALL = "all"
"""Names the n-grams of all texts."""


@dataclass(frozen=True)
class Texted:
    """Some texts."""

    rows: list[np.ndarray]
    """The symbols of each."""
    labels: np.ndarray
    """(n,) int64."""
    characters: int
    """Of all together, with one for the end of each."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def symbols(self) -> int:
        """Of all together, with the end of each."""
        return sum(len(row) + 1 for row in self.rows)


@dataclass(frozen=True)
class TextBatch:
    """Texts side by side."""

    inputs: np.ndarray
    """(T, B) int64: the symbol that begins every text, and the text; the same past a row's end."""
    targets: np.ndarray
    """(T, B) int64: the text, and the symbol that ends every one; `PADDING` past it."""
    lengths: np.ndarray
    """(B,) int64."""
    labels: np.ndarray
    """(B,) int64."""


class Labelled(Texts):
    """Texts of labels; distinct texts are shuffled and split as those of a classifier are.

    Args:
        settings: Of the run.
        vocabulary: The symbols.
        names: The labels, whether the model is told of them or not.
        ngrams: Name of a label, or `ALL` -> n-grams of its texts.
        splits: The texts; ``None`` if restored.
    """

    def __init__(
        self,
        settings: Settings,
        vocabulary: Vocabulary,
        names: Sequence[str],
        ngrams: dict[str, NGram],
        splits: dict[Split, Texted] | None = None,
    ) -> None:
        self.settings, self.vocabulary, self.names = settings, vocabulary, list(names)
        self.labels = self.names if settings.generator.condition != "none" else ()
        self._ngrams, self._splits = ngrams, splits

    @property
    def end(self) -> int:
        """The symbol before and after each text."""
        return len(self.vocabulary)

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the texts; fit the vocabulary and n-grams on the training split.

        Raises:
            InputError: If the data is missing or damaged, or too little to split.
        """
        data = settings.data
        found = read_texts(data.source, data)
        chosen: dict[Split, tuple[Sequence[str], list[str]]] = {
            split: (found.of(rows), [found.labels[i] for i in rows])
            for split, rows in split_rows(found, settings, "texts").items()
        }
        texts, labels = chosen["training"]
        names = sorted(set(labels))
        check_labels(found, names)
        for split, sources in sources_of(data).items():
            other = read_texts(sources, data)
            check_labels(other, names)
            chosen[split] = other.items, other.labels
        read: dict[Split, Sequence[str]] = {split: of for split, (of, _) in chosen.items()}
        warn_of_leaks(read, "texts")
        vocabulary = fit_vocabulary((f"{spaced(text, data)}\n" for text in texts), data)
        own = cls(settings, vocabulary, names, {})
        own._splits = {split: own._texted(*of) for split, of in chosen.items()}
        own._ngrams = own._fitted(own._splits["training"])
        return own

    def _texted(self, texts: Sequence[str], labels: Sequence[str]) -> Texted:
        number = {name: i for i, name in enumerate(self.names)}
        rows = [self.vocabulary.encode(spaced(text, self.settings.data)) for text in texts]
        numbers = np.array([number[label] for label in labels], np.int64)
        return Texted(rows, numbers, sum(len(text) + 1 for text in texts))

    def _fitted(self, part: Texted) -> dict[str, NGram]:
        """Count all texts, and those of each label where the model is told it."""
        ended = [np.append(row.astype(np.int64), self.end) for row in part.rows]
        chosen = {ALL: ended} | {
            name: [row for row, label in zip(ended, part.labels, strict=True) if label == number]
            for number, name in enumerate(self.labels)
        }
        return {
            name: NGram.fit(np.concatenate([[self.end], *rows]), self.size)
            for name, rows in chosen.items()
        }

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild from the vocabulary, the labels and counts."""
        table, arrays = artefacts.vocabulary, artefacts.baseline
        try:
            vocabulary = Vocabulary.from_json(table["symbols"], "vocabulary.json")
            names = [str(name) for name in table["labels"]]
        except (KeyError, TypeError) as error:
            raise InputError(f"vocabulary.json holds no texts with labels ({error!r})") from None
        own = cls(settings, vocabulary, names, {})
        for number, name in enumerate((ALL, *own.labels)):
            start = f"{number}."
            own._ngrams[name] = NGram.from_arrays(
                {key.removeprefix(start): a for key, a in arrays.items() if key.startswith(start)}
            )
        return own

    def artefacts(self) -> Artefacts:
        """Give the vocabulary, the labels and the counts."""
        arrays = {
            f"{number}.{key}": array
            for number, name in enumerate((ALL, *self.labels))
            for key, array in self._ngrams[name].to_arrays().items()
        }
        return Artefacts({"symbols": self.vocabulary.to_json(), "labels": self.names}, arrays)

    def _part(self, split: Split) -> Texted:
        return in_split(self._splits, split)

    @property
    def digest(self) -> str:
        """A hash of the texts and how they are split and encoded."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps([self.vocabulary.to_json(), self.names]).encode())
        for split, part in (self._splits or {}).items():
            digest.update(split.encode() + part.labels.tobytes())
            for row in part.rows:
                digest.update(len(row).to_bytes(8) + row.tobytes())
        return digest.hexdigest()

    @property
    def per_epoch(self) -> int:
        """Batches in which every training text comes once."""
        return math.ceil(len(self._part("training").rows) / self.settings.training.batch_size)

    @property
    def per_update(self) -> tuple[int, str]:
        """Texts that one update reads."""
        return self.settings.training.batch_size, "texts"

    @property
    def characters_per_symbol(self) -> float:
        """Of the training texts, their ends included."""
        part = self._part("training")
        return part.characters / part.symbols

    @cached_property
    def _lengths(self) -> bytes:
        rows = self._part("training").rows
        return np.array([len(row) + 1 for row in rows], np.int64).tobytes()

    def batch(self, step: int, rows: slice) -> TextBatch:
        """Texts shuffled anew in every epoch, those of like length mostly together."""
        part, training = self._part("training"), self.settings.training
        size, count = training.batch_size, len(part.rows)

        def order(epoch: int) -> np.ndarray:
            return shuffled(count, training.seed, epoch, size, self._lengths)

        return self._laid(part, in_batch(count, size, step, rows, order))

    def _laid(self, part: Texted, chosen: Sequence[int]) -> TextBatch:
        lengths = np.array([len(part.rows[i]) + 1 for i in chosen], np.int64)
        inputs = np.full((lengths.max(), len(chosen)), self.end)
        targets = np.full_like(inputs, PADDING)
        for row, i in enumerate(chosen):
            text, last = part.rows[i], len(part.rows[i])
            inputs[1 : last + 1, row] = targets[:last, row] = text
            targets[last, row] = self.end
        return TextBatch(inputs, targets, lengths, part.labels[list(chosen)])

    def loss(self, model: nn.Module, batch: TextBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Cross-entropy of the next symbols in nats, mean over all of them. Nothing is carried on."""
        if self.settings.generator.softmax != "full":
            return self._told(model, batch, score=False)[0].mean(), {}
        logits, targets = self._scored(model, batch)
        smoothing = self.settings.training.label_smoothing
        nats = functional.cross_entropy(
            logits, targets, ignore_index=PADDING, label_smoothing=smoothing
        )
        return nats, {}

    def _scored(self, model: nn.Module, batch: TextBatch) -> tuple[Tensor, Tensor]:
        logits, targets = self._told(model, batch, score=True)
        return logits.flatten(0, 1), targets.flatten()

    def _told(self, model: nn.Module, batch: TextBatch, *, score: bool) -> tuple[Tensor, Tensor]:
        """Give logits, or else -ln p of what comes; and the targets."""
        device = next(model.parameters()).device
        inputs, targets, lengths, labels = (
            torch.from_numpy(array).to(device)
            for array in (batch.inputs, batch.targets, batch.lengths, batch.labels)
        )
        told = labels if self.labels else None
        return model(inputs, None, lengths, told, None if score else targets)[0], targets

    @torch.no_grad()
    def _nats(self, model: nn.Module, part: Texted) -> np.ndarray:
        """Give -ln p of each text (n,)."""
        order = np.argsort([len(row) for row in part.rows], kind="stable")
        nats = np.zeros(len(order))
        for start in range(0, len(order), ROWS_AT_ONCE):
            chosen = order[start : start + ROWS_AT_ONCE]
            logits, targets = self._scored(model, self._laid(part, chosen.tolist()))
            each = functional.cross_entropy(
                logits.double(), targets, ignore_index=PADDING, reduction="none"
            )
            nats[chosen] = each.unflatten(0, (-1, len(chosen))).sum(0).cpu().numpy()
        return nats

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge the model on a split."""
        part = self._part(split)
        return _mean(self._nats(model, part).sum(), part)

    def baselines(self, split: Split) -> Figures:
        """Score a split by n-grams of all texts, and by those of each text's label."""
        return self._baselines(self._part(split))

    def _baselines(self, part: Texted) -> Figures:
        found = {f"{n}-gram": _mean(nats, part) for n, nats in self._counted(part, told=False)}
        if self.labels:
            counted = self._counted(part, told=True)
            found |= {f"{n}-gram of the label": _mean(nats, part) for n, nats in counted}
        return found

    def _counted(self, part: Texted, *, told: bool) -> Iterator[tuple[int, float]]:
        """Give order -> -ln p of all texts, each of which begins anew."""
        total: dict[int, float] = defaultdict(float)
        begin = np.array([self.end])
        for row, label in zip(part.rows, part.labels, strict=True):
            ngram = self._ngrams[self.names[label] if told else ALL]
            for order, nats in ngram.cross_entropy(np.append(row, begin), begin).items():
                total[order] += nats * (len(row) + 1)
        yield from sorted(total.items())

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Score other texts, and those of each label."""
        found = read_texts(sources, self.settings.data)
        check_labels(found, self.names)
        part = self._texted(found.items, found.labels)
        nats = self._nats(model, part)
        of_label = {
            name: {"texts": int(here.sum()), **self._mean_of(nats, part, here)}
            for number, name in enumerate(self.names)
            if (here := part.labels == number).any()
        }
        return {
            **_mean(nats.sum(), part),
            "texts": len(part.rows),
            "symbols": part.symbols,
            "unknown_symbols": sum(map(self.unknown, part.rows)),
            "labels": of_label,
            "baselines": self._baselines(part),
        }

    @staticmethod
    def _mean_of(nats: np.ndarray, part: Texted, here: np.ndarray) -> dict[str, float]:
        symbols = sum(len(part.rows[i]) + 1 for i in np.flatnonzero(here))
        return {"nats_per_symbol": float(nats[here].sum() / symbols)}


def _mean(nats: float, part: Texted) -> dict[str, float]:
    return units(float(nats) / part.symbols, part.symbols, part.characters)
