"""Texts as examples of a classifier. T symbols of the longest text of a batch, B rows, V symbols."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import nn

from unrolled.data import Vocabulary, fit_vocabulary, read_table, stored
from unrolled.data.stored import Stored
from unrolled.data.table import Table
from unrolled.data.vectors import begin_vectors
from unrolled.errors import InputError
from unrolled.settings import DataSettings, Settings
from unrolled.tasks.bag import Bag
from unrolled.tasks.examples import Examples, Found
from unrolled.tasks.text_models import text_model
from unrolled.tasks.vary import vary_text


class Texts(Examples):
    """Texts of symbols.

    Args:
        settings: Of the run.
        classes: Number of labels.
        vocabulary: The symbols.
        width: Of vectors that are read from a file, if they are.
        vectors: What each symbol's vector begins as (V, width); none once they are learned.
    """

    key, unit, word, shown = "symbols", "texts", "text", 6
    asked = ("'a text of yours'", "more-data.tsv")

    def __init__(
        self,
        settings: Settings,
        classes: int,
        vocabulary: Vocabulary,
        width: int | None = None,
        vectors: np.ndarray | None = None,
    ) -> None:
        self.settings, self.classes, self.vocabulary = settings, classes, vocabulary
        self.width, self.vectors = width, vectors

    @classmethod
    def takes(cls, sources: Sequence[str]) -> bool:
        """What is nothing else is text."""
        return True

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Take an rnn; for all others, and where words have vectors, words."""
        model, words = settings.classifier.model or "rnn", {}
        if model != "rnn":
            words = {"data": {"symbols": "word"}, "training": {"lr": 0.002}}
        elif settings.model.vectors:
            words = {"data": {"symbols": "word"}}
        return {"classifier": {"model": model}, **words}

    @classmethod
    def load(cls, sources: Sequence[str], settings: Settings) -> Found:
        """Read a table, see :func:`unrolled.data.read_table`."""
        return read_texts(sources, settings.data)

    @classmethod
    def fit(cls, settings: Settings, classes: int, items: Iterable[str]) -> Self:
        """Fit the vocabulary on texts, and read vectors of its words if the settings name some."""
        # a line end after each, so that no word runs on into the next text
        ended = (f"{spaced(text, settings.data)}\n" for text in items)
        own = cls(settings, classes, fit_vocabulary(ended, settings.data))
        if settings.model.vectors:
            symbols, seed = own.vocabulary.symbols, settings.training.seed
            own.vectors, own.told = begin_vectors(settings.model, symbols, seed)
            own.width = own.vectors.shape[1]
        return own

    def inputs(self, items: Iterable[str]) -> Stored[np.ndarray]:
        """Give the ids of each text."""
        ids = (self.vocabulary.encode(spaced(text, self.settings.data)) for text in items)
        return stored.numbers(self.vocabulary.dtype).of(ids)

    def spelt(self, text: str) -> list[str]:
        """Give the symbols of a text as they stand in it, those too that the vocabulary lacks."""
        known, unknown = self.vocabulary.symbols, self.vocabulary.unknown
        (ids,) = self.inputs([text])
        pattern = "".join(r"( ?\S+?)" if i == unknown else f"({re.escape(known[i])})" for i in ids)
        found = re.fullmatch(pattern, spaced(text, self.settings.data))
        return [*found.groups()] if found else [known[i] for i in ids]

    def batch(
        self, inputs: Sequence[np.ndarray], place: tuple[int, int] | None
    ) -> tuple[np.ndarray, ...]:
        """Pad texts to ids (T, B), at least one step, and lengths (B,), both int64; varied in training."""
        inputs = [*inputs]
        if place is not None:
            step, first = place
            varied, size = self.settings.varied, len(self.vocabulary)
            seed = self.settings.training.seed
            inputs = [
                vary_text(text, varied, size, seed, step, first + row)
                for row, text in enumerate(inputs)
            ]
        lengths = self.lengths(inputs)
        ids = np.zeros((max(1, lengths.max()), len(inputs)), np.int64)
        for row, text in enumerate(inputs):
            ids[: len(text), row] = text
        return ids, lengths

    def lengths(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Count the symbols of each text."""
        return np.array([len(text) for text in inputs], np.int64)

    def model(self) -> nn.Module:
        """Build the model of the settings, its vectors as they were read."""
        settings = self.settings
        if self.width:
            model = settings.model.model_copy(update={"embedding": self.width})
            settings = settings.model_copy(update={"model": model})
        return text_model(len(self.vocabulary), self.classes, settings, self.vectors)

    def baseline(self, items: Sequence[str], labels: np.ndarray) -> Bag:
        """Fit bags of characters, or of words."""
        words = self.settings.data.symbols in ("word", "subword")
        return Bag.fit(items, labels, self.classes, words=words)

    def saved(self) -> dict[str, Any]:
        """Give the symbols, and the width of vectors that were read."""
        width = {"width": self.width} if self.width else {}
        return {self.key: self.vocabulary.to_json(), **width}

    @classmethod
    def restore(
        cls, settings: Settings, classes: int, table: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[Self, Bag]:
        """Rebuild from the symbols."""
        vocabulary = Vocabulary.from_json(table[cls.key], "vocabulary.json")
        own = cls(settings, classes, vocabulary, table.get("width"))
        return own, Bag.from_arrays(classes, arrays)

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

    def lost(self, found: Found, inputs: Sequence[np.ndarray]) -> dict[str, int]:
        """Count symbols that the vocabulary lacks."""
        unknown = self.vocabulary.unknown
        return {"unknown_symbols": sum(int(np.sum(text == unknown)) for text in inputs)}


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
    kept = np.flatnonzero([label in merged for label in table.labels])
    if tuple(sources) == tuple(data.source) and data.merge:
        _check_merge(merged, table)
    if not len(kept):
        found = ", ".join(sorted(set(table.labels)))
        raise InputError(f"--merge names none of the labels of {', '.join(sources)}: {found}")
    gone = (row for row, label in enumerate(table.labels) if label not in merged)
    items = table.texts[kept]
    if data.lowercase or data.simplify:
        items = stored.texts().of(_cased(text, data) for text in items)
    return Found(
        items,
        [merged[table.labels[row]] for row in kept],
        table.where[kept],
        [phrases[row] for row in kept],
        [pair for row in gone for pair in phrases[row]],
    )


def _check_merge(merged: Mapping[str, str], table: Table) -> None:
    """Refuse a label that no text to train on has: a slip of the pen would lose its texts."""
    there = {*table.labels, *(label for parts in table.phrases for _, label in parts)}
    if len(there.intersection(merged)) in (0, len(merged)):
        return
    for label in merged:
        if label not in there:
            raise InputError(
                f"--merge names {label!r}, which is no label; there are {', '.join(sorted(there))}"
            )


def phrases_of(found: Found, rows: np.ndarray) -> tuple[list[str], list[str]]:
    """Give all different phrases of trees, with their labels.

    Raises:
        InputError: If there are none.
    """
    pairs = dict.fromkeys(pair for row in rows for pair in found.phrases[row])
    pairs |= dict.fromkeys(found.others)
    if not pairs:
        raise InputError(
            "--phrases takes trees, lines as (3 (2 It) (4 shines)); this data has none"
        )
    return [text for text, _ in pairs], [label for _, label in pairs]


def _cased(text: str, data: DataSettings) -> str:
    """Write a text as the settings want it read; Kim 2014 cleans texts much as `simplify` does."""
    if data.simplify:
        text = re.sub(r"[^\w(),!?]+", " ", text.replace("'", "")).strip()
    return text.lower() if data.lowercase else text


def spaced(text: str, data: DataSettings) -> str:
    """Begin a text of words with a space, as a word of the vocabulary begins with the one before it."""
    return f" {text}" if data.symbols in ("word", "subword") and text[:1] != " " else text
