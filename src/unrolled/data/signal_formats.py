"""Signals from text, one format a function. T steps, C channels; NaN stands for a missing value."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from unrolled.errors import InputError

MISSING = ("", "?", "nan", "na", "null")
BESIDES = ("id", "label", "time")
"""Columns of a long table that are no channels."""


class Signal(NamedTuple):
    """One signal, or film."""

    values: np.ndarray
    """(T, C) float32, or (T, C, H, W) from 0 to 1."""
    label: str | None
    where: str


def read_ts(name: str, text: str) -> Iterator[Signal]:
    """Read the UCR/UEA archive's format: ``@`` headers, then a signal a line.

    Channels are separated by colons, their values by commas, ``?`` is missing, and the label comes last
    unless ``@classLabel false`` says that there is none.

    Raises:
        InputError: If a line is not so, or has another number of channels or a label than is declared.
    """
    header: dict[str, list[str]] = {}
    for number, line in enumerate(StringIO(text), 1):
        line, where = line.strip().lstrip("\N{ZERO WIDTH NO-BREAK SPACE}"), f"{name}:{number}"
        if not line or line.startswith("#"):
            continue
        if "data" in header:
            yield _ts_line(line, where, header)
        elif line.startswith("@"):
            key, *values = line[1:].split()
            header[key.lower()] = values
            if key.lower() == "data" and header.get("timestamps", ["false"])[0].lower() == "true":
                raise InputError(f"{name} has time stamps, which are not read; write values alone")
        else:
            raise InputError(f"{where} stands before @data; a .ts file begins with @ headers")


def _ts_line(line: str, where: str, header: dict[str, list[str]]) -> Signal:
    labelled, *known = header.get("classlabel", ["true"])
    *channels, last = line.split(":")
    label = last.strip() if labelled.lower() == "true" else None
    if label is None:
        channels.append(last)
    elif known and label not in known:
        raise InputError(f"{where} has the label {label!r}, but @classLabel {', '.join(known)}")
    declared = header.get("dimensions")
    if not channels or (declared and len(channels) != int(declared[0])):
        wanted = declared[0] if declared else "some"
        raise InputError(f"{where} has {len(channels)} channels, but there should be {wanted}")
    columns = [
        _numbers(channel.split(","), f"{where}, channel {place}")
        for place, channel in enumerate(channels, 1)
    ]
    for place, column in enumerate(columns, 1):
        if len(column) != len(columns[0]):
            raise InputError(
                f"{where}: channel {place} has {len(column)} values, but channel 1 has {len(columns[0])}"
            )
    return Signal(np.stack(columns, 1), label, where)


def read_steps(name: str, text: str) -> Signal:
    """Read a table that is one signal: a row a step, a column a channel, with a header or without.

    Raises:
        InputError: If it has no rows, or a row is not as long as the others or not numbers.
    """
    rows = list(_rows(name, text))
    if rows and not is_numeric(rows[0][1]):
        del rows[0]
    if not rows:
        raise InputError(f"{name} holds no rows of numbers")
    width = len(rows[0][1])
    for where, row in rows:
        if len(row) != width:
            raise InputError(f"{where} has {len(row)} cells, but the first row {width}")
    return Signal(np.stack([_numbers(row, where) for where, row in rows]), None, name)


def read_long(name: str, text: str) -> Iterator[Signal]:
    """Read a long table of many signals: rows of the same ``id`` are the steps of one.

    The header names ``id``; perhaps ``label``, the same throughout a signal; perhaps ``time``, which must
    rise; all other columns are channels.

    Raises:
        InputError: If a column is not there, a row is not numbers, or label or time are not so.
    """
    rows = _rows(name, text)
    where, header = next(rows, (name, []))
    header = [column.strip() for column in header]
    place = {column.lower(): i for i, column in enumerate(header)}
    channels = [i for i, column in enumerate(header) if column.lower() not in BESIDES]
    if "id" not in place or not channels:
        raise InputError(f"{where} must name a column id and channels; it names {header}")
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for where, row in rows:
        if len(row) != len(header):
            raise InputError(f"{where} has {len(row)} cells, but the header names {len(header)}")
        found.setdefault(row[place["id"]].strip(), []).append((where, row))
    if not found:
        raise InputError(f"{name} holds no rows below its header")
    for steps in found.values():
        first, label = steps[0][0], None
        if "label" in place:
            label = steps[0][1][place["label"]].strip()
            for where, row in steps:
                if row[place["label"]].strip() != label:
                    raise InputError(f"{where} has another label than {first}, of the same id")
        if "time" in place:
            times = [_numbers([row[place["time"]]], where)[0] for where, row in steps]
            for n, (before, after) in enumerate(pairwise(times), 1):
                if not after > before:
                    raise InputError(f"{steps[n][0]}: time does not rise within the id")
        values = [_numbers([row[i] for i in channels], where) for where, row in steps]
        yield Signal(np.stack(values), label, first)


def header_of(text: str) -> list[str]:
    """Give the cells of a table's first row, in lower case."""
    _, row = next(_rows("", text[: 1 << 16]), ("", []))
    return [cell.strip().lower() for cell in row]


def is_numeric(row: Sequence[str]) -> bool:
    """Tell whether cells are numbers or missing."""
    try:
        _numbers(row, "")
    except InputError:
        return False
    return True


def _rows(name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield where a row stands, and its cells; separated by tabs if the first line has any."""
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    first = text[: text.find("\n") + 1] or text
    reader = csv.reader(StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",")
    try:
        for row in reader:
            if row:
                yield f"{name}:{reader.line_num}", row
    except csv.Error as error:
        raise InputError(f"{name}:{reader.line_num} is not well-formed CSV: {error}") from None


def _numbers(cells: Sequence[str], where: str) -> np.ndarray:
    """Read cells as float32; NaN where missing."""
    values = np.empty(len(cells), np.float32)
    for place, cell in enumerate(cells):
        try:
            values[place] = np.nan if cell.strip().lower() in MISSING else float(cell)
        except ValueError:
            values[place] = np.inf
        if np.isinf(values[place]):
            raise InputError(
                f"{where}, value {place + 1}: {cell.strip()[:40]!r} is not a number"
            ) from None
    return values
