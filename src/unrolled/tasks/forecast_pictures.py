"""Truth and forecast in one picture: a curve, dots on a diagonal, frames, or a piano roll."""

import io
from typing import TYPE_CHECKING

import numpy as np

from unrolled.data.sequences import Sequences, Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, BLUE, ORANGE = "#222222", "#1f6fb4", "#d9590b"
STEPS = 300
"""Steps of a series that are drawn."""


def picture(source: Source, batch: Sequences, told: np.ndarray) -> bytes:
    """Draw the forecasts of a batch as a PNG.

    Args:
        source: What the numbers are.
        batch: The truth.
        told: Forecasts, shaped as the batch's y; probabilities if binary.
    """
    # The object interface: no global state, no window, whatever the user's matplotlib is set to.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    if source.grid:
        shown = np.linspace(0, len(told) - 1, min(5, len(told))).astype(int)
        panels = figure.subplots(2, len(shown), squeeze=False)
        for row, (name, films) in enumerate((("truth", batch.y), ("forecast", told))):
            for column, t in enumerate(shown):
                _image(panels[row, column], films[t, 0, 0], f"{name}, frame {t + 2}")
    elif source.binary:
        panels = figure.subplots(2, 1)
        steps = batch.lengths[0]
        for panel, (name, roll) in zip(
            panels, (("truth", batch.y), ("probability", told)), strict=True
        ):
            _image(panel, roll[:steps, 0].T[::-1], name)
    else:
        panel = figure.subplots()
        _curves(panel, source, batch, told)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _image(panel: "Axes", pixels: np.ndarray, title: str) -> None:
    panel.imshow(pixels, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    panel.set_title(title, fontsize=9, color=INK)
    panel.set_xticks([])
    panel.set_yticks([])


def _curves(panel: "Axes", source: Source, batch: Sequences, told: np.ndarray) -> None:
    """The first column of the first row against time; a number a row against the truth."""
    truth, forecast = batch.y[batch.judged][:, 0], told[batch.judged][:, 0]
    if batch.x.shape[1] > 1:
        panel.scatter(truth, forecast, s=8, color=BLUE, label="forecast")
        panel.axline((float(truth.mean()), float(truth.mean())), slope=1, color=INK, linewidth=0.8)
        panel.set_xlabel("truth", color=INK)
        return
    steps = np.flatnonzero(batch.judged[:, 0])[:STEPS]
    panel.plot(steps, truth[:STEPS], color=INK, label="truth")
    panel.plot(steps, forecast[:STEPS], color=ORANGE, linewidth=1, label="forecast")
    panel.set_xlabel("step", color=INK)
