"""Labelled texts from TSV and CSV files, and plain texts, one a line."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from unrolled.data.read import Piece, find_pieces
from unrolled.errors import InputError

LONGEST_FIELD = 1 << 30  # characters; the csv module's own limit is 131,072

COLUMNS = ("text", "label")


@dataclass(frozen=True)
class Table:
    """Texts and their labels, row by row, and where each was read."""

    texts: list[str]
    labels: list[str]
    where: list[str]
    """"file:line", lines counted from 1."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.texts)


def read_table(sources: Sequence[str], encoding: str = "utf-8") -> Table:
    """Read the columns ``text`` and ``label`` of TSV and CSV files; other columns are passed over.

    A ``.tsv`` has one row a line and no quoting; a ``.csv`` has commas and may quote fields with
    ``"``; of other files the header tells. A ``.gz`` of either is read as it is.

    Args:
        sources: Files, directories, ``"-"`` or data sets, see :func:`unrolled.data.open_text`.
        encoding: Encoding of the files; a byte order mark is passed over.

    Raises:
        InputError: If a file is missing, unreadable or has no rows, or a row is not as the header says.
    """
    table = Table([], [], [])
    for piece in find_pieces(sources, encoding):
        _read(piece, table)
    return table


def read_lines(sources: Sequence[str], encoding: str = "utf-8") -> list[str]:
    """Read texts, one a line, without their line ends; blank lines are passed over.

    Raises:
        InputError: If a file is missing or unreadable, or there is no text at all.
    """
    pieces = find_pieces(sources, encoding)
    lines = [line.rstrip("\r\n") for piece in pieces for line in StringIO(_text(piece))]
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise InputError(f"{', '.join(piece.name for piece in pieces)} holds no text")
    return texts


def _read(piece: Piece, table: Table) -> None:
    text = _text(piece)
    csv.field_size_limit(LONGEST_FIELD)
    if _has_tabs(piece.name, text):
        reader = csv.reader(StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    places = (0, 0)
    before = len(table)
    line = 1
    try:
        for row in reader:
            where, line = f"{piece.name}:{line}", reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [name.strip().lower() for name in row]
                places = _places(header, where)
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{where} has {len(row)} fields, but the header names {len(header)} "
                    f"({', '.join(header)})"
                )
            content, label = (row[place] for place in places)
            for column, value in zip(COLUMNS, (content, label), strict=True):
                if not value.strip():
                    raise InputError(f"{where} has an empty {column}; fill it in or remove the row")
            table.texts.append(content)
            table.labels.append(label.strip())
            table.where.append(where)
    except csv.Error as error:
        raise InputError(f"{piece.name}:{line} is not well-formed CSV: {error}") from None
    if len(table) == before:
        raise InputError(
            f"{piece.name} holds no rows; it needs a header that names text and label, and rows below"
        )


def _places(header: list[str], where: str) -> tuple[int, int]:
    for column in COLUMNS:
        if header.count(column) != 1:
            found = "twice" if column in header else "not at all"
            raise InputError(
                f"{where} must name the columns, text and label among them; it names "
                f"{column} {found}: {', '.join(header)[:100]}"
            )
    return header.index("text"), header.index("label")


def _has_tabs(name: str, text: str) -> bool:
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    if suffix in (".tsv", ".csv"):
        return suffix == ".tsv"
    return "\t" in text[: text.find("\n") + 1]


def _text(piece: Piece) -> str:
    return piece.text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")  # the byte order mark
