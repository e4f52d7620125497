"""Music of several notes at once: MIDI files, or lists of notes in JSON, as the JSB chorales have them."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from unrolled.data.midi import KEYS, LOWEST, midi_files, read_midi
from unrolled.data.read import Piece, find_pieces
from unrolled.data.sequences import Asked, Sequences, Source
from unrolled.data.splits import SPLITS, Split, borders, drawn
from unrolled.errors import InputError
from unrolled.settings import Settings

PARTS: dict[Split, str] = {"training": "train", "validation": "valid", "test": "test"}
"""What a file of JSON, which has its own splits, calls them, and folders of MIDI files that have."""
SIXTEENTHS = 4
"""Steps of a quarter note that MIDI files are cut into, where nobody says how many."""

_log = logging.getLogger(__name__)


def read_music(piece: Piece) -> dict[str, list[np.ndarray]]:
    """Read music: part of the file -> its pieces, each 0 or 1 for 88 keys, (T, 88).

    A file is ``{"train": [piece, ...], "valid": ..., "test": ...}``, a piece a list of steps, a step the
    list of the MIDI notes that sound, 21 ... 108.

    Raises:
        InputError: If the file is not so.
    """
    try:
        parts = json.loads(piece.text())
    except ValueError as error:
        raise InputError(f"{piece.name} is not JSON: {error}") from None
    if not isinstance(parts, dict) or not all(isinstance(part, list) for part in parts.values()):
        raise InputError(f"{piece.name} must be an object of lists of pieces: train, valid, test")
    return {
        name: [rolled(steps, f"{piece.name}: piece {n} of {name}") for n, steps in enumerate(part)]
        for name, part in parts.items()
    }


def rolled(steps: Any, where: str) -> np.ndarray:  # noqa: ANN401 - whatever the JSON holds
    """Lay out steps, each a list of MIDI notes, as 0 or 1 for 88 keys (T, 88).

    Raises:
        InputError: If they are not so; `where` opens the sentence.
    """
    if not isinstance(steps, list):
        raise InputError(f"{where} is not a list of steps")
    roll = np.zeros((len(steps), KEYS))
    for t, notes in enumerate(steps):
        for note in notes if isinstance(notes, list) else [notes]:
            if not isinstance(note, int) or not 0 <= note - LOWEST < KEYS:
                raise InputError(
                    f"{where}, step {t}: {note!r} is not a MIDI note from {LOWEST} to {LOWEST + KEYS - 1}"
                )
            roll[t, note - LOWEST] = 1
    return roll


class Music(Source):
    """Pieces of music: at each step which of 88 keys sound at the next.

    Args:
        settings: ``training``, and of MIDI files ``data.split`` and ``forecast.quarter`` count.
        pieces: Split -> rolls (T, 88); ``None`` if restored.
        openings: The MIDI notes with which pieces of the training split begin.
        quarter: Steps of a quarter note.
    """

    kind = "music"
    examples = ("piece.json", "more-pieces.json")
    binary = True
    inputs = outputs = KEYS

    def __init__(
        self,
        settings: Settings,
        pieces: Mapping[Split, list[np.ndarray]] | None = None,
        openings: Sequence[Sequence[int]] = (),
        quarter: int = 1,
    ) -> None:
        self.settings, self.pieces, self.openings = settings, pieces or {}, openings
        self.quarter = settings.forecast.quarter or quarter

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read the music; pieces of fewer than two steps are passed over.

        MIDI files are shuffled by the seed and split, unless they lie in folders train, valid and test.
        """
        sources = settings.data.source
        midi = bool(midi_files(sources))
        own = cls(settings, quarter=SIXTEENTHS if midi else 1)
        parts = own._read(sources)
        if midi and parts.keys() != set(PARTS.values()):
            return cls(settings, *_shared_out(parts, settings), own.quarter)
        pieces: dict[Split, list[np.ndarray]] = {}
        for split, name in PARTS.items():
            pieces[split] = parts.get(name, [])
            if not pieces[split]:
                raise InputError(
                    f"{', '.join(sources)} has no pieces of two steps or more in {name!r}"
                )
        return cls(settings, pieces, _openings(pieces["training"]), own.quarter)

    def _read(self, sources: Sequence[str]) -> dict[str, list[np.ndarray]]:
        """Read pieces of two steps or more: part of the file, or folder of MIDI files -> rolls (T, 88)."""
        files = midi_files(sources)
        if not files:
            found = read_music(_one(sources, self.settings.data.encoding))
        else:
            found: dict[str, list[np.ndarray]] = {}
            for path in files:
                rolls = found.setdefault(path.parent.name, [])
                rolls.append(read_midi(path, self.quarter))
        return {name: [roll for roll in rolls if len(roll) > 1] for name, rolls in found.items()}

    @classmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """Rebuild from the openings and the steps of a quarter note."""
        return cls(settings, openings=table.get("openings", ()), quarter=table.get("quarter", 1))

    def to_json(self) -> dict[str, Any]:
        """Give the openings and the steps of a quarter note."""
        return {"openings": self.openings, "quarter": self.quarter}

    @property
    def epoch(self) -> int:
        """Pieces to train on."""
        return len(self.pieces["training"])

    @property
    def digest(self) -> str:
        """A hash of all rolls."""
        digest = hashlib.sha256()
        for pieces in self.pieces.values():
            for roll in pieces:
                digest.update(np.packbits(roll.astype(bool)).tobytes())
        return digest.hexdigest()

    def batch(self, step: int, rows: slice) -> Sequences:
        """Whole pieces, shuffled anew in every epoch."""
        training = self.settings.training
        chosen = drawn(self.epoch, training.seed, training.batch_size, step, rows)
        return _side_by_side([self.pieces["training"][n] for n in chosen])

    def held_out(self, split: Split) -> Iterator[Sequences]:
        """All pieces of a split side by side."""
        yield _side_by_side(self.pieces[split])

    def other(self, sources: Sequence[str]) -> Iterator[Sequences]:
        """All pieces of a file, or of MIDI files."""
        rolls = [roll for part in self._read(sources).values() for roll in part]
        if not rolls:
            raise InputError(f"{', '.join(sources)} has no pieces of two steps or more")
        yield _side_by_side(rolls)

    def asked(self, name: str) -> Asked:
        """Read a file of one piece."""
        if midi := midi_files([name]):
            rolls = [read_midi(path, self.quarter) for path in midi]
        else:
            parts = read_music(_one([name], self.settings.data.encoding))
            rolls = [roll for part in parts.values() for roll in part]
        if len(rolls) != 1 or not len(rolls[0]):
            raise InputError(
                f"{name} holds {len(rolls)} pieces; give a file of one, to be continued"
            )
        return Asked.at_end(rolls[0][:, None])

    def told(self, y: np.ndarray) -> dict[str, float]:
        """MIDI note -> its probability at the next step, for those above 0.05."""
        likely = sorted(((p, n + LOWEST) for n, p in enumerate(y) if p > 0.05), reverse=True)
        return {str(note): float(p) for p, note in likely}

    def line(self, truth: np.ndarray, forecast: np.ndarray) -> str:
        """Name the notes that sound, and the likeliest with their probabilities."""
        likely = np.argsort(-forecast)[:5]
        told = ", ".join(f"{n + LOWEST} ({forecast[n]:.2f})" for n in likely)
        return f"truth {', '.join(str(n + LOWEST) for n in np.flatnonzero(truth))}; forecast {told}"

    def fit_baselines(self) -> dict[str, np.ndarray]:
        """How often each key sounds: at all, and after a step in which it did not or did."""
        # One more of either outcome, so that nothing is impossible.
        rolls = self.pieces["training"]
        now = np.concatenate([roll[:-1] for roll in rolls])
        new = np.concatenate([roll[1:] for roll in rolls])
        after = [((new * was).sum(0) + 1) / (was.sum(0) + 2) for was in (1 - now, now)]
        return {"frequency": (new.sum(0) + 1) / (len(new) + 2), "previous": np.stack(after)}

    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Each key by its frequency, and by whether it sounds now."""
        off, on = fitted["previous"]
        return {
            "frequency": np.broadcast_to(fitted["frequency"], batch.y.shape),
            "previous": np.where(batch.x > 0, on, off),
        }


def _shared_out(
    parts: Mapping[str, list[np.ndarray]], settings: Settings
) -> tuple[dict[Split, list[np.ndarray]], list[list[int]]]:
    """Shuffle different pieces by the seed and split them; give them and the openings."""
    rolls = [roll for part in parts.values() for roll in part]
    different = [*{roll.tobytes(): roll for roll in rolls}.values()]
    if len(different) < len(rolls):
        _log.warning("%d pieces come again; each is kept once", len(rolls) - len(different))
    order = np.random.default_rng([settings.training.seed]).permutation(len(different))
    ends = borders(len(different), settings.data.split, f"{len(different)} pieces")
    pieces: dict[Split, list[np.ndarray]] = {}
    for split, rows in zip(SPLITS, np.split(order, ends[1:3]), strict=True):
        pieces[split] = [different[row] for row in rows]
    return pieces, _openings(pieces["training"])


def _openings(rolls: Sequence[np.ndarray]) -> list[list[int]]:
    """Give the MIDI notes with which pieces begin, each once."""
    return [
        *map(list, sorted({tuple((np.flatnonzero(roll[0]) + LOWEST).tolist()) for roll in rolls}))
    ]


def _one(sources: Sequence[str], encoding: str) -> Piece:
    pieces = find_pieces(sources, encoding)
    if len(pieces) != 1:
        raise InputError(f"music is one file, but {', '.join(sources)} are {len(pieces)}")
    return pieces[0]


def _side_by_side(rolls: Sequence[np.ndarray]) -> Sequences:
    """Each key's next step, of pieces of different length."""
    lengths = np.array([len(roll) - 1 for roll in rolls], np.int64)
    x = np.zeros((lengths.max(), len(rolls), KEYS))
    y = np.zeros_like(x)
    for row, roll in enumerate(rolls):
        x[: len(roll) - 1, row], y[: len(roll) - 1, row] = roll[:-1], roll[1:]
    return Sequences(x, y, np.arange(len(x))[:, None] < lengths, lengths)
