"""What a classifier takes for what, and whether its probabilities hold, drawn as PNG."""

from collections.abc import Sequence

import numpy as np

from unrolled.tasks.drawing import INK, encode, make_figure
from unrolled.tasks.judging import calibration_error, reliability

WRITTEN = 20
"""With more labels, the numbers of a confusion table are left out."""
BLUE = "#1f6fb4"


def confusion_picture(
    labels: Sequence[str],
    truth: np.ndarray,
    predicted: np.ndarray,
    often: np.ndarray | None = None,
) -> bytes:
    """Draw how many examples of each label (a row) were given each (a column), shaded by their share.

    Args:
        labels: Names (C,).
        truth: Number of each label (n,).
        predicted: What each was taken for (n,).
        often: How often each came so (n,); once if left out.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(truth, predicted, labels=range(len(labels)), sample_weight=often)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.5, min(12.0, 1.8 + 0.38 * len(labels)))
    figure = make_figure((side + 0.6, side))
    panel = figure.subplots()
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [label if len(label) <= 16 else f"{label[:15]}…" for label in labels]
    panel.set_xticks(range(len(labels)), names, rotation=90, color=INK, fontsize=8)
    panel.set_yticks(range(len(labels)), names, color=INK, fontsize=8)
    panel.set_xlabel("label given", color=INK)
    panel.set_ylabel("true label", color=INK)
    if len(labels) <= WRITTEN:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else INK
            if count:
                panel.text(column, row, str(count), ha="center", va="center", fontsize=7, c=colour)
    return encode(figure)


def reliability_picture(truth: np.ndarray, probabilities: np.ndarray) -> bytes:
    """Draw how often labels are right against how sure the model is of them."""
    confidence, share, count = reliability(truth, probabilities)
    figure = make_figure((4.5, 4.5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    there = count > 0
    above.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    above.plot(confidence[there], share[there], color=BLUE, marker="o", markersize=4)
    error = calibration_error(truth, probabilities)
    above.set_title(f"calibration error {error:.3f}", color=INK, fontsize=10)
    above.set_ylabel("share that is right", color=INK)
    above.set_ylim(-0.02, 1.02)
    edges = (np.arange(len(count)) + 0.5) / len(count)
    below.bar(edges, count, width=0.8 / len(count), color=BLUE)
    below.set_ylabel("examples", color=INK)
    below.set_xlabel("probability of the label given", color=INK)
    for panel in (above, below):
        panel.spines[["top", "right"]].set_visible(False)
    return encode(figure)
