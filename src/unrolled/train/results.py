"""What came of a run: its figures beside the baselines', and the published number to reach."""

import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from unrolled.checkpoint import files
from unrolled.checkpoint.load import Trained
from unrolled.errors import InputError
from unrolled.settings import Settings, Target
from unrolled.tasks.task import Split, Task
from unrolled.train.loop import Position


def final_metrics(
    settings: Settings, task: Task, model: nn.Module, position: Position, seconds: float
) -> dict[str, Any]:
    """Judge a finished run, by its best weights.

    Returns:
        ``step`` (updates made), ``model_step`` (the step whose weights are kept), ``parameters``,
        ``training`` (loss and smoothed loss at the end, in the task's units too), ``validation`` (of
        the kept weights), ``test``, ``held_out`` (the name of the split that counts: test, or
        validation where there is no test split), ``baselines`` (on that split), ``target`` (with
        ``reached``, for a recipe), ``note`` (what must be said beside the figures) and ``seconds``.
        What there is no data for is left out.

    Raises:
        InputError: If the target's metric is not among the figures.
    """
    validation, test = settings.data.validates, settings.data.tests
    metrics: dict[str, Any] = {
        "step": position.step,
        "model_step": position.model_step,
        "parameters": sum(w.numel() for w in model.parameters()),
        "training": {
            "loss": position.loss,
            "smoothed_loss": position.smoothed_loss,
            **task.progress(position.smoothed_loss),
        },
    }
    if validation:
        metrics["validation"] = position.judge.best_metrics
    if test:
        metrics["test"] = task.validate(model, "test")
    held_out: Split | None = "test" if test else "validation" if validation else None
    if held_out:
        metrics |= {"held_out": held_out, "baselines": task.baselines(held_out)}
    if task.note:
        metrics["note"] = task.note
    if settings.target:
        metrics["target"] = _compared(settings.target, metrics)
    return {**metrics, "seconds": round(seconds, 3)}


def check_target(
    settings: Settings, task: Task, figures: Callable[[Split], Mapping[str, float]]
) -> None:
    """Refuse a target that nobody will measure, before anything is trained for it.

    Args:
        settings: Of the run.
        task: Prepared.
        figures: Judges the model as it is on a split; called only if no name tells.

    Raises:
        InputError: If the target's metric will not be among the figures.
    """
    target = settings.target
    if target is None:
        return
    there = {"training": True, "validation": settings.data.validates, "test": settings.data.tests}
    known: Mapping[str, float] = {}
    if target.split == "training":
        known = {"loss": 0.0, "smoothed_loss": 0.0, **task.progress(task.initial_loss)}
    elif there[target.split]:
        if target.metric in (task.criterion.metric, task.headline):
            return
        known = figures(target.split)
    _check_known(target, known)


def check_record(settings: Settings, recipe: str | Path | None, path: Path) -> None:
    """Find out before a run whether its result can be recorded.

    Args:
        settings: As asked for.
        recipe: The recipe's path, if there is one.
        path: The list of results.

    Raises:
        InputError: If there is no recipe or no target, or the list cannot be read or made.
    """
    if not recipe:
        raise InputError("only the result of a recipe (a .toml file) can be recorded")
    _target(settings, recipe)
    if not path.parent.is_dir():
        raise InputError(f"--record {path}: there is no directory {path.parent}; make it first")
    if path.is_dir():
        raise InputError(f"--record {path} is a directory; name a file")
    _entries(path)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"--record {path} cannot be written; name another file")


def _target(settings: Settings, recipe: str | Path) -> Target:
    if settings.target is None:
        raise InputError(f"{recipe} has no [target], so there is no result to record")
    return settings.target


def record(
    results: Trained | Sequence[Trained], recipe: str | Path, command: str, path: Path
) -> None:
    """Put the result of a recipe into a list of results, in the place of an earlier one.

    Args:
        results: One run, or several that differ by their seed.
        recipe: The recipe's path, as it shall stand there.
        command: The command that repeats the run.
        path: The list: a JSON file, made if it is not there. Each object has ``recipe``, ``metric``,
            ``value`` (the mean over the seeds), ``target``, ``better``, ``spread`` (largest value
            minus smallest), ``seeds``, ``seconds`` (mean), ``command`` and ``date``.

    Raises:
        InputError: If the run has no target, or the file is not such a list.
        RunError: If the file cannot be written.
    """
    runs = [results] if isinstance(results, Trained) else list(results)
    target = _target(runs[0].settings, recipe)
    values = [run.metrics["target"]["value"] for run in runs]
    entry = {
        "recipe": Path(recipe).as_posix(),
        "metric": target.metric,
        "value": sum(values) / len(values),
        "target": target.value,
        "better": target.better,
        "spread": max(values) - min(values),
        "seeds": [run.settings.training.seed for run in runs],
        "seconds": round(sum(run.metrics["seconds"] for run in runs) / len(runs), 1),
        "command": command,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }
    others = [
        other
        for other in _entries(path)
        if (other.get("recipe"), other.get("metric")) != (entry["recipe"], entry["metric"])
    ]
    listed = sorted([*others, entry], key=lambda e: (e["recipe"], e["metric"]))
    files.write(path, files.to_json(listed, indent=2).encode() + b"\n")


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    content = files.read(path)
    try:
        listed = json.loads(content)
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not all(map(_is_result, listed)):
        raise InputError(f"{path} is not a list of results; name another file, or mend it")
    return listed


def _is_result(entry: object) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), str) for name in ("recipe", "metric")
    )


def _compared(target: Target, metrics: Mapping[str, Any]) -> dict[str, Any]:
    figures: Mapping[str, float] = metrics.get(target.split, {})
    _check_known(target, figures)
    value = figures[target.metric]
    reached = value <= target.value if target.better == "lower" else value >= target.value
    return {**target.model_dump(), "target": target.value, "value": value, "reached": reached}


def _check_known(target: Target, figures: Mapping[str, float]) -> None:
    if target.metric not in figures:
        known = ", ".join(figures) or f"nothing, as the {target.split} split is empty"
        raise InputError(
            f"the recipe's target {target.metric!r} is not a figure of the {target.split} split: "
            f"there is {known}"
        )
