"""Many small pictures in one, as PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unrolled.tasks.drawing import INK, encode, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scaled(pictures: np.ndarray, *, signed: bool) -> np.ndarray:
    """Stretch each of (n, ...) to 0 to 1: from its smallest to its largest number, or, with its sign, so
    that 0 is in the middle.
    """
    flat = pictures.reshape(len(pictures), -1)
    shape = (-1, *[1] * (pictures.ndim - 1))
    if signed:
        top = np.abs(flat).max(1, initial=0).reshape(shape)
        return 0.5 + 0.5 * pictures / np.where(top > 0, top, 1)
    low, high = flat.min(1).reshape(shape), flat.max(1).reshape(shape)
    return (pictures - low) / np.where(high > low, high - low, 1)


def mosaic(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Lay pictures (n, C, H, W) out in rows with a line between them: (height, width) or (..., 3)."""
    n, channels, height, width = pictures.shape
    rows = -(-n // columns)
    blank = np.nan if channels == 1 else 1.0  # drawn as white either way
    sheet = np.full((channels, rows * (height + 1) - 1, columns * (width + 1) - 1), blank)
    for place, picture in enumerate(pictures):
        top, left = (place // columns) * (height + 1), (place % columns) * (width + 1)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet[0] if channels == 1 else sheet[:3].transpose(1, 2, 0)


@dataclass(frozen=True)
class Part:
    """A mosaic with a title."""

    title: str
    pictures: np.ndarray
    """(n, C, H, W), from 0 to 1."""
    colours: str = "gray"
    """matplotlib's name for those of pictures with one channel."""


def sheet(parts: Sequence[Part], columns: int) -> bytes:
    """Draw mosaics of so many columns below each other."""
    laid = [mosaic(part.pictures.clip(0, 1), columns) for part in parts]
    heights = [max(0.3, 8 * each.shape[0] / each.shape[1]) for each in laid]
    figure = make_figure((8, sum(heights) + 0.35 * len(laid)))
    panels = figure.subplots(len(laid), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, part, each in zip(panels, parts, laid, strict=True):
        panel.imshow(each, cmap=part.colours, vmin=0, vmax=1, interpolation="nearest")
        panel.set_title(part.title, fontsize=9, color=INK, loc="left")
        bare(panel)
    return encode(figure)


def matrix(values: np.ndarray, title: str) -> bytes:
    """Draw a table of numbers from -1 to 1."""
    figure = make_figure((5, 4.4))
    panel = figure.subplots()
    image = panel.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    figure.colorbar(image)
    panel.set_title(title, fontsize=9, color=INK, loc="left")
    return encode(figure)


def bare(panel: "Axes") -> None:
    """Take ticks and frame away."""
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
