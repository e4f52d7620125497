"""Vocabularies of characters and of bytes: symbols that are numbers."""

import sys
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from unrolled.data.vocabulary import Vocabulary, check_closed, closed_error, flag_of


class _CodedVocabulary(Vocabulary):
    """Symbols that are numbers: one table lookup encodes a whole text."""

    codes_end: ClassVar[int]

    def __init__(self, codes: Sequence[int], *, unknown: bool) -> None:
        super().__init__([self._spell(code) for code in codes], unknown=unknown)
        if len(set(codes)) < len(codes) or not codes:
            raise ValueError("symbols must be distinct")
        self._codes = tuple(codes)
        # The last slot stands for every code above; an id of len(codes) is a missing symbol.
        self._table = np.full(max(codes) + 2, len(codes), np.min_scalar_type(len(codes)))
        self._table[list(codes)] = np.arange(len(codes))

    @staticmethod
    @abstractmethod
    def _spell(code: int) -> bytes: ...

    @staticmethod
    @abstractmethod
    def _read(text: str) -> np.ndarray:
        """Give the codes of a text."""

    def encode(self, text: str) -> np.ndarray:
        """Give the ids of a text; see :meth:`Vocabulary.encode`."""
        ids = self._table.take(self._read(text), mode="clip")
        if self.unknown is None and (ids == len(self)).any():
            raise closed_error(self.missing(text)[0])
        return ids.astype(self.dtype, copy=False)

    def missing(self, text: str) -> list[str]:
        """Give the distinct parts of `text` that are unknown."""
        known = set(self._codes)
        return [
            character
            for character in dict.fromkeys(text)
            if not known.issuperset(self._read(character).tolist())
        ]

    def to_json(self) -> dict[str, Any]:
        """Give what :meth:`Vocabulary.from_json` reads."""
        return {
            "kind": self.kind,
            "unknown": self.unknown is not None,
            "codes": list(self._codes),
        }

    @classmethod
    def _restore(cls, table: Mapping[str, Any]) -> Self:
        codes = table["codes"]
        if not all(isinstance(code, int) and 0 <= code < cls.codes_end for code in codes):
            raise ValueError("codes out of range")
        return cls(codes, unknown=flag_of(table))

    @classmethod
    def _fit(cls, texts: Iterable[str], size: int | None, *, unknown: bool) -> Self:
        counts = np.zeros(cls.codes_end, np.int64)
        for text in texts:
            seen = np.bincount(cls._read(text))
            counts[: len(seen)] += seen
        codes = np.flatnonzero(counts)
        check_closed(len(codes), size, unknown=unknown)
        if size is not None:
            codes = np.sort(codes[np.argsort(-counts[codes], kind="stable")[:size]])
        return cls(codes.tolist(), unknown=unknown)


class CharacterVocabulary(_CodedVocabulary):
    """Unicode code points, in their order."""

    kind = "character"
    codes_end = sys.maxunicode + 1

    @staticmethod
    def _spell(code: int) -> bytes:
        return chr(code).encode("utf-8", "surrogatepass")

    @staticmethod
    def _read(text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class ByteVocabulary(_CodedVocabulary):
    """The bytes of the text as UTF-8, in their order."""

    kind = "byte"
    codes_end = 256

    @staticmethod
    def _spell(code: int) -> bytes:
        return bytes([code])

    @staticmethod
    def _read(text: str) -> np.ndarray:
        # Lone surrogates are how a text source and the command line carry bytes that are no text.
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
