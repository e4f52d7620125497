"""Python's own sources as sequences: each character with the type of its token."""

import io
import sysconfig
import tokenize
from collections.abc import Iterator
from keyword import iskeyword
from pathlib import Path

from unrolled.data.tagged import Tagged
from unrolled.errors import InputError

MODULES = (
    *("argparse", "ast", "calendar", "cmd", "codecs", "configparser", "contextlib", "copy", "csv"),
    *("dataclasses", "datetime", "difflib", "dis", "enum", "fileinput", "fractions", "functools"),
    *("glob", "gzip", "heapq", "inspect", "ipaddress", "locale", "mailbox", "optparse", "pathlib"),
    *("pdb", "pickle", "platform", "plistlib", "pprint", "random", "selectors", "shutil"),
    *("smtplib", "socket", "statistics", "string", "subprocess", "tarfile", "tempfile"),
    *("textwrap", "threading"),
    *("traceback", "turtle", "typing", "uuid", "weakref", "zipfile"),
)
"""Modules of the standard library that are read, where there are their sources."""
LONGEST = 400
"""Characters that are kept of a sequence of :func:`python_tokens`."""
SPACE = "SPACE"


NESTED = ("top", "once", "twice", "deep")
"""What is said of a character by the pairs of brackets it is in; they themselves are in them."""


def python_tokens(*, nested: bool = False) -> list[Tagged]:
    """Give each character of Python's own sources with the type of its token.

    A sequence begins with a line of the outermost level and ends before the next one, or after
    `LONGEST` characters. The types are those of
    :mod:`tokenize`, with KEYWORD apart from NAME, and SPACE between tokens.

    Args:
        nested: Give two tags, the type and one of `NESTED`.

    Raises:
        InputError: If this Python has no sources.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found = [
        tagged
        for name in MODULES
        for path in (library / f"{name}.py", library / name / "__init__.py")
        if path.is_file()
        for tagged in tag_python(path.read_bytes(), nested=nested)
    ]
    if not found:
        raise InputError(f"this Python has no sources of its library in {library}")
    return found


def tag_python(source: bytes, *, nested: bool = False) -> Iterator[Tagged]:
    """Cut a source before each logical line of the outermost level and tag each character.

    Args:
        source: A Python file.
        nested: Give two tags, as :func:`python_tokens` does.
    """
    tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    text = source.decode(tokens[0].string).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    lines = io.StringIO(text).readlines()
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    characters = "".join(lines)
    tags, pairs, opened = [SPACE] * len(characters), [0] * len(characters), []
    outermost, depth, fresh = [], 0, True
    for token in tokens[1:]:
        if token.type in (tokenize.INDENT, tokenize.DEDENT):
            depth += 1 if token.type == tokenize.INDENT else -1
            continue
        if token.type in (tokenize.ENDMARKER, tokenize.NL):
            continue
        begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if fresh and not depth and token.type != tokenize.COMMENT:
            outermost.append(begin)
        fresh = token.type == tokenize.NEWLINE or (fresh and token.type == tokenize.COMMENT)
        if token.type == tokenize.NEWLINE:
            continue
        name = "KEYWORD" if iskeyword(token.string) else tokenize.tok_name[token.type]
        tags[begin:end] = [name] * (end - begin)
        if token.type == tokenize.OP and token.string in "([{":
            opened.append(begin)
        elif token.type == tokenize.OP and token.string in ")]}":
            for place in range(opened.pop(), end):
                pairs[place] += 1
    for begin, end in zip(outermost, [*outermost[1:], len(characters)], strict=True):
        end = begin + min(LONGEST, len(characters[begin:end].rstrip()))
        kinds = tags[begin:end]
        if nested:
            kinds = [
                (kind, NESTED[min(depth, len(NESTED) - 1)])
                for kind, depth in zip(kinds, pairs[begin:end], strict=True)
            ]
        yield Tagged(list(characters[begin:end]), kinds)
