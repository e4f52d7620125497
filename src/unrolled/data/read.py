"""Text sources: files, directories, standard input and data sets, read as one long text.

The text is the files end to end, exactly as they are: line ends are not translated and a byte order
mark is kept (``encoding="utf-8-sig"`` drops it). It is never held in memory: a first pass counts its
characters, hashes it, and notes places from which decoding can start again.
"""

import bisect
import codecs
import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from unrolled.data.advice import Advised
from unrolled.data.builtin import BUILTINS
from unrolled.data.cache import cache_dir, writing_to
from unrolled.errors import InputError

BLOCK = 4 << 20  # bytes read at once, and so at most as many characters
SNIFFED = 8192  # bytes by which a binary file is known
NAME_IT = "name its encoding, as in `--encoding latin-1`"
MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # the byte order mark


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what can go wrong with a file into one sentence about it.

    Raises:
        InputError: If the file is missing, unreadable or a damaged ``.gz``, or its name is no text.
    """
    check_name(name)
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"no file at {name}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{name} is damaged ({error}); get it or compress it again") from None
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None


def check_name(name: str) -> None:
    """Refuse a file whose name no other file could hold: a model directory names what it learned from.

    Raises:
        InputError: If the bytes of the name are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise InputError(f"the name {shown} is not utf-8; rename the file or folder") from None


class Place(NamedTuple):
    """Where decoding can start: the characters before it, the file, its byte, the decoder's state."""

    character: int
    piece: int
    offset: int
    state: Any


@dataclass(frozen=True)
class Piece:
    """One file of a source, or a built-in text."""

    name: str
    path: Path | None
    encoding: str
    errors: str = "strict"
    content: bytes = b""

    def open(self) -> BinaryIO:
        """Open the bytes, decompressed."""
        if self.path is None:
            return BytesIO(self.content)
        if self.path.suffix == ".gz":
            return cast(BinaryIO, gzip.open(self.path, "rb"))
        return self.path.open("rb")

    def blocks(self, offset: int = 0, state: Any = None) -> Iterator[tuple[str, int, Any]]:  # noqa: ANN401
        """Decode from a byte onwards; yields (text, the byte after it, the decoder's state there).

        Raises:
            InputError: If the file is unreadable or damaged, or holds bytes that are not text.
        """
        decoder = codecs.getincrementaldecoder(self.encoding)(self.errors)
        if state is not None:
            decoder.setstate(state)
        with reading(self.name), self.open() as file:
            file.seek(offset)
            while block := file.read(BLOCK):
                offset += len(block)
                yield self._decode(decoder, block, offset), offset, decoder.getstate()
        yield self._decode(decoder, b"", offset, final=True), offset, decoder.getstate()

    def text(self) -> str:
        """Give the whole text; for files that are known to be small."""
        return "".join(text for text, _, _ in self.blocks())

    def head(self) -> str:
        """Give how the text begins, without a byte order mark."""
        return next(text for text, _, _ in self.blocks()).removeprefix(MARK)

    def lines(self, newline: str = "\n") -> Iterator[str]:
        """Give the lines with their ends, without a byte order mark; the file may be larger than memory.

        Args:
            newline: Lines end at a line feed; with ``""`` at a carriage return, too, as those of tables do.
        """
        rest, marked = "", True
        for text, _, _ in self.blocks():
            if marked and text:
                text, marked = text.removeprefix(MARK), False
            whole = [*StringIO(rest + text, newline=newline)]
            # A line feed may follow the carriage return that is last, and the last line may go on.
            rest = whole.pop() if whole else ""
            yield from whole
        if rest:
            yield from StringIO(rest, newline=newline)

    def _decode(
        self, decoder: codecs.IncrementalDecoder, block: bytes, end: int, *, final: bool = False
    ) -> str:
        try:
            return decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # error.object is the block with what the decoder still held before it.
            offset = end - len(error.object) + error.start
            raise Advised(
                "encoding",
                f"{self.name} is not {self.encoding}: byte 0x{error.object[error.start]:02x} at offset "
                f"{offset:,}",
                NAME_IT,
            ) from None
        except UnicodeError as error:
            raise Advised(
                "encoding", f"{self.name} is not {self.encoding} ({error})", NAME_IT
            ) from None

    def is_text(self) -> bool:
        """Guess from the beginning: binary files hold zero bytes, and so does UTF-16 and UTF-32."""
        if self.errors == "surrogateescape" or codecs.lookup(self.encoding).name[:6] in (
            "utf-16",
            "utf-32",
        ):
            return True
        with reading(self.name), self.open() as file:
            return b"\0" not in file.read(SNIFFED)


class TextSource:
    """One long text of one or many pieces; made by :func:`open_text`.

    Attributes:
        names: What the pieces are called, in reading order.
        characters: How many characters (code points) there are.
        digest: SHA-256 of the text as UTF-8, in hexadecimal, whatever its files' encoding.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = tuple(pieces)
        self._places: list[Place] = []
        self.names = tuple(piece.name for piece in pieces)
        self.characters = 0
        content = hashlib.sha256()
        for number, piece in enumerate(pieces):
            before = self.characters
            self._places.append(Place(before, number, 0, None))
            for text, offset, state in piece.blocks():
                content.update(text.encode("utf-8", "surrogatepass"))
                self.characters += len(text)
                self._places.append(Place(self.characters, number, offset, state))
            if self.characters == before:
                raise InputError(f"{piece.name} is empty; there is nothing to read")
        self.digest = content.hexdigest()

    def end(self, pieces: int) -> int:
        """Count the characters of the first so many pieces."""
        return max(place.character for place in self._places if place.piece < pieces)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Yield the characters [start, stop), a few million at a time.

        Raises:
            InputError: If a file has become shorter since it was opened.
        """
        stop = self.characters if stop is None else min(stop, self.characters)
        waiting: list[str] = []
        size = 0
        for text in self._texts(start, stop):
            waiting.append(text)
            size += len(text)
            if size >= BLOCK // 2:  # many small files make few chunks
                yield "".join(waiting)
                waiting, size = [], 0
        if waiting:
            yield "".join(waiting)

    def _texts(self, start: int, stop: int) -> Iterator[str]:
        if start >= stop:
            return
        first = bisect.bisect_right(self._places, start, key=lambda place: place.character) - 1
        position, number, offset, state = self._places[first]
        for piece in self._pieces[number:]:
            for text, _, _ in piece.blocks(offset, state):
                wanted = text[max(0, start - position) : stop - position]
                position += len(text)
                if wanted:
                    yield wanted
                if position >= stop:
                    return
            offset, state = 0, None
        raise InputError(f"{self.names[-1]} changed while it was read; start again")


def open_text(
    sources: Sequence[str], encoding: str = "utf-8", *, any_bytes: bool = False
) -> TextSource:
    """Open files, directories, ``"-"`` (standard input) and data sets by name as one text.

    A path that exists wins over a data set of that name. Of a directory all text files are read,
    recursively and sorted by path; hidden and binary ones are skipped. A ``.gz`` is decompressed.

    Args:
        sources: What to read, in this order.
        encoding: Encoding of the files. What is built in, and a set of the catalogue while this is
            "utf-8", is read in its own encoding.
        any_bytes: Read whatever the bytes are, as byte vocabularies do: as UTF-8 in which any other
            byte becomes a lone surrogate (PEP 383), so that encoding gives the very same bytes.

    Raises:
        InputError: If a source is missing, empty, unreadable or damaged, or is not in the encoding.
        RunError: If standard input cannot be spooled to the cache directory.
    """
    return open_texts([sources], encoding, any_bytes=any_bytes)[0]


def open_texts(
    groups: Iterable[Sequence[str]], encoding: str = "utf-8", *, any_bytes: bool = False
) -> tuple[TextSource, list[int]]:
    """Open several groups of sources, each as `open_text` does, as one text.

    Returns:
        The text, and where each group ends in it.
    """
    found = [find_pieces(sources, encoding, any_bytes=any_bytes) for sources in groups]
    source = TextSource([piece for pieces in found for piece in pieces])
    return source, [source.end(number) for number in accumulate(map(len, found))]


def find_pieces(
    sources: Sequence[str], encoding: str = "utf-8", *, any_bytes: bool = False
) -> list[Piece]:
    """Find the files behind `sources`, as :func:`open_text` does, without reading them."""
    if not sources or not all(sources):
        raise InputError("no text is given; name a file, a directory, '-' or a data set")
    if list(sources).count("-") > 1:
        raise InputError("standard input ('-') can be read only once")
    _check_encoding(encoding)
    coding = ("utf-8", "surrogateescape") if any_bytes else (encoding, "strict")
    return [piece for source in sources for piece in _pieces_of(source, coding)]


def _pieces_of(source: str, coding: tuple[str, str]) -> list[Piece]:
    path = Path(source)
    if source == "-":
        return [_spool("standard input", sys.stdin.buffer, coding)]
    with reading(source):
        if path.is_dir():
            return _directory(path, coding)
        if path.is_file():
            return [Piece(source, path, *coding)]
        if path.exists():  # a pipe, as of the shell's <(command)
            with path.open("rb") as stream:
                return [_spool(source, stream, coding)]
    return _named(source, coding)


def _directory(directory: Path, coding: tuple[str, str]) -> list[Piece]:
    found: list[Path] = []
    for folder, folders, files in os.walk(directory, onerror=_give_up):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    full = [path for path in sorted(found) if path.is_file() and path.stat().st_size]
    pieces = [piece for path in full if (piece := Piece(str(path), path, *coding)).is_text()]
    if not pieces:
        raise InputError(f"the directory {directory} holds no text files; name another, or a file")
    return pieces


def _give_up(error: OSError) -> None:
    raise error


def _named(source: str, coding: tuple[str, str]) -> list[Piece]:
    encoding, errors = coding
    if builtin := BUILTINS.get(source):
        if builtin.text is None:
            raise InputError(f"{source} is no text; it is for `unrolled train {builtin.task}`")
        return [Piece(source, None, "utf-8", errors, builtin.text().encode())]
    from unrolled.data import catalogue

    entry = catalogue.find(source)
    if entry is None:
        raise InputError(
            f"no file, directory or data set is named {source!r}; {catalogue.suggest(source)}"
        )
    if entry.apart:
        names = ", ".join(f"{source}/{file.name}" for file in entry.files)
        raise InputError(
            f"the files of {source} are sets of their own; name what you want of {names}"
        )
    if errors == "strict" and encoding == "utf-8":
        encoding = entry.encoding
    return [Piece(str(path), path, encoding, errors) for path in catalogue.get(source)]


def _spool(name: str, stream: BinaryIO, coding: tuple[str, str]) -> Piece:
    """Copy a stream to a file, as it can be read only once; the file goes away with the piece."""
    room = cache_dir() / "spool"
    with writing_to(room):
        descriptor, path = tempfile.mkstemp(dir=room)
        piece = Piece(name, Path(path), *coding)
        weakref.finalize(piece, Path(path).unlink, missing_ok=True)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(stream, file, BLOCK)
    return piece


def _check_encoding(encoding: str) -> None:
    try:
        "a".encode(encoding)
        codecs.getincrementaldecoder(encoding)
    except LookupError:
        raise InputError(
            f"no text encoding is named {encoding!r}; usual ones are utf-8, latin-1, cp1252 and utf-16"
        ) from None
    except UnicodeError:  # an encoding without an "a" is still one
        pass
