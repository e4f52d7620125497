"""Labelled signals: sequences of numbers in any number of channels, sounds, and films.

T steps, C channels; a film has frames of H x W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unrolled.data.advice import Advised
from unrolled.data.audio import log_bands, read_wav
from unrolled.data.images import SUFFIXES, read_pictures
from unrolled.data.read import check_name, find_pieces
from unrolled.data.signal_formats import (
    Signal,
    header_of,
    is_numeric,
    read_long,
    read_steps,
    read_ts,
)
from unrolled.errors import InputError
from unrolled.settings import DataSettings

TABLES = (".csv", ".tsv")
FILES = (*TABLES, ".wav", ".npy")
"""What may lie in the folder of a label, besides folders of frames."""


@dataclass(frozen=True)
class Signals:
    """Signals, or films, of as many channels each."""

    items: list[np.ndarray]
    """(T, C) float32 without missing values, or (T, C, H, W) from 0 to 1."""
    labels: list[str]
    """Empty where none were asked for."""
    where: list[str]
    """The file of each, and the line where it holds several."""


def is_signals(sources: Sequence[str]) -> bool:
    """Tell whether sources are signals, by their names and how they begin."""
    return any(_is_signal(source) for source in sources)


def _is_signal(source: str) -> bool:
    kind, path = _suffix(source), Path(source)
    if kind == ".ts":
        return True
    if path.is_dir():
        first = next(_labelled(path), None)
        return first is not None and (_suffix(first[0].name) not in TABLES or _is_steps(first[0]))
    if kind in TABLES and path.is_file():
        header = header_of(_beginning(path))
        return {"id", "label"} <= set(header) and "text" not in header
    return False


def read_signals(
    sources: Sequence[str], data: DataSettings, *, size: int | None = None, labelled: bool = True
) -> Signals:
    """Read signals.

    ======================  ================================================================
    what                    how it is known
    ======================  ================================================================
    UCR/UEA                 ``.ts``, see :func:`~unrolled.data.signal_formats.read_ts`
    a long table            ``.csv`` or ``.tsv`` with a header that names ``id``, see
                            :func:`~unrolled.data.signal_formats.read_long`
    a folder per label      with a file each: ``.csv`` and ``.tsv`` (a row a step), ``.wav``,
                            ``.npy`` of NumPy's; or a folder of pictures each, the frames of
                            a film in the order of their names
    ======================  ================================================================

    An array is (T,), (T, C), grey frames (T, H, W) or frames (T, C, H, W); whole numbers of frames go from
    0 to 255.

    Args:
        sources: Files, folders, or files of the catalogue; without labels also a file or folder such as
            lies in a label's folder.
        data: ``missing``, ``audio`` and ``encoding`` count.
        size: Scale frames that are pictures to so many pixels a side.
        labelled: Whether each must have a label.

    Raises:
        InputError: If there is nothing to read, something is damaged, a value is missing and
            ``data.missing`` says error, or signals differ in channels.
    """
    found = [signal for source in sources for signal in _read(source, data, size, labelled)]
    if not found:
        raise InputError(f"{', '.join(sources) or 'no data'}: there is no signal to read")
    for signal in found:
        if labelled and not signal.label:
            raise InputError(f"{signal.where} has no label")
        if signal.values.shape[1:] != found[0].values.shape[1:]:
            raise InputError(
                f"{signal.where} has {as_words(signal.values.shape[1:])}, but {found[0].where} "
                f"has {as_words(found[0].values.shape[1:])}"
            )
    return Signals(
        [filled(signal.values, data.missing, signal.where) for signal in found],
        [signal.label or "" for signal in found] if labelled else [],
        [signal.where for signal in found],
    )


def filled(values: np.ndarray, how: str, where: str) -> np.ndarray:
    """Fill missing values (NaN) of a signal (T, C).

    Args:
        values: The signal.
        how: ``error`` at the first; ``interpolate`` between the nearest known steps, a straight line;
            ``forward``, the last known value, where there is none before or behind, the nearest;
            ``drop`` the steps that lack one.
        where: What the signal is called.

    Raises:
        InputError: If there is one and `how` is ``error``, or a channel has no value at all.
    """
    if not len(values):
        raise InputError(f"{where} is an empty sequence")
    lacking = np.isnan(values)
    if not lacking.any():
        return values
    step, channel = np.argwhere(lacking)[0][:2] + 1
    if how == "error":
        raise Advised(
            "missing",
            f"{where}: the value of step {step} in channel {channel} is missing",
            "--missing forward or interpolate fills it, drop leaves the step out",
        )
    if how == "drop":
        kept = ~lacking.reshape(len(values), -1).any(1)
        if not kept.any():
            raise InputError(f"{where}: no step has all its values")
        return values[kept]
    values, steps = values.copy(), np.arange(len(values))
    for place in np.ndindex(values.shape[1:]):
        column, gone = values[(slice(None), *place)], lacking[(slice(None), *place)]
        known = np.flatnonzero(~gone)
        if not len(known):
            raise InputError(f"{where}: channel {place[0] + 1} has no value at all")
        if how == "interpolate":
            column[gone] = np.interp(steps[gone], known, column[known])
        else:
            before = np.searchsorted(known, steps[gone], side="right") - 1
            column[gone] = column[known[np.maximum(before, 0)]]
    return values


def as_words(shape: tuple[int, ...]) -> str:
    """Name what a step holds: (C,) or (C, H, W)."""
    if len(shape) == 3:
        channels, height, width = shape
        return f"{width} x {height} pixels in {channels} channel{'s'[: channels != 1]}"
    return f"{shape[0]} channel{'s'[: shape[0] != 1]}"


def _read(source: str, data: DataSettings, size: int | None, labelled: bool) -> Iterator[Signal]:
    path = Path(source)
    if path.is_dir():
        inside = list(_labelled(path))
        if not inside and not labelled:
            yield _one(path, data, size)
        for file, label in inside:
            yield _one(file, data, size)._replace(label=label)
        return
    kind = _suffix(source)
    if not labelled and kind in (".wav", ".npy"):
        yield _one(path, data, size)
        return
    for piece in find_pieces([source], data.encoding):
        text = piece.text()
        if kind == ".ts":
            yield from read_ts(piece.name, text)
        elif "id" in header_of(text) or labelled:
            yield from read_long(piece.name, text)
        else:
            yield read_steps(piece.name, text)


def _one(path: Path, data: DataSettings, size: int | None) -> Signal:
    """Read a file or folder that is one signal."""
    check_name(str(path))
    kind = _suffix(path.name)
    if path.is_dir():
        frames = _frames(path)
        if not frames:
            raise InputError(f"{path} holds no pictures to be the frames of a film")
        pixels, _ = read_pictures([str(frame) for frame in frames], size)
        return Signal(pixels / np.float32(255), None, str(path))
    if kind == ".wav":
        samples, rate = read_wav(path)
        values = samples if data.audio == "samples" else log_bands(samples, rate)
        return Signal(values, None, str(path))
    if kind == ".npy":
        return Signal(read_array(path), None, str(path))
    (piece,) = find_pieces([str(path)], data.encoding)
    return read_steps(piece.name, piece.text())


def read_array(path: Path) -> np.ndarray:
    """Read a signal (T,) or (T, C), or a film (T, H, W) or (T, C, H, W), from a ``.npy`` file.

    Raises:
        InputError: If it is not such.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable .npy file of NumPy's: {error}") from None
    if array.dtype.kind not in "iufb" or array.ndim not in (1, 2, 3, 4) or not array.size:
        raise InputError(
            f"{path} is {array.dtype} {array.shape}; a signal is numbers (T, C), a film (T, H, W)"
        )
    values = array.astype(np.float32)
    if array.ndim > 2 and array.dtype.kind in "iu":
        values /= 255
    match array.ndim:
        case 1:
            return values[:, None]
        case 3:
            return values[:, None]
    return values


def _labelled(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield what lies in the folders of labels, with its label."""
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        for file in sorted(folder.iterdir()):
            film = file.is_dir() and bool(_frames(file))
            if not file.name.startswith(".") and (film or _suffix(file.name) in FILES):
                yield file, folder.name


def _frames(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if not file.name.startswith("."))
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES)


def _is_steps(path: Path) -> bool:
    """Tell whether a table is numbers below its header, if it has one."""
    lines = [line for line in _beginning(path).splitlines() if line.strip()][:2]
    return bool(lines) and is_numeric(lines[-1].replace("\t", ",").split(","))


def _beginning(path: Path) -> str:
    (piece,) = find_pieces([str(path)])
    with piece.open() as file:
        return file.read(1 << 14).decode("utf-8", "replace")


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix
