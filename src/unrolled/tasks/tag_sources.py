"""Where sequences to tag come from: files, as a rule.

T steps, B rows.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from unrolled.data.splits import SPLITS, Split, in_batch, numbered, parts_of
from unrolled.data.stepwise import is_stepwise, read_stepwise
from unrolled.data.tagged import (
    CODES,
    Labels,
    Numbers,
    TagBatch,
    Tagged,
    Vectors,
    Words,
    side_by_side,
)
from unrolled.data.tagged_files import read_tagged
from unrolled.data.vectors import begin_vectors
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.settings.belonging import STEPS, refuse_others
from unrolled.tasks import tag_baselines
from unrolled.tasks.examples import marks_of, picked
from unrolled.tasks.splitting import shuffled, warn_of_leaks
from unrolled.tasks.tag_figures import Judged, are_spans
from unrolled.tasks.task import in_split

ROWS_AT_ONCE = 250
UNKNOWN = "<unk>"
"""How files of vectors call the word that stands for all others, if they have one."""
_EACH_WORD = 7  # names the stream of random numbers of word dropout


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
        self.fitted, self._splits = fitted, splits
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
        made.fitted = tag_baselines.fit(map(made.of, by_length(parts["training"])), inputs, outputs)
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

    def of(
        self, sequences: Sequence[Tagged], random: Sequence[np.random.Generator] = ()
    ) -> TagBatch:
        """Put sequences side by side."""
        return side_by_side(sequences, self.inputs, self.outputs, random)

    def _part(self, split: Split) -> Sequence[Tagged]:
        return in_split(self._splits, split)

    @property
    def epoch(self) -> int:
        """Sequences to train on."""
        return len(self._part("training"))

    @cached_property
    def _lengths(self) -> bytes:
        """Steps of each training sequence, as something that can be a key."""
        return np.array([len(one) for one in self._part("training")], np.int64).tobytes()

    def batch(self, step: int, rows: slice) -> TagBatch:
        """Sequences shuffled anew in every epoch, those of like length mostly together."""
        part = self._part("training")
        chosen, random = drawn_rows(len(part), self._lengths, self.settings, step, rows)
        return self.of([part[i] for i in chosen], random)

    def held_out(self, split: Split) -> Iterator[TagBatch]:
        """All of a split, sequences of like length side by side."""
        return map(self.of, by_length(self._part(split)))

    def other(self, sources: Sequence[str]) -> Iterator[TagBatch]:
        """Sequences of other files."""
        data = self.settings.data
        if isinstance(self.inputs, Words):
            return map(self.of, by_length(read_tagged(sources, data)))
        targets = self.outputs.columns if isinstance(self.outputs, Numbers) else ()
        found = read_stepwise(
            sources,
            data,
            columns=self.inputs.columns,
            targets=targets,
            numeric=isinstance(self.outputs, Numbers),
        )
        return map(self.of, by_length(found.sequences))

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
        for split, sequences in (self._splits or {}).items():
            digest.update(split.encode())
            for one in sequences:
                for side in (one.steps, one.tags):
                    numbers = isinstance(side, np.ndarray)
                    digest.update(side.tobytes() if numbers else json.dumps(side).encode())
        return digest.hexdigest()


def drawn_rows(
    count: int, lengths: bytes, settings: Settings, step: int, rows: slice
) -> tuple[list[int], list[np.random.Generator]]:
    """Choose rows of batch number `step`, and give what each draws its own random numbers from.

    Args:
        count: Training sequences.
        lengths: Steps of each, int64; those of like length are mostly together.
        settings: ``training`` counts.
        step: Number of the batch.
        rows: Which of its rows.
    """
    size, seed = settings.training.batch_size, settings.training.seed

    def order(epoch: int) -> np.ndarray:
        return shuffled(count, seed, epoch, size, lengths)

    chosen = in_batch(count, size, step, rows, order)
    places = range(size)[rows]
    return chosen, [np.random.default_rng([seed, _EACH_WORD, step, place]) for place in places]


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


def split_sequences(
    sequences: Sequence[Tagged],
    settings: Settings,
    read: Callable[[Sequence[str]], Sequence[Tagged]],
) -> dict[Split, Sequence[Tagged]]:
    """Take out what has its place, by the settings or by its file's name; share out the rest.

    What the settings name comes instead of files whose names tell that they are this part.
    Sequences with the same steps all go to the same split, so that none is judged on what was learned.
    """
    data = settings.data
    given: dict[Split, tuple[str, ...]] = {"validation": data.validation, "test": data.test}
    parts: dict[Split, Sequence[Tagged]]
    parts = {split: read(sources) for split, sources in given.items() if sources}
    named = parts_of(one.file for one in sequences)
    for split, sources in given.items():
        if len(rows := np.flatnonzero(named == split)) and not sources:
            parts[split] = picked(sequences, rows)
    rest = np.flatnonzero(~np.isin(named, [*given]))
    fractions = np.array(data.split)
    fractions[[split in parts for split in SPLITS]] = 0
    fractions /= fractions.sum()
    alike = numbered(marks_of(sequences[row] for row in rest.tolist()))
    count = int(alike.max(initial=-1)) + 1
    order = np.random.default_rng([settings.training.seed]).permutation(count)
    places = np.argsort(order)[alike]  # of those that are alike the same
    drawn = np.argsort(places, kind="stable")
    ends = np.rint(np.cumsum((0, *fractions)) * count).astype(int)
    borders = np.searchsorted(places[drawn], ends)
    for number, split in enumerate(SPLITS):
        if fractions[number] and ends[number] == ends[number + 1]:
            raise InputError(
                f"{count} different sequences are too few to split: none is left for {split}"
            )
        rows = rest[drawn[borders[number] : borders[number + 1]]]
        parts.setdefault(split, picked(sequences, rows))
    return parts


def by_length(sequences: Sequence[Tagged]) -> Iterator[list[Tagged]]:
    """Cut into what is judged side by side, sequences of like length together."""
    order = np.argsort([len(one) for one in sequences], kind="stable")
    for start in range(0, len(order), ROWS_AT_ONCE):
        yield [*picked(sequences, order[start : start + ROWS_AT_ONCE])]


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
