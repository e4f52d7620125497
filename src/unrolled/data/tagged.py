"""Sequences with a tag or numbers for each step, and how they become arrays.

T steps, B rows, V words, C tags, I inputs, O outputs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.random import Generator

from unrolled.data.scaling import divisors
from unrolled.data.vocabulary import names_of
from unrolled.errors import InputError

PADDING = -1
"""Stands for the number of a tag past a row's end."""
LONGEST_WORD = 40
"""Characters of a word that are read; of a longer one its two ends."""


@dataclass(frozen=True)
class Tagged:
    """One sequence."""

    steps: Any
    """T words (list of str), or vectors (T, I) float64."""
    tags: Any
    """A tag for each (list of str), or numbers (T, O) float64."""
    file: str = field(default="", compare=False)
    """Where it was read."""

    def __len__(self) -> int:
        """T."""
        return len(self.steps)

    @property
    def key(self) -> bytes:
        """What tells sequences of different steps apart."""
        if isinstance(self.steps, np.ndarray):
            return self.steps.tobytes()
        return "\0".join(self.steps).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class TagBatch:
    """Sequences side by side."""

    inputs: tuple[np.ndarray, ...]
    """What :class:`Words` or :class:`Vectors` make of the steps."""
    tags: np.ndarray
    """(T, B) int64, `PADDING` past a row's end; or numbers (T, B, O) float64, NaN there."""
    lengths: np.ndarray
    """(B,) int64."""
    forced: float = 1.0
    """How often a read-out that is fed tags is fed the true ones in training."""

    @property
    def inside(self) -> np.ndarray:
        """Where there are steps (T, B)."""
        return np.arange(len(self.tags))[:, None] < self.lengths


class Words:
    """Words by number, and how they are spelt.

    Args:
        words: V - 1 of them, most frequent first; the last number stands for all others.
        characters: Those of the words, one string; empty where words are not spelt. The number behind
            the last stands for all others.
        lowercase: Whether words are looked up in lower case; they are spelt as they are.
        counts: How often each word came in training (V,), for word dropout.
        dropout: alpha: in training a word that came n times is unknown with probability
            alpha / (alpha + n) (Kiperwasser & Goldberg 2016, section 4.3).
        width: Of vectors that are read from a file, if they are.

    Attributes:
        vectors: What each word's vector begins as (V, width); ``None`` once they are learned.
        told: What a person should know of them.
    """

    kind: ClassVar[str] = "words"

    def __init__(
        self,
        words: Sequence[str],
        characters: str = "",
        *,
        lowercase: bool = False,
        counts: np.ndarray | None = None,
        dropout: float = 0.0,
        width: int | None = None,
    ) -> None:
        self.width, self.told = width, ""
        self.vectors: np.ndarray | None = None
        self.words, self.characters, self.lowercase = list(words), characters, lowercase
        self._spelt: dict[str, np.ndarray] = {}
        self._rare = None
        if counts is not None and dropout:
            self._rare = dropout / (dropout + counts)

    @classmethod
    def fit(
        cls,
        sequences: Iterable[Tagged],
        size: int | None,
        *,
        spelt: bool | None,
        lowercase: bool,
        dropout: float,
    ) -> Self:
        """Count the words of the training split; keep the `size` most frequent.

        Args:
            sequences: The training split.
            size: Most words to keep; ``None`` for all.
            spelt: Whether characters are read too; ``None``: where a word has more than one.
            lowercase: Whether to count words in lower case.
            dropout: alpha.
        """
        plain = Counter(chain.from_iterable(one.steps for one in sequences))
        counts: Counter[str] = Counter()
        for word, n in plain.items():
            counts[word.lower() if lowercase else word] += n
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[:size]
        if spelt is None:
            spelt = any(len(word) > 1 for word in plain)
        characters = "".join(sorted(set(chain.from_iterable(plain)))) if spelt else ""
        often = np.array([*(counts[word] for word in ranked), 0.0])
        return cls(ranked, characters, lowercase=lowercase, counts=often, dropout=dropout)

    @classmethod
    def restore(cls, table: Mapping[str, Any]) -> Self:
        """Rebuild what :meth:`to_json` gave."""
        width, lowercase = table.get("width"), table["lowercase"]
        return cls(table["words"], table["characters"], lowercase=lowercase, width=width)

    def to_json(self) -> dict[str, Any]:
        """Give the words, the characters and whether case counts."""
        return {
            "kind": self.kind,
            "words": self.words,
            "characters": self.characters,
            "lowercase": self.lowercase,
            **({"width": self.width} if self.width else {}),
        }

    def begin_with(self, vectors: np.ndarray, told: str) -> None:
        """Let the words' vectors begin so (V, width)."""
        self.vectors, self.width, self.told = vectors, vectors.shape[1], told

    @property
    def size(self) -> int:
        """V."""
        return len(self.words) + 1

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _place(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}

    def numbers(self, words: Sequence[str]) -> np.ndarray:
        """Numbers of words (n,)."""
        number, unknown = self._number, len(self.words)
        known = (word.lower() for word in words) if self.lowercase else words
        return np.array([number.get(word, unknown) for word in known], np.int64)

    def inputs(
        self, rows: Sequence[Sequence[str]], random: Sequence[Generator] = ()
    ) -> tuple[np.ndarray, ...]:
        """Put words side by side.

        Args:
            rows: The words of each sequence.
            random: For word dropout, what each row draws from; none outside training.

        Returns:
            Numbers (T, B). Where words are spelt also the characters of each different word (L, U),
            how many each has (U,), and which of them each word is (T, B). Zero past an end.
        """
        ids = np.zeros((max(map(len, rows)), len(rows)), np.int64)
        for row, words in enumerate(rows):
            numbers = self.numbers(words)
            if random and self._rare is not None:
                rare = random[row].random(len(words)) < self._rare[numbers]
                numbers = np.where(rare, len(self.words), numbers)
            ids[: len(words), row] = numbers
        if not self.characters:
            return (ids,)
        different = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(rows)))}
        spelt = [self._spelling(word) for word in different]
        lengths = np.array([len(one) for one in spelt], np.int64)
        spelling = np.zeros((lengths.max(), len(spelt)), np.int64)
        for column, one in enumerate(spelt):
            spelling[: len(one), column] = one
        which = np.zeros_like(ids)
        for row, words in enumerate(rows):
            which[: len(words), row] = [different[word] for word in words]
        return ids, spelling, lengths, which

    def _spelling(self, word: str) -> np.ndarray:
        if word not in self._spelt:
            half = LONGEST_WORD // 2
            seen = word if len(word) <= LONGEST_WORD else word[:half] + word[-half:]
            other = len(self.characters)
            self._spelt[word] = np.array([self._place.get(c, other) for c in seen], np.int64)
        return self._spelt[word]

    def unknown(self, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """Which words are unknown (T, B)."""
        return inputs[0] == len(self.words)

    def written(self, inputs: tuple[np.ndarray, ...], t: int, row: int) -> str:
        """Write a word."""
        number = inputs[0][t, row]
        return self.words[number] if number < len(self.words) else "?"


@dataclass(frozen=True)
class Vectors:
    """Columns of numbers, each scaled by the mean and deviation of the training split."""

    kind: ClassVar[str] = "vectors"
    columns: list[str]
    mean: np.ndarray
    """(I,)."""
    deviation: np.ndarray
    """(I,); 1 where a column is constant."""

    @classmethod
    def fit(cls, columns: Sequence[str], rows: Sequence[np.ndarray]) -> Self:
        """Measure the training split: vectors (T, I) of each sequence."""
        values = np.concatenate([*rows])
        mean = values.mean(0)
        return cls(list(columns), mean, divisors(mean, values.std(0)))

    @classmethod
    def restore(cls, table: Mapping[str, Any]) -> Self:
        """Rebuild what :meth:`to_json` gave."""
        return cls(table["columns"], np.array(table["mean"]), np.array(table["deviation"]))

    def to_json(self) -> dict[str, Any]:
        """Give the columns and their scaling."""
        scaling = {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}
        return {"kind": self.kind, "columns": self.columns, **scaling}

    @property
    def size(self) -> int:
        """I."""
        return len(self.columns)

    def scaled(self, rows: Sequence[np.ndarray], filling: float) -> np.ndarray:
        """Scale vectors and put them side by side (T, B, I), with `filling` past a row's end."""
        whole = np.full((max(map(len, rows)), len(rows), self.size), filling)
        for row, values in enumerate(rows):
            whole[: len(values), row] = (values - self.mean) / self.deviation
        return whole

    def inputs(
        self, rows: Sequence[np.ndarray], random: Sequence[Generator] = ()
    ) -> tuple[np.ndarray, ...]:
        """Put vectors side by side (T, B, I), zero past a row's end; nothing is drawn."""
        return (self.scaled(rows, 0.0),)

    def unknown(self, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        """Which steps are unknown (T, B): none."""
        return np.zeros(inputs[0].shape[:2], bool)

    def written(self, inputs: tuple[np.ndarray, ...], t: int, row: int) -> str:
        """Write the first numbers of a vector as they were read."""
        values = inputs[0][t, row] * self.deviation + self.mean
        return ",".join(f"{value:.3g}" for value in values[:3]) + (",..." if self.size > 3 else "")


class Numbers(Vectors):
    """Columns that are to be told at each step."""

    kind = "numbers"

    def targets(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Put targets side by side (T, B, O), scaled, NaN past a row's end."""
        return self.scaled(rows, np.nan)

    def unscaled(self, told: np.ndarray) -> np.ndarray:
        """Undo the scaling of (..., O)."""
        return told * self.deviation + self.mean

    def name(self, told: np.ndarray) -> dict[str, list[float]]:
        """Give each target's numbers by its name: scaled (T, O)."""
        return dict(zip(self.columns, self.unscaled(told).T.tolist(), strict=True))


@dataclass(frozen=True)
class Labels:
    """Tags by number."""

    kind: ClassVar[str] = "labels"
    names: list[str]

    @classmethod
    def restore(cls, table: Mapping[str, Any]) -> Self:
        """Rebuild what :meth:`to_json` gave."""
        return cls(names_of(table, "names"))

    def to_json(self) -> dict[str, Any]:
        """Give the tags."""
        return {"kind": self.kind, "names": self.names}

    @property
    def size(self) -> int:
        """C."""
        return len(self.names)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def targets(self, rows: Sequence[Sequence[str]]) -> np.ndarray:
        """Put tags side by side (T, B), `PADDING` past a row's end.

        Raises:
            InputError: If there is an unknown one.
        """
        tags = np.full((max(map(len, rows)), len(rows)), PADDING)
        try:
            for row, names in enumerate(rows):
                tags[: len(names), row] = [self._number[name] for name in names]
        except KeyError as error:
            raise InputError(
                f"the model does not know the tag {error}; it learned {', '.join(self.names)}"
            ) from None
        return tags

    def name(self, told: np.ndarray) -> list[str]:
        """Give tags by name: numbers (T,)."""
        return [self.names[tag] for tag in told]


class Told(Protocol):
    """What is told of each step."""

    def targets(self, rows: Sequence[Any]) -> np.ndarray:
        """Put what is to be told side by side (T, B, ...)."""
        ...


def side_by_side(
    sequences: Sequence[Tagged],
    inputs: Words | Vectors,
    outputs: Told,
    random: Sequence[Generator] = (),
) -> TagBatch:
    """Put sequences side by side; each draws word dropout from its own of `random`.

    Raises:
        InputError: If there is an unknown tag.
    """
    return TagBatch(
        inputs.inputs([one.steps for one in sequences], random),
        outputs.targets([one.tags for one in sequences]),
        np.array([len(one) for one in sequences], np.int64),
    )


CODES: dict[str, Any] = {kind.kind: kind for kind in (Words, Vectors, Labels, Numbers)}
"""Name of a kind -> its class."""
