"""Pictures and codes drawn as PNG."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#222222"


def rows_of_pictures(rows: Mapping[str, np.ndarray]) -> bytes:
    """Draw pictures (n, C, H, W) from 0 to 1, a row a name, below each other."""
    figure = make_figure((10, 1.1 * len(rows) + 0.2))
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for panel, (name, pictures) in zip(panels, rows.items(), strict=True):
        panel.imshow(side_by_side(pictures), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        panel.set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
    return encode(figure)


def side_by_side(pictures: np.ndarray) -> np.ndarray:
    """Join pictures (n, C, H, W) into one (H, n W) or, in colour, (H, n W, 3)."""
    joined = np.concatenate([*pictures.clip(0, 1)], -1)
    return joined[0] if len(joined) == 1 else joined.transpose(1, 2, 0)


def scatter(codes: np.ndarray, labels: np.ndarray | None) -> bytes:
    """Draw codes (n, K) as points: by their first two principal components, if K is above 2."""
    if codes.shape[1] > 2:
        from sklearn.decomposition import PCA

        codes = PCA(2, random_state=0).fit_transform(codes)
    x, y = codes.T if codes.shape[1] == 2 else (codes[:, 0], np.zeros(len(codes)))
    figure = make_figure((6, 5.5))
    panel = figure.subplots()
    if labels is None:
        panel.scatter(x, y, s=6, color=INK)
    else:
        from matplotlib import colormaps

        for number, label in enumerate(names := np.unique(labels)):
            here = labels == label
            colour = colormaps["tab10" if len(names) <= 10 else "tab20"](number % 20)
            panel.scatter(x[here], y[here], s=6, color=colour, label=str(label))
        if len(names) <= 20:
            panel.legend(frameon=False, markerscale=2, bbox_to_anchor=(1, 1), loc="upper left")
    panel.set_title("codes", color=INK)
    panel.spines[["top", "right"]].set_visible(False)
    return encode(figure)


def alignments(rows: Sequence[tuple[Sequence[str], Sequence[str], np.ndarray]]) -> bytes:
    """Draw what was looked at, weights (S, T): symbols read from left to right, written from top down."""
    sides = [max(2.0, 0.22 * len(written) + 0.9) for _, written, _ in rows]
    widest = max(len(read) for read, _, _ in rows)
    figure = make_figure((max(4.0, 0.24 * widest + 1.8), sum(sides)))
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=sides)[:, 0]
    for panel, (read, written, weights) in zip(panels, rows, strict=True):
        panel.imshow(weights, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        panel.set_xticks(range(len(read)), map(_label, read), rotation=90, color=INK)
        panel.set_yticks(range(len(written)), map(_label, written), color=INK)
        panel.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
        panel.set_anchor("W")
    return encode(figure)


def maps(rows: Sequence[tuple[np.ndarray, Sequence[str], np.ndarray]]) -> bytes:
    """Draw pictures (C, H, W) from 0 to 1, and where each was looked at for each symbol, (S, h, w)."""
    widest = 1 + max(len(symbols) for _, symbols, _ in rows)
    figure = make_figure((1.1 * widest, 1.4 * len(rows)))
    panels = figure.subplots(len(rows), widest, squeeze=False)
    for line, (picture, symbols, weights) in zip(panels, rows, strict=True):
        extent = (0, picture.shape[2], picture.shape[1], 0)
        for panel, symbol, seen in zip(line, ("", *symbols), (None, *weights), strict=False):
            panel.imshow(side_by_side(picture[None]), cmap="gray_r", vmin=0, vmax=1, extent=extent)
            if seen is not None:
                panel.imshow(seen, cmap="Reds", alpha=0.6, extent=extent, interpolation="bilinear")
                panel.set_title(_label(symbol), color=INK, fontsize=9)
        for panel in line:
            panel.axis("off")
    return encode(figure)


def _label(symbol: str) -> str:
    """Write a symbol where matplotlib would read a formula or nothing."""
    shown = symbol if len(symbol) == 1 else symbol.strip()
    return (shown.replace(" ", "␣") or "␣").replace("$", r"\$")


def make_figure(size: tuple[float, float]) -> "Figure":
    """Make one without global state or a window, whatever the user's matplotlib is set to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encode(figure: "Figure") -> bytes:
    """Give a figure as the content of a file; what the font lacks is drawn as a box."""
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(image, format="png", dpi=100)
    return image.getvalue()
