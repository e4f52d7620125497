"""What a classifier must beat: the most frequent label; bags of symbols; the nearest mean picture."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from unrolled.errors import InputError

FEATURES = 1 << 18
"""Into so many numbers are n-grams hashed; those that occur are kept."""
ITERATIONS = 300
TEXTS_AT_ONCE = 4096
"""Texts that are counted side by side."""


class Baseline(ABC):
    """Simple models over C labels, all fitted on the same examples."""

    @abstractmethod
    def predict(self, items: Any) -> dict[str, np.ndarray]:  # noqa: ANN401 - texts or pictures
        """Name of a model -> number of the label it gives each example, (n,)."""

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give everything as arrays."""

    @staticmethod
    def checked(
        arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int | None, ...]]
    ) -> dict[str, np.ndarray]:
        """Find the arrays of these shapes; ``None`` is any size.

        Raises:
            InputError: If one is missing or has another shape.
        """
        for name, shape in shapes.items():
            found = arrays[name].shape if name in arrays else "missing"
            if not isinstance(found, tuple) or (
                tuple(None if w is None else n for n, w in zip(found, shape, strict=False)) != shape
            ):
                raise InputError(
                    f"the baselines are damaged: {name} is {found}, not {shape}; train the model again"
                )
        return {name: arrays[name] for name in shapes}


@dataclass(frozen=True)
class Bag(Baseline):
    """``majority`` and two logistic regressions, on how often each symbol and each n-gram occurs.

    They know which symbols a text has, but not in what order; the n-grams know the order of neighbours.
    """

    kinds: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "bag_of_characters": {"analyzer": "char", "ngram_range": (1, 1)},
        "bag_of_character_ngrams": {"analyzer": "char", "ngram_range": (1, 3)},
        "bag_of_words": {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 1)},
        "bag_of_word_ngrams": {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)},
    }

    frequency: np.ndarray
    """(C,): how often each label occurred."""
    places: dict[str, np.ndarray]
    """Of each regression, the hashes of the F n-grams that occurred, (F,)."""
    weight: dict[str, np.ndarray]
    """(F, C) float32."""
    bias: dict[str, np.ndarray]
    """(C,) float32; -inf for a label that did not occur."""

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: np.ndarray,
        classes: int,
        *,
        words: bool = False,
        cap: int = 5_000_000,
    ) -> Self:
        """Fit all three.

        Args:
            texts: Texts (n,).
            labels: Number of each text's label (n,); at least two different ones.
            classes: C.
            words: Whether words and pairs of them are counted, or characters and up to three of them.
            cap: Fit the regressions on texts of at most so many characters in all, drawn evenly.
        """
        length = sum(map(len, texts))
        count = min(len(texts), max(2, len(texts) * cap // max(length, 1)))
        chosen = np.linspace(0, len(texts) - 1, count).astype(int)
        bag = cls(np.bincount(labels, minlength=classes), {}, {}, {})
        for name in list(cls.kinds)[2:] if words else list(cls.kinds)[:2]:
            counts = _vectoriser(name).transform([texts[i] for i in chosen])
            places = np.unique(counts.indices)
            bag.places[name] = places
            bag.weight[name], bag.bias[name] = regress(counts[:, places], labels[chosen], classes)
        return bag

    def predict(self, items: Sequence[str]) -> dict[str, np.ndarray]:
        """Name of the model -> number of the label it gives each text, (n,)."""
        found = {"majority": np.full(len(items), self.frequency.argmax())}
        for name, places in self.places.items():
            vectoriser, labels = _vectoriser(name), []
            for start in range(0, len(items), TEXTS_AT_ONCE):
                counts = vectoriser.transform(items[start : start + TEXTS_AT_ONCE])
                scores = counts[:, places] @ self.weight[name] + self.bias[name]
                labels.append(scores.argmax(axis=1))
            found[name] = np.concatenate(labels)
        return found

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give everything as arrays."""
        arrays = {"frequency": self.frequency}
        for part in ("places", "weight", "bias"):
            arrays |= {f"{name}.{part}": array for name, array in getattr(self, part).items()}
        return arrays

    @classmethod
    def from_arrays(cls, classes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild from the number of labels and what :meth:`to_arrays` gave.

        Raises:
            InputError: If an array is missing or has the wrong shape.
        """
        names = [name for name in cls.kinds if any(key.startswith(f"{name}.") for key in arrays)]
        shapes: dict[str, tuple[int | None, ...]] = {"frequency": (classes,)}
        for name in names:
            shapes |= {f"{name}.bias": (classes,), f"{name}.places": (None,)}
            shapes[f"{name}.weight"] = (len(arrays.get(f"{name}.places", ())), classes)
        found = cls.checked(arrays, shapes)
        parts = [
            {name: found[f"{name}.{part}"] for name in names}
            for part in ("places", "weight", "bias")
        ]
        return cls(found["frequency"], *parts)


@dataclass(frozen=True)
class Nearest(Baseline):
    """``majority``, and ``nearest_mean``: the label whose mean picture is closest."""

    frequency: np.ndarray
    """(C,): how often each label occurred."""
    means: np.ndarray
    """(C, numbers of a picture) float32, from 0 to 255."""

    @classmethod
    def fit(cls, pixels: np.ndarray, labels: np.ndarray, classes: int) -> Self:
        """Fit both: pixels (N, C, H, W), number of each picture's label (N,)."""
        flat = pixels.reshape(len(pixels), -1)
        means = np.full((classes, flat.shape[1]), np.nan, np.float32)
        for label in np.unique(labels):
            means[label] = flat[labels == label].mean(axis=0)
        return cls(np.bincount(labels, minlength=classes), means)

    def predict(self, items: np.ndarray) -> dict[str, np.ndarray]:
        """Name of the model -> number of the label it gives each picture, (N,)."""
        flat = items.reshape(len(items), -1).astype(np.float32)
        scores = 2 * flat @ self.means.T - np.square(self.means).sum(1)
        nearest = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
        return {"majority": np.full(len(items), self.frequency.argmax()), "nearest_mean": nearest}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give everything as arrays."""
        return {"frequency": self.frequency, "means": self.means}

    @classmethod
    def from_arrays(cls, classes: int, numbers: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild from the number of labels, the numbers of a picture, and :meth:`to_arrays`.

        Raises:
            InputError: If an array is missing or has the wrong shape.
        """
        return cls(**cls.checked(arrays, {"frequency": (classes,), "means": (classes, numbers)}))


def _vectoriser(name: str) -> Any:  # noqa: ANN401 - scikit-learn's
    from sklearn.feature_extraction.text import HashingVectorizer

    options: dict[str, Any] = {"norm": None, "lowercase": False, **Bag.kinds[name]}
    return HashingVectorizer(n_features=FEATURES, alternate_sign=False, **options)


def regress(counts: Any, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """Fit scikit-learn's logistic regression; give weights (F, C) and biases (C,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the optimum is near enough
        regression.fit(counts, labels)
    present, slope, start = regression.classes_, regression.coef_.T, regression.intercept_
    if len(present) == 2:  # then scikit-learn scores the second label against the first
        slope, start = np.hstack([0 * slope, slope]), np.append(0, start)
    weight = np.zeros((len(slope), classes), np.float32)
    bias = np.full(classes, -np.inf, np.float32)
    weight[:, present], bias[present] = slope, start
    return weight, bias
