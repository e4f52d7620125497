"""`metrics.jsonl`: one JSON object a line, cut back to the last checkpoint when a run is resumed.

Every line has `event`, `step` and `seconds` (spent on the run so far; the only figure that depends on
the clock). The events:

- `train`: `loss`, `smoothed_loss`, the task's figures of the smoothed loss, `learning_rate`, and
  `gradient_norm` where known.
- `validation`: the task's metrics, and whether they are the best so far (`improved`).
- `baselines`: `baselines`, name -> metrics, on the validation split.
- `sample`: `text`.
- `end`: the results, see :func:`unrolled.train.results.final_metrics`.
"""

import contextlib
import os
from typing import Any, BinaryIO

from unrolled.checkpoint import files
from unrolled.checkpoint.directory import METRICS, ModelDirectory
from unrolled.errors import InputError
from unrolled.train.callbacks import Callback, End, Evaluation, Sample, Start, Step

TRAIN_LINES = 20
"""Lines of training figures between two evaluations."""


class Log(Callback):
    """Writes `metrics.jsonl` and keeps what it wrote; before :meth:`open` the file is left alone.

    Args:
        directory: The model directory.
        lines: Lines that belong to the checkpoint the run goes on from; what follows them is cut off.

    Raises:
        InputError: If the file has fewer lines.
    """

    def __init__(self, directory: ModelDirectory, lines: int) -> None:
        self.path = directory.path / METRICS
        self.history: list[dict[str, Any]] = directory.metrics()[:lines] if lines else []
        if len(self.history) < lines:
            raise InputError(
                f"{self.path} has {len(self.history)} lines, fewer than the {lines} of the checkpoint; "
                "the file was changed"
            )
        self._lines = lines
        self._file: BinaryIO | None = None
        self._waiting = b""
        self._every = 1

    def open(self) -> None:
        """Cut the file back, and write what was noted so far.

        Raises:
            RunError: If the disk is full or read-only.
        """
        try:
            self._file = self.path.open("ab")
            kept = files.read(self.path).split(b"\n")[: self._lines]
            self._file.truncate(sum(len(line) + 1 for line in kept))
            self._file.write(self._waiting)
        except OSError as error:
            raise files.failure(self.path, error) from None

    @property
    def seconds(self) -> float:
        """Spent on the run when the last line was written."""
        return self.history[-1]["seconds"] if self.history else 0.0

    def baselines(self) -> dict[str, dict[str, float]] | None:
        """Find the baselines' figures on the validation split, if they were noted."""
        found = (line["baselines"] for line in self.history if line["event"] == "baselines")
        return next(found, None)

    def write(self, event: str, step: int, seconds: float, **figures: Any) -> None:  # noqa: ANN401
        """Add a line.

        Raises:
            RunError: If the disk is full or read-only.
        """
        line = {"event": event, "step": step, **figures, "seconds": round(seconds, 3)}
        self.history.append(line)
        content = files.to_json(line).encode() + b"\n"
        if self._file is None:
            self._waiting += content
            return
        try:
            self._file.write(content)
        except OSError as error:
            raise files.failure(self.path, error) from None

    def sync(self) -> int:
        """Put all lines safely on the disk; give their number.

        Raises:
            RunError: If the disk is full or read-only.
        """
        if self._file is None:
            self.open()
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise files.failure(self.path, error) from None
        return len(self.history)

    def on_start(self, event: Start) -> None:
        """Learn how often to note training figures."""
        self._every = max(1, (event.settings.training.evaluate_every or 1) // TRAIN_LINES)

    def on_step(self, event: Step) -> None:
        """Note the training figures, now and then."""
        if event.step % self._every == 0:
            figures = {
                "loss": event.loss,
                "smoothed_loss": event.smoothed_loss,
                **event.figures,
                "learning_rate": event.learning_rate,
            }
            if event.gradient_norm is not None:
                figures["gradient_norm"] = event.gradient_norm
            self.write("train", event.step, event.seconds, **figures)

    def on_evaluate(self, event: Evaluation) -> None:
        """Note the validation figures, before the first of them the baselines'."""
        if self.baselines() is None:
            self.write("baselines", event.step, event.seconds, baselines=dict(event.baselines))
        self.write(
            "validation", event.step, event.seconds, improved=event.improved, **event.metrics
        )

    def on_sample(self, event: Sample) -> None:
        """Note the sample."""
        self.write("sample", event.step, event.seconds, text=event.text)

    def on_end(self, event: End) -> None:
        """Note the results."""
        figures = {k: v for k, v in event.metrics.items() if k not in ("step", "seconds")}
        self.write("end", event.step, event.seconds, **figures)
        self.sync()

    def close(self) -> None:
        """Close the file; lines since the last checkpoint may be lost."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
