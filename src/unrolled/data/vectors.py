"""Word vectors from text files, as GloVe and word2vec write them.

V words, D numbers each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.data.read import Piece, find_pieces
from unrolled.errors import InputError


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
    for number, line in enumerate(_lines(pieces[0]), 1):
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


def _lines(piece: Piece) -> Iterator[str]:
    """Give the lines of a file, which end at a line feed and nowhere else."""
    rest = ""
    for text, _, _ in piece.blocks():
        *whole, rest = (rest + text).split("\n")
        yield from whole
    if rest:
        yield rest
