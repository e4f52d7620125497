"""How well labels and their probabilities hold: figures, calibration, what each example counts.

n examples, C labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from unrolled.errors import InputError

BINS = 15
"""Of confidence, as Guo et al. 2017 have them."""
_ZERO: Any = 0  # what a fraction of nothing counts; scikit-learn's annotations know strings only


def label_figures(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and the F1 of each label that occurs or was predicted, averaged."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "f1_macro": float(f1_score(truth, predicted, average="macro", zero_division=_ZERO)),
    }


def figures(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1 and calibration error of probabilities (n, C)."""
    return {
        **label_figures(truth, probabilities.argmax(axis=1)),
        "calibration_error": calibration_error(truth, probabilities),
    }


def report(
    labels: Sequence[str],
    truth: np.ndarray,
    predicted: np.ndarray,
    often: np.ndarray | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Tell of each label how well it was found, and what its examples were taken for.

    Args:
        labels: Names (C,).
        truth: Number of each label (n,).
        predicted: What each was taken for (n,).
        often: How often each came so (n,); once if left out.

    Returns:
        ``classes``, for each label its ``precision``, ``recall``, ``f1`` and ``examples``; and
        ``confusion``, for each true label how many examples were given each label.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every = range(len(labels))
    columns: Any = precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=_ZERO, sample_weight=often
    )
    counts = confusion_matrix(truth, predicted, labels=every, sample_weight=often)
    columns = (*columns[:3], counts.sum(1))
    names = ("precision", "recall", "f1", "examples")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {
        "classes": {
            label: dict(zip(names, row, strict=True))
            for label, row in zip(labels, rows, strict=True)
        },
        "confusion": {
            label: dict(zip(labels, row, strict=True))
            for label, row in zip(labels, counts.tolist(), strict=True)
        },
    }


def reliability(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare, in bins of equal width, how sure a model is of its label and how often it is right.

    Args:
        truth: Number of each label (n,).
        probabilities: (n, C).
        bins: Of the largest probability, the first from 0, each without its lower end.

    Returns:
        Mean confidence, share of right labels (NaN where there is none), and examples of each bin.
    """
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    which = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(which, sure, bins) / count
        share = np.bincount(which, right, bins) / count
    return confidence, share, count


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: ``sum_b n_b / n |accuracy_b - confidence_b|`` (Guo et al. 2017, eq. 3)."""
    confidence, share, count = reliability(truth, probabilities, bins)
    there = count > 0
    return float(np.abs(share - confidence)[there] @ count[there] / count.sum())


def fit_temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    """Find the t, from 0.05 to 20, with which softmax(logits / t) is likeliest (Guo et al. 2017, 4.2).

    Args:
        truth: Number of each label (n,).
        logits: (n, C).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    rows = np.arange(len(truth))

    def nats(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[rows, truth]))

    bounds = (np.log(0.05), np.log(20.0))
    found: Any = minimize_scalar(nats, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def class_weights(
    given: Literal["balanced"] | Mapping[str, float] | None,
    labels: Sequence[str],
    counts: np.ndarray,
) -> np.ndarray | None:
    """Give what an example of each label counts (C,) float32; nothing where all count alike.

    Args:
        given: ``balanced``: n / (C n_c), so that each label counts as much; or label -> weight, others 1.
        labels: Names (C,).
        counts: Training examples n_c of each label (C,).

    Raises:
        InputError: If a name is no label.
    """
    if not given:
        return None
    if given == "balanced":
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return weights.astype(np.float32)
    for label in given:
        if label not in labels:
            raise InputError(
                f"--class-weights names {label!r}; the labels are {', '.join(labels)[:200]}"
            )
    return np.array([given.get(label, 1.0) for label in labels], np.float32)
