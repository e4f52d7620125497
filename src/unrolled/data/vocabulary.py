"""Text to symbol ids and back: what every kind of vocabulary can do.

An id is the place of a symbol in :attr:`Vocabulary.symbols`. One symbol more, the last, stands for
everything the training text lacked; a closed vocabulary has none, and neither have subwords, which
spell whatever they do not know in bytes.
"""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from unrolled.errors import InputError
from unrolled.settings import DataSettings

Kind = Literal["character", "byte", "word", "subword"]

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Vocabulary(ABC):
    r"""The symbols of a text and their ids; made by :func:`fit_vocabulary` or :meth:`from_json`.

    Attributes:
        kind: "character", "byte", "word" or "subword".
        symbols: The symbols as people read them, by id: bytes that are no text as ``\xe9``.
        unknown: Id of the unknown symbol, the last; ``None`` in a closed vocabulary.
        dtype: The smallest unsigned integer that holds every id.
    """

    kind: ClassVar[Kind]

    def __init__(self, spellings: Sequence[bytes], *, unknown: bool) -> None:
        self.unknown = len(spellings) if unknown else None
        self._spellings = (*spellings, UNKNOWN.encode()) if unknown else tuple(spellings)
        self.symbols = tuple(
            spelling.decode("utf-8", "backslashreplace") for spelling in self._spellings
        )
        self.dtype = np.min_scalar_type(len(self._spellings) - 1)

    def __len__(self) -> int:
        """Count the symbols, the unknown one included."""
        return len(self._spellings)

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Give the ids of a text, (symbols,) of :attr:`dtype`.

        Raises:
            InputError: If the vocabulary is closed and lacks a symbol of the text.
        """

    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[np.ndarray]:
        """Give the ids of a long text bit by bit; where its chunks end makes no difference."""
        for text in self._settle(chunks):
            yield self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of `ids`; an unknown symbol, or bytes that are no text, as U+FFFD."""
        return b"".join(self._spellings[index] for index in ids).decode("utf-8", "replace")

    def stream(self) -> "TextStream":
        """Give a decoder to which ids come one by one."""
        return TextStream(self._spellings)

    @abstractmethod
    def missing(self, text: str) -> list[str]:
        """Give the distinct parts of `text` that are unknown, in their order."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Give what :meth:`from_json` reads."""

    @staticmethod
    def from_json(table: Mapping[str, Any], where: str) -> "Vocabulary":
        """Restore a vocabulary; `where` names the file in the error sentence.

        Raises:
            InputError: If the table is damaged.
        """
        try:
            return _kind(table["kind"])._restore(table)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} is damaged: it holds no vocabulary ({error!r})") from None

    @classmethod
    @abstractmethod
    def _restore(cls, table: Mapping[str, Any]) -> Self: ...

    @classmethod
    @abstractmethod
    def _fit(cls, texts: Iterable[str], size: int | None, *, unknown: bool) -> Self: ...

    @staticmethod
    def _settle(chunks: Iterable[str]) -> Iterable[str]:
        """Move the ends of chunks to where no symbol is cut in two."""
        return chunks


def names_of(table: Mapping[str, Any], key: str) -> list[str]:
    """Give names, as of labels, that a `vocabulary.json` holds.

    Raises:
        InputError: If they are no texts.
        KeyError: If there are none.
    """
    names = table[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"vocabulary.json is damaged: its {key} are not a list of texts; copy the model again"
        )
    return names


class TextStream:
    """Decodes ids as they come: text appears as soon as no later id can change it."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self._spellings = spellings
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, index: int) -> str:
        """Take one id; give the text it settles, which may be empty."""
        return self._decoder.decode(self._spellings[index])

    def flush(self) -> str:
        """End the text: half a character is given as U+FFFD."""
        return self._decoder.decode(b"", True)


def fit_vocabulary(chunks: Iterable[str], data: DataSettings) -> Vocabulary:
    """Find the symbols of a text, given in chunks that may end anywhere.

    Of several texts, end each with a line end, so that no word reaches from one into the next.

    Args:
        chunks: The training text. Bytes are those of its UTF-8, see :func:`unrolled.data.open_text`.
        data: `symbols` says which kind; `vocabulary_size` how many of the most frequent to keep
            (20,000 words and 2,000 subwords unless given, else all); `unknown` whether one more
            symbol stands for all others.

    Raises:
        InputError: If the text is empty, or the size too small for the kind or for a closed vocabulary.
    """
    kind = _kind(data.symbols)
    texts = kind._settle(_never_empty(chunks))
    return kind._fit(texts, data.vocabulary_size, unknown=data.unknown)


def _kind(name: str) -> type[Vocabulary]:
    from unrolled.data import coded, words  # which build on this module

    kinds = (
        coded.CharacterVocabulary,
        coded.ByteVocabulary,
        words.WordVocabulary,
        words.SubwordVocabulary,
    )
    return {kind.kind: kind for kind in kinds}[name]


def _never_empty(chunks: Iterable[str]) -> Iterator[str]:
    empty = True
    for chunk in chunks:
        empty = empty and not chunk
        yield chunk
    if empty:
        raise InputError("the training text is empty; a vocabulary needs at least one symbol")


def check_closed(found: int, size: int | None, *, unknown: bool) -> None:
    """Refuse a `size` that would drop some of the `found` symbols of a closed vocabulary."""
    if not unknown and size is not None and size < found:
        raise InputError(
            f"--vocabulary-size {size} drops some of the {found:,} symbols of the text, which a closed "
            "vocabulary (unknown = false) cannot; leave one of the two out"
        )


def closed_error(symbol: str) -> InputError:
    """Say that a closed vocabulary lacks `symbol`."""
    codes = " ".join(f"U+{ord(character):04X}" for character in symbol[:8])
    return InputError(
        f"the text holds {symbol!r} ({codes}), which the vocabulary lacks; it is closed "
        "(unknown = false), so train with an unknown symbol or on text that holds it"
    )


def flag_of(table: Mapping[str, Any]) -> bool:
    """Read whether a saved vocabulary has an unknown symbol."""
    if not isinstance(table["unknown"], bool):
        raise ValueError("unknown must be true or false")
    return table["unknown"]
