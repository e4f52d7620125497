"""Texts and what they become: two aligned files, a table of two columns, or pairs that are made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from unrolled.data.dates import written_dates
from unrolled.data.noisy import noisy_phrases
from unrolled.data.read import Piece, find_pieces
from unrolled.errors import InputError

MADE: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "dates": written_dates,
    "noisy": noisy_phrases,
}
"""Name -> what makes pairs from a seed."""
_LINE = "a line is a source, a tab and its target"


@dataclass(frozen=True)
class Pairs:
    """Texts and what each becomes, in order."""

    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    """"file:line", lines counted from 1."""

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.sources)

    def add(self, source: str, target: str, where: str) -> None:
        """Take one more.

        Raises:
            InputError: If one side is empty and the other is not; pairs of nothing are passed over.
        """
        if not source.strip() and not target.strip():
            return
        for side, text in (("source", source), ("target", target)):
            if not text.strip():
                raise InputError(f"{where} has an empty {side}; fill it in or remove the pair")
        self.sources.append(source)
        self.targets.append(target)
        self.where.append(where)


def read_pairs(sources: Sequence[str], encoding: str = "utf-8", seed: int = 0) -> Pairs:
    """Read pairs of texts.

    ==================  ========================================================================
    what                how it is known
    ==================  ========================================================================
    TSV                 ``.tsv``, standard input, or one file alone: a source, a tab and its
                        target on each line; a header that names ``source`` and ``target`` may
                        put them in another order, among other columns
    aligned files       any others, two by two: each line of the first goes with the line of
                        the second
    `dates`, `noisy`    made, see :mod:`unrolled.data.dates` and :mod:`unrolled.data.noisy`
    ==================  ========================================================================

    Args:
        sources: Files, directories, ``"-"`` or data sets, see :func:`unrolled.data.open_text`.
        encoding: Encoding of the files; a byte order mark is passed over.
        seed: Of what is made.

    Raises:
        InputError: If a file is missing or unreadable, lines have no counterpart, a line is not as its
            format says, or there is no pair.
    """
    pairs = Pairs()
    if len(sources) == 1 and sources[0] in MADE and not Path(sources[0]).exists():
        for number, (source, target) in enumerate(MADE[sources[0]](seed)):
            pairs.add(source, target, f"{sources[0]}:{number}")
        return pairs
    pieces = find_pieces(sources, encoding)
    tables = [piece for piece in pieces if _is_table(piece)]
    if len(pieces) == 1 or len(tables) == len(pieces):
        for piece in pieces:
            _table(piece, pairs)
    elif tables or len(pieces) % 2:
        names = ", ".join(piece.name for piece in pieces)
        raise InputError(
            f"{names}: pairs are read from two aligned files, one with the sources and one with the "
            "targets, or from .tsv files alone"
        )
    else:
        for first, second in zip(pieces[::2], pieces[1::2], strict=True):
            _aligned(first, second, pairs)
    if not len(pairs):
        raise InputError(f"{', '.join(sources)} holds no pairs of texts")
    return pairs


def _is_table(piece: Piece) -> bool:
    return piece.name == "standard input" or piece.name.removesuffix(".gz").endswith(".tsv")


def _aligned(first: Piece, second: Piece, pairs: Pairs) -> None:
    one, other = _lines(first), _lines(second)
    if len(one) != len(other):
        short, long = sorted(((len(one), first.name), (len(other), second.name)))
        raise InputError(
            f"{long[1]} has {long[0]:,} lines and {short[1]} {short[0]:,}: line {short[0] + 1:,} of "
            f"{long[1]} has no counterpart"
        )
    for number, (source, target) in enumerate(zip(one, other, strict=True), 1):
        pairs.add(source, target, f"{first.name}:{number}")


def _table(piece: Piece, pairs: Pairs) -> None:
    places, width = (0, 1), 2
    for number, line in enumerate(_lines(piece), 1):
        cells = line.split("\t")
        header = [cell.strip().lower() for cell in cells]
        if number == 1 and {"source", "target"} <= set(header):
            places, width = (header.index("source"), header.index("target")), len(header)
            continue
        if not line.strip():
            continue
        where = f"{piece.name}:{number}"
        if len(cells) != width:
            asked = _LINE if width == 2 else f"its header names {width}"
            raise InputError(f"{where} has {len(cells)} columns; {asked}")
        pairs.add(cells[places[0]], cells[places[1]], where)


def _lines(piece: Piece) -> list[str]:
    text = piece.text().removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    return [line.rstrip("\r\n") for line in StringIO(text)]
