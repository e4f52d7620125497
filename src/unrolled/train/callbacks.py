"""What a run tells about itself: small frozen events, and the receivers of them.

A display, a log, a picture are each a :class:`Callback`. Under torchrun only rank 0 calls them.
The order is: ``on_start``, then ``on_step`` after every update and, when due, ``on_evaluate``,
``on_sample``, ``on_checkpoint`` of that step, then ``on_end``; ``close`` comes last whatever happens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, slots=True)
class Start:
    """The run is about to make its first update."""

    settings: Settings
    """Complete: nothing the loop needs is ``None``."""
    task: Task = field(repr=False)
    directory: Path
    step: int
    """Updates made already; above 0 when resumed."""
    steps: int
    """Updates to make in all."""
    parameters: int
    """Numbers to learn."""
    unit: str
    """What the task counts, e.g. ``"characters"``."""
    units_per_step: int
    world: int
    """Processes that train together."""
    whole: str | None = None
    """Why a step is made of torch's operations; ``None`` where the core makes it whole."""
    model: "nn.Module | None" = field(default=None, repr=False)
    """What is trained, for those who look inside and leave it as it is."""


@dataclass(frozen=True, slots=True)
class Step:
    """One update is made. Cheap to build: what costs is computed when asked for."""

    step: int
    """Updates made so far, this one included."""
    steps: int
    loss: float
    smoothed_loss: float
    learning_rate: float
    gradient_norm: float | None
    """Before clipping; known only where ``clip_norm`` is set."""
    seconds: float
    """Spent on the run so far, earlier parts of a resumed run included."""
    units_per_second: float
    """Speed of the updates alone; evaluations and samples do not count."""
    seconds_left: float
    """At the present pace, evaluations and samples included."""
    task: Task = field(repr=False)

    @property
    def figures(self) -> dict[str, float]:
        """The smoothed loss in the units people read, e.g. ``{"bits_per_character": 2.1}``."""
        return self.task.progress(self.smoothed_loss)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The validation split was judged."""

    step: int
    steps: int
    metrics: dict[str, float]
    metric: str
    """The name in `metrics` by which the best weights are chosen."""
    improved: bool
    """Whether these are the best weights so far."""
    best: float
    best_step: int
    baselines: Mapping[str, Mapping[str, float]]
    """Name of a baseline -> its metrics on the validation split."""
    seconds: float

    @property
    def value(self) -> float:
        """The figure by which the best weights are chosen."""
        return self.metrics[self.metric]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a person looks at while the model learns."""

    step: int
    steps: int
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint is safely on the disk."""

    step: int
    steps: int
    directory: Path


@dataclass(frozen=True, slots=True)
class End:
    """The run is complete."""

    step: int
    """Updates made; fewer than `steps` after early stopping."""
    steps: int
    directory: Path
    metrics: dict[str, Any]
    """The last line of `metrics.jsonl`: see :func:`unrolled.train.results.final_metrics`."""
    seconds: float


class Callback:
    """Receives the events of a run; every method does nothing until overridden.

    ``on_step`` is called after every update, which may take a tenth of a millisecond: a receiver that
    draws should look at the clock first.
    """

    def on_start(self, event: Start) -> None:
        """Begin."""

    def on_step(self, event: Step) -> None:
        """Note one update."""

    def on_evaluate(self, event: Evaluation) -> None:
        """Note a judgement on the validation split."""

    def on_sample(self, event: Sample) -> None:
        """Show a sample."""

    def on_checkpoint(self, event: Checkpoint) -> None:
        """Note a checkpoint."""

    def on_end(self, event: End) -> None:
        """Note the results of a complete run."""

    def close(self) -> None:
        """Let go of files and terminals; called once, also after an error."""


class TensorBoard(Callback):
    """Writes the curves as TensorBoard event files.

    Args:
        directory: Where to write (default: ``tensorboard`` in the model directory).

    Raises:
        InputError: If the tensorboard package is not installed.
    """

    _writer: "SummaryWriter | None" = None
    _start: Start | None = None

    def __init__(self, directory: Path | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "TensorBoard files need the tensorboard package: pip install 'unrolled[tensorboard]'"
            ) from None
        self._open = SummaryWriter
        self._directory = directory
        self._every = 1
        self._waiting: list[Sample] = []

    def on_start(self, event: Start) -> None:
        """Learn where to write, and when: no file is made before the first step."""
        self._start = event
        self._every = max(1, (event.settings.training.evaluate_every or 1) // 20)

    def on_step(self, event: Step) -> None:
        """Add the training curves, a point every twentieth of the way between evaluations."""
        self._begin()
        if event.step % self._every == 0:
            self._add(
                "training", {"loss": event.loss, "smoothed_loss": event.smoothed_loss}, event.step
            )
            self._add("training", event.figures, event.step)
            self._add("training", {"learning_rate": event.learning_rate}, event.step)

    def on_evaluate(self, event: Evaluation) -> None:
        """Add the validation figures."""
        self._add("validation", event.metrics, event.step)

    def on_sample(self, event: Sample) -> None:
        """Add the sample as text."""
        if self._writer:
            self._writer.add_text("sample", f"```\n{event.text}\n```", event.step)
        else:
            self._waiting.append(event)

    def close(self) -> None:
        """Flush and close the files."""
        if self._writer:
            self._writer.close()

    def _begin(self) -> None:
        """Open the files; what a resumed run repeats replaces what was there."""
        if self._writer or not self._start:
            return
        directory = self._directory or self._start.directory / "tensorboard"
        self._writer = self._open(str(directory), purge_step=self._start.step + 1)
        for sample in self._waiting:
            self.on_sample(sample)

    def _add(self, group: str, figures: Mapping[str, float], step: int) -> None:
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
