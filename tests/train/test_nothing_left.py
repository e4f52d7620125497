"""A run that comes to nothing leaves nothing, and a run takes nobody's files."""

import json
import signal
from pathlib import Path

import pytest
import toy_task
from command_line import cli, python  # noqa: F401 - a fixture

from unrolled.errors import InputError, Interrupted
from unrolled.train import picture
from unrolled.train.callbacks import Callback
from unrolled.train.run import train


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: b"")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory to stand in, with a table and a text."""
    rows = [f"{'ab' if n % 2 else 'cd'} {n}\t{n % 2}\n" for n in range(60)]
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + "".join(rows))
    (tmp_path / "fox.txt").write_text("the quick brown fox; " * 200)
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ("--hidden", "4", "--steps", "2", "--batch-size", "4", "--quiet")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("classify t.tsv --cell leaky --cell-options leak=7", "leak"),
        ("classify t.tsv --cell convlstm", "convlstm"),
        ("classify t.tsv --l1 0.1 --penalised nosuch", "nosuch"),
        ("classify t.tsv --accumulate 3", "--accumulate"),
        ("generate fox.txt --optimizer hessian-free", "hessian-free"),
    ],
)
def test_bad_input_found_late_leaves_nothing(cli, place, arguments, word):  # noqa: F811
    before = sorted(place.rglob("*"))
    done = cli("train", *arguments.split(), *QUICK, "--out", "runs/half")
    assert (done.code, word in done.sentence) == (2, True), done.err
    assert sorted(place.rglob("*")) == before


def content(out):
    return {path.name: path.read_bytes() for path in Path(out).iterdir()}


def test_bad_input_found_late_leaves_the_run_that_should_be_replaced(tmp_path, monkeypatch):
    train("toy", "a", out=tmp_path / "run", steps=2)
    before = content(tmp_path / "run")

    def refuse(*_):
        raise InputError("no such batch")

    monkeypatch.setattr(toy_task.Toy, "loss", refuse)
    with pytest.raises(InputError, match="no such batch"):
        train("toy", "a", out=tmp_path / "run", steps=3, overwrite=True)
    assert content(tmp_path / "run") == before


def test_bad_input_found_after_the_first_step_leaves_what_was_there(tmp_path):
    class Refuse(Callback):
        def on_step(self, event):
            raise InputError("not so")

    with pytest.raises(InputError):
        train("toy", "a", out=tmp_path / "new/run", callbacks=[Refuse()])
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "there/notes.txt").write_text("mine")
    with pytest.raises(InputError):
        train("toy", "a", out=tmp_path / "there", callbacks=[Refuse()])
    assert list(content(tmp_path / "there")) == ["notes.txt"]


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("method", ["prepare", "build"])
def test_a_signal_before_the_first_step_leaves_nothing(number, method, tmp_path, monkeypatch):
    monkeypatch.setattr(
        toy_task.Toy, method, lambda *_: signal.raise_signal(number) or pytest.fail("went on")
    )
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Interrupted, match="before the first step; nothing was written"):
            train("toy", "a", out=tmp_path / "run", steps=2)
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_interrupted_while_it_reads_says_so(number, tmp_path):
    # A shell that starts in the background ignores Ctrl-C, and what it starts does, too.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from unrolled.data import read\n"
        f"read._spool = lambda *_: signal.raise_signal({int(number)})\n"
        "from unrolled.cli import main; main(['train', 'generate', '-', '--out', 'run'])"
    )
    done = python("-c", code, cwd=tmp_path)
    said = "error: interrupted before the first step; nothing was written\n"
    assert (done.code, done.out, done.err) == (130, "", said)
    assert not list(tmp_path.iterdir())


def test_a_second_signal_before_the_first_checkpoint_leaves_nothing(tmp_path):
    class Twice(Callback):
        def on_step(self, event):
            if event.step == 3:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="before the first checkpoint; nothing is kept"):
        train("toy", "a", out=tmp_path / "run", evaluate_every=20, callbacks=[Twice()])
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the files of somebody


@pytest.mark.parametrize("name", ["README.md", "loss.png", "metrics.jsonl", "vocabulary.json"])
def test_files_of_somebody_are_not_replaced_unasked(name, tmp_path):
    out = tmp_path / "project"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(InputError, match=rf"project holds no run but a {name}.*another --out"):
        train("toy", "a", out=out, steps=2)
    assert (out / name).read_text() == "mine"
    train("toy", "a", out=out, steps=2, overwrite=True)
    assert (out / "model.safetensors").exists()


def test_files_of_somebody_are_not_resumed(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README\.md"):
        train("toy", "a", out=tmp_path, steps=2, resume=True)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_an_empty_out_is_refused(cli, place):  # noqa: F811
    before = sorted(place.rglob("*"))
    for more in ([], ["--find-lr"], ["--seeds", "0,1"]):
        done = cli("train", "generate", "fox.txt", *QUICK, "--out", "", *more)
        assert (done.code, "--out" in done.sentence) == (2, True), done.err
    with pytest.raises(InputError, match="--out"):
        train("toy", "a", out="", steps=2)
    assert sorted(place.rglob("*")) == before


def test_tensorboard_leaves_nothing_either(cli, place):  # noqa: F811
    pytest.importorskip("tensorboard")
    before = sorted(place.rglob("*"))
    done = cli(
        *("train", "classify", "t.tsv", "--cell", "convlstm", *QUICK, "--out", "runs/half"),
        "--tensorboard",
    )
    assert done.code == 2
    assert sorted(place.rglob("*")) == before


# ---------------------------------------------------------------- found before, not after


RECIPE = """task = "toy"
[data]
source = ["a"]
[training]
steps = 3
[target]
metric = "{metric}"
value = 9.0
split = "{split}"
"""


@pytest.fixture
def recipe(tmp_path):
    def write(metric="error", split="test"):
        path = tmp_path / "toy.toml"
        path.write_text(RECIPE.format(metric=metric, split=split))
        return path

    return write


@pytest.mark.parametrize(
    ("split", "known"),
    [("test", "error, root"), ("validation", "error"), ("training", "loss, smoothed_loss")],
)
def test_a_target_nobody_measures_is_found_before_the_first_step(
    split, known, recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(toy_task.Toy, "batch", lambda *_: pytest.fail("trains"))
    with pytest.raises(InputError, match=f"'foo' is not a figure of the {split} split: .*{known}"):
        train(recipe("foo", split), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nodir/rec.json", "no directory"),
        ("taken", "is a directory"),
        ("damaged.json", "not a list of results"),
        ("nameless.json", "not a list of results"),
        ("toy.toml", "not a list of results"),
    ],
)
def test_a_record_that_cannot_be_is_found_before_the_first_step(
    name, words, recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(toy_task.Toy, "prepare", lambda *_: pytest.fail("reads"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "damaged.json").write_text("[1")
    (tmp_path / "nameless.json").write_text(json.dumps([{"value": 1}]))
    with pytest.raises(InputError, match=words):
        train(recipe(), out=tmp_path / "run", record=tmp_path / name)
