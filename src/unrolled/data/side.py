"""Texts one by one as symbols and back: one side of pairs of texts."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from unrolled.data.vocabulary import Vocabulary, fit_vocabulary
from unrolled.settings import DataSettings


class Side:
    """A vocabulary, of whose words each begins with the space before it.

    So that the first word of a text is the word it is elsewhere, texts begin with a space, too.

    Args:
        vocabulary: The symbols.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._spaced = vocabulary.kind in ("word", "subword")

    @classmethod
    def fit(cls, texts: Iterable[str], data: DataSettings) -> "Side":
        """Find the symbols of texts, as the settings say.

        Raises:
            InputError: If there is no text, or the size of the vocabulary is too small.
        """
        space = " " if data.symbols in ("word", "subword") else ""
        return cls(fit_vocabulary((f"{space}{text}\n" for text in texts), data))

    def ids(self, text: str) -> np.ndarray:
        """Give the ids of a text."""
        return self.vocabulary.encode(self._begun(text))

    def text(self, ids: Iterable[int]) -> str:
        """Undo :meth:`ids`."""
        text = self.vocabulary.decode(ids)
        return text.removeprefix(" ") if self._spaced else text

    def spelt(self, text: str) -> list[str]:
        """Give the symbols of a text as they stand in it, those too that the vocabulary lacks."""
        known, unknown = self.vocabulary.symbols, self.vocabulary.unknown
        ids = self.ids(text).tolist()
        pattern = "".join(r"( ?\S+?)" if i == unknown else f"({re.escape(known[i])})" for i in ids)
        found = re.fullmatch(pattern, self._begun(text))
        return [*found.groups()] if found else [known[i] for i in ids]

    def _begun(self, text: str) -> str:
        return f" {text}" if self._spaced and text[:1] != " " else text


def padded(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lay ids side by side: (T, B), zero past a row's end, with a step at least, and lengths (B,); int64."""
    lengths = np.array([len(ids) for ids in texts], np.int64)
    laid = np.zeros((max(1, lengths.max()), len(texts)), np.int64)
    for row, ids in enumerate(texts):
        laid[: len(ids), row] = ids
    return laid, lengths
