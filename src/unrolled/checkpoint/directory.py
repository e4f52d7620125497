"""The model directory: its parts, and the order of writing that makes a commit whole.

``training.safetensors`` holds all that resuming needs; renaming it into place is the commit.
``model.safetensors`` holds the weights to use, mostly older ones, and must agree with the commit. So
new ones are written beside first, as ``model.safetensors.next``, then comes the commit, which says of
which step the model's weights are, and then the second rename. Whoever opens the directory in between
tells by that step whether the ``.next`` counts.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from torch import Tensor

from unrolled.checkpoint import files
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks.task import Artefacts

COMMIT = "training.safetensors"
MODEL = "model.safetensors"
PENDING = "model.safetensors.next"
CONFIG = "config.json"
VOCABULARY = "vocabulary.json"
BASELINE = "baseline.safetensors"
METRICS = "metrics.jsonl"
PICTURE = "loss.png"
CARD = "README.md"
PARTS = (COMMIT, PENDING, MODEL, METRICS, PICTURE, CARD, CONFIG, VOCABULARY, BASELINE)
"""All that a run writes; in this order a directory that is being emptied never looks whole."""


@dataclass(frozen=True)
class Commit:
    """The state of a run after `step` updates."""

    step: int
    model_step: int
    """The step whose weights `model.safetensors` holds."""
    metrics_lines: int
    """Lines of `metrics.jsonl` that belong to this state."""
    data_digest: str
    settings_digest: str
    state: dict[str, Any]
    """What the training loop knows besides tensors, as JSON."""
    tensors: dict[str, Tensor]

    def pack(self) -> bytes:
        """Give the content of `training.safetensors`; the same state gives the same bytes."""
        table = {key: value for key, value in vars(self).items() if key != "tensors"}
        return files.pack(self.tensors, table)

    @classmethod
    def unpack(cls, data: bytes, where: Path) -> Self:
        """Undo :meth:`pack`; `where` is named when the data is damaged.

        Raises:
            InputError: If the data is damaged.
        """
        tensors, table = files.unpack(data, where)
        try:
            return cls(tensors=tensors, **table)
        except TypeError:
            raise InputError(f"{where} lacks a part of the run's state; it is damaged") from None


class ModelDirectory:
    """One directory, one run.

    Args:
        path: The directory; it need not exist.

    Raises:
        InputError: If `path` is a file.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, not a directory")
        self.path = path
        self._made: list[Path] | None = None

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return any((self.path / name).exists() for name in (COMMIT, MODEL, CONFIG))

    def check_free(self, *, resuming: bool) -> None:
        """Refuse to replace files that no run wrote.

        A run that was killed while it began may have left parts that never change, for it writes those
        first: to resume is to write them again.

        Raises:
            InputError: If there are such files.
        """
        begun = (VOCABULARY, BASELINE) if resuming else ()
        names = [name for name in PARTS if name not in begun and (self.path / name).exists()]
        if names and not self.holds_run:
            raise InputError(
                f"{self.path} holds no run but a {names[0]}, which a run would replace; "
                "give another --out, or add --overwrite"
            )

    def check_writable(self) -> None:
        """Find out early whether the directory can be made or written to.

        Raises:
            RunError: If not.
        """
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise files.failure(self.path, NotADirectoryError(f"{there} is a file"))
        if not os.access(there, os.W_OK | os.X_OK):
            raise files.failure(self.path, PermissionError("permission denied"))

    def begin(self, settings: Settings, artefacts: Artefacts) -> None:
        """Start a run: remove what an earlier one left, write the parts that never change.

        Raises:
            RunError: If the disk is full or read-only; then nothing is left.
        """
        above = [self.path, *self.path.absolute().parents]
        self._made = [path for path in above if not path.exists()]
        try:
            self._fill(settings, artefacts)
        except RunError:
            self.discard()
            raise

    def discard(self) -> bool:
        """Undo :meth:`begin`, where this object did it: remove all parts, and the directories it made.

        Returns:
            Whether there was something to undo.
        """
        if self._made is None:
            return False
        with contextlib.suppress(RunError, OSError):
            for name in PARTS:
                files.remove(self.path / name)
            self._tidy()
            for path in self._made:
                path.rmdir()
        self._made = None
        return True

    def _fill(self, settings: Settings, artefacts: Artefacts) -> None:
        files.folder(self.path)
        for name in PARTS:
            files.remove(self.path / name)
        self._tidy()
        vocabulary = json.dumps(artefacts.vocabulary, ensure_ascii=False)
        files.write(self.path / VOCABULARY, vocabulary.encode())
        if artefacts.baseline:
            arrays = {name: np.ascontiguousarray(a) for name, a in artefacts.baseline.items()}
            files.write(self.path / BASELINE, safetensors.numpy.save(arrays))
        self.write_settings(settings)

    def write_settings(self, settings: Settings) -> None:
        """Replace `config.json`.

        Raises:
            RunError: If the disk is full or read-only.
        """
        files.write(self.path / CONFIG, settings.model_dump_json(indent=2).encode() + b"\n")

    def commit(
        self,
        commit: Commit,
        model: Mapping[str, Tensor] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint.

        Args:
            commit: The state of the run.
            model: New weights for `model.safetensors`, those of ``commit.model_step``.
            about: What to note beside them.

        Raises:
            RunError: If the disk is full or read-only; the commit before is still good.
        """
        if model is not None:
            note = {"step": commit.model_step, **(about or {})}
            files.write(self.path / PENDING, files.pack(model, note))
        files.write(self.path / COMMIT, commit.pack())
        if model is not None:
            files.move(self.path / PENDING, self.path / MODEL)

    def recover(self) -> bytes | None:
        """Finish what a killed run left half done; give the content of its last commit, if any.

        Raises:
            InputError: If the commit is damaged, the model does not belong to it, or there is a model
                without a commit, which a new run would destroy.
        """
        self._tidy()
        if not (self.path / COMMIT).exists():
            if (self.path / MODEL).exists():
                raise InputError(
                    f"{self.path} has a model but no {COMMIT} to resume from; "
                    "train anew with another --out, or replace it with --overwrite"
                )
            return None
        data = files.read(self.path / COMMIT)
        commit = Commit.unpack(data, self.path / COMMIT)
        pending = self.path / PENDING
        if pending.exists():
            if files.read_metadata(pending).get("step") == commit.model_step:
                files.move(pending, self.path / MODEL)
            else:
                files.remove(pending)
        if files.read_metadata(self.path / MODEL).get("step") != commit.model_step:
            raise self._disagreement()
        return data

    def settings(self) -> Settings:
        """Read `config.json`.

        Raises:
            InputError: If this is no model directory, or the file is damaged or of a newer format.
        """
        if not self.path.is_dir():
            raise InputError(f"no model directory at {self.path}")
        path = self.path / CONFIG
        if not path.exists():
            raise InputError(f"{self.path} holds no model: it has no {CONFIG}")
        text = files.read(path).decode("utf-8", errors="replace")
        return Settings.from_json(text, str(path))

    def artefacts(self, *, baseline: bool) -> Artefacts:
        """Read what the task keeps beside the weights; `baseline` says whether arrays belong to it.

        Raises:
            InputError: If a part is missing or damaged.
        """
        vocabulary = files.read_json(self.path / VOCABULARY)
        if not baseline:
            return Artefacts(vocabulary)
        path = self.path / BASELINE
        content = files.read(path)
        try:
            return Artefacts(vocabulary, safetensors.numpy.load(content))
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"{path} is truncated or damaged ({error})") from None

    def model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the weights to use and what was noted beside them, also while the run goes on.

        Raises:
            InputError: If they are missing, damaged, or do not belong to the last commit.
        """
        if not (self.path / COMMIT).exists():
            return files.unpack(files.read(self.path / MODEL), self.path / MODEL)
        # A run that goes on may rename a file just before it is read: then look again.
        for _ in range(3):
            step = files.read_metadata(self.path / COMMIT).get("model_step")
            for path in (self.path / MODEL, self.path / PENDING):
                with contextlib.suppress(FileNotFoundError):
                    tensors, note = files.unpack(path.read_bytes(), path)
                    if note.get("step") == step:
                        return tensors, note
        if not (self.path / MODEL).exists():
            files.read(self.path / MODEL)
        raise self._disagreement()

    def metrics(self) -> list[dict[str, Any]]:
        """Read the whole lines of `metrics.jsonl`; none if there is no such file.

        Raises:
            InputError: If a line is damaged.
        """
        path = self.path / METRICS
        if not path.exists():
            return []
        lines = files.read(path).split(b"\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            raise InputError(f"{path} holds a line that is not JSON; the file is damaged") from None

    def _tidy(self) -> None:
        for name in PARTS:
            files.remove(files.temporary(self.path / name))

    def _disagreement(self) -> InputError:
        return InputError(
            f"{self.path / MODEL} and {COMMIT} beside it are not of the same run; one was replaced"
        )
