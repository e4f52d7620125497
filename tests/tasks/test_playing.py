"""Music that is drawn key by key, and written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn

from unrolled.data.midi import LOWEST, midi_bytes, read_midi
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.decoding import Drawing
from unrolled.tasks.forecast import Forecast
from unrolled.tasks.playing import keys_drawn, note_name

ROUND = [[60, 64], [62], [64, 67], [65]]
"""Is played over and over."""


@pytest.fixture
def tunes(tmp_path):
    pieces = [(ROUND * 5)[n : n + 12] for n in range(4)]
    path = tmp_path / "tunes.json"
    path.write_text(json.dumps({"train": pieces, "valid": pieces[:2], "test": pieces[2:]}))
    return path


def prepare(source, **flags):
    flags = {"hidden": 24, "lr": 0.02, "batch_size": 4, **flags}
    settings = Settings.from_flags("forecast", {"source": (str(source),), **flags})
    return Forecast.prepare(settings.with_defaults(Forecast.defaults))


def notes(lines):
    """The notes that each line names."""
    return [line.split()[2:] for line in lines]


@pytest.mark.parametrize("model", ["rnn", "cnn"])
def test_a_tune_that_was_learned_goes_on(tunes, tmp_path, model):
    task = prepare(tunes, model=model, layers=2 if model == "cnn" else 1)
    net = learn(task, 150)
    begin = tmp_path / "begin.json"
    begin.write_text(json.dumps({"a": [ROUND]}))
    played = notes(task.sample(net, str(begin), length=6, temperature=0))
    assert played == [[note_name(n) for n in step] for step in (ROUND * 3)[:10]]
    restored = Forecast.restore(task.settings, task.artefacts())
    made = json.loads(restored.compose(net, "", ".json", length=3, temperature=0, seed=1))
    (piece,) = made["sample"]
    start = ROUND.index(piece[0])
    assert piece == (ROUND * 3)[start : start + 4]
    assert restored.compose(net, str(begin), ".PNG", length=2).startswith(b"\x89PNG")


def test_draws_depend_on_the_seed_and_their_number(tunes):
    task = prepare(tunes)
    net = task.build().eval()

    def played(**options):
        return "".join(task.sample(net, length=5, **options))

    assert played(seed=1) == played(seed=1)
    assert len({played(seed=1), played(seed=2), played(seed=1, sample=1)}) == 3
    assert len(played(seed=1, top_k=2).splitlines()) == 6
    assert all(len(step) <= 2 for step in notes(played(seed=1, top_k=2).splitlines()))
    assert len(list(task.sample(net, length=0))) == 1


def test_keys_sound_as_often_as_they_should():
    odds = np.array([-20.0, 0.0, np.log(3), 20.0])
    random = np.random.default_rng(0)
    drawn = np.mean([keys_drawn(odds, Drawing(), random) for _ in range(4000)], 0)
    np.testing.assert_allclose(drawn, [0, 0.5, 0.75, 1], atol=0.03)
    cold = np.mean([keys_drawn(odds, Drawing(0.5), random) for _ in range(4000)], 0)
    assert cold[2] == pytest.approx(0.9, abs=0.02)  # odds of 3 squared
    assert keys_drawn(odds, Drawing(0), random).tolist() == [0, 0, 1, 1]
    assert keys_drawn(odds, Drawing(0, top_k=1), random).tolist() == [0, 0, 0, 1]


def test_names_of_notes():
    assert [note_name(n) for n in (LOWEST, 60, 61, 108)] == ["A0", "C4", "C#4", "C8"]


def test_at_the_command_line(tunes, tmp_path, cli):  # noqa: F811
    out, tune = tmp_path / "run", tmp_path / "tune.json"
    tiny = ("--hidden", "8", "--steps", "2", "--evaluate-every", "2", "--out", out)
    assert cli("train", "forecast", tunes, *tiny).code == 0
    done = cli("sample", out, "--length", "3", "--samples", "2")
    assert done.out.startswith("--- 1 of 2 ---\n   0 ")
    assert cli("sample", out, "--length", "3", "--out", tune).code == 0
    assert len(json.loads(tune.read_text())["sample"][0]) == 4
    more = cli("sample", out, "--prompt", tune, "--length", "2")
    assert len(more.out.splitlines()) == 7  # and an empty line
    told = cli("sample", out, "--out", "a.wav").sentence
    assert "music is written to .json, .mid or .png" in told
    assert "--stop" in cli("sample", out, "--stop", "x").sentence
    assert "--length" in cli("sample", out, "--length", "-1").sentence
    assert "nowhere.json" in cli("sample", out, "--prompt", "nowhere.json").sentence


def test_a_forecaster_of_other_things_writes_none():
    task = prepare("adding", length=5)
    for write in (
        lambda: list(task.sample(task.build())),
        lambda: task.compose(task.build(), "", ".png"),
    ):
        with pytest.raises(
            InputError, match=r"writes music alone.*adding; use predict or evaluate"
        ):
            write()


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs the data set")
def test_openings_of_chorales_are_chords():
    path = Path(__file__).parents[2] / "recipes/jsb-gru.toml"
    task = Forecast.prepare(Settings.from_toml(path).with_defaults(Forecast.defaults))
    with torch.no_grad():
        first = notes(task.sample(task.build().eval(), length=0))
    assert 3 <= len(first[0]) <= 4


def test_midi_is_read_and_written(tmp_path, cli):  # noqa: F811
    pytest.importorskip("mido")
    for n in range(8):
        roll = np.zeros((16, 88))
        roll[np.arange(16), 30 + (np.arange(16) + n) % 8] = 1
        (tmp_path / f"{n}.mid").write_bytes(midi_bytes(roll, 2))
    flags = [
        "--quarter",
        "2",
        "--steps",
        "3",
        "--hidden",
        "8",
        "--split",
        "0.5,0.25,0.25",
        "--quiet",
    ]
    cli("train", "forecast", tmp_path, *flags, "--out", tmp_path / "m")
    cli("sample", tmp_path / "m", "--length", "5", "--out", tmp_path / "new.mid")
    assert 1 <= len(read_midi(tmp_path / "new.mid", 2)) <= 6
    begun = ("--prompt", tmp_path / "0.mid", "--length", "0")
    cli("sample", tmp_path / "m", *begun, "--out", tmp_path / "same.midi")
    np.testing.assert_array_equal(*(read_midi(tmp_path / f, 2) for f in ("0.mid", "same.midi")))
    found = json.loads(cli("predict", tmp_path / "m", tmp_path / "0.mid", "--json").out)
    assert found["predictions"][0]["file"] == "0.mid"
