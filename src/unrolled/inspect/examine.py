"""The doctor for a model: why it does not learn, with evidence."""

import math

import numpy as np
from torch import nn

from unrolled.checkpoint.load import no_numbers
from unrolled.inspect import symptoms
from unrolled.inspect.cells import cells_of, explain
from unrolled.inspect.diagnosis import Diagnosis, Finding, again
from unrolled.inspect.speed import about_speed
from unrolled.inspect.trials import (
    Descent,
    descend,
    overfit,
    untouched,
    with_settings,
)
from unrolled.tasks.task import Task
from unrolled.train.find_rate import search

STEPS = 200
"""Of a trial training."""
FEW = (2, 8, 32)
LEARNED, STUCK = 0.1, 0.9
"""Shares of the loss at the start: below the one a thing is learned, above the other it is not."""
RATES = (1e-6, 10.0, 80)
"""Lowest and highest learning rate tried, and how many."""
PERFECT = {"bleu": 100.0}
"""The most that a metric can be, where it is not 1."""
MANY = 10_000
"""Weights for each training example that are too many."""


def examine(task: Task, model: nn.Module | None = None, *, steps: int = STEPS) -> Diagnosis:
    """Find out what is wrong with a task and its model, by looking and by short trainings.

    Nothing is changed: every training begins with a new model of the settings' seed.

    Args:
        task: Prepared, so that it has data; its settings are those of the run.
        model: A trained model of it, if there is one, whose units are looked at too.
        steps: Most updates of a trial training.

    Returns:
        What was measured and what is wrong; without findings all is well.
    """
    with untouched():
        return _Examination(task, model, steps).diagnosis


class _Examination:
    def __init__(self, task: Task, model: nn.Module | None, steps: int) -> None:
        self.task, self.steps = task, steps
        self.training = task.settings.training
        self.diagnosis = Diagnosis()
        self._look(model)
        if task.closed_form:
            self.fact("training", "in closed form, so there is nothing to try")
        elif not self._found("batch norm of one row"):
            self._try()

    def fact(self, name: str, value: str) -> None:
        self.diagnosis.facts[name] = value

    def find(self, name: str, evidence: str, cause: str, command: str) -> None:
        self.diagnosis.findings.append(Finding(name, evidence, cause, command))

    def _found(self, *names: str) -> bool:
        return not set(names).isdisjoint(self.diagnosis.names)

    def _look(self, model: nn.Module | None) -> None:
        """See what can be seen without training."""
        task, rows = self.task, slice(0, self.training.batch_size)
        fresh = task.build().eval()
        found = self.diagnosis.findings
        weights = sum(w.numel() for w in fresh.parameters() if w.requires_grad)
        examples = task.steps_per_epoch * self.training.batch_size
        self.fact("weights", f"{weights:,}, {weights / max(examples, 1):.3g} for each example")
        if weights > MANY * examples:
            self.find(
                "more weights than data",
                f"{weights:,} weights and {examples:,} examples",
                "the model can learn the examples by heart",
                again(task, dropout=0.5),
            )
        batch = task.batch(0, rows)
        inputs, self.start = symptoms.inputs_of(task, fresh, batch)
        self.fact("loss at start", f"{self.start:.4g}, knowing nothing {task.initial_loss:.4g}")
        found.extend(symptoms.about_data(task))
        found.extend(symptoms.about_inputs(inputs, task))
        found.extend(symptoms.about_leaks(inputs, batch, task))
        found.extend(symptoms.about_batch_norm(task, fresh))
        found.extend(symptoms.about_states(task, fresh))
        listener = symptoms.units(task, fresh, batch)
        dead = max(listener.dead, default=0.0)
        saturated = max(listener.saturated, default=0.0)
        self.fact("units at start", f"{dead:.0%} dead, {saturated:.0%} of values saturated")
        found.extend(symptoms.about_units(listener, "at the start", task))
        broken = "" if model is None else no_numbers(model)
        if broken:
            self.find(
                "weights are no numbers",
                broken,
                "a run that diverged, or a file that is damaged",
                again(task, lr=(self.training.lr or 1e-3) / 10),
            )
        if model is not None and not broken:
            found.extend(symptoms.about_units(symptoms.units(task, model, batch), "trained", task))
        known = task.initial_loss
        if known > 0 and self.start > 2 * known + 0.1 and not self._found("inputs unscaled"):
            self.find(
                "too large a start",
                f"the loss begins at {self.start:.4g}; knowing nothing gives {known:.4g}",
                "weights begin too large, so that the model is sure of what it cannot know",
                again(task, initial_scale=0.05),
            )
        self.ran = None
        if cells_of(fresh):
            ran = self.ran = explain(fresh)
            self.fact("engine", ran.engine + (f": {ran.reason}" if ran.reason else ""))
        told, wrong = symptoms.gradient_check(task, fresh)
        self.fact("gradient error", told)
        # Differences say nothing where steps cross bends, or where a call changes the next.
        if wrong and not self._found("inputs unscaled", "state not reset"):
            found.append(wrong)

    def _try(self) -> None:
        """Train for a while, and see what comes of it."""
        few = {count: overfit(self.task, count) for count in FEW}
        told = ", ".join(f"{count}: {_ratio(one):.2g}" for count, one in few.items())
        self.fact("few examples learned", f"to this share of the loss at the start: {told}")
        trial = descend(self.task, self.steps)
        self._times()
        share = trial.end / abs(trial.losses[0]) if trial.losses[0] else 1.0
        self.fact("trial", f"{len(trial.losses)} steps: {trial.losses[0]:.4g} -> {trial.end:.4g}")
        if self._found("wrong gradient"):
            return
        if self._rate(trial) or self._capacity(few):
            return
        if not self._found("inputs unscaled", "state not reset", "target leak"):
            self._metric(trial, share, few)

    def _rate(self, trial: Descent) -> bool:
        """Compare the rate with the one that a range of rates asks for."""
        own = self.training.lr or 0.0
        if self.training.optimizer == "hessian-free":
            return False
        tried = search(self.task, self.task.settings, np.geomspace(*RATES).tolist())
        best = tried.suggested
        self.fact("learning rate", f"{own:g}; a range of rates asks for {best:.2g}")
        overshoots = trial.diverged or max(trial.losses) > 1.5 * abs(trial.losses[0])
        stuck = trial.end > STUCK * abs(trial.losses[0])
        if own == 0 or 1 / 5 < best / own < 5 or not (overshoots if best < own else stuck):
            return False
        other = descend(self.task, len(trial.losses), scaled=best / own)
        if other.diverged or (not trial.diverged and other.end > 0.5 * trial.end):
            return False
        self.find(
            "rate too high" if best < own else "rate too low",
            f"at {own:g} the loss ends at {trial.end:.4g}, at {best:.2g} at {other.end:.4g} after "
            f"{len(other.losses)} steps",
            "steps overshoot; the gradient itself is right by differences"
            if best < own
            else "each step goes next to nowhere",
            again(self.task, lr=float(f"{best:.1g}")),
        )
        return True

    def _capacity(self, few: dict[int, Descent]) -> bool:
        """Tell a model that is too small from one that cannot learn at all."""
        count = max(few)
        if _ratio(few[count]) < 0.5:
            return False
        hidden = self.task.settings.model.hidden
        wide = with_settings(self.task, hidden=max(4 * hidden, 64))
        if hidden < 256 and _size(wide) > _size(self.task):
            other = overfit(wide, count)
            if _ratio(other) < 0.5 * _ratio(few[count]):
                self.find(
                    "too small",
                    f"{count} examples are learned to {_ratio(few[count]):.2g} of the loss at the "
                    f"start; with --hidden {wide.settings.model.hidden} to {_ratio(other):.2g}",
                    "too few weights for what is to be told apart",
                    again(self.task, hidden=wide.settings.model.hidden),
                )
                return True
        if _ratio(few[2]) > STUCK:
            self.find(
                "cannot learn two examples",
                f"after {len(few[2].losses)} steps on two examples the loss is {few[2].end:.4g}, "
                f"at the start {few[2].losses[0]:.4g}",
                "the loss does not depend on what the model can change",
                again(self.task) + "  # after a look at `unrolled inspect MODEL DATA graph`",
            )
            return True
        return False

    def _metric(self, trial: Descent, share: float, few: dict[int, Descent]) -> None:
        """See whether the figure people read follows the loss."""
        task, criterion = self.task, self.task.criterion
        data = task.settings.data
        if not data.validates or trial.diverged:
            return
        metric, sign = criterion.metric, 1 if criterion.better == "higher" else -1
        models = {"before": task.build().eval(), "after": trial.model}
        if no_numbers(trial.model):  # its last step, whose loss nobody saw
            return
        values = {
            name: task.validate(model, "validation")[metric] for name, model in models.items()
        }
        baselines = [
            figures[metric]
            for figures in task.baselines("validation").values()
            if math.isfinite(figures.get(metric, math.nan))
        ]
        best = max((sign * value for value in baselines), default=-math.inf)
        before, after = sign * values["before"], sign * values["after"]
        self.fact(metric, f"{values['before']:.4g} before the trial, {values['after']:.4g} after")
        share_known, count = _most_common(task)
        chance = min((sign * value for value in baselines), default=-math.inf)
        floor, margin = before, 0.05 * max(abs(before), 0.2)
        if criterion.better == "higher":
            # Where even the simplest model is good, only the labels tell what chance brings.
            chance = min(chance, share_known) if count else chance
            # An error that falls follows the loss; an accuracy must also beat what is common.
            floor, perfect = max(before, chance), PERFECT.get(metric, 1.0)
            margin = min(margin, max(0.25 * (perfect - floor), 0.0))
            if count and 0 < chance < 1:  # what chance itself may bring
                margin += 2.5 * math.sqrt(chance * (1 - chance) / count)
            if floor + margin >= perfect:  # a model without a fault could not show it either
                self.fact("validation", f"{metric} by chance could be as high as a perfect model's")
                return
        if after >= floor + margin:
            return
        learns = _ratio(few[min(few)]) < LEARNED
        if criterion.better == "higher" and learns and best < chance + margin:
            self.find(
                "labels tell nothing",
                f"{metric} on validation is {values['after']:.3g} after the trial, and no simple model "
                f"does better ({sign * best:.3g}), though a few examples are learned by heart",
                "labels that do not belong to the inputs, as when one of the two was shuffled",
                again(task) + "  # after a look at some rows of the data",
            )
        elif share < STUCK:
            self.find(
                "loss unfit",
                f"the loss falls from {trial.losses[0]:.4g} to {trial.end:.4g}, {metric} goes from "
                f"{values['before']:.4g} to {values['after']:.4g}",
                "the loss can be made small without doing what is judged",
                again(task) + "  # with another loss",
            )

    def _times(self) -> None:
        """Tell where the time of a step goes, and what would make it shorter."""
        if self.training.optimizer == "hessian-free":
            return
        ran = self.ran
        facts, found = about_speed(self.task, ran and ran.engine, ran and ran.reason)
        self.diagnosis.facts |= facts
        self.diagnosis.findings += found


def _most_common(task: Task) -> tuple[float, int]:
    """Give the share of validation examples with the most common label, and their number; 0 if unknown."""
    rows, part = getattr(task, "rows", None), getattr(task, "part", None)
    labels = getattr(rows("validation") if rows else part and part("validation"), "labels", None)
    if labels is None or not len(labels):
        return 0.0, 0
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels)), len(labels)


def _ratio(trial: Descent) -> float:
    """Give the loss at the end as a share of that at the start."""
    return abs(trial.end) / max(abs(trial.losses[0]), 1e-12)


def _size(task: Task) -> int:
    return sum(w.numel() for w in task.build().parameters())
