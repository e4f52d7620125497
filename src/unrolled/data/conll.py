"""Words and tags in columns: CoNLL-U by the `conllu` library, and the plain columns of older tasks."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from unrolled.data.tagged import Tagged
from unrolled.errors import InputError

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
UNIVERSAL, PLAIN = "universal", "plain"
"""Kinds of files."""
NOTHING = "_"
"""How CoNLL-U writes that a column has no value."""
DOCUMENT = "-DOCSTART-"
"""Stands where a word would, between the documents of CoNLL-2003."""
NAMED = re.compile(r"\.conllup?(\.gz)?$")
"""How files of CoNLL-U are called."""
GLOBAL = re.compile(r"#\s*global\.columns\s*=\s*(.*)")


def read_conll(name: str, lines: Iterable[str], columns: Sequence[str] = ()) -> Iterator[Tagged]:
    """Read sequences of words and tags; a blank line ends a sequence.

    CoNLL-U is known by the end of the file's name, ``.conllu``, or by ten columns with tabs of which the
    first counts; ranges of words (``3-4``) and empty nodes (``8.1``) are passed over. Of any other file a
    line is a word and its tag, with further columns between or beside them or not, and tabs between all
    columns, or else spaces.

    Args:
        name: What the file is called.
        lines: Its lines, of which one sequence at a time is held.
        columns: The word's and the tag's, or the tag's alone, by number from 1 (from the end: -1), or by
            name: those of CoNLL-U, ``feats.Number`` for one of the features, or what a first line
            ``# global.columns = FORM TAG`` says. By default ``form, upos``, else the first and the last.

    Raises:
        InputError: If a line has not the columns of the first one, a column is not there, or a word
            or a tag is empty; the sentence says where.
    """
    if len(columns) > 2:
        raise InputError(
            f"--columns {','.join(columns)} names {len(columns)}; a tagger reads two, word and tag"
        )
    usual = {UNIVERSAL: ("form", "upos"), PLAIN: ("1", "-1")}
    if len(columns) == 1:
        usual = {kind: (word, columns[0]) for kind, (word, _) in usual.items()}
    elif columns:
        usual = dict.fromkeys(usual, columns)
    found = _sequences(name, lines, usual)
    return (Tagged(words, [tag for (tag,) in tags], name) for words, tags in found)


def read_several(name: str, lines: Iterable[str], columns: Sequence[str] = ()) -> Iterator[Tagged]:
    """Read sequences of words with several tags each, a tuple; else as :func:`read_conll`.

    Args:
        name: What the file is called.
        lines: Its lines.
        columns: The word's, and two tags' or more; by default ``form, upos, xpos``, else all.

    Raises:
        InputError: If fewer than two tags are named; else as :func:`read_conll`.
    """
    if columns and len(columns) < 3:
        raise InputError(
            f"--columns {','.join(columns)} names {len(columns) - 1} besides the words; several tasks are "
            "two or more, as in form,upos,xpos"
        )
    usual = {UNIVERSAL: columns or ("form", "upos", "xpos"), PLAIN: columns}
    return (Tagged(words, tags, name) for words, tags in _sequences(name, lines, usual))


def _sequences(
    name: str, lines: Iterable[str], columns: Mapping[str, Sequence[str]]
) -> Iterator[tuple[list[str], list[tuple[str, ...]]]]:
    """Give the words of each sequence, and a tuple of tags for each of them.

    Args:
        name: What the file is called.
        lines: Its lines.
        columns: Those of the word and the tags, by the kind of file; of a plain one all, if none are named.
    """
    lines, head = iter(lines), []
    for line in lines:
        head.append(line)
        if line.strip() and not line.startswith("# "):
            break
    heading = GLOBAL.match(head[0]) if head else None
    names = heading[1].lower().split() if heading else []
    if NAMED.search(name) or _looks_universal("".join(head[-1:])):
        return _universal(name, chain(head, lines), columns[UNIVERSAL], names or list(CONLLU))
    if heading:
        head[0] = "\n"
    return _plain(name, chain(head, lines), columns[PLAIN], names)


def _looks_universal(line: str) -> bool:
    first = line.split("\t")
    return len(first) == len(CONLLU) and bool(re.fullmatch(r"1(-\d+)?", first[0]))


def _universal(
    name: str, lines: Iterable[str], columns: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[list[str], list[tuple[str, ...]]]]:
    import conllu
    from conllu.exceptions import ParseException

    chosen = [_named(column, names, name) for column in columns]
    _told_apart(chosen, columns, name)
    for start, block in _blocks(lines):
        where = f"{name}:{start}"
        try:
            sentences = conllu.parse(block, fields=names)
        except ParseException as error:
            raise InputError(f"{where}: the sentence is not CoNLL-U ({error})") from None
        for sentence in sentences:
            whole = [token for token in sentence if isinstance(token.get("id", 1), int)]
            for token in whole:
                for column in chosen:
                    if column.partition(".")[0] not in token:
                        raise InputError(
                            f"{where}: a line of the sentence has {len(token)} columns, but {column} is "
                            f"number {names.index(column.partition('.')[0]) + 1} of {len(names)}"
                        )
            if whole:
                values = [[_value(token, column) for column in chosen] for token in whole]
                yield [word for word, *_ in values], [tuple(tags) for _, *tags in values]


def _named(column: str, names: Sequence[str], file: str) -> str:
    """Give the name of a column of CoNLL-U."""
    number = _number(column)
    if number is not None:
        if not 1 <= abs(number) <= len(names):
            raise InputError(f"{file} has no column {number}; it has {len(names)}")
        return names[number - 1 if number > 0 else number]
    known, _, feature = column.partition(".")
    if known.lower() not in names:
        raise InputError(f"{file} has no column {column!r}; it has {', '.join(names)}")
    return f"{known.lower()}.{feature}" if feature else known.lower()


def _value(token: Mapping[str, Any], column: str) -> str:
    name, _, feature = column.partition(".")
    value = token[name]
    if feature:
        value = value.get(feature) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):  # features, all of them
        value = "|".join(f"{key}={one}" for key, one in value.items())
    return str(value) if value else NOTHING


def _plain(
    name: str, lines: Iterable[str], columns: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[list[str], list[tuple[str, ...]]]]:
    words: list[str] = []
    tags: list[tuple[str, ...]] = []
    width, first, tabs = 0, 0, None
    places: list[int] = []
    for number, line in enumerate(chain(lines, ("\n",)), 1):
        row = line.rstrip("\r\n")
        if not row.strip():
            if words:
                yield words, tags
            words, tags = [], []
            continue
        tabs = "\t" in row if tabs is None else tabs
        parts = row.split("\t") if tabs else row.split()
        where = f"{name}:{number}"
        if not width:
            width, first = len(parts), number
            places = _places(columns, names, width, where)
            _told_apart([place % width for place in places], columns, where)
        if len(parts) != width:
            raise InputError(
                f"{where} has {_counted(len(parts))}, {row[:40]!r}, but line {first} has {width}; a line "
                "is a word and its tag, with a tab or a space between"
            )
        word, *others = (parts[place] for place in places)
        if not word or not all(tag.strip() for tag in others):
            raise InputError(f"{where} is {row[:40]!r}: the {'tag' if word else 'word'} is empty")
        if word != DOCUMENT:
            words.append(word)
            tags.append(tuple(tag.strip() for tag in others))


def _told_apart(chosen: Sequence[object], columns: Sequence[str], where: str) -> None:
    """Refuse the word's own column as a tag's, which would be learned at once and tell nothing."""
    word, *tags = chosen
    if columns and word in tags:
        raise InputError(
            f"{where}: column {columns[0]} is the word and would be its own tag; name the column of the "
            "tags with --columns"
        )


def _places(columns: Sequence[str], names: Sequence[str], width: int, where: str) -> list[int]:
    """Give where word and tags stand in a line; the word first if no columns are named."""
    if width < 2:
        raise InputError(
            f"{where} has one column; a line is a word and its tag, with a tab or a space between"
        )
    found = []
    for column in columns or [str(place + 1) for place in range(width)]:
        number = _number(column)
        if number is None and column.lower() in names:
            number = names.index(column.lower()) + 1
        if number is None:
            known = ", ".join(names) or "none: give its number, as in --columns 1,2"
            raise InputError(f"{where}: no column is named {column!r}; names there are {known}")
        if not 1 <= abs(number) <= width:
            raise InputError(f"{where} has no column {number}; it has {_counted(width)}")
        found.append(number - 1 if number > 0 else number)
    return found


def _number(column: str) -> int | None:
    return int(column) if re.fullmatch(r"-?\d+", column) else None


def _counted(columns: int) -> str:
    return f"{columns} column{'s' if columns > 1 else ''}"


def _blocks(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Give each sentence with its comments, and the number of its first line."""
    block: list[str] = []
    for number, line in enumerate(chain(lines, ("\n",)), 1):
        if line.strip():
            block.append(line.rstrip("\r\n"))
        elif block:
            if not all(one.startswith("#") for one in block):
                yield number - len(block), "\n".join(block) + "\n\n"
            block = []
