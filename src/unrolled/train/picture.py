"""The loss picture: training and validation curves, the baselines as lines."""

import io
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unrolled.checkpoint import files
from unrolled.checkpoint.directory import PICTURE
from unrolled.train.callbacks import Callback, End, Evaluation, Start
from unrolled.train.log import Log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECONDS = 10.0
"""Between two drawings while the run goes on; one takes about a quarter of a second."""

INK, BLUE, ORANGE, GREY = "#222222", "#1f6fb4", "#d9590b", "#8a8a8a"


class Picture(Callback):
    """Keeps `loss.png` up to date.

    Args:
        log: Where the figures are.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._drawn = -SECONDS

    def on_start(self, event: Start) -> None:
        """Learn what to draw."""
        self._path = event.directory / PICTURE
        self._headline = event.task.headline
        self._better = event.task.criterion.better

    def on_evaluate(self, event: Evaluation) -> None:
        """Draw, unless it was just done."""
        if time.monotonic() - self._drawn >= SECONDS:
            self.draw()

    def on_end(self, event: End) -> None:
        """Draw the whole run."""
        self.draw()

    def draw(self) -> None:
        """Write the picture.

        Raises:
            RunError: If the disk is full or read-only.
        """
        image = curves(self._log.history, self._headline, self._better)
        files.write(self._path, image, durable=False)
        self._drawn = time.monotonic()


def curves(history: list[dict[str, Any]], headline: str, better: str) -> bytes:
    """Draw the lines of `metrics.jsonl` as a PNG.

    Args:
        history: The lines.
        headline: The metric people read. Where the training loss has no such unit (an accuracy), the
            loss gets a panel of its own.
        better: Whether "lower" or "higher" figures are better: it tells which baseline is the best.
    """
    # The object interface: no global state, no window, whatever the user's matplotlib is set to.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    training = [line for line in history if line["event"] == "train"]
    validation = [line for line in history if line["event"] == "validation"]
    baselines = next((li["baselines"] for li in history if li["event"] == "baselines"), {})
    shared = not validation or all(headline in line for line in training)
    unit = headline if all(headline in line for line in training) else "smoothed_loss"
    figure = Figure(figsize=(8, 4.5 if shared else 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1 if shared else 2, 1, squeeze=False)[:, 0]
    _curve(panels[0], training, unit, "training (smoothed)", BLUE)
    _curve(panels[-1], validation, headline, "validation", ORANGE)
    _baselines(panels[-1], baselines, headline, better)
    for panel, name in zip(panels, (unit, headline), strict=False):
        panel.set_ylabel(name.replace("_", " "), color=INK)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color=GREY, alpha=0.2)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False)
    panels[-1].set_xlabel("step", color=INK)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _curve(axes: "Axes", lines: list[dict[str, Any]], key: str, label: str, color: str) -> None:
    if lines:
        marker = "o" if label == "validation" else ""
        steps, values = [line["step"] for line in lines], [line[key] for line in lines]
        axes.plot(steps, values, color=color, label=label, marker=marker, markersize=4)


def _baselines(
    axes: "Axes", baselines: Mapping[str, Mapping[str, float]], headline: str, better: str
) -> None:
    """Draw all baselines faintly, the best one dashed and with its name."""
    values = {name: figures[headline] for name, figures in baselines.items() if headline in figures}
    if not values:
        return
    best = (min if better == "lower" else max)(values, key=lambda name: values[name])
    for name, value in values.items():
        if name != best:
            axes.axhline(value, color=GREY, linewidth=0.6, alpha=0.5)
    axes.axhline(values[best], color=INK, linestyle="--", linewidth=1, label=f"baseline: {best}")
