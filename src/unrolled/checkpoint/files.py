"""Files that are either whole or absent: written beside, flushed to the disk, then renamed."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from unrolled.errors import InputError, RunError

METADATA_KEY = "unrolled"
"""All metadata is JSON under one key: safetensors orders several keys at random, and the same
state should give the same bytes."""


def temporary(path: Path) -> Path:
    """Where the new content of `path` is written before it takes its place."""
    return path.with_name(f".{path.name}.tmp")


def write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`, wholly or not at all.

    Args:
        path: The file.
        data: Its new content.
        durable: Wait until it would survive a power cut.

    Raises:
        RunError: If the disk is full, read-only or failing; what was at `path` is still there.
    """
    beside = temporary(path)
    try:
        with beside.open("wb") as file:
            _fill(file, data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise failure(path, error) from None


def move(source: Path, target: Path) -> None:
    """Rename a file over another, durably.

    Raises:
        RunError: If the disk refuses.
    """
    try:
        source.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise failure(target, error) from None


def remove(path: Path) -> None:
    """Delete a file if it is there.

    Raises:
        RunError: If the disk refuses.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise failure(path, error) from None


def folder(path: Path) -> None:
    """Make a directory, and those it lies in, where there is none.

    Raises:
        RunError: If the disk refuses, or a file has that name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(path, error) from None


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable, where the system can."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def failure(path: Path, error: OSError) -> RunError:
    """Put what the system said about writing `path` into a sentence."""
    reason = (error.strerror or str(error)).lower()
    return RunError(f"cannot write {path}: {reason}")


def to_json(value: object, *, indent: int | None = None) -> str:
    """Write a value as strict JSON: keys as given, numbers that are not finite as ``null``."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: If the file is missing or damaged.
    """
    content = read(path)
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object; the file is damaged")
    return value


def read(path: Path) -> bytes:
    """Read a file of a model directory.

    Raises:
        InputError: If it is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}; the model is incomplete") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Give tensors and JSON metadata as safetensors; equal content gives equal bytes."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(on_cpu, {METADATA_KEY: json.dumps(metadata)})


def unpack(data: bytes, where: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Undo :func:`pack`; `where` is named when the data is damaged.

    Raises:
        InputError: If the data is truncated or not safetensors.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _damaged(where, error) from None
    length = int.from_bytes(data[:8], "little")
    return tensors, _metadata(json.loads(data[8 : 8 + length]).get("__metadata__"), where)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a safetensors file, not its tensors.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            return _metadata(file.metadata(), path)
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}; the model is incomplete") from None
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _metadata(table: Mapping[str, str] | None, where: Path) -> dict[str, Any]:
    try:
        value = json.loads((table or {})[METADATA_KEY])
    except (KeyError, ValueError):
        raise InputError(f"{where} was not written by unrolled, or is damaged") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} was not written by unrolled, or is damaged")
    return value


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is truncated or damaged ({error})")


def _fill(file: IO[bytes], data: bytes) -> None:
    file.write(data)


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
