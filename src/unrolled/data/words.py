"""Vocabularies of words and of subwords, both lossless: joined, the symbols of a text are the text."""

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unrolled.data.vocabulary import Vocabulary, check_closed, closed_error, flag_of
from unrolled.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE = 1 << 16  # characters that words and subwords are looked for in at once
BATCH = 16  # pieces encoded at once
MOST_WORDS = 2_000_000  # distinct words counted at once; beyond, the rarest are forgotten
DEFAULT_WORDS = 20_000
DEFAULT_SUBWORDS = 2_000


class WordVocabulary(Vocabulary):
    """Words with the space before them, punctuation marks, and other white space, most frequent first."""

    kind = "word"

    def __init__(self, words: Sequence[str], *, unknown: bool) -> None:
        super().__init__([word.encode("utf-8", "surrogatepass") for word in words], unknown=unknown)
        self._ids = {word: index for index, word in enumerate(words)}
        if len(self._ids) < len(words) or not words:
            raise ValueError("symbols must be distinct")

    def encode(self, text: str) -> np.ndarray:
        """Give the ids of a text; see :meth:`Vocabulary.encode`."""
        absent = len(self._ids)
        ids = np.fromiter((self._ids.get(word, absent) for word in _words(text)), np.int64)
        if self.unknown is None and (ids == absent).any():
            raise closed_error(self.missing(text)[0])
        return ids.astype(self.dtype)

    def missing(self, text: str) -> list[str]:
        """Give the distinct parts of `text` that are unknown."""
        return [word for word in dict.fromkeys(_words(text)) if word not in self._ids]

    def to_json(self) -> dict[str, Any]:
        """Give what :meth:`Vocabulary.from_json` reads."""
        return {"kind": self.kind, "unknown": self.unknown is not None, "words": list(self._ids)}

    @classmethod
    def _restore(cls, table: Mapping[str, Any]) -> Self:
        words = table["words"]
        if not all(isinstance(word, str) for word in words):
            raise ValueError("words must be text")
        return cls(words, unknown=flag_of(table))

    @classmethod
    def _fit(cls, texts: Iterable[str], size: int | None, *, unknown: bool) -> Self:
        counts: Counter[str] = Counter()
        floor = 0
        for text in texts:
            counts.update(_words(text))
            if len(counts) > MOST_WORDS:
                floor += 1
                counts = Counter({word: n for word, n in counts.items() if n > floor})
        check_closed(len(counts), size, unknown=unknown)
        if size is None and unknown:
            size = DEFAULT_WORDS
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ranked[:size], unknown=unknown)

    @staticmethod
    def _settle(chunks: Iterable[str]) -> Iterable[str]:
        return settle(chunks)


class SubwordVocabulary(Vocabulary):
    """Byte-level byte pair encoding (Sennrich et al. 2016; GPT-2's variant) by the `tokenizers` library."""

    kind = "subword"

    def __init__(self, tokenizer: "Tokenizer") -> None:
        letters = _byte_letters()
        tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        if [index for _, index in tokens] != list(range(len(tokens))) or not tokens:
            raise ValueError("ids must be 0, 1, ...")
        spellings = [bytes(letters[letter] for letter in token) for token, _ in tokens]
        super().__init__(spellings, unknown=False)
        self._tokenizer = tokenizer

    def encode(self, text: str) -> np.ndarray:
        """Give the ids of a text; see :meth:`Vocabulary.encode`."""
        return np.concatenate([np.zeros(0, self.dtype), *self.encode_chunks([text])])

    def encode_chunks(self, chunks: Iterable[str]) -> Iterator[np.ndarray]:
        """Give the ids of a long text bit by bit, several pieces at once on all cores."""
        # "replace" writes lone surrogates, which no UTF-8 text holds, as question marks.
        pieces = (piece.encode("utf-8", "replace").decode() for piece in settle(chunks))
        while batch := list(islice(pieces, BATCH)):
            found = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            yield np.concatenate([np.array(piece.ids, self.dtype) for piece in found])

    def missing(self, text: str) -> list[str]:
        """Give nothing: whatever is no subword is spelt in bytes."""
        return []

    def to_json(self) -> dict[str, Any]:
        """Give what :meth:`Vocabulary.from_json` reads."""
        return {"kind": self.kind, "tokenizer": json.loads(self._tokenizer.to_str())}

    @classmethod
    def _restore(cls, table: Mapping[str, Any]) -> Self:
        from tokenizers import Tokenizer

        written = json.dumps(table["tokenizer"])
        try:
            tokenizer = Tokenizer.from_str(written)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(str(error)) from None
        return cls(tokenizer)

    @classmethod
    def _fit(cls, texts: Iterable[str], size: int | None, *, unknown: bool) -> Self:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        size = size or DEFAULT_SUBWORDS
        if size < 256:
            raise InputError(
                f"--vocabulary-size {size} is too small for subwords, which begin with the 256 bytes; "
                "give at least 256"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_shorten(texts), trainer)
        return cls(tokenizer)

    @staticmethod
    def _settle(chunks: Iterable[str]) -> Iterable[str]:
        return settle(chunks)


def settle(chunks: Iterable[str]) -> Iterator[str]:
    """Cut a text into pieces of at most `PIECE` characters which end where a word must end too.

    That is before a space or line end that follows anything else; a run of `PIECE` characters without
    such a place is cut all the same. The cuts depend on the text alone, not on its chunks.
    """
    rest = ""
    for chunk in chunks:
        text, start = rest + chunk, 0
        while len(text) - start > PIECE:
            border = _BORDER.match(text, start, start + PIECE)
            end = border.end() if border else start + PIECE
            yield text[start:end]
            start = end
        rest = text[start:]
    if rest:
        yield rest


_BORDER = re.compile(r".*\S(?=[ \n])", re.DOTALL)


def _shorten(texts: Iterable[str]) -> Iterator[str]:
    """Cut runs of hundreds of letters, as of DNA: the trainer's time grows with a word's length squared."""
    for text in texts:
        if _LONG.search(text):
            yield from re.findall(r"\s*\S{1,256}|\s+", text)
        else:
            yield text


_LONG = re.compile(r"\S{257}")


def _words(text: str) -> Iterator[str]:
    return chain.from_iterable(map(_word().findall, settle([text])))


@cache
def _word() -> re.Pattern[str]:
    r"""What a word is; joined, the words of a text are the text.

    Python's ``\w`` lacks combining marks, without which words of Hindi or decomposed accents fall apart.
    """
    marks = [chr(n) for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n))[0] == "M"]
    common = "".join(mark for mark in marks if mark <= "\uffff")
    others = "".join(mark for mark in marks if mark > "\uffff")
    # The set of others is slow to search, so most text must be kept from asking.
    mark = rf"(?:[{common}]|(?![\0-\uffff])[{others}])"
    return re.compile(rf" ?\w+(?:{mark}+\w*)*| ?[^\w\s]|\s")


@cache
def _byte_letters() -> dict[str, int]:
    """The letter with which byte-level encoding writes a byte -> the byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }
