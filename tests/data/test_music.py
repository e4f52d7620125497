"""Music of several notes at once."""

import json
import os

import numpy as np
import pytest

from unrolled.data.music import Music
from unrolled.errors import InputError
from unrolled.settings import Settings

PIECE = [[60, 64], [60], [], [62, 65]]
FILE = {"train": [PIECE, PIECE[:2]], "valid": [PIECE[1:]], "test": [PIECE[:3], [[60]]]}


def prepare(path, content=None, **flags):
    path.write_text(json.dumps(FILE if content is None else content), "utf-8")
    return Music.prepare(Settings.from_flags("forecast", {"source": (str(path),), **flags}))


def test_the_next_step_of_pieces_side_by_side(tmp_path):
    music = prepare(tmp_path / "m.json", batch_size=2)
    batch = music.batch(0, slice(None))
    assert sorted(batch.lengths) == [1, 3]
    long = int(batch.lengths.argmax())
    assert [(np.flatnonzero(step) + 21).tolist() for step in batch.x[:, long]] == PIECE[:3]
    assert [(np.flatnonzero(step) + 21).tolist() for step in batch.y[:, long]] == PIECE[1:]
    assert batch.judged.sum() == 4
    assert not batch.x[1:, 1 - long].any()
    (test,) = music.held_out("test")
    assert test.x.shape == (2, 1, 88)  # a piece of one step has no next one


def test_baselines_by_hand(tmp_path):
    music = prepare(tmp_path / "m.json")
    fitted = music.fit_baselines()
    # next steps in training: [60], [], [62, 65] and [60]
    assert fitted["frequency"][60 - 21] == (2 + 1) / (4 + 2)
    assert fitted["previous"][1, 60 - 21] == (2 + 1) / (3 + 2)
    assert fitted["previous"][0, 60 - 21] == (0 + 1) / (1 + 2)
    (batch,) = music.held_out("validation")
    told = music.baselines(batch, fitted)
    np.testing.assert_array_equal(told["previous"][0, 0, 60 - 21], 3 / 5)
    assert told["frequency"].shape == batch.y.shape


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1], "must be an object of lists"),
        ({"train": [PIECE], "valid": [PIECE]}, "no pieces of two steps or more in 'test'"),
        ({"train": [[[60], [200]]]}, "piece 0 of train, step 1: 200 is not a MIDI note"),
        ({"train": [[60]]}, None),
        ({"train": [3]}, "piece 0 of train is not a list of steps"),
        ({"train": [[["C4"]]]}, "'C4' is not a MIDI note"),
    ],
)
def test_bad_files(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        prepare(tmp_path / "m.json", content)


def test_not_json(tmp_path):
    (tmp_path / "m.json").write_text("{")
    settings = Settings.from_flags("forecast", {"source": (str(tmp_path / "m.json"),)})
    with pytest.raises(InputError, match=r"m\.json is not JSON"):
        Music.prepare(settings)


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
def test_the_chorales():
    from unrolled.data.catalogue import find

    name = "jsb_chorales/jsb-chorales-quarter.json"
    entry = find(name)
    if entry is None or entry.where() == "to download":
        pytest.skip("jsb_chorales is not there")
    music = Music.prepare(Settings.from_flags("forecast", {"source": (name,)}))
    assert [len(pieces) for pieces in music.pieces.values()] == [229, 76, 77]
    steps = [sum(map(len, pieces)) for pieces in music.pieces.values()]
    assert steps == [13807, 4602, 4725]
