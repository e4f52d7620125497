"""What a classifier must beat: always the most frequent label, and a bag of characters."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from unrolled.errors import InputError


@dataclass(frozen=True)
class Bag:
    """Two baselines over C labels, fitted on the same texts.

    ``majority`` always gives the most frequent label. ``bag_of_characters`` is a logistic
    regression on how often each of V characters occurs: it knows which, but not in what order.
    """

    characters: str
    """The V characters, one a row of `weight`."""
    frequency: np.ndarray
    """(C,): how often each label occurred."""
    weight: np.ndarray
    """(V, C) float64."""
    bias: np.ndarray
    """(C,) float64; -inf for a label that did not occur."""

    @classmethod
    def fit(cls, texts: Sequence[str], labels: np.ndarray, classes: int, cap: int = 50_000) -> Self:
        """Fit both.

        Args:
            texts: Texts (n,).
            labels: Number of each text's label (n,); at least two different ones.
            classes: C.
            cap: Fit the regression on at most so many texts, drawn evenly from all.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        chosen = np.linspace(0, len(texts) - 1, min(cap, len(texts))).astype(int)
        vectoriser = CountVectorizer(analyzer="char", lowercase=False)
        counts = vectoriser.fit_transform([texts[i] for i in chosen])
        regression = LogisticRegression(max_iter=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near the optimum is near enough
            regression.fit(counts, labels[chosen])
        present, slope, start = regression.classes_, regression.coef_.T, regression.intercept_
        if len(present) == 2:  # then scikit-learn scores the second label against the first
            slope, start = np.hstack([0 * slope, slope]), np.append(0, start)
        weight, bias = np.zeros((len(slope), classes)), np.full(classes, -np.inf)
        weight[:, present], bias[present] = slope, start
        characters = "".join(vectoriser.get_feature_names_out())
        return cls(characters, np.bincount(labels, minlength=classes), weight, bias)

    def predict(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Name of the baseline -> number of the label it gives each text, (n,)."""
        from sklearn.feature_extraction.text import CountVectorizer

        vocabulary = list(self.characters)
        vectoriser = CountVectorizer(analyzer="char", lowercase=False, vocabulary=vocabulary)
        scores = vectoriser.transform(texts) @ self.weight + self.bias
        return {
            "majority": np.full(len(texts), self.frequency.argmax()),
            "bag_of_characters": scores.argmax(axis=1),
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give all but the characters as arrays."""
        return {"frequency": self.frequency, "weight": self.weight, "bias": self.bias}

    @classmethod
    def from_arrays(cls, characters: str, classes: int, arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild from the characters, the number of labels, and what :meth:`to_arrays` gave.

        Raises:
            InputError: If an array is missing or has the wrong shape.
        """
        shapes = {
            "frequency": (classes,),
            "weight": (len(characters), classes),
            "bias": (classes,),
        }
        for name, shape in shapes.items():
            found = arrays[name].shape if name in arrays else "missing"
            if found != shape:
                raise InputError(
                    f"the baselines are damaged: {name} is {found}, not {shape}; train the model again"
                )
        return cls(characters, **{name: arrays[name] for name in shapes})
