"""The commit protocol: what a directory holds when a run dies between two writes, and who may open it."""

import json
import re

import numpy as np
import pytest
import torch

from unrolled.checkpoint import files
from unrolled.checkpoint.directory import (
    BASELINE,
    COMMIT,
    CONFIG,
    METRICS,
    MODEL,
    PENDING,
    VOCABULARY,
    Commit,
    ModelDirectory,
)
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks.task import Artefacts

ARTEFACTS = Artefacts({"symbols": ["a", "é"]}, {"counts": np.arange(4, dtype=np.uint32)[::2]})


def commit(step, model_step, value=0.0):
    return Commit(
        step=step,
        model_step=model_step,
        metrics_lines=0,
        data_digest="d",
        settings_digest="s",
        state={"smoothed_loss": 0.1 + 0.2},
        tensors={"model.w": torch.full((2,), value)},
    )


def weights(value):
    return {"w": torch.full((2,), float(value))}


@pytest.fixture
def home(tmp_path):
    home = ModelDirectory(tmp_path / "run")
    home.begin(Settings(task="toy"), ARTEFACTS)
    return home


def test_parts_come_back(home):
    assert home.settings() == Settings(task="toy")
    found = home.artefacts(baseline=True)
    assert found.vocabulary == ARTEFACTS.vocabulary
    assert found.baseline["counts"].tolist() == [0, 2]
    assert home.artefacts(baseline=False).baseline == {}
    assert home.metrics() == []


def test_a_commit_comes_back(home):
    home.commit(commit(5, 5, 2.5), weights(5), {"cell": "abc"})
    data = home.recover()
    found = Commit.unpack(data, home.path / COMMIT)
    assert (found.step, found.model_step, found.state) == (5, 5, {"smoothed_loss": 0.1 + 0.2})
    assert torch.equal(found.tensors["model.w"], torch.full((2,), 2.5))
    tensors, note = home.model()
    assert torch.equal(tensors["w"], weights(5)["w"])
    assert note == {"step": 5, "cell": "abc"}


def test_a_directory_without_a_commit_starts_at_the_beginning(home):
    assert home.recover() is None
    assert home.holds_run


def pending(home, step):
    (home.path / PENDING).write_bytes(files.pack(weights(step), {"step": step}))


@pytest.mark.parametrize("opened", ["to go on", "to be used"])
def test_a_pending_model_counts_once_it_is_committed(home, opened):
    home.commit(commit(5, 5), weights(5))
    pending(home, 8)
    # Killed before the commit: the weights of step 5 are those that count.
    if opened == "to go on":
        home.recover()
        assert not (home.path / PENDING).exists()
        pending(home, 8)
    assert home.model()[1]["step"] == 5
    # Killed after the commit: those of step 8.
    (home.path / COMMIT).write_bytes(commit(8, 8).pack())
    if opened == "to go on":
        home.recover()
        assert not (home.path / PENDING).exists()
        assert files.read_metadata(home.path / MODEL)["step"] == 8
    before = sorted(path.name for path in home.path.iterdir())
    assert home.model()[1]["step"] == 8
    assert sorted(path.name for path in home.path.iterdir()) == before


def test_reading_while_the_run_renames(home, monkeypatch):
    home.commit(commit(5, 5), weights(5))
    pending(home, 8)
    (home.path / COMMIT).write_bytes(commit(8, 8).pack())
    unpack, seen = files.unpack, []

    def rename_meanwhile(data, where):
        if not seen:
            seen.append(where)
            (home.path / PENDING).replace(home.path / MODEL)
        return unpack(data, where)

    monkeypatch.setattr(files, "unpack", rename_meanwhile)
    assert home.model()[1]["step"] == 8


def test_a_model_of_another_run_is_noticed(home):
    home.commit(commit(5, 5), weights(5))
    (home.path / MODEL).write_bytes(files.pack(weights(9), {"step": 9}))
    for look in (home.recover, home.model):
        with pytest.raises(InputError, match="are not of the same run; one was replaced"):
            look()


def test_a_model_without_a_commit_can_be_used_but_not_resumed(home):
    home.commit(commit(5, 5), weights(5))
    (home.path / COMMIT).unlink()
    assert home.model()[1]["step"] == 5
    with pytest.raises(InputError, match=r"has a model but no training.safetensors to resume from"):
        home.recover()


def test_a_directory_begun_again_holds_nothing_old(home):
    home.commit(commit(5, 5), weights(5))
    (home.path / METRICS).write_text("{}\n")
    (home.path / "notes.txt").write_text("mine")
    files.temporary(home.path / COMMIT).write_text("half")
    home.begin(Settings(task="toy"), Artefacts({}))
    names = {path.name for path in home.path.iterdir()}
    assert names == {CONFIG, VOCABULARY, "notes.txt"}


def test_leftovers_of_a_killed_write_are_removed(home):
    home.commit(commit(5, 5), weights(5))
    files.temporary(home.path / COMMIT).write_text("half")
    home.recover()
    assert not list(home.path.glob(".*"))


def test_whole_lines_of_metrics_are_read(home):
    (home.path / METRICS).write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert home.metrics() == [{"step": 1}, {"step": 2}]
    (home.path / METRICS).write_text("{oops}\n")
    with pytest.raises(InputError, match=r"metrics.jsonl holds a line that is not JSON"):
        home.metrics()


def test_what_is_no_model_directory(tmp_path):
    with pytest.raises(InputError, match="no model directory at"):
        ModelDirectory(tmp_path / "nowhere").settings()
    with pytest.raises(InputError, match=r"holds no model: it has no config.json"):
        ModelDirectory(tmp_path).settings()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a directory"):
        ModelDirectory(tmp_path / "file")


@pytest.mark.parametrize(
    ("part", "content", "sentence"),
    [
        (CONFIG, b"{", "config.json is not a JSON object; the file is damaged"),
        (CONFIG, b"{}", "config.json has no format_version"),
        (
            CONFIG,
            b'{"format_version": 99, "task": "toy"}',
            "format 99, newer than the 2 known here",
        ),
        (CONFIG, b'{"format_version": 1}', "config.json: setting 'task' is missing"),
        (VOCABULARY, None, "run has no vocabulary.json; the model is incomplete"),
        (VOCABULARY, b"[", "vocabulary.json is not a JSON object"),
        (BASELINE, None, "run has no baseline.safetensors; the model is incomplete"),
        (BASELINE, b"\x00" * 20, "baseline.safetensors is truncated or damaged"),
        (MODEL, None, "run has no model.safetensors; the model is incomplete"),
        (MODEL, b"", "model.safetensors is truncated or damaged"),
        (COMMIT, b"\x08", "training.safetensors is truncated or damaged"),
    ],
)
def test_damaged_parts_are_named(home, part, content, sentence):
    home.commit(commit(5, 5), weights(5))
    path = home.path / part
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as error:  # noqa: PT012 - whichever of them reads the part
        home.settings()
        home.artefacts(baseline=True)
        home.model()
    assert re.match(f"{home.path}[ /]", str(error.value))
    assert sentence.removeprefix("run ") in str(error.value)


def test_a_commit_that_lacks_a_part(home):
    data = files.pack({}, {"step": 1})
    with pytest.raises(InputError, match="lacks a part of the run's state"):
        Commit.unpack(data, home.path / COMMIT)


def test_a_refused_commit_keeps_the_last_one(home, monkeypatch):
    home.commit(commit(5, 5), weights(5))
    write = files.write

    def refuse(path, data, **keywords):
        if path.name == COMMIT:
            raise files.failure(path, OSError(28, "No space left on device"))
        write(path, data, **keywords)

    monkeypatch.setattr(files, "write", refuse)
    with pytest.raises(RunError, match=r"cannot write .*training.safetensors: no space left"):
        home.commit(commit(8, 8), weights(8))
    assert home.model()[1]["step"] == 5
    assert Commit.unpack(home.recover(), home.path).step == 5


def test_settings_are_written_for_people_and_programs(home):
    text = (home.path / CONFIG).read_text()
    assert json.loads(text)["format_version"] == 2
    assert text.count("\n") > 20
