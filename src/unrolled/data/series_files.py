"""Files of series: CSV with a header, or Parquet; a column of time; values that are missing.

N steps, K columns.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from unrolled.data.advice import Advised
from unrolled.data.read import Piece, find_pieces
from unrolled.data.signals import filled
from unrolled.data.times import Clock, moment, read_times
from unrolled.errors import InputError
from unrolled.settings import DataSettings, Settings

NOTHING = ("", "na", "nan", "null", "none", "?")
"""What stands for a value that is missing, in lower case."""


@dataclass(frozen=True)
class Numbers:
    """A series as it was read."""

    names: list[str]
    values: np.ndarray
    """(N, K) float64."""
    clock: Clock | None
    """``None`` without a column of time."""
    known: int
    """Steps of which all columns are there; less than N where those after have a known future only."""


@dataclass(frozen=True)
class _Cells:
    """A table before its cells are understood."""

    name: str
    columns: dict[str, list[Any]]
    where: Callable[[int], str]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_series(
    sources: Sequence[str],
    settings: Settings,
    columns: Sequence[str] | None = None,
    length: int | None = None,
    open_end: Sequence[str] = (),
) -> Numbers:
    """Read a series.

    Args:
        sources: One file, ``"-"``, or data set of one file, see :func:`unrolled.data.open_text`; CSV
            with a header, or Parquet if it is called ``.parquet``.
        settings: ``columns``, ``encoding`` and ``missing`` of the data; ``time``.
        columns: Which to read, in this order; those of the settings if left out, else all but the time.
        length: How many rows to read (default: all).
        open_end: Columns that may be missing in the last rows, all at once: the future of the others.

    Raises:
        InputError: If there are several files, a column is not there, a row or cell is bad, or the time
            goes on unevenly; the sentence says where.
    """
    cells = _read_cells(find_pieces(sources, settings.data.encoding))
    time = _time_column(cells, settings.forecast.time)
    wanted = list(columns or settings.data.columns) or [c for c in cells.columns if c != time]
    _there([*wanted, *([time] if time else ())], cells)
    values = np.array([_column(cells, name) for name in wanted]).T[:length]
    rows = np.arange(len(values))
    clock = None
    if time:
        fills = settings.data.missing in ("forward", "interpolate")
        moments = cells.columns[time][:length]
        if settings.data.missing != "drop":
            clock, places = read_times(moments, time, cells.where, gaps=fills)
            if len(places) and places[-1] >= len(values):
                spread = np.full((places[-1] + 1, len(wanted)), np.nan)
                spread[places] = values
                rows = np.zeros(len(spread), int)
                rows[places] = np.arange(len(values))
                values = spread
    known = len(values)
    if open_end:
        ends = [wanted.index(name) for name in open_end]
        there = np.flatnonzero(~np.isnan(values[:, ends]).all(1))
        known = int(there[-1]) + 1 if len(there) else 0
    values, known = _filled(values, known, wanted, rows, cells, settings.data.missing)
    return Numbers(wanted, values, clock, known)


def read_columns(
    sources: Sequence[str], data: DataSettings, columns: Sequence[str] = ()
) -> tuple[list[str], np.ndarray]:
    """Read rows that stand alone, in no order.

    Args:
        sources: Files of the same columns, as :func:`read_series` reads them.
        data: ``encoding``, ``length`` (rows of all files) and ``missing``: error or drop.
        columns: Which to read, in this order; all of the first file if left out.

    Returns:
        The names of the columns, and the numbers (N, K).

    Raises:
        InputError: If a column is not there or a cell is no number or missing; the sentence says where.
    """
    if data.missing not in ("error", "drop"):
        raise InputError(
            f"--missing {data.missing} takes rows in order of time; give error or drop"
        )
    names, parts = [*columns], []
    for piece in find_pieces(sources, data.encoding):
        cells = _read_cells([piece])
        names = names or [*cells.columns]
        values = np.array([_column(cells, name) for name in _there(names, cells)]).T
        kept = np.arange(len(values))
        parts.append(_filled(values, len(values), names, kept, cells, data.missing)[0])
    return names, np.concatenate(parts)[: data.length]


def _there(names: Sequence[str], cells: _Cells) -> Sequence[str]:
    """See that there are columns of these names."""
    for name in names:
        if name not in cells.columns:
            raise InputError(
                f"{cells.name} has no column {name!r}; it has {', '.join(cells.columns)[:200]}"
            )
    return names


def _filled(
    values: np.ndarray,
    known: int,
    names: Sequence[str],
    rows: np.ndarray,
    cells: _Cells,
    missing: str,
) -> tuple[np.ndarray, int]:
    """Do about missing values what the settings say; those of an open end become 0."""
    gone: np.ndarray = np.isnan(values)
    after = np.arange(len(values))[:, None] >= known
    beyond = after & np.all(gone[known:], 0)
    gone &= ~beyond
    if missing == "error" and gone.any():
        row, column = np.argwhere(gone)[0]
        raise Advised(
            "missing",
            f"{cells.where(int(rows[row]))}: the value of {names[column]} is missing",
            "fill it in, or say --missing forward, interpolate or drop",
        )
    if missing == "drop":
        kept = np.flatnonzero(~gone.any(1))
        return np.where(beyond, 0, values)[kept], int(np.sum(kept < known))
    for column, name in enumerate(names):
        end = known if beyond[-1, column] else len(values)
        values[:end, [column]] = filled(values[:end, [column]], missing, f"{cells.name}, {name}")
    return np.where(beyond, 0, values), known


def _read_cells(pieces: Sequence[Piece]) -> _Cells:
    if len(pieces) != 1:
        names = ", ".join(piece.name for piece in pieces)
        raise InputError(f"a series is one file, but {names} are {len(pieces)}")
    piece = pieces[0]
    cells = _parquet(piece) if piece.name.endswith(".parquet") else _csv(piece)
    if not len(cells):
        raise InputError(f"{piece.name} has no rows below its header")
    return cells


def _once(header: Sequence[str], name: str) -> None:
    """Refuse a header in which two columns have one name: only one of them would be read."""
    for column in header:
        if header.count(column) > 1:
            raise InputError(
                f"{name} names the column {column!r} twice; give each a name of its own"
            )


def _csv(piece: Piece) -> _Cells:
    text = piece.text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    reader = csv.reader(StringIO(text, newline=""))
    header = [column.strip() for column in next(reader, [])]
    if not header:
        raise InputError(f"{piece.name} is empty; it needs a header and rows of numbers")
    _once(header, piece.name)
    rows: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise InputError(
                f"{piece.name}:{reader.line_num} has {len(row)} cells, but the header names {len(header)}"
            )
        rows.append(row)
        lines.append(reader.line_num)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    return _Cells(piece.name, columns, lambda row: f"{piece.name}:{lines[row]}")


def _parquet(piece: Piece) -> _Cells:
    try:
        from pyarrow import ArrowException, parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"{piece.name}: reading Parquet takes pyarrow; install it, or unrolled[parquet]"
        ) from None
    try:
        with piece.open() as file:
            table = parquet.read_table(file)
    except (ArrowException, OSError) as error:
        raise InputError(f"{piece.name} is not a readable Parquet file: {error}") from None
    _once([*map(str, table.column_names)], piece.name)
    columns = {str(name): table.column(name).to_pylist() for name in table.column_names}
    return _Cells(piece.name, columns, lambda row: f"{piece.name}, row {row + 1}")


def _time_column(cells: _Cells, wanted: str | None) -> str | None:
    """Find the column of time: the one that is named, or the first whose first cell is no number."""
    if wanted is not None:
        return wanted
    for name, column in cells.columns.items():
        if _float(column[0]) is None and moment(column[0]) is not None:
            return name
    return None


def _column(cells: _Cells, name: str) -> list[float]:
    """Read a column; ``nan`` where a value is missing."""
    values = []
    for row, cell in enumerate(cells.columns[name]):
        if cell is None or str(cell).strip().lower() in NOTHING:
            values.append(np.nan)
            continue
        value = _float(cell)
        if value is None:
            raise InputError(
                f"{cells.where(row)}: {str(cell).strip()[:40]!r} in {name} is not a number; "
                "--columns chooses others"
            )
        if not np.isfinite(value):
            raise InputError(f"{cells.where(row)}: {cell} in {name} is not a finite number")
        values.append(value)
    return values


def _float(cell: Any) -> float | None:  # noqa: ANN401 - whatever a table holds
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
