"""Judging progress by the validation figure: the best weights, plateaus, early stopping."""

from dataclasses import dataclass, field

from unrolled.settings import TrainingSettings
from unrolled.tasks.task import Criterion


@dataclass
class Judge:
    """What the evaluations so far amount to. Its fields are saved in every checkpoint."""

    best: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    idle: int = 0
    """Evaluations since the best one: early stopping counts them."""
    waiting: int = 0
    """Evaluations since the best one or the last decay: `plateau` counts them."""
    decays: int = 0
    """How often `plateau` has lowered the learning rate."""

    def see(
        self,
        step: int,
        metrics: dict[str, float],
        criterion: Criterion,
        training: TrainingSettings,
    ) -> bool:
        """Note one evaluation; tell whether it is the best so far.

        The learning rate decays at the `patience`-th evaluation in a row without progress, and again
        after as many more (``torch.optim.lr_scheduler.ReduceLROnPlateau`` with a patience lower by
        one and no threshold).
        """
        value = metrics[criterion.metric]
        if criterion.improves(value, self.best):
            self.best, self.best_step, self.best_metrics = value, step, metrics
            self.idle = self.waiting = 0
            return True
        self.idle += 1
        self.waiting += 1
        if training.schedule == "plateau" and self.waiting >= training.patience:
            self.decays += 1
            self.waiting = 0
        return False

    def stops(self, training: TrainingSettings) -> bool:
        """Whether early stopping ends the run here."""
        return training.stop_after is not None and self.idle >= training.stop_after
