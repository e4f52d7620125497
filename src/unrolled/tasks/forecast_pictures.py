"""Truth and forecast in one picture: curves with intervals, dots on a diagonal, frames, or a piano roll."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.data.sequences import Sequences, Source
from unrolled.data.series import Series
from unrolled.tasks.drawing import INK, encode, make_figure
from unrolled.tasks.forecast_heads import Told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE = "#1f6fb4", "#d9590b"
STEPS = 300
"""Steps of a series that are drawn."""
BEFORE = 60
"""Steps that are drawn before the first forecast."""


def picture(source: Source, batch: Sequences, told: Told) -> bytes:
    """Draw the forecasts of a batch as a PNG.

    Args:
        source: What the numbers are.
        batch: The truth.
        told: Forecasts, shaped as the batch's y.
    """
    figure = make_figure((8, 4.5))
    if source.grid:
        shown = np.linspace(0, len(told.point) - 1, min(5, len(told.point))).astype(int)
        panels = figure.subplots(2, len(shown), squeeze=False)
        for row, (name, films) in enumerate((("truth", batch.y), ("forecast", told.point))):
            for column, t in enumerate(shown):
                _image(panels[row, column], films[t, 0, 0], f"{name}, frame {t + 2}")
    elif source.binary and not isinstance(source, Series):
        panels = figure.subplots(2, 1)
        steps = batch.lengths[0]
        for panel, (name, roll) in zip(
            panels, (("truth", batch.y), ("probability", told.point)), strict=True
        ):
            _image(panel, roll[:steps, 0].T[::-1], name)
    else:
        panel = figure.subplots()
        if isinstance(source, Series):
            _curves(panel, source, batch, told)
        else:
            _dots(panel, batch.y[batch.judged][:, 0], told.point[batch.judged][:, 0])
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    return encode(figure)


def by_step(errors: Mapping[str, np.ndarray]) -> bytes:
    """Draw the mean square error at each step ahead (H,), a curve a name."""
    figure = make_figure((8, 4.5))
    panel = figure.subplots()
    for name, error in errors.items():
        wide = 2 if name == "this model" else 1
        panel.plot(
            np.arange(1, len(error) + 1), error, label=name.replace("_", " "), linewidth=wide
        )
    panel.set_xlabel("steps ahead", color=INK)
    panel.set_ylabel("mean square error, scaled", color=INK)
    most = max(errors[name].max() for name in ("this model", "persistence"))
    panel.set_ylim(0, 1.5 * most)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    return encode(figure)


def _image(panel: "Axes", pixels: np.ndarray, title: str) -> None:
    panel.imshow(pixels, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    panel.set_title(title, fontsize=9, color=INK)
    panel.set_xticks([])
    panel.set_yticks([])


def _dots(panel: "Axes", truth: np.ndarray, forecast: np.ndarray) -> None:
    """Draw a number a row against the truth."""
    panel.scatter(truth, forecast, s=8, color=BLUE, label="forecast")
    panel.axline((float(truth.mean()), float(truth.mean())), slope=1, color=INK, linewidth=0.8)
    panel.set_xlabel("truth", color=INK)


def _curves(panel: "Axes", source: Series, batch: Sequences, told: Told) -> None:
    """Draw the first column that is forecast, forecasts made one after the other, and intervals."""
    column, ahead = source.targets[0], source.horizon
    starts: list[int] = []
    for step in np.flatnonzero(batch.judged[:, 0]).tolist():
        if not starts or starts[-1] + ahead <= step < starts[0] + STEPS:
            starts.append(step)

    def units(values: np.ndarray) -> np.ndarray:
        return values if source.binary else values * source.scale[0] + source.mean[column]

    def line(values: np.ndarray) -> np.ndarray:
        """Lay forecasts (n, H) end to end, with gaps between those of several steps."""
        return np.pad(
            values.astype(float), ((0, 0), (0, ahead > 1)), constant_values=np.nan
        ).ravel()

    def forecasts(told: np.ndarray) -> np.ndarray:
        return line(units(told[starts, 0, 0]))

    steps = line(np.array(starts)[:, None] + np.arange(1, ahead + 1))
    if source.binary:
        panel.scatter(steps, forecasts(batch.y), s=8, color=INK, label="truth")
    else:
        first, last = max(0, starts[0] - BEFORE), starts[-1]
        series = np.concatenate([batch.x[first : last + 1, 0, column], batch.y[last, 0, 0]])
        panel.plot(np.arange(first, first + len(series)), units(series), color=INK, label="truth")
    if told.low is not None and told.high is not None:
        shade: dict[str, Any] = {"color": ORANGE, "alpha": 0.25, "linewidth": 0}
        sides = forecasts(told.low), forecasts(told.high)
        panel.fill_between(steps, *sides, label="interval", **shade)
    name = "probability of a rise" if source.binary else "forecast"
    panel.plot(steps, forecasts(told.point), color=ORANGE, linewidth=1.5, label=name)
    panel.set_xlabel("step", color=INK)
    panel.set_ylabel(source.columns[column], color=INK)
