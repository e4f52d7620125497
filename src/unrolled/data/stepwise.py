"""Vectors with a label, or with numbers to tell, at each step: tables, and sound with a label track.

T steps, I input columns, O target columns.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path

import numpy as np

from unrolled.data.advice import Advised
from unrolled.data.audio import HOP, WINDOW, log_bands, read_wav
from unrolled.data.read import Piece, find_pieces
from unrolled.data.signal_formats import BESIDES, MISSING
from unrolled.data.signals import filled
from unrolled.data.tagged import Tagged
from unrolled.errors import InputError
from unrolled.settings import DataSettings

APART, _, CLOCK = BESIDES
"""Columns that tell sequences apart, and that are passed over."""
USUAL = ("label", "tag")
"""Names of a target, if none are given."""
SILENT = "none"
"""The label of frames that a label track says nothing of."""


@dataclass(frozen=True)
class Stepwise:
    """What was read."""

    columns: list[str]
    """Names of the inputs (I)."""
    targets: list[str]
    """Names of the targets (O); one where there are labels."""
    sequences: list[Tagged]

    @property
    def numeric(self) -> bool:
        """Whether targets are numbers."""
        return isinstance(self.sequences[0].tags, np.ndarray)


@dataclass(frozen=True)
class _Row:
    where: str
    cells: list[str]
    apart: object
    """The same for all steps of a sequence."""


def is_stepwise(sources: Sequence[str]) -> bool:
    """Tell by their names whether sources are tables (``.csv``) or sound (``.wav``)."""
    return any(_suffix(source) in (".csv", ".wav") or _sounds(source) for source in sources)


def read_stepwise(
    sources: Sequence[str],
    data: DataSettings,
    *,
    columns: Sequence[str] = (),
    targets: Sequence[str] = (),
    numeric: bool | None = None,
    told: bool = True,
) -> Stepwise:
    """Read sequences of vectors, and what belongs to each step.

    Of a ``.csv`` file with a header a row is a step; a blank line, or another value in a column ``id``,
    begins a new sequence; a column ``time`` is passed over. A ``.wav`` file, or each of a folder, becomes
    log power in bands, 100 frames a second, and takes its labels from the file of the same name that ends
    in ``.txt``: lines of start, end (seconds) and label with tabs between, as Audacity writes a label track.

    Args:
        sources: Files, or folders of ``.wav``.
        data: ``columns``, ``targets``, ``missing`` and ``encoding`` count.
        columns: The inputs a model knows, instead of ``data.columns``, else all that are left.
        targets: The targets it knows, instead of ``data.targets``, else ``label``, ``tag`` or the last.
        numeric: Whether targets are numbers, if that is known. Else they are where there are several
            columns, or one with fractions.
        told: Whether there must be targets.

    Raises:
        InputError: If a file, a column or a label track is not there, a cell is empty or not a number
            (the sentence says in which row and column), or there are no rows.
    """
    if any(_suffix(source) == ".wav" or _sounds(source) for source in sources):
        heard = _read_sound(sources, told=told)
        if columns and list(columns) != heard.columns:
            raise InputError(
                f"{', '.join(sources)} is sound; the model reads {', '.join(columns)[:200]}"
            )
        return heard
    columns, targets = columns or data.columns, targets or data.targets
    found: list[tuple[np.ndarray, list[_Row], str]] = []
    places: list[int] = []
    header: list[str] = []
    for piece in find_pieces(sources, data.encoding):
        header, rows = _rows(piece)
        targets = [*targets] or ([_target(header, piece.name)] if told else [])
        columns = [*columns] or [c for c in header if c not in (*targets, APART, CLOCK)]
        inputs = _places(header, columns, piece.name)
        places = _places(header, targets, piece.name) if told else []
        for _, steps in groupby(rows, key=lambda row: row.apart):
            steps = list(steps)
            stops = data.missing == "error"
            values = np.array(
                [[_number(row, i, header, empty=not stops) for i in inputs] for row in steps]
            )
            if data.missing == "drop":
                kept = np.flatnonzero(~np.isnan(values).any(1))
                values, steps = values[kept], [steps[n] for n in kept]
            if steps:
                values = filled(values, data.missing, steps[0].where)
                found.append((values, steps, piece.name))
    if not found or not columns:
        raise InputError(f"{', '.join(sources)} holds no rows of numbers below a header")
    if numeric is None:
        cells = [row.cells[place] for _, steps, _ in found for row in steps for place in places]
        numeric = len(targets) > 1 or (told and _fractional(cells))
    sequences = [
        Tagged(values, _tags(steps, places, header, numeric=numeric), name)
        for values, steps, name in found
    ]
    return Stepwise(list(columns), list(targets), sequences)


def _rows(piece: Piece) -> tuple[list[str], list[_Row]]:
    text = piece.text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    reader = csv.reader(StringIO(text, newline=""))
    header = [cell.strip() for cell in next(reader, [])]
    if not header:
        raise InputError(f"{piece.name} is empty; it needs a header and rows of numbers")
    rows, gaps = [], 0
    apart = header.index(APART) if APART in header else None
    for cells in reader:
        where = f"{piece.name}:{reader.line_num}"
        if not any(cell.strip() for cell in cells):
            gaps += 1
            continue
        if len(cells) != len(header):
            raise InputError(f"{where} has {len(cells)} cells, but the header names {len(header)}")
        rows.append(_Row(where, cells, (gaps, None if apart is None else cells[apart])))
    return header, rows


def _target(header: Sequence[str], name: str) -> str:
    usual = [column for column in header if column.lower() in USUAL]
    left = [column for column in header if column not in (APART, CLOCK)]
    if len(left) < 2:
        raise InputError(f"{name} needs a column to read and one to tell; it has {', '.join(left)}")
    return usual[0] if usual else left[-1]


def _places(header: Sequence[str], wanted: Sequence[str], name: str) -> list[int]:
    for column in wanted:
        if column not in header:
            raise InputError(f"{name} has no column {column!r}; it has {', '.join(header)[:200]}")
    return [header.index(column) for column in wanted]


def _number(row: _Row, place: int, header: Sequence[str], *, empty: bool) -> float:
    """Read a cell; where `empty` may be, it is NaN."""
    cell = row.cells[place].strip()
    if empty and cell.lower() in MISSING:
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        value = np.inf
    if not np.isfinite(value):
        if cell:
            raise InputError(f"{row.where}: {cell[:40]!r} in {header[place]} is not a number")
        raise Advised(
            "missing",
            f"{row.where}: the value of {header[place]} is missing",
            "of inputs --missing fills it",
        )
    return value


def _fractional(cells: Sequence[str]) -> bool:
    """Tell whether cells are numbers, one of them at least with a fraction."""
    try:
        return any(not float(cell).is_integer() for cell in cells)
    except ValueError:
        return False


def _tags(
    steps: Sequence[_Row], places: Sequence[int], header: Sequence[str], *, numeric: bool
) -> np.ndarray | list[str]:
    if numeric:
        rows = [[_number(row, place, header, empty=False) for place in places] for row in steps]
        return np.array(rows)
    for row in steps:
        for place in places:
            if not row.cells[place].strip():
                raise InputError(f"{row.where}: the value of {header[place]} is missing")
    return [row.cells[place].strip() for row in steps for place in places]


def _sounds(source: str) -> list[Path]:
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else []
    return [file for file in files if file.suffix.lower() == ".wav"]


def _read_sound(sources: Sequence[str], *, told: bool) -> Stepwise:
    sequences = []
    for source in sources:
        for path in _sounds(source) or [Path(source)]:
            if path.suffix.lower() != ".wav":
                raise InputError(f"{path} is no .wav file, as the others are")
            frames = log_bands(*read_wav(path)).astype(np.float64)
            tags = _track(path.with_suffix(".txt"), len(frames)) if told else []
            sequences.append(Tagged(frames, tags, str(path)))
    columns = [f"band {n}" for n in range(1, sequences[0].steps.shape[1] + 1)]
    return Stepwise(columns, ["label"], sequences)


def _track(path: Path, frames: int) -> list[str]:
    """Read the label of each frame: what the track says of its middle."""
    (piece,) = find_pieces([str(path)])
    middle = np.arange(frames) * HOP + WINDOW / 2
    names = np.full(frames, SILENT, object)
    for number, line in _lines(piece):
        where = f"{piece.name}:{number}"
        cells = line.split("\t")
        try:
            start, end, label = float(cells[0]), float(cells[1]), cells[2].strip()
        except (ValueError, IndexError):
            raise InputError(
                f"{where} is {line[:40]!r}; a line is start, end (seconds) and label, with tabs between"
            ) from None
        names[(start <= middle) & (middle < end)] = label or SILENT
    return names.tolist()


def _lines(piece: Piece) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(StringIO(piece.text()), 1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix
