"""Texts with labels, one format a function: each reads lines, and yields texts, labels and their places."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from unrolled.errors import InputError

LONGEST_FIELD = 1 << 30  # characters; the csv module's own limit is 131,072
COLUMNS = ("text", "label")
FASTTEXT = "__label__"
ESCAPES = {"-LRB-": "(", "-RRB-": ")"}


class Row(NamedTuple):
    """One text."""

    text: str
    label: str
    where: str
    """"file:line", lines counted from 1."""
    phrases: tuple[tuple[str, str], ...] = ()
    """Of a tree, every phrase with its label, the whole text first."""


def delimited(name: str, lines: Iterable[str], *, tabs: bool) -> Iterator[Row]:
    """Read a header that names text and label, and rows below: quoted and with commas, or with tabs."""
    csv.field_size_limit(LONGEST_FIELD)
    if tabs:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    places = (0, 0)
    line = 1
    try:
        for row in reader:
            where, line = f"{name}:{line}", reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [column.strip().lower() for column in row]
                places = _places(header, where)
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{where} has {len(row)} fields, but the header names {len(header)} "
                    f"({', '.join(header)})"
                )
            content, label = (row[place] for place in places)
            yield Row(content, label.strip(), where)
    except csv.Error as error:
        raise InputError(f"{name}:{line} is not well-formed CSV: {error}") from None


def json_lines(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """Read an object a line, with text and label; a label may be a number."""
    for where, line in _lines(name, lines):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where} is not JSON ({error}); write one object a line") from None
        if not isinstance(record, dict) or not record.keys() >= set(COLUMNS):
            raise InputError(f"{where} must be an object with text and label, not {line[:60]}")
        content, label = (record[column] for column in COLUMNS)
        if not isinstance(content, str) or not isinstance(label, str | int):
            raise InputError(f"{where} must have a text that is a string, and a label that is one")
        yield Row(content, str(label).strip(), where)


def fasttext(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """Read fastText's lines: ``__label__NAME`` and the text."""
    for where, line in _lines(name, lines):
        label, _, content = line.strip().partition(" ")
        if not label.startswith(FASTTEXT) or FASTTEXT in content:
            found = line.count(FASTTEXT)
            raise InputError(
                f"{where} must begin with one {FASTTEXT}NAME, the only one; it has {found or 'none'}"
            )
        yield Row(content.strip(), label.removeprefix(FASTTEXT), where)


def trees(name: str, lines: Iterable[str]) -> Iterator[Row]:
    """Read trees in brackets, every part with a label: ``(3 (2 It) (4 shines))``, one a line."""
    for where, line in _lines(name, lines):
        phrases = sorted(_parts(line, where), key=len, reverse=True)
        whole = [(" ".join(words), label) for label, *words in phrases]
        yield Row(*whole[0], where, tuple(dict.fromkeys(whole)))


def plain(name: str, lines: Iterable[str], label: str) -> Iterator[Row]:
    """Read a text a line, all of one label."""
    for where, line in _lines(name, lines):
        yield Row(line.strip(), label, where)


def looks_like(text: str) -> str:
    """Guess the format of a text by how it begins: fasttext, json_lines, trees or delimited."""
    head = text.lstrip()[:64]
    if head.startswith(FASTTEXT):
        return "fasttext"
    if head.startswith("{"):
        return "json_lines"
    return "trees" if re.match(r"\(\S+ \(", head) else "delimited"


def _lines(name: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{name}:{number}", line.rstrip("\r\n")


def _parts(line: str, where: str) -> Iterator[list[str]]:
    """Give the label and the words of every part of a tree."""
    open_: list[list[str]] = []
    closed = False
    for token in re.findall(r"\(|\)|[^\s()]+", line):
        if closed or (token != "(" and not open_):
            raise InputError(f"{where} is not one tree in brackets")
        if token == "(":
            open_.append([])
        elif token == ")":
            part = open_.pop()
            if len(part) < 2:
                raise InputError(f"{where} has a part without a label or without words")
            yield part
            if open_:
                open_[-1] += part[1:]
            closed = not open_
        else:
            plain: str = token.replace(r"\/", "/")
            open_[-1].append(ESCAPES.get(plain, plain))
    if not closed:
        raise InputError(f"{where} lacks a closing bracket")


def _places(header: list[str], where: str) -> tuple[int, int]:
    for column in COLUMNS:
        if header.count(column) != 1:
            found = "twice" if column in header else "not at all"
            raise InputError(
                f"{where} must name the columns, text and label among them; it names "
                f"{column} {found}: {', '.join(header)[:100]}"
            )
    return header.index("text"), header.index("label")
