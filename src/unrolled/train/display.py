"""What a person, or a program, sees of a run: a live line, plain lines, or lines of JSON."""

import time
from dataclasses import fields
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from unrolled import console
from unrolled.train.callbacks import Callback, Checkpoint, End, Evaluation, Sample, Start, Step
from unrolled.train.summary import amount, block, clock, rate, summary

LIVE_SECONDS = 0.1
"""Between two drawings of the live line: its figures are computed only when drawn."""
PLAIN_SECONDS = 10.0
"""Between two plain lines."""
JSON_SECONDS = 1.0
"""Between two step events of the JSON lines."""


class Clock:
    """Says when it is time again: drawing at every update would slow fast runs down."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether the time is up; if so it starts anew."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class PlainDisplay(Callback):
    """Lines of text, for files and terminals that cannot redraw.

    Args:
        seconds: Between two lines about training.
    """

    def __init__(self, seconds: float = PLAIN_SECONDS) -> None:
        self.console = console.logs()
        self._clock = Clock(seconds)
        self._sample = ""

    def on_start(self, event: Start) -> None:
        """Say what is trained, and on what."""
        self._start = event
        self._say(
            f"{event.settings.task}: {event.settings.architecture}, "
            f"{event.parameters:,} parameters, {event.steps:,} updates of "
            f"{event.units_per_step:,} {event.unit}"
            + (f", on {event.world} processes" if event.world > 1 else "")
            + f" -> {event.directory}",
            style="bold",
        )
        if event.whole:
            self._say(f"steps go through torch: {event.whole}", style="dim")
        if event.step:
            self._say(f"resumed at step {event.step:,}")

    def on_step(self, event: Step) -> None:
        """Write a line now and then."""
        if self._clock.due() or event.step == event.steps:
            self._say(f"step {event.step:,}/{event.steps:,}  {self._figures(event)}")

    def on_evaluate(self, event: Evaluation) -> None:
        """Write the validation figures, the best baseline beside them."""
        said = ", ".join(amount(name, value) for name, value in event.metrics.items())
        line = Text(f"step {event.step:,}  validation: {said}")
        if event.improved:
            line.append("  best so far", style="green")
        self._say(line)

    def on_sample(self, event: Sample) -> None:
        """Write the sample, set off from the figures; the last one waits for the summary."""
        self._sample = event.text
        if event.step == event.steps:
            return
        self._say(f"step {event.step:,}  sample:")
        self.console.print(block(event.text))

    def on_end(self, event: End) -> None:
        """Write the summary, as the result, on standard output."""
        self.close()
        for part in summary(self._start, event, self._sample):
            console.results().print(part, soft_wrap=isinstance(part, str))

    def _figures(self, event: Step) -> str:
        return "  ".join(
            (
                f"loss {event.smoothed_loss:.3f}",
                *(amount(name, value) for name, value in event.figures.items()),
                rate(event.units_per_second, self._start.unit),
                f"{clock(event.seconds_left)} left",
            )
        )

    def _say(self, line: str | Text, style: str | None = None) -> None:
        self.console.print(line, style=style, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """A line that is redrawn in place; evaluations and samples are written above it."""

    def __init__(self, seconds: float = LIVE_SECONDS) -> None:
        super().__init__(seconds)
        self._progress = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            auto_refresh=False,
            expand=True,
        )
        self._line = self._progress.add_task("", visible=False, figures="")

    def on_start(self, event: Start) -> None:
        """Say what is trained, and open the live line."""
        super().on_start(event)
        self._progress.update(self._line, total=event.steps, completed=event.step, visible=True)
        self._progress.start()

    def on_step(self, event: Step) -> None:
        """Redraw the line."""
        if self._clock.due() or event.step == event.steps:
            figures = self._figures(event)
            self._progress.update(self._line, completed=event.step, figures=figures, refresh=True)

    def close(self) -> None:
        """Leave the line as it stands and give the terminal back."""
        self._progress.stop()


class JsonLines(Callback):
    """One JSON object a line on standard output, told apart by their key ``event``.

    The events are ``start``, ``step`` (at most one a second, and the last), ``evaluation``, ``sample``,
    ``checkpoint`` and ``end``; their other keys are the fields of the classes in
    :mod:`unrolled.train.callbacks`.
    """

    def __init__(self, seconds: float = JSON_SECONDS) -> None:
        self._clock = Clock(seconds)

    def on_start(self, event: Start) -> None:
        """Write the settings and what follows from them."""
        self._write(event, settings=event.settings.model_dump(exclude_none=True))

    def on_step(self, event: Step) -> None:
        """Write the figures of an update."""
        if self._clock.due() or event.step == event.steps:
            self._write(event, **event.figures)

    def on_evaluate(self, event: Evaluation) -> None:
        """Write the validation figures."""
        self._write(event)

    def on_sample(self, event: Sample) -> None:
        """Write a sample."""
        self._write(event)

    def on_checkpoint(self, event: Checkpoint) -> None:
        """Write where the checkpoint is."""
        self._write(event)

    def on_end(self, event: End) -> None:
        """Write the results."""
        self._write(event)

    def _write(self, event: Any, **more: Any) -> None:  # noqa: ANN401 - an event
        names = [
            field.name for field in fields(event) if field.name not in ("task", "settings", "model")
        ]
        values = {name: getattr(event, name) for name in names}
        values |= {name: str(value) for name, value in values.items() if name == "directory"}
        console.print_json({"event": type(event).__name__.lower(), **values, **more})
