"""Labelled rows of numbers: tables with a column of labels, and two small sets of scikit-learn's."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.data.read import Piece, find_pieces
from unrolled.errors import InputError

BUILT_IN = ("iris", "wine")
LABEL = "label"
OTHERS = {"text", "id"}
"""Columns that say that a table holds texts or signals."""


@dataclass
class Rows:
    """Rows of numbers."""

    columns: list[str]
    """Names of the numbers' columns."""
    values: list[list[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Empty where none were asked for."""
    where: list[str] = field(default_factory=list)
    """"file:line" of each, lines counted from 1."""


def is_rows(sources: Sequence[str]) -> bool:
    """Tell whether sources are such tables, by their names and how they begin."""
    return bool(sources) and all(map(_is_table, sources))


def _is_table(source: str) -> bool:
    path = Path(source)
    if not path.is_file():
        return source in BUILT_IN
    if Path(source.lower().removesuffix(".gz")).suffix not in (".csv", ".tsv"):
        return False
    (piece,) = find_pieces([source])
    with piece.open() as file:
        begin = file.read(1 << 14).decode("utf-8", "replace")
    rows = list(csv.reader(begin.splitlines()[:2], delimiter=_delimiter(source)))
    if len(rows) < 2 or len(rows[0]) != len(rows[1]):
        return False
    names = [name.strip().lower() for name in rows[0]]
    if LABEL not in names or len(names) < 2 or OTHERS & set(names):
        return False
    return all(_is_number(cell) for name, cell in zip(names, rows[1], strict=True) if name != LABEL)


def read_rows(
    sources: Sequence[str], encoding: str = "utf-8", *, columns: Sequence[str] = ()
) -> Rows:
    """Read labelled rows of numbers.

    Args:
        sources: CSV or TSV files whose header names a column ``label`` and columns of numbers; also
            ``.gz``; ``iris`` and ``wine`` are built in.
        encoding: Encoding of the files.
        columns: Those to take, in this order, as a model was trained on them; without labels a table
            needs no column for these. All, if left out.

    Raises:
        InputError: If a file is missing or has no rows, a column is missing, or a cell is no number.
    """
    found = Rows([])
    for source in sources:
        if source in BUILT_IN and not Path(source).exists():
            _built_in(source, found)
            continue
        for piece in find_pieces([source], encoding):
            _take(piece, list(columns) or found.columns, found)
    if columns and list(columns) != found.columns:
        raise InputError(
            f"{sources[0]} has the columns {', '.join(found.columns)}; the model was trained on "
            f"{', '.join(columns)}"
        )
    return found


def parse_row(text: str, columns: Sequence[str]) -> list[float]:
    """Read numbers with commas between them.

    Raises:
        InputError: If there are fewer or more than columns, or one is no number.
    """
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) != len(columns):
        raise InputError(
            f"{text!r} has {len(cells)} numbers, but the model reads {len(columns)}: "
            f"{', '.join(columns)}"
        )
    return [_number(cell, text, name) for cell, name in zip(cells, columns, strict=True)]


def _take(piece: Piece, columns: list[str], found: Rows) -> None:
    content = piece.text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    lines = _lines(piece.name, content)
    _, header = next(lines, ("", []))
    names = [name.strip() for name in header]
    label = next((k for k, name in enumerate(names) if name.lower() == LABEL), None)
    if label is None:
        raise InputError(f"{piece.name} names no column label in its first row: {', '.join(names)}")
    own = columns or [name for k, name in enumerate(names) if k != label]
    if missing := [name for name in own if name not in names]:
        raise InputError(
            f"{piece.name} has no column {missing[0]}; the first row names the columns"
        )
    found.columns = own
    places = [names.index(name) for name in own]
    before = len(found.values)
    for where, cells in lines:
        if len(cells) != len(names):
            raise InputError(f"{where} has {len(cells)} cells, but the header has {len(names)}")
        if not cells[label].strip():
            raise InputError(f"{where} has an empty label; fill it in or remove the row")
        found.values.append([_number(cells[k], where, names[k]) for k in places])
        found.labels.append(cells[label].strip())
        found.where.append(where)
    if len(found.values) == before:
        raise InputError(f"{piece.name} holds no rows below its header")


def _lines(name: str, content: str) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(StringIO(content, newline=""), delimiter=_delimiter(name))
    try:
        yield from ((f"{name}:{reader.line_num}", cells) for cells in reader if any(cells))
    except csv.Error as error:
        raise InputError(f"{name}:{reader.line_num} cannot be read: {error}") from None


def _delimiter(name: str) -> str:
    return "\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _number(cell: str, where: str, column: str) -> float:
    if not _is_number(cell):
        told = repr(cell) if cell.strip() else "empty"
        raise InputError(f"{where}: column {column} is {told}, not a number")
    return float(cell)


def _built_in(name: str, found: Rows) -> None:
    from sklearn import datasets

    bunch: Any = datasets.load_iris() if name == "iris" else datasets.load_wine()
    names = [each.removesuffix(" (cm)").replace(" ", "_") for each in bunch["feature_names"]]
    if found.columns and found.columns != names:
        raise InputError(f"{name} has the columns {', '.join(names)}, unlike what was given before")
    found.columns = names
    found.values += np.asarray(bunch["data"], float).tolist()
    found.labels += [str(bunch["target_names"][k]) for k in bunch["target"]]
    found.where += [f"{name}:{k}" for k in range(len(bunch["target"]))]
