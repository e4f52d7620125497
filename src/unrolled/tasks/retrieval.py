"""Which examples are nearest: recall among others, raw features to compare with, a map.

n examples, D numbers of each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unrolled.tasks.drawing import INK, encode, make_figure

RANKS = (1, 5)
"""The k of recall at k."""
STEPS = 32
"""To so many steps are raw signals stretched."""
MAPPED = 2000
"""Examples that are drawn, at most."""


def nearest(points: Any, among: Any, k: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """Give the k nearest of some points (m, D) to each of others (n, D), dense or sparse.

    Returns:
        Distances and places (n, k), the nearest first; fewer where there are not k.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(k, among.shape[0])
    found: Any = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among)
    return found.kneighbors(points)


def recall(points: Any, labels: np.ndarray) -> dict[str, float]:  # noqa: ANN401 - dense or sparse
    """Find how often one of the k nearest other examples has the same label (Oh Song et al. 2016).

    Examples whose label no other has are not asked for.

    Args:
        points: (n, D).
        labels: (n,).

    Returns:
        ``recall_at_1`` and ``recall_at_5``; ``nan`` where no two have the same label.
    """
    counts = np.bincount(labels)
    asked = np.flatnonzero(counts[labels] > 1)
    if not len(asked):
        return {f"recall_at_{k}": float("nan") for k in RANKS}
    _, places = nearest(points[asked], points, max(RANKS) + 1)
    own = places == asked[:, None]
    own[~own.any(1), -1] = True  # hidden behind others at the same place
    others = places[~own].reshape(len(asked), -1)
    right = labels[others] == labels[asked, None]
    return {f"recall_at_{k}": float(right[:, :k].any(1).mean()) for k in RANKS}


def raw_features(items: Any) -> Any:  # noqa: ANN401 - texts, signals or pictures -> dense or sparse
    """Give what examples are without a model: pixels; counts of up to 3 characters; stretched signals.

    Each is brought to length 1, but for pictures.
    """
    if isinstance(items, np.ndarray):
        return items.reshape(len(items), -1).astype(np.float32)
    if isinstance(items[0], str):
        from sklearn.feature_extraction.text import HashingVectorizer

        kind: Any = {"analyzer": "char_wb", "ngram_range": (1, 3), "lowercase": False}
        return HashingVectorizer(n_features=1 << 18, alternate_sign=False, **kind).transform(items)
    stretched = np.stack([_stretched(signal) for signal in items])
    return stretched / np.maximum(np.linalg.norm(stretched, axis=1, keepdims=True), 1e-12)


def _stretched(signal: np.ndarray) -> np.ndarray:
    """Stretch a signal (T, ...) to some steps by straight lines, and lay it out flat."""
    channels = signal.reshape(len(signal), -1).T
    places = np.linspace(0, len(signal) - 1, STEPS)
    return np.concatenate([np.interp(places, np.arange(len(signal)), c) for c in channels])


def in_plane(points: Any, how: str) -> np.ndarray:  # noqa: ANN401 - dense or sparse
    """Bring points (n, D) into the plane (n, 2): ``pca``, or ``tsne`` from there."""
    from sklearn.decomposition import PCA, TruncatedSVD

    if points.shape[1] < 2:
        return np.concatenate([points, np.zeros((len(points), 1))], 1)
    if how == "tsne":
        from sklearn.manifold import TSNE

        count = points.shape[0]
        reduced = (
            points
            if points.shape[1] <= 50
            else TruncatedSVD(50, random_state=0).fit_transform(points)
        )
        perplexity = min(30.0, max(1.0, (count - 1) / 3))
        options: Any = {"init": "pca", "perplexity": perplexity, "random_state": 0}
        return TSNE(2, **options).fit_transform(reduced)
    made = (
        PCA(2, random_state=0)
        if isinstance(points, np.ndarray)
        else TruncatedSVD(2, random_state=0)
    )
    return made.fit_transform(points)


def map_picture(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> bytes:
    """Draw examples in the plane (n, 2), as they are raw and as they are embedded, as a PNG.

    Args:
        before: Raw.
        after: Embedded.
        labels: Number of each one's label (n,).
        names: Of the labels.
    """
    from matplotlib import colormaps

    figure = make_figure((11, 5))
    panels = figure.subplots(1, 2)
    there = np.unique(labels)
    colours = colormaps["tab10" if len(there) <= 10 else "tab20"]
    for panel, points, title in zip(panels, (before, after), ("raw", "embedded"), strict=True):
        for number, label in enumerate(there):
            here = labels == label
            x, y = points[here].T
            panel.scatter(x, y, s=6, color=colours(number % 20), label=names[label])
        panel.set_title(title, color=INK)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[["top", "right"]].set_visible(False)
    if len(there) <= 20:
        panels[1].legend(frameon=False, markerscale=2, bbox_to_anchor=(1, 1), loc="upper left")
    return encode(figure)
