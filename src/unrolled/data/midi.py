"""Music as MIDI files, by the `mido` library: notes cut into even steps, and back.

T steps.
"""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unrolled.data.read import reading
from unrolled.errors import InputError

SUFFIXES = (".mid", ".midi")
LOWEST, KEYS = 21, 88
"""The lowest key of a piano, A0, as a MIDI note; and the number of keys."""
DRUMS = 9
"""The channel on which notes are drums."""
TICKS = 480
"""Of a quarter note, in files that are written."""

_log = logging.getLogger(__name__)


def midi_files(sources: Sequence[str]) -> list[Path]:
    """Find MIDI files among sources, those of directories at any depth; none if some source has none."""
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        some = [one for one in inside if one.suffix.lower() in SUFFIXES]
        if not some:
            return []
        found += some
    return found


def read_midi(path: Path, steps: int) -> np.ndarray:
    """Read which keys sound at each step, as 0 or 1 (T, 88).

    A note sounds from the step nearest to its beginning until the one nearest to its end, one step at least.
    Drums are passed over, and so are notes that no piano has and the silence before the first note.

    Args:
        path: A MIDI file.
        steps: So many make a quarter note.

    Raises:
        InputError: If the file is missing or damaged or holds no notes, or mido is not installed.
    """
    mido = _mido(str(path))
    with reading(str(path)):
        content = path.read_bytes()
    try:
        file = mido.MidiFile(file=io.BytesIO(content), clip=True)
        notes = _notes(file)
    except (OSError, EOFError, ValueError, LookupError, mido.KeySignatureError) as error:
        raise InputError(f"{path} is not a readable MIDI file ({error!r})") from None
    if file.ticks_per_beat <= 0:
        raise InputError(f"{path} counts time in frames of a film, not in quarter notes")
    of_piano = [one for one in notes if 0 <= one[0] - LOWEST < KEYS]
    if not of_piano:
        raise InputError(f"{path} holds no notes of a piano; drums do not count")
    if lost := len(notes) - len(of_piano):
        _log.warning("%s: %d notes that no piano has are left out", path, lost)
    share = steps / file.ticks_per_beat
    laid = [(note, _nearest(on * share), _nearest(off * share)) for note, on, off in of_piano]
    first = min(on for _, on, _ in laid)
    roll = np.zeros((max(max(off, on + 1) for _, on, off in laid) - first, KEYS))
    for note, on, off in laid:
        roll[on - first : max(off, on + 1) - first, note - LOWEST] = 1
    return roll


def midi_bytes(roll: np.ndarray, steps: int) -> bytes:
    """Write which keys sound at each step (T, 88) as a MIDI file; a key that stays on is one long note.

    Args:
        roll: 0 or 1.
        steps: So many make a quarter note.

    Raises:
        InputError: If mido is not installed.
    """
    mido = _mido("music as MIDI")
    track = mido.MidiTrack()
    before, last = np.zeros(KEYS), 0
    for t, step in enumerate([*roll, np.zeros(KEYS)]):
        now = round(t * TICKS / steps)
        for change, kind in ((before > step, "note_off"), (step > before, "note_on")):
            for key in np.flatnonzero(change).tolist():
                track.append(mido.Message(kind, note=key + LOWEST, velocity=64, time=now - last))
                last = now
        before = step
    track.append(mido.MetaMessage("end_of_track", time=round(len(roll) * TICKS / steps) - last))
    written = io.BytesIO()
    mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(file=written)
    return written.getvalue()


def _notes(file: Any) -> list[tuple[int, int, int]]:  # noqa: ANN401 - mido's
    """Give each note, the tick at which it begins and the one at which it ends."""
    found: list[tuple[int, int, int]] = []
    for track in file.tracks:
        sounding: dict[tuple[int, int], int] = {}
        now = 0
        for message in track:
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
                continue
            key = message.channel, message.note
            if key in sounding:
                found.append((message.note, sounding.pop(key), now))
            if message.type == "note_on" and message.velocity:
                sounding[key] = now
        found += [(note, on, now) for (_, note), on in sounding.items()]
    return found


def _nearest(step: float) -> int:
    return int(np.floor(step + 0.5))


def _mido(what: str) -> ModuleType:
    try:
        import mido  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(f"{what}: MIDI takes mido; install it, or unrolled[midi]") from None
    return mido
