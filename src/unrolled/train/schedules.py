"""How the learning rate changes: a pure function of the step, so that resuming has nothing to restore.

Only `plateau` depends on what happened: on how often the validation figure stood still
(:class:`unrolled.train.judge.Judge`).
"""

import math

from unrolled.errors import InputError
from unrolled.settings import Settings, TrainingSettings


def factor(training: TrainingSettings, step: int, steps: int, decays: int = 0) -> float:
    """Give what the learning rate is multiplied by for one update.

    Args:
        training: ``schedule``, ``warmup``, ``decay`` and ``decay_every`` count.
        step: Updates made before this one: 0, 1, ...
        steps: Updates to make in all. Only `cosine` depends on it: a run resumed with another number
            goes on along the curve of the new length.
        decays: plateau: how often progress stopped so far.

    Returns:
        Over the first `warmup` steps a straight rise, ``(step + 1) / warmup``. Then 1 (`constant`);
        ``decay ** (steps since the warm-up // decay_every)`` (`step`); half a cosine from 1, which
        reaches 0 when the last update is made (`cosine`; Loshchilov & Hutter 2017, "SGDR", eq. 5,
        without restarts); ``decay ** decays`` (`plateau`).
    """
    if step < training.warmup:
        return (step + 1) / training.warmup
    since = step - training.warmup
    match training.schedule:
        case "constant":
            return 1.0
        case "step":
            return training.decay ** (since // training.decay_every)
        case "cosine":
            return (1 + math.cos(math.pi * since / max(steps - training.warmup, 1))) / 2
        case "plateau":
            return training.decay**decays


def check_schedule(settings: Settings) -> None:
    """Find a schedule or early stopping that has no validation split to go by.

    Raises:
        InputError: If so.
    """
    if settings.data.validates:
        return
    if settings.training.schedule == "plateau":
        raise InputError("--schedule plateau needs a validation split; --split gives it none")
    if settings.training.stop_after:
        raise InputError("--stop-after needs a validation split; --split gives it none")
