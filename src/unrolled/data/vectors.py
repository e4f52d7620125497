"""Word vectors from text files, as GloVe and word2vec write them.

V words, D numbers each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.data.read import find_pieces
from unrolled.errors import InputError
from unrolled.settings import ModelSettings


@dataclass(frozen=True)
class Vectors:
    """Vectors of the words of a vocabulary."""

    table: np.ndarray
    """(V, D) float32; zeros where the file has none."""
    found: np.ndarray
    """(V,) bool: which words the file has."""

    def begin(self, seed: int) -> np.ndarray:
        """Give (V, D); words without a vector have one drawn, as widely spread as the others (Kim 2014)."""
        spread = np.sqrt(3) * self.table[self.found].std() if self.found.any() else 0.25
        drawn = np.random.default_rng([seed, 9]).uniform(-spread, spread, self.table.shape)
        return np.where(self.found[:, None], self.table, drawn).astype(np.float32)


def begin_vectors(model: ModelSettings, words: Sequence[str], seed: int) -> tuple[np.ndarray, str]:
    """Read what ``--vectors`` names.

    Args:
        model: Names the file in ``vectors``.
        words: V words.
        seed: Of what is drawn for words that the file lacks.

    Returns:
        What the words' vectors begin as (V, D), and a sentence on how many were found.

    Raises:
        InputError: As :func:`read_vectors`; if the file has none of the words, or ``embedding`` is not D.
    """
    assert model.vectors is not None
    found = read_vectors(model.vectors, words)
    width, known = found.table.shape[1], int(found.found.sum())
    if model.embedding not in (None, width):
        raise InputError(
            f"{model.vectors} has vectors of {width} numbers; leave out --embedding {model.embedding}"
        )
    if not known:
        raise InputError(f"{model.vectors} has a vector for none of the {len(words)} symbols")
    told = f"{model.vectors} has vectors for {known:,} of {len(words):,} symbols"
    return found.begin(seed), told


def check_frozen(model: ModelSettings) -> None:
    """Refuse to freeze vectors that are not read.

    Raises:
        InputError: If the settings say so.
    """
    if model.frozen_vectors and model.vectors is None:
        raise InputError("--frozen-vectors takes --vectors FILE")


def read_vectors(source: str, words: Sequence[str], encoding: str = "utf-8") -> Vectors:
    """Read the vectors of some words; the file may be larger than memory.

    A line is a word and its numbers, separated by spaces; a first line of two whole numbers, as word2vec
    writes it, is passed over. A ``.gz`` is read as it is. A word is looked for as it is, then in lower
    case; spaces around it, as words of a vocabulary have them, do not count.

    Args:
        source: One file, or a file of the catalogue.
        words: V words.
        encoding: Of the file.

    Raises:
        InputError: If the file is missing or damaged, or a line is not so; the sentence says which.
    """
    pieces = find_pieces([source], encoding)
    if len(pieces) != 1:
        raise InputError(f"word vectors are one file, but {source} is {len(pieces)}")
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        for spelt in dict.fromkeys((word.strip(), word.strip().lower())):
            places.setdefault(spelt, []).append(place)
    table, exact, found = np.zeros((0, 0), np.float32), set[int](), np.zeros(len(words), bool)
    for number, line in enumerate(pieces[0].lines(), 1):
        fields = line.rstrip().split(" ")
        if not table.size:
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                continue
            table = np.zeros((len(words), len(fields) - 1), np.float32)
        width = table.shape[1]
        # Some of GloVe's words hold spaces.
        word = " ".join(fields[:-width])
        if len(fields) <= width or width < 2:
            raise InputError(f"{source}:{number} is not a word and {max(width, 2)} numbers")
        if word not in places:
            continue
        try:
            vector = np.array(fields[-width:], np.float32)
        except ValueError:
            raise InputError(
                f"{source}:{number}: the vector of {word!r} is not {width} numbers"
            ) from None
        for place in places[word]:
            if place not in exact:
                table[place], found[place] = vector, True
                if words[place].strip() == word:
                    exact.add(place)
    if not table.size:
        raise InputError(f"{source} holds no word vectors")
    return Vectors(table, found)
