"""Sequences of tokens with a tag for each: two columns of a file, or the sources of Python's own library."""

import io
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from itertools import chain
from keyword import iskeyword
from pathlib import Path
from typing import Self

import numpy as np

from unrolled.data.read import find_pieces
from unrolled.errors import InputError

PYTHON = "python-tokens"
MODULES = (
    *("argparse", "ast", "calendar", "cmd", "codecs", "configparser", "contextlib", "copy", "csv"),
    *("dataclasses", "datetime", "difflib", "dis", "enum", "fileinput", "fractions", "functools"),
    *("glob", "gzip", "heapq", "inspect", "ipaddress", "locale", "mailbox", "optparse", "pathlib"),
    *(
        "pdb",
        "pickle",
        "platform",
        "plistlib",
        "pprint",
        "random",
        "selectors",
        "shutil",
        "smtplib",
    ),
    *(
        "socket",
        "statistics",
        "string",
        "subprocess",
        "tarfile",
        "tempfile",
        "textwrap",
        "threading",
    ),
    *("traceback", "turtle", "typing", "uuid", "weakref", "zipfile"),
)
"""Modules of the standard library that are read, where there are their sources."""
LONGEST = 400
"""Characters that are kept of a sequence of :func:`python_tokens`."""
SPACE = "SPACE"
PADDING = -1
"""Stands for the number of a tag past a row's end."""


@dataclass(frozen=True)
class Tagged:
    """One sequence."""

    tokens: list[str]
    tags: list[str]
    """As many as there are tokens."""


@dataclass(frozen=True)
class TagBatch:
    """Sequences side by side."""

    ids: np.ndarray
    """(T, B) int64, zero past a row's end."""
    tags: np.ndarray
    """(T, B) int64, `PADDING` past a row's end."""
    lengths: np.ndarray
    """(B,) int64."""


@dataclass(frozen=True)
class Lexicon:
    """The tokens and the tags there are, by number."""

    tokens: list[str]
    """V - 1 of them, most frequent first; the last number stands for all others."""
    tags: list[str]

    @classmethod
    def fit(cls, sequences: Sequence[Tagged], size: int | None) -> Self:
        """Count the tokens of the training split; keep the `size` most frequent."""
        counts = Counter(chain.from_iterable(one.tokens for one in sequences))
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        return cls(ranked[:size], sorted({tag for one in sequences for tag in one.tags}))

    @cached_property
    def _number_of_token(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def _number_of_tag(self) -> dict[str, int]:
        return {tag: i for i, tag in enumerate(self.tags)}

    def ids(self, tokens: Sequence[str]) -> np.ndarray:
        """Numbers of tokens (n,)."""
        number, unknown = self._number_of_token, len(self.tokens)
        return np.array([number.get(token, unknown) for token in tokens], np.int64)

    def numbers(self, tags: Sequence[str]) -> np.ndarray:
        """Numbers of tags (n,).

        Raises:
            InputError: If there is an unknown one.
        """
        number = self._number_of_tag
        try:
            return np.array([number[tag] for tag in tags], np.int64)
        except KeyError as error:
            raise InputError(
                f"the model does not know the tag {error}; it learned {', '.join(self.tags)}"
            ) from None

    def batch(self, sequences: Sequence[Tagged]) -> TagBatch:
        """Put sequences side by side."""
        lengths = np.array([len(one.tokens) for one in sequences], np.int64)
        ids = np.zeros((lengths.max(), len(sequences)), np.int64)
        tags = np.full_like(ids, PADDING)
        for row, one in enumerate(sequences):
            ids[: lengths[row], row] = self.ids(one.tokens)
            tags[: lengths[row], row] = self.numbers(one.tags)
        return TagBatch(ids, tags, lengths)


def read_tagged(sources: Sequence[str], encoding: str = "utf-8") -> list[Tagged]:
    """Read sequences from files of two columns, a token and its tag, with a tab between them.

    A blank line ends a sequence. ``python-tokens`` is what :func:`python_tokens` gives.

    Args:
        sources: Files, directories, ``"-"`` or data sets, see :func:`unrolled.data.open_text`.
        encoding: Encoding of the files.

    Raises:
        InputError: If a file is missing or unreadable, a line has not two columns, or all are empty.
    """
    if list(sources) == [PYTHON]:
        return python_tokens()
    found: list[Tagged] = []
    for piece in find_pieces(sources, encoding):
        now = Tagged([], [])
        text = piece.text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
        for number, line in enumerate(StringIO(f"{text}\n\n"), 1):
            row = line.rstrip("\r\n")
            if not row.strip():
                found += [now] if now.tokens else []
                now = Tagged([], [])
                continue
            token, tab, tag = row.partition("\t")
            if not token or not tab or not tag.strip() or "\t" in tag:
                raise InputError(
                    f"{piece.name}:{number} is {row[:40]!r}; a line is a token, a tab and its tag"
                )
            now.tokens.append(token)
            now.tags.append(tag.strip())
    if not found:
        raise InputError(
            f"{', '.join(sources)} holds no tokens; a line is a token, a tab and its tag"
        )
    return found


def python_tokens() -> list[Tagged]:
    """Give each character of Python's own sources with the type of its token.

    A sequence begins with a line of the outermost level and ends before the next one, or after
    `LONGEST` characters. The types are those of
    :mod:`tokenize`, with KEYWORD apart from NAME, and SPACE between tokens.

    Raises:
        InputError: If this Python has no sources.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found = [
        tagged
        for name in MODULES
        for path in (library / f"{name}.py", library / name / "__init__.py")
        if path.is_file()
        for tagged in tag_python(path.read_bytes())
    ]
    if not found:
        raise InputError(f"this Python has no sources of its library in {library}")
    return found


def tag_python(source: bytes) -> Iterator[Tagged]:
    """Cut a source before each logical line of the outermost level and tag each character.

    Args:
        source: A Python file.
    """
    tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    text = source.decode(tokens[0].string).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    lines = io.StringIO(text).readlines()
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    characters = "".join(lines)
    tags = [SPACE] * len(characters)
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
    for begin, end in zip(outermost, [*outermost[1:], len(characters)], strict=True):
        end = begin + min(LONGEST, len(characters[begin:end].rstrip()))
        yield Tagged(list(characters[begin:end]), tags[begin:end])
