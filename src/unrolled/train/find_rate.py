"""How the loss goes as the learning rate rises: the range test of Smith 2017."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled.checkpoint import files
from unrolled.errors import InputError
from unrolled.layers.stack import part_streams
from unrolled.settings import Settings
from unrolled.tasks.task import Carry, Task, task_class
from unrolled.train import plan
from unrolled.train.distributed import Group
from unrolled.train.gradients import Gradients
from unrolled.train.optimisers import clip, make_optimizer

SMOOTHING = 0.9
"""Weight of the past in the smoothed loss, which is divided by what it has seen."""
STEPS = 100
PICTURE = "learning-rate.png"


@dataclass(frozen=True)
class RateRange:
    """What the test found."""

    rates: list[float]
    losses: list[float]
    """Of each update, before it."""
    smoothed: list[float]
    best: float
    """The rate at which the smoothed loss was least."""
    diverged: float | None
    """The rate at which it blew up, if it did."""

    @property
    def suggested(self) -> float:
        """A tenth of the best rate: the loss still falls there, far enough from where it turns."""
        return self.best / 10

    def figures(self) -> dict[str, Any]:
        """Give all as plain values."""
        return {
            "suggested": self.suggested,
            "best": self.best,
            "diverged": self.diverged,
            "rates": self.rates,
            "losses": self.losses,
            "smoothed": self.smoothed,
        }

    def picture(self) -> bytes:
        """Draw the loss over the rate, as PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(
            xscale="log", xlabel="learning rate", ylabel="training loss", title="Rate finder"
        )
        axes.plot(self.rates, self.losses, color="#8a8a8a", alpha=0.5, label="of each update")
        axes.plot(self.rates, self.smoothed, color="#1f6fb4", label="smoothed")
        label = f"suggested: {self.suggested:.2g}"
        axes.axvline(self.suggested, color="#d9590b", linestyle="--", label=label)
        low, high = min(self.smoothed), max(self.smoothed[0], min(self.smoothed))
        axes.set_ylim(low - 0.1 * (high - low or 1), high + 0.5 * (high - low or 1))
        axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
        return buffer.getvalue()


def find_rate(
    task: str | Path | Settings,
    *source: str,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = STEPS,
    picture: str | Path | None = None,
    **flags: Any,  # noqa: ANN401 - any field of the settings
) -> RateRange:
    """Raise the learning rate from update to update, and see where the loss falls and where it blows up.

    (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.) The model starts
    from its seed, and is thrown away.

    Args:
        task: As for :func:`unrolled.train`.
        source: As there.
        lowest: First rate.
        highest: Last rate; those between are in geometric progression.
        steps: Updates; fewer where the loss blows up before.
        picture: Where to write the curve, a PNG.
        flags: Any field of the settings; ``lr`` does not count.

    Raises:
        InputError: If a setting or the data cannot be used, or the optimiser follows no rate.
        RunError: If the curve cannot be written.
    """
    if not 0 < lowest < highest:
        raise InputError(f"rates must rise from above 0: {lowest} to {highest} do not")
    if steps < 2:
        raise InputError(f"a rate finder needs at least 2 steps, not {steps}")
    settings = plan.new_run(plan.asked(task, source, {**flags, "steps": steps, "epochs": None}))
    prepared = task_class(settings.task).prepare(settings)
    if settings.training.optimizer == "hessian-free" or prepared.closed_form:
        raise InputError("there is no learning rate to find: nothing follows the gradient by one")
    ratio = (highest / lowest) ** (1 / (steps - 1))
    found = search(prepared, settings, [lowest * ratio**step for step in range(steps)])
    if picture is not None:
        files.folder(Path(picture).parent)
        files.write(Path(picture), found.picture(), durable=False)
    return found


def search(task: Task, settings: Settings, rates: list[float]) -> RateRange:
    """Make an update at each rate with a new model of a task, until the loss blows up.

    Raises:
        InputError: If it does so at once.
    """
    training, group = settings.training, Group()
    device = group.device(training.device)
    torch.manual_seed(training.seed)
    model = task.build().to(device)
    part_streams(model)
    parameters = list(model.parameters())
    optimizer = make_optimizer(parameters, training)
    gradients = Gradients(task, model, training, group.rows(training.batch_size))
    carry: Carry = {}
    model.train()
    past, losses, smoothed, diverged = 0.0, [], [], None
    for step, rate in enumerate(rates):
        loss, carry = gradients.compute(step, carry)
        past = SMOOTHING * past + (1 - SMOOTHING) * loss
        mean = past / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(mean) or (smoothed and blown_up(mean, smoothed)):
            diverged = rate
            break
        losses.append(loss)
        smoothed.append(mean)
        clip(parameters, training.clip_norm or None, training.clip_value, training.clip_each)
        for options in optimizer.param_groups:
            options["lr"] = rate
        optimizer.step()
        task.constrain(model)
    if not smoothed:
        raise InputError("the loss is no number before the first update: look at the data")
    best = min(range(len(smoothed)), key=smoothed.__getitem__)
    return RateRange(rates[: len(losses)], losses, smoothed, rates[best], diverged)


def blown_up(mean: float, smoothed: list[float]) -> bool:
    """Whether the loss rose so far above its start that higher rates can tell nothing more."""
    first, least = smoothed[0], min(smoothed)
    return mean > first + max(abs(first), first - least)


def summary(found: RateRange) -> Mapping[str, str]:
    """Say what was found: name -> rate, for people."""
    told = {"suggested": f"{found.suggested:.2g}", "least loss at": f"{found.best:.2g}"}
    return told | {
        "blows up at": "no rate tried" if found.diverged is None else f"{found.diverged:.2g}"
    }
