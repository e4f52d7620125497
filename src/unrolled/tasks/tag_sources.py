"""Where sequences to tag come from: files, as a rule.

T steps, B rows.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from unrolled.data.splits import Split
from unrolled.data.stepwise import is_stepwise, read_stepwise
from unrolled.data.tagged import (
    CODES,
    Labels,
    Numbers,
    TagBatch,
    Tagged,
    Vectors,
    Words,
)
from unrolled.data.tagged_files import read_tagged
from unrolled.data.vectors import begin_vectors
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.settings.belonging import STEPS, refuse_others
from unrolled.tasks import tag_baselines
from unrolled.tasks.splitting import warn_of_leaks
from unrolled.tasks.tag_figures import Judged, are_spans
from unrolled.tasks.tag_splits import BySplit, split_sequences

UNKNOWN = "<unk>"
"""How files of vectors call the word that stands for all others, if they have one."""


class Source(ABC):
    """What a tagger learns from.

    Attributes:
        settings: Of the run.
        inputs: What steps are.
        outputs: What is told of them.
        fitted: The arrays of the baselines.
        examples: What one might predict from and evaluate on.
        headline: The metric people read.
        criterion: That by which the best weights are chosen, and whether more is better.
    """

    settings: Settings
    inputs: Words | Vectors
    outputs: Labels | Numbers
    fitted: Mapping[str, np.ndarray]
    examples: tuple[str, str]
    headline: str
    criterion: tuple[str, bool]

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Rows of an epoch."""

    @abstractmethod
    def batch(self, step: int, rows: slice) -> TagBatch:
        """Rows of batch number `step`."""

    @abstractmethod
    def held_out(self, split: Split) -> Iterator[TagBatch]:
        """All of a split, side by side."""

    @abstractmethod
    def other(self, sources: Sequence[str]) -> Iterator[TagBatch]:
        """Other data of the same kind."""

    @abstractmethod
    def asked(self, inputs: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Name and steps of what is to be tagged."""

    @abstractmethod
    def baselines(self, batch: TagBatch) -> dict[str, Judged]:
        """What each baseline tells."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of the data."""


class Read(Source):
    """Sequences from files.

    They are shuffled by the seed and split, unless ``data.validation`` and ``data.test`` name data of
    their own, or the files' names tell: train, dev or valid, test.

    Args:
        settings: Of the run.
        inputs: What steps are.
        outputs: What is told of them.
        fitted: Arrays of the baselines.
        splits: The sequences of each split; ``None`` if restored.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Words | Vectors,
        outputs: Labels | Numbers,
        fitted: Mapping[str, np.ndarray],
        splits: Mapping[Split, Sequence[Tagged]] | None = None,
    ) -> None:
        self.settings, self.inputs, self.outputs = settings, inputs, outputs
        self.fitted, self.sequences = fitted, BySplit(settings, inputs, outputs, splits)
        words = isinstance(inputs, Words)
        self.examples = ("'words of yours'", "more.tsv") if words else ("more.csv", "more.csv")
        if isinstance(outputs, Numbers):
            self.headline, self.criterion = "r2", ("mse", False)
        else:
            self.headline = "f1" if are_spans(outputs.names) else "accuracy"
            self.criterion = (self.headline, True)

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the sequences; fit what encodes them, and the baselines, on the training split."""
        data = settings.data
        parts: dict[Split, Sequence[Tagged]]
        stepwise = is_stepwise(data.source)
        refuse_others(settings, STEPS, "vectors" if stepwise else "words")
        if stepwise:
            first = read_stepwise(data.source, data)
            columns, targets = first.columns, first.targets

            def read(sources: Sequence[str]) -> Sequence[Tagged]:
                found = read_stepwise(
                    sources, data, columns=columns, targets=targets, numeric=first.numeric
                )
                return found.sequences

            parts = split_sequences(first.sequences, settings, read)
            inputs = Vectors.fit(columns, [one.steps for one in parts["training"]])
            if first.numeric:
                outputs = Numbers.fit(targets, [one.tags for one in parts["training"]])
            else:
                outputs = _labels(parts)
        else:
            parts = split_sequences(
                read_tagged(data.source, data), settings, lambda names: read_tagged(names, data)
            )
            inputs, outputs = fit_words(parts["training"], settings), _labels(parts)
        warn_of_leaks(parts, "sequences")
        made = cls(settings, inputs, outputs, {}, parts)
        made.fitted = tag_baselines.fit(made.held_out("training"), inputs, outputs)
        return made

    @classmethod
    def restore(
        cls, settings: Settings, table: Mapping[str, Any], fitted: Mapping[str, np.ndarray]
    ) -> Self:
        """Rebuild what :meth:`to_json` gave.

        Raises:
            InputError: If it is of no tagger.
        """
        try:
            inputs, outputs = (
                CODES[table[side]["kind"]].restore(table[side]) for side in ("inputs", "outputs")
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"vocabulary.json is of no tagger ({error!r})") from None
        if isinstance(inputs, Words) and isinstance(outputs, Labels):
            wanted = (inputs.size, outputs.size)
            counts = fitted.get("counts", np.zeros((0, 0)))
            if counts.shape != wanted:
                raise InputError(
                    f"the baselines are damaged: counts is {counts.shape}, not {wanted}"
                )
        return cls(settings, inputs, outputs, fitted)

    def to_json(self) -> dict[str, Any]:
        """Give what steps are and what is told of them."""
        return {"inputs": self.inputs.to_json(), "outputs": self.outputs.to_json()}

    @property
    def epoch(self) -> int:
        """Sequences to train on."""
        return len(self.sequences.part("training"))

    def batch(self, step: int, rows: slice) -> TagBatch:
        """Sequences shuffled anew in every epoch, those of like length mostly together."""
        return self.sequences.batch(step, rows)

    def held_out(self, split: Split) -> Iterator[TagBatch]:
        """All of a split, sequences of like length side by side."""
        return self.sequences.held_out(split)

    def other(self, sources: Sequence[str]) -> Iterator[TagBatch]:
        """Sequences of other files."""
        data = self.settings.data
        if isinstance(self.inputs, Words):
            return self.sequences.batches(read_tagged(sources, data))
        targets = self.outputs.columns if isinstance(self.outputs, Numbers) else ()
        found = read_stepwise(
            sources,
            data,
            columns=self.inputs.columns,
            targets=targets,
            numeric=isinstance(self.outputs, Numbers),
        )
        return self.sequences.batches(found.sequences)

    def asked(self, inputs: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Words with spaces between, characters if all words known are; or files of vectors."""
        if isinstance(self.inputs, Words):
            characters = all(len(word) == 1 for word in self.inputs.words)
            yield from texts(inputs, characters=characters)
            return
        for name in inputs:
            columns = self.inputs.columns
            found = read_stepwise([name], self.settings.data, columns=columns, told=False)
            for one in found.sequences:
                yield name, one.steps

    def baselines(self, batch: TagBatch) -> dict[str, Judged]:
        """What needs no sequence."""
        return tag_baselines.judge(batch, self.fitted, self.inputs, self.outputs)

    @property
    def digest(self) -> str:
        """A hash of the sequences and how they are split."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode())
        for split, sequences in (self.sequences.splits or {}).items():
            digest.update(split.encode())
            for one in sequences:
                for side in (one.steps, one.tags):
                    numbers = isinstance(side, np.ndarray)
                    digest.update(side.tobytes() if numbers else json.dumps(side).encode())
        return digest.hexdigest()


def fit_words(sequences: Iterable[Tagged], settings: Settings) -> Words:
    """Count the words of the training split, and see how they are spelt, as the settings say.

    If the settings name a file of vectors, what the words' vectors begin as is read, too.
    """
    data, kind = settings.data, settings.tagger.characters
    words = Words.fit(
        sequences,
        data.vocabulary_size,
        spelt=None if kind is None else kind != "none",
        lowercase=data.lowercase,
        dropout=settings.tagger.word_dropout,
    )
    if settings.model.vectors:
        known = [*words.words, UNKNOWN]
        words.begin_with(*begin_vectors(settings.model, known, settings.training.seed))
    return words


def _labels(parts: Mapping[Split, Sequence[Tagged]]) -> Labels:
    """Collect the tags. Those that only held-out sequences have are known, too, though never right."""
    return Labels(sorted({tag for part in parts.values() for one in part for tag in one.tags}))


def texts(inputs: Sequence[str], *, characters: bool) -> Iterator[tuple[str, list[str]]]:
    """Give each text and its words: its characters, or what stands between spaces.

    Raises:
        InputError: If a text is empty.
    """
    for place, text in enumerate(inputs, 1):
        words = list(text) if characters else text.split()
        if not words:
            raise InputError(f"text {place} to tag is empty")
        yield text, words
