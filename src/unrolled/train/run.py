"""One run from end to end: settings, data, loop, results."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unrolled.checkpoint import files
from unrolled.checkpoint.directory import COMMIT, CONFIG, MODEL, Commit, ModelDirectory
from unrolled.checkpoint.load import Trained, cell_hash, check_cell
from unrolled.checkpoint.weights import load_weights
from unrolled.errors import InputError, Interrupted
from unrolled.settings import Settings, flag
from unrolled.tasks.task import Task, task_class
from unrolled.train import plan, results
from unrolled.train.callbacks import Callback, End
from unrolled.train.card import Card
from unrolled.train.distributed import Group, processes
from unrolled.train.log import Log
from unrolled.train.loop import Loop
from unrolled.train.picture import Picture
from unrolled.train.signals import BEFORE, before_the_first_step, terminable


def train(
    task: str | Path | Settings,
    *source: str,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    record: str | Path | None = None,
    **flags: Any,  # noqa: ANN401 - any field of the settings
) -> Trained:
    """Train a model.

    Under torchrun every process calls this alike: rows are shared out, rank 0 evaluates, writes and
    reports, and a restarted group resumes by itself.

    Args:
        task: The name of a task, the path of a recipe (``.toml``), or complete settings.
        source: Files, directories or names of data sets; without any, what the recipe or task says.
        out: The model directory (default: the first free ``runs/<task>-1``, ``-2``, ...; under torchrun,
            whose restarts must find it again, ``runs/<task>-torchrun-<its process>``).
        resume: Go on from the last checkpoint in `out`; from the start if there is none. Settings that
            are left out are as they were; those given must agree, apart from
            :data:`unrolled.train.plan.FREE`. More steps than before prolong the run.
        overwrite: Replace the run in `out`.
        callbacks: Who is told of every event.
        record: Put the result of a recipe into this list of results, see
            :func:`unrolled.train.results.record`.
        flags: Any field of the settings by its own name: ``hidden=256, steps=2000``.

    Returns:
        The model with its best weights by validation, the task, and the results; on every process.

    Raises:
        InputError: If a setting, the data or the checkpoint cannot be used.
        RunError: If the loss stops being a number, or the disk is full or read-only; the last
            checkpoint is still there.
        Interrupted: After Ctrl-C or SIGTERM; a checkpoint is written, or before the first step nothing.
    """
    wanted = plan.asked(task, source, flags)
    recipe = None if isinstance(task, Settings) or not str(task).endswith(".toml") else task
    if record:
        results.check_record(wanted, recipe, Path(record))
    if resume and overwrite:
        raise InputError("give --resume or --overwrite, not both")
    try:
        with terminable(), processes() as group, _threads(wanted.training.threads):
            trained = _run(wanted, group, out, resume, overwrite, callbacks)
            if record and recipe and group.leads:
                command = command_line(str(recipe), source, flags)
                results.record(trained, recipe, command, Path(record))
            return trained
    finally:
        for callback in callbacks:
            callback.close()


def _run(
    wanted: Settings,
    group: Group,
    out: str | Path | None,
    resume: bool,
    overwrite: bool,
    callbacks: Sequence[Callback],
) -> Trained:
    with before_the_first_step():
        found = _find(wanted, group, out, resume or group.restarts > 0, overwrite)
        loop, begin = _build(wanted, group, found)
    directory, commit = found.directory, found.commit
    try:
        metrics = _train(loop, begin, group, commit, callbacks)
    except KeyboardInterrupt:
        if loop.committed is not None:
            raise loop.interrupted() from None
        kept = "interrupted before the first checkpoint; nothing is kept"
        raise Interrupted(kept if directory.discard() else BEFORE) from None
    except InputError:
        if loop.committed is None:
            directory.discard()
        raise
    return Trained(directory.path, loop.settings, loop.task, loop.model, metrics)


def _build(wanted: Settings, group: Group, found: "_Found") -> tuple[Loop, Callable[[], None]]:
    """Settle the settings, read the data and build what trains; nothing is written.

    Returns:
        The loop, and what prepares the directory for it.
    """
    directory, commit = found.directory, found.commit
    if found.stored:
        trained = commit is not None
        settings = plan.resumed_run(wanted, found.stored, directory.path, trained=trained)
    else:
        settings = plan.new_run(wanted)
    if commit:
        check_cell(settings, found.note.get("cell"))
    group.rows(settings.training.batch_size)
    task = _prepare(settings, group)
    settings = plan.complete(settings, task)
    if commit:
        _check_goes_on(commit, task, settings, directory)
    artefacts = task.artefacts()
    about = {"cell": cell_hash(settings), "baseline": bool(artefacts.baseline)}
    loop = Loop(settings, task, directory, group, commit, about)
    group.decide(lambda: results.check_target(settings, task, loop.figures))

    def begin() -> None:
        if commit:
            directory.write_settings(settings)
        else:
            directory.begin(settings, artefacts)

    return loop, begin


def _train(
    loop: Loop,
    begin: Callable[[], None],
    group: Group,
    commit: Commit | None,
    callbacks: Sequence[Callback],
) -> dict[str, Any]:
    """Make the steps, and judge what came of them."""
    path = loop.directory.path
    log = Log(loop.directory, commit.metrics_lines if commit else 0) if group.leads else None
    receivers = [Picture(log), Card(), *callbacks] if log else []

    def open_directory() -> None:
        begin()
        if log:
            log.open()

    try:
        loop.run(log, receivers, lambda: group.decide(open_directory))
        metrics = _finish(loop, group)
        if log:
            end = End(loop.position.step, loop.steps, path, metrics, metrics["seconds"])
            for callback in (log, *receivers):
                callback.on_end(end)
    finally:
        if log:
            log.close()
    return metrics


@dataclass(frozen=True)
class _Found:
    """What is in the model directory before the run."""

    directory: ModelDirectory
    commit: Commit | None = None
    stored: Settings | None = None
    note: Mapping[str, Any] = field(default_factory=dict)


def _find(
    wanted: Settings, group: Group, out: str | Path | None, resuming: bool, overwrite: bool
) -> _Found:
    """Look into the model directory on rank 0, and tell all."""
    content: bytes | None = None

    def look() -> dict[str, Any]:
        nonlocal content
        if resuming and out is None and not group.restarts:
            raise InputError("--resume needs --out: the directory of the run to go on with")
        directory = find_out(wanted, out, group, resuming=resuming, overwrite=overwrite)
        path = directory.path
        if not resuming:
            return {"path": str(path)}
        content = directory.recover()
        seen: dict[str, Any] = {"path": str(path)}
        if directory.holds_run:
            settings = directory.settings()
            seen["config"] = settings.model_dump_json()
            seen["digest"] = plan.digest(settings, written=True)
        if content:
            seen["note"] = files.read_metadata(path / MODEL)
        return seen

    seen = group.decide(look)
    content = group.broadcast(content)
    directory = ModelDirectory(Path(seen["path"]))
    if "config" not in seen:
        return _Found(directory)
    stored = Settings.from_json(seen["config"], str(directory.path / CONFIG))
    if content is None:
        return _Found(directory, stored=stored)
    commit = Commit.unpack(content, directory.path / COMMIT)
    if seen["digest"] != commit.settings_digest:
        raise InputError(
            f"{directory.path / CONFIG} was changed since {COMMIT} was written; put it back"
        )
    return _Found(directory, commit, stored, seen["note"])


def find_out(
    wanted: Settings,
    out: str | Path | None,
    group: Group,
    *,
    resuming: bool,
    overwrite: bool,
) -> ModelDirectory:
    """Give the directory of a run.

    Raises:
        InputError: If it holds what a run must not replace unasked.
        RunError: If it cannot be written to.
    """
    if out is not None and not str(out):
        raise InputError("--out is empty; name a directory, or leave it out")
    path = _default_out(wanted.task, group) if out is None else Path(out)
    directory = ModelDirectory(path)
    if directory.holds_run and not (resuming or overwrite):
        raise InputError(f"{path} holds a run; add --resume or --overwrite")
    if not overwrite:
        directory.check_free(resuming=resuming)
    directory.check_writable()
    return directory


def _default_out(task: str, group: Group) -> Path:
    runs = Path("runs")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return runs / f"{task}-torchrun-{os.getppid()}"
    number = 1
    while (runs / f"{task}-{number}").exists():
        number += 1
    return runs / f"{task}-{number}"


def _prepare(settings: Settings, group: Group) -> Task:
    """Read the data: on rank 0 first, so that the others find it in the cache."""
    prepared: list[Task] = []
    kind = task_class(settings.task)
    group.decide(lambda: prepared.append(kind.prepare(settings)))
    return prepared[0] if prepared else kind.prepare(settings)


def _check_goes_on(
    commit: Commit, task: Task, settings: Settings, directory: ModelDirectory
) -> None:
    if commit.data_digest != task.data_digest:
        raise InputError(
            f"the data is not what the checkpoint in {directory.path} was trained on; "
            "give the same, or start anew with another --out"
        )
    steps = settings.training.steps or 0
    if commit.step > steps:
        raise InputError(
            f"--steps {steps}: the checkpoint in {directory.path} has made {commit.step} already"
        )


def _finish(loop: Loop, group: Group) -> dict[str, Any]:
    """Put the best weights into the model, on all processes, and judge them."""
    path = loop.directory.path / MODEL
    content = group.broadcast(files.read(path) if group.leads else None)
    tensors, _ = files.unpack(content or b"", path)
    load_weights(loop.model, tensors, path)
    loop.model.eval()

    def judge() -> dict[str, Any]:
        with torch.no_grad():
            return results.final_metrics(
                loop.settings, loop.task, loop.model, loop.position, loop.seconds
            )

    metrics = group.decide(judge)
    if group.leads:
        with torch.no_grad():
            for name, image in loop.task.drawings(loop.model).items():
                files.write(loop.directory.path / name, image, durable=False)
    return metrics


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Use so many threads meanwhile."""
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def command_line(recipe: str, source: Sequence[str], flags: Mapping[str, Any]) -> str:
    """Write the command that repeats a run."""
    words = ["unrolled", "train", recipe, *source]
    for name, value in flags.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else flag(f"no_{name}"))
        elif value is not None:
            words += [flag(name), str(value)]
    return shlex.join(words)
