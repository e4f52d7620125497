"""Labelled texts from files of many formats, and plain texts, one a line."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unrolled.data import labelled, stored
from unrolled.data.images import SUFFIXES
from unrolled.data.labelled import COLUMNS, Row
from unrolled.data.read import Piece, find_pieces
from unrolled.data.stored import Store, Stored
from unrolled.errors import InputError

TABLES = (".tsv", ".csv")
NO_TEXT = (*SUFFIXES, ".npy", ".npz", ".wav")
"""Files that hold one example without its label."""
JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Table:
    """Texts and their labels, row by row, and where each was read; there may be more than memory holds."""

    texts: Stored[str]
    labels: list[str]
    where: Stored[str]
    """"file:line", lines counted from 1; the file where it is one text."""
    phrases: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    """Of each row that is a tree, all phrases with their labels; else nothing."""

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.texts)


def read_table(sources: Sequence[str], encoding: str = "utf-8") -> Table:
    """Read labelled texts.

    ==========================  ================================================================
    what                        how it is known
    ==========================  ================================================================
    TSV, CSV                    ``.tsv`` (no quoting), ``.csv`` (commas, ``"`` quotes); of other
                                files the header tells. A header names the columns, ``text`` and
                                ``label`` among them; others are passed over
    JSON Lines                  ``.jsonl``, or it begins with ``{``: an object a line with
                                ``text`` and ``label``
    fastText                    lines begin with ``__label__NAME``
    trees                       lines as ``(3 (2 It) (4 shines))``: a label for every phrase
    a folder per label          a directory with nothing but directories, named by label, of
                                text files, each one text
    a file per label            of the data sets that have it so (``names``, ``mr_polarity``)
    ==========================  ================================================================

    A ``.gz`` of any of them is read as it is.

    Args:
        sources: Files, directories, ``"-"`` or data sets, see :func:`unrolled.data.open_text`.
        encoding: Encoding of the files; a byte order mark is passed over.

    Raises:
        InputError: If a file is missing, unreadable or has no rows, or a row is not as its format says.
    """
    making = _Making()
    if list(sources).count("-") > 1 or not sources:
        find_pieces(sources, encoding)  # which says what is wrong
    for source in sources:
        _check_kind(Path(source))
        folders = _label_folders(Path(source))
        if folders:
            rows = (row for folder in folders for row in _folder(folder, encoding))
            making.take(source, rows)
            continue
        label = _label_of_file(source)
        for piece in find_pieces([source], encoding):
            if label and piece.path:
                found = label.fullmatch(piece.path.name.removesuffix(".gz"))
                told = found[1] if found else piece.path.stem
                rows = labelled.plain(piece.name, piece.lines(), told)
            else:
                rows = _rows(piece)
            making.take(piece.name, rows)
    return making.done()


def read_lines(sources: Sequence[str], encoding: str = "utf-8") -> list[str]:
    """Read texts, one a line, without their line ends; blank lines are passed over.

    Raises:
        InputError: If a file is missing or unreadable, or there is no text at all.
    """
    pieces = find_pieces(sources, encoding)
    lines = [line.rstrip("\r\n") for piece in pieces for line in piece.lines()]
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise InputError(f"{', '.join(piece.name for piece in pieces)} holds no text")
    return texts


class _Making:
    """A table that grows row by row."""

    def __init__(self) -> None:
        self._texts: Store[str] = stored.texts()
        self._where: Store[str] = stored.texts()
        self._labels: list[str] = []
        self._phrases: list[tuple[tuple[str, str], ...]] = []

    def take(self, name: str, rows: Iterator[Row]) -> None:
        """Take the rows of a file."""
        before = len(self._labels)
        for row in rows:
            for column, value in zip(COLUMNS, (row.text, row.label), strict=True):
                if not value.strip():
                    raise InputError(
                        f"{row.where} has an empty {column}; fill it in or remove the row"
                    )
            self._texts.add(row.text)
            self._where.add(row.where)
            self._labels.append(sys.intern(row.label))
            self._phrases.append(row.phrases)
        if len(self._labels) == before:
            raise InputError(
                f"{name} holds no rows; it needs a header that names text and label, and rows below"
            )

    def done(self) -> Table:
        """Give the table."""
        return Table(self._texts.done(), self._labels, self._where.done(), self._phrases)


def _rows(piece: Piece) -> Iterator[Row]:
    name = piece.name
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    if suffix in TABLES:
        return labelled.delimited(name, piece.lines(""), tabs=suffix == ".tsv")
    head = piece.head()
    match "json_lines" if suffix in JSON else labelled.looks_like(head):
        case "json_lines":
            return labelled.json_lines(name, piece.lines())
        case "fasttext":
            return labelled.fasttext(name, piece.lines())
        case "trees":
            return labelled.trees(name, piece.lines())
    tabs = "\t" in head[: head.find("\n") + 1]
    return labelled.delimited(name, piece.lines(""), tabs=tabs)


def _check_kind(path: Path) -> None:
    """Refuse pictures, sounds and arrays that no folder gives a label.

    Raises:
        InputError: If `path` is such a file, or a folder of nothing else.
    """
    if path.is_dir():
        found = [one for one in path.iterdir() if not one.name.startswith(".")]
        if not found or not all(one.suffix.lower() in NO_TEXT for one in found):
            return
    elif not path.is_file() or path.suffix.lower() not in NO_TEXT:
        return
    raise InputError(
        f"{path} has no labels: pictures, sounds and .npy arrays are read from a folder that holds a folder "
        "for each label, with its files inside"
    )


def _label_folders(path: Path) -> list[Path]:
    """Give the folders of a folder per label; nothing if `path` is none."""
    if not path.is_dir():
        return []
    inside = [one for one in sorted(path.iterdir()) if not one.name.startswith(".")]
    if not inside or not all(one.is_dir() for one in inside):
        return []
    files = (file for one in inside for file in one.rglob("*") if file.is_file())
    tables = any(Path(f.name.removesuffix(".gz")).suffix.lower() in (*TABLES, *JSON) for f in files)
    return [] if tables else inside


def _folder(folder: Path, encoding: str) -> Iterator[Row]:
    for piece in find_pieces([str(folder)], encoding):
        yield Row("".join(piece.lines()).strip(), folder.name, piece.name)


def _label_of_file(source: str) -> re.Pattern[str] | None:
    """Give how a data set's files name their label; ``None`` where they do not."""
    from unrolled.data import catalogue

    entry = None if Path(source).exists() else catalogue.find(source)
    return re.compile(entry.label) if entry and entry.label else None
