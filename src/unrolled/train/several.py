"""Several runs that differ by their seed or by their fold, and the mean of their figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unrolled.checkpoint.load import Trained
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.train import plan, results
from unrolled.train.callbacks import Callback
from unrolled.train.distributed import Group
from unrolled.train.run import command_line, find_out, train


def train_several(
    task: str | Path | Settings,
    *source: str,
    out: str | Path,
    seeds: Sequence[int] = (),
    all_folds: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Callable[[], Sequence[Callback]] = tuple,
    record: str | Path | None = None,
    **flags: Any,  # noqa: ANN401 - any field of the settings
) -> list[Trained]:
    """Train with several seeds, or on every fold of a cross-validation, one run after the other.

    Args:
        task: As in :func:`unrolled.train.run.train`, as are `source`, `resume`, `overwrite` and `flags`.
        source: As above.
        out: Where the runs go: ``seed-0``, ``seed-1``, ... or ``fold-0``, ``fold-1``, ... in it.
        seeds: The seeds.
        all_folds: Train on each of the folds that the setting `folds` names.
        resume: Go on where an earlier call was interrupted; runs that are complete are judged again.
        overwrite: As above.
        callbacks: Makes those who are told of one run's events.
        record: Put the mean of a recipe's results into this list of results.
        flags: As above.

    Returns:
        One trained model a run, in order.

    Raises:
        InputError: As :func:`unrolled.train.run.train`; and if both or neither of seeds and folds are
            asked for, or there are no folds.
    """
    if bool(seeds) == all_folds:
        raise InputError("give --seeds or --all-folds, one of them")
    folds = plan.asked(task, source, flags).data.folds
    if all_folds and not folds:
        raise InputError("--all-folds takes a number of --folds, as in --folds 10")
    recipe = None if isinstance(task, Settings) or not str(task).endswith(".toml") else str(task)
    name, numbers = ("fold", range(folds or 0)) if all_folds else ("seed", seeds)
    if flags.get(name) is not None:
        many = "--all-folds" if all_folds else "--seeds"
        raise InputError(f"give {many} or --{name}, not both")
    if twice := [str(number) for number in numbers if list(numbers).count(number) > 1]:
        raise InputError(f"--seeds names {twice[0]} twice; give each seed once")
    if not str(out):
        raise InputError("--out is empty; name a directory")
    # What is wrong with the last run shall not show after the first.
    for number in numbers:
        one = plan.asked(task, source, {**flags, name: number})
        place = Path(out) / f"{name}-{number}"
        find_out(one, place, Group(), resuming=resume, overwrite=overwrite)
    if record:
        results.check_record(plan.asked(task, source, flags), recipe, Path(record))
    trained = [
        train(
            task,
            *source,
            out=Path(out) / f"{name}-{number}",
            resume=resume,
            overwrite=overwrite,
            callbacks=callbacks(),
            **{**flags, name: number},
        )
        for number in numbers
    ]
    if record and recipe:
        which = "--all-folds" if all_folds else f"--seeds {','.join(map(str, seeds))}"
        command = f"{command_line(recipe, source, flags)} {which}"
        results.record(trained, recipe, command, Path(record))
    return trained


def mean_figures(runs: Sequence[Trained]) -> dict[str, dict[str, float]]:
    """Give mean, smallest and largest of each figure on the split that counts, and the baselines' means.

    Returns:
        ``mean``, ``smallest``, ``largest`` and the name of each baseline -> metric -> value.
    """
    held = [run.metrics[run.metrics.get("held_out") or "training"] for run in runs]
    columns = {name: [float(figures[name]) for figures in held] for name in held[0]}
    rows = {
        "mean": {name: sum(values) / len(values) for name, values in columns.items()},
        "smallest": {name: min(values) for name, values in columns.items()},
        "largest": {name: max(values) for name, values in columns.items()},
    }
    for baseline, figures in runs[0].metrics.get("baselines", {}).items():
        rows[baseline] = {
            name: sum(run.metrics["baselines"][baseline][name] for run in runs) / len(runs)
            for name in figures
        }
    return rows
