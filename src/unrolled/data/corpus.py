"""A text as symbol ids on disk: split by characters, encoded once, read through the memory map.

The cache holds one directory a corpus, named by a hash of the text and of the settings that matter.
It is filled under another name and renamed when it is complete, so it is whole or not there; of
several processes that prepare the same corpus at once, the first to finish gives it its name.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.data.advice import advising
from unrolled.data.cache import cache_dir, partial_directory, writing_to
from unrolled.data.read import NAME_IT, TextSource, open_text, open_texts
from unrolled.data.splits import Split, shares, sources_of
from unrolled.data.vocabulary import Vocabulary, fit_vocabulary
from unrolled.errors import InputError
from unrolled.settings import DataSettings

FORMAT = 1  # of the cached files; another number makes them be written anew
SUBWORD_SAMPLE = 32_000_000  # characters from which subwords are learnt at most,
SUBWORD_STRETCHES = 16  # in so many stretches spread evenly over the training text

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the characters done, and how many there are."""


@dataclass(frozen=True)
class Part:
    """A stretch of text as ids.

    Attributes:
        ids: The symbols, (symbols,) of the vocabulary's dtype, a read-only memory map.
        characters: How many characters (code points) they spell.
    """

    ids: np.ndarray
    characters: int

    def __len__(self) -> int:
        """Count the symbols."""
        return len(self.ids)


@dataclass(frozen=True)
class Corpus:
    """The three parts of a text, in reading order, and the SHA-256 of it all."""

    training: Part
    validation: Part
    test: Part
    digest: str


def prepare_corpus(
    data: DataSettings, progress: Progress | None = None
) -> tuple[Corpus, Vocabulary]:
    """Read, split and encode a text, or find that it is all in the cache.

    Of N characters, the first ``int(split[0] * N)`` are for training, those up to
    ``int((split[0] + split[1]) * N)`` for validation, the rest for testing, unless there is text of their
    own for these: then the others' fractions are of their sum. The vocabulary is fitted on the training
    part only. Subwords are learnt from at most 32 million characters of it.

    Raises:
        InputError: If the text is missing, unreadable, empty, or does not suit the settings.
        RunError: If the cache directory cannot be written.
    """
    own = sources_of(data)
    with advising({"encoding": f"{NAME_IT}, or read any bytes with `--symbols byte`"}):
        source, ends = open_texts(
            [data.source, *own.values()], data.encoding, any_bytes=data.symbols == "byte"
        )
    ranges = _ranges(source, ends, data.split, [*own])
    first = ranges["training"][1]
    key = {
        "text": source.digest,
        "ranges": ranges,
        "symbols": data.symbols,
        "vocabulary_size": data.vocabulary_size,
        "unknown": data.unknown,
    }
    notify = progress or _silent

    def fit() -> Vocabulary:
        chunks = _sample(source, first) if data.symbols == "subword" else source.chunks(0, first)
        return fit_vocabulary(_counted(chunks, "counting symbols", first, notify), data)

    parts, vocabulary = _cached(key, source, ranges, fit, notify)
    return Corpus(**parts, digest=source.digest), vocabulary


def encode_sources(
    sources: Sequence[str],
    vocabulary: Vocabulary,
    encoding: str = "utf-8",
    progress: Progress | None = None,
) -> Part:
    """Encode other text with a vocabulary that is there already; cached as a corpus is.

    Raises:
        InputError: If the text is missing, unreadable or empty, or a closed vocabulary lacks a symbol.
        RunError: If the cache directory cannot be written.
    """
    source = open_text(sources, encoding, any_bytes=vocabulary.kind == "byte")
    key = {"text": source.digest, "vocabulary": vocabulary.to_json()}
    ranges = {"text": (0, source.characters)}
    parts, _ = _cached(key, source, ranges, lambda: vocabulary, progress or _silent)
    return parts["text"]


def _ranges(
    source: TextSource, ends: Sequence[int], split: Sequence[float], elsewhere: Sequence[Split]
) -> dict[Split, tuple[int, int]]:
    """Find the first character of each part, and the one after its last."""
    whole = ends[0]
    training, validation, test = shares(split, elsewhere).tolist() if elsewhere else split
    first = int(training * whole)
    # Without a test part the last characters must not fall to it by rounding.
    second = int((training + validation) * whole) if test else whole
    if not first:
        raise InputError(
            f"{', '.join(source.names)} is too short: of {whole} characters none is left for "
            "training; give more text or a larger first fraction of --split"
        )
    within: dict[Split, tuple[int, int]] = {
        "training": (0, first),
        "validation": (first, second),
        "test": (second, whole),
    }
    within.update(zip(elsewhere, pairwise(ends), strict=True))
    return within


def _sample(source: TextSource, stop: int) -> Iterator[str]:
    """Yield the text before `stop`, or of a longer one evenly spaced stretches."""
    stretches = SUBWORD_STRETCHES if stop > SUBWORD_SAMPLE else 1
    length = min(stop, SUBWORD_SAMPLE) // stretches
    for number in range(stretches):
        start = stop * number // stretches
        yield from source.chunks(start, start + length)


def _cached(
    key: Mapping[str, Any],
    source: TextSource,
    ranges: Mapping[Any, tuple[int, int]],
    fit: Callable[[], Vocabulary],
    notify: Progress,
) -> tuple[dict[str, Part], Vocabulary]:
    room = cache_dir() / "corpora"
    written = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    final = room / hashlib.sha256(written.encode()).hexdigest()[:32]
    found = _load(final)
    if found is None:
        vocabulary = fit()
        with writing_to(room), partial_directory(room) as partial:
            _write(partial, source, ranges, vocabulary, notify)
            found = _publish(partial, final)
    return found


def _write(
    directory: Path,
    source: TextSource,
    ranges: Mapping[Any, tuple[int, int]],
    vocabulary: Vocabulary,
    notify: Progress,
) -> None:
    total = sum(stop - start for start, stop in ranges.values())
    done, parts = 0, {}
    for name, (start, stop) in ranges.items():
        chunks = _counted(source.chunks(start, stop), "encoding", total, notify, done)
        with (directory / name).open("wb") as file:
            symbols = 0
            for ids in vocabulary.encode_chunks(chunks):
                file.write(ids.data)
                symbols += len(ids)
            file.flush()
            os.fsync(file.fileno())
        done += stop - start
        parts[name] = {"symbols": symbols, "characters": stop - start}
    (directory / "corpus.json").write_text(
        json.dumps({"parts": parts, "vocabulary": vocabulary.to_json()}), "utf-8"
    )


def _publish(partial: Path, final: Path) -> tuple[dict[str, Part], Vocabulary]:
    if _load(final) is None:
        shutil.rmtree(final, ignore_errors=True)  # damaged
    try:
        partial.rename(final)
    except OSError:
        if not final.exists():
            raise
        # Another process was faster, and wrote the same.
    loaded = _load(final)
    if loaded is None:
        raise OSError("a corpus just written cannot be read")
    return loaded


def _load(directory: Path) -> tuple[dict[str, Part], Vocabulary] | None:
    """Open a cached corpus; ``None`` if it is not there or not whole."""
    try:
        table = json.loads((directory / "corpus.json").read_text("utf-8"))
        vocabulary = Vocabulary.from_json(table["vocabulary"], str(directory))
        parts = {
            name: Part(_map(directory / name, part["symbols"], vocabulary), part["characters"])
            for name, part in table["parts"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return parts, vocabulary


def _map(path: Path, symbols: int, vocabulary: Vocabulary) -> np.ndarray:
    if path.stat().st_size != symbols * vocabulary.dtype.itemsize:
        raise ValueError(f"{path} is not whole")
    if not symbols:  # an empty file cannot be mapped
        return np.zeros(0, vocabulary.dtype)
    return np.memmap(path, vocabulary.dtype, mode="r")


def _counted(
    chunks: Iterable[str], what: str, total: int, notify: Progress, done: int = 0
) -> Iterator[str]:
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        notify(what, done, total)


def _silent(what: str, done: int, total: int) -> None:
    pass
