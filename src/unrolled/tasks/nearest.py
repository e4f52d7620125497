"""What a writer must beat: the text of the example most like the one asked about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unrolled.errors import InputError

MOST_TEXTS = 50_000
MOST_PICTURES = 5_000
MISSING = "the baselines are damaged: {} is missing; train the model again"


class NearestText:
    """The target of the source that shares most n-grams, each weighed by how rare it is.

    Cosines of tf-idf vectors (scikit-learn) of one and two words, or of up to three characters.

    Args:
        sources: Those of the training split; `MOST_TEXTS` of them at most are looked at.
        targets: What each became.
        characters: Whether n-grams are of characters.
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str], *, characters: bool) -> None:
        self.sources, self.targets = list(sources[:MOST_TEXTS]), list(targets[:MOST_TEXTS])
        self.characters = characters
        self._fitted: Any = None

    def write(self, texts: Sequence[str]) -> list[str]:
        """Give a target for each text."""
        if self._fitted is None:
            from sklearn.feature_extraction.text import TfidfVectorizer

            kind: dict[str, Any] = {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)}
            if self.characters:
                kind = {"analyzer": "char", "ngram_range": (1, 3)}
            vectorizer = TfidfVectorizer(sublinear_tf=True, **kind)
            self._fitted = vectorizer, vectorizer.fit_transform(self.sources).T.tocsr()
        vectorizer, known = self._fitted
        found = []
        for start in range(0, len(texts), 250):
            cosines = vectorizer.transform(texts[start : start + 250]) @ known
            found += [self.targets[int(row.argmax())] for row in cosines.toarray()]
        return found

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give everything as arrays."""
        return {"sources": _packed(self.sources), "targets": _packed(self.targets)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, characters: bool) -> "NearestText":
        """Undo :meth:`to_arrays`."""
        return cls(_texts(arrays, "sources"), _texts(arrays, "targets"), characters=characters)


class NearestPicture:
    """The text of the training picture whose pixels differ least, and the text there is most often.

    Args:
        pixels: Those of the training split (n, C, H, W) uint8; `MOST_PICTURES` at most are looked at.
        texts: Of each.
    """

    def __init__(self, pixels: np.ndarray, texts: Sequence[str]) -> None:
        self.pixels, self.texts = pixels[:MOST_PICTURES], list(texts[:MOST_PICTURES])
        self.common = Counter(self.texts).most_common(1)[0][0]

    def write(self, pixels: np.ndarray) -> list[str]:
        """Give the text of the nearest picture for each of (n, C, H, W)."""
        from sklearn.neighbors import NearestNeighbors

        known = NearestNeighbors(n_neighbors=1).fit(_flat(self.pixels))
        places = known.kneighbors(_flat(pixels), return_distance=False)
        return [self.texts[int(place)] for place in places[:, 0]]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give everything as arrays."""
        return {"pixels": self.pixels, "texts": _packed(self.texts)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "NearestPicture":
        """Undo :meth:`to_arrays`."""
        texts = _texts(arrays, "texts")
        if len(arrays.get("pixels", ())) != len(texts):
            raise InputError(MISSING.format("pixels"))
        return cls(arrays["pixels"], texts)


def _flat(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1).astype(np.float32)


def _packed(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n".join(texts).encode("utf-8", "surrogatepass"), np.uint8)


def _texts(arrays: Mapping[str, np.ndarray], name: str) -> list[str]:
    if name not in arrays:
        raise InputError(MISSING.format(name))
    return arrays[name].tobytes().decode("utf-8", "surrogatepass").split("\n")
