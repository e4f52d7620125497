"""Music in MIDI files: against mido's own messages, and there and back."""

import sys

import numpy as np
import pytest

from unrolled.data.midi import LOWEST, midi_bytes, midi_files, read_midi
from unrolled.data.music import Music
from unrolled.errors import InputError
from unrolled.settings import Settings

mido = pytest.importorskip("mido")


def write(path, *tracks, ticks=96):
    """Write messages: (kind, note, ticks since the one before), with velocity and channel or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [
        mido.MidiTrack(
            mido.Message(kind, note=note, time=time, **dict(zip(("velocity", "channel"), more)))  # noqa: B905
            for kind, note, time, *more in track
        )
        for track in tracks
    ]
    mido.MidiFile(ticks_per_beat=ticks, tracks=made).save(path)
    return path


def notes(roll):
    return [(np.flatnonzero(step) + LOWEST).tolist() for step in roll]


def test_notes_fall_on_the_nearest_step(tmp_path):
    # two tracks; 96 ticks a quarter, so that a sixteenth is 24
    upper = [("note_on", 60, 48), ("note_off", 60, 50), ("note_on", 62, 0), ("note_on", 62, 20, 0)]
    lower = [
        ("note_on", 48, 50),
        ("note_off", 48, 46),
        ("note_on", 40, 0, 64, 9),
        ("note_off", 40, 5),
    ]
    path = write(tmp_path / "a.mid", upper, lower)
    assert notes(read_midi(path, 4)) == [[48, 60], [48, 60], [62]]
    # of a quarter alone nothing is too short to be heard
    assert notes(read_midi(path, 1)) == [[48, 60, 62]]


def test_notes_that_no_piano_has_and_that_never_end(tmp_path, caplog):
    path = write(tmp_path / "a.mid", [("note_on", 12, 0), ("note_on", 60, 0), ("note_off", 12, 96)])
    assert notes(read_midi(path, 2)) == [[60], [60]]
    assert "1 notes that no piano has are left out" in caplog.text


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_there_and_back(tmp_path, steps):
    random = np.random.default_rng(steps)
    roll = np.zeros((40, 88))
    roll[:, 20:60] = random.random((40, 40)) < 0.3
    roll[0, 30] = roll[-1, 30] = 1  # silence before the first note is lost
    path = tmp_path / "a.mid"
    path.write_bytes(midi_bytes(roll, steps))
    np.testing.assert_array_equal(read_midi(path, steps), roll)
    file = mido.MidiFile(path)
    assert file.length == pytest.approx(len(roll) / steps / 2, rel=0.01)  # 120 quarters a minute


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a readable MIDI file"),
        (b"RIFF and more of it", "not a readable MIDI file"),
        (b"MThd\0\0\0\6\0\0\0\1\0\x60", "not a readable MIDI file"),
        (b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "holds no notes of a piano"),
    ],
)
def test_bad_files(tmp_path, content, sentence):
    (tmp_path / "a.mid").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_midi(tmp_path / "a.mid", 4)


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(
        InputError, match=r"a.mid: MIDI takes mido; install it, or unrolled\[midi\]"
    ):
        read_midi(tmp_path / "a.mid", 4)


def scale(path, *keys):
    return write(path, [m for key in keys for m in (("note_on", key, 0), ("note_off", key, 24))])


def prepare(*sources, **flags):
    return Music.prepare(
        Settings.from_flags("forecast", {"source": tuple(map(str, sources)), **flags})
    )


def test_folders_are_the_splits(tmp_path):
    for n, part in enumerate(("train", "train", "valid", "test")):
        scale(tmp_path / part / f"{n}.midi", 60 + n, 62, 64)
    music = prepare(tmp_path)
    assert [len(music.pieces[s]) for s in ("training", "validation", "test")] == [2, 1, 1]
    assert music.openings == [[60], [61]]
    assert notes(music.pieces["test"][0]) == [[63], [62], [64]]
    assert Music.restore(music.settings, music.to_json()).quarter == 4


def test_files_are_shuffled_and_split(tmp_path, caplog):
    files = [scale(tmp_path / f"{n}.mid", 60 + n, 62, 64) for n in range(9)]
    scale(tmp_path / "again.mid", 60, 62, 64)
    assert len(midi_files([str(tmp_path)])) == 10
    music = prepare(tmp_path, split="0.6,0.2,0.2")
    assert [len(part) for part in music.pieces.values()] == [5, 2, 2]
    assert len({roll.tobytes() for part in music.pieces.values() for roll in part}) == 9
    assert "1 pieces come again" in caplog.text
    with pytest.raises(
        InputError, match="2 pieces are too few to split: none is left for validation"
    ):
        prepare(*files[:2])


def test_the_steps_of_a_quarter(tmp_path):
    files = [scale(tmp_path / f"{n}.mid", 60 + n, 62, 64, 65) for n in range(4)]
    music = prepare(*files, quarter=2, split="1,0,0")
    assert {len(roll) for roll in music.pieces["training"]} == {3}
    (batch,) = music.other([str(files[0])])
    assert batch.x.shape == (2, 1, 88)
    assert notes(music.asked(str(files[0])).x[:, 0]) == [[60], [62, 64], [65]]
    with pytest.raises(InputError, match="holds 4 pieces; give a file of one"):
        music.asked(str(tmp_path))
