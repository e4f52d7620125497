"""The task: copying, Python's sources, words and tags of files, vectors and what belongs to each."""

import json
import math
import os

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn
from scipy.io import wavfile

from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.tag import Tag


def write(path, sequences):
    path.write_text("\n".join("".join(f"{w}\t{t}\n" for w, t in one) for one in sequences), "utf-8")
    return str(path)


def depends_on_the_past(count, seed=0):
    """An x has the tag of the letter before it; other letters have their own."""
    random = np.random.default_rng(seed)
    sequences = []
    for _ in range(count):
        words = random.choice(["a", "b", "x"], random.integers(3, 9)).tolist()
        words[0] = "a"
        tags = []
        for word in words:
            tags.append(tags[-1] if word == "x" else word.upper())
        sequences.append(list(zip(words, tags, strict=True)))
    return sequences


def prepare(source, **flags):
    settings = Settings.from_flags("tag", {"source": (source,), "threads": 1, **flags})
    return Tag.prepare(settings.with_defaults(Tag.defaults))


@pytest.fixture
def past(tmp_path):
    return write(tmp_path / "t.tsv", depends_on_the_past(300))


def test_learns_what_a_token_alone_does_not_tell(past):
    task = prepare(past, hidden=16, lr=0.02)
    found = task.validate(learn(task, 60), "test")
    assert found["accuracy"] > 0.99
    beside = task.baselines("test")
    assert beside["most_frequent_tag"]["accuracy"] < 0.7
    assert beside["most_frequent_per_token"]["accuracy"] < 0.9
    assert beside["most_frequent_per_token"]["nats_per_step"] > found["nats_per_step"]


def test_baselines_by_hand(tmp_path):
    rows = [[("a", "X"), ("a", "X"), ("a", "Y"), ("b", "Y")]] * 8 + [[("c", "Y"), ("b", "X")]] * 2
    task = prepare(write(tmp_path / "t.tsv", rows), split="1,0,0")
    task.source.sequences.splits["test"] = task.source.sequences.splits["training"]
    assert task.source.fitted["counts"][task.source.inputs.numbers(["a"])[0]].tolist() == [16, 8]
    frequency = np.array([16 + 2 + 1, 8 + 8 + 2 + 1]) / 38
    found = task.baselines("test")
    truth = {("a", 0): 16, ("a", 1): 8, ("b", 1): 8, ("b", 0): 2, ("c", 1): 2}
    nats = -sum(n * math.log(frequency[tag]) for (_, tag), n in truth.items()) / 36
    assert found["most_frequent_tag"]["nats_per_step"] == pytest.approx(nats)
    counts = {"a": [16, 8], "b": [2, 8], "c": [0, 2]}
    p = {w: (np.array(c) + frequency) / (sum(c) + 1) for w, c in counts.items()}
    nats = -sum(n * math.log(p[word][tag]) for (word, tag), n in truth.items()) / 36
    assert found["most_frequent_per_token"] == pytest.approx(
        {"accuracy": (16 + 8 + 2) / 36, "nats_per_step": nats}
    )


@pytest.mark.parametrize("length", [1, 30])
def test_copying_without_memory(length):
    task = prepare("copying", length=length)
    found = task.baselines("validation")["memoryless"]
    assert found["nats_per_step"] == pytest.approx(10 * math.log(8) / (length + 20))
    assert found["accuracy"] == pytest.approx((length + 10 + 10 / 8) / (length + 20), abs=0.01)
    assert task.initial_loss == math.log(9)
    assert len(task.batch(0, slice(0, 2)).tags) == length + 20
    assert task.data_digest != prepare("copying", length=length + 1).data_digest


def test_a_unitary_network_learns_to_copy():
    task = prepare("copying", length=5, cell="unitary", bidirectional=False, hidden=64, lr=0.01)
    found = task.validate(learn(task, 120), "test")
    assert found["nats_per_step"] < 0.5 * task.baselines("test")["memoryless"]["nats_per_step"]


@pytest.mark.parametrize("readout", ["softmax", "crf"])
def test_the_loss_is_that_of_validation(past, readout):
    task = prepare(past, hidden=4, dtype="float64", batch_size=7, word_dropout=0, readout=readout)
    batch = task.batch(0, slice(0, 7))
    task.source.held_out = lambda split: iter([batch])
    model = task.build().eval()
    loss, _ = task.loss(model, batch, {})
    assert task.validate(model, "test")["nats_per_step"] == pytest.approx(loss.item())
    assert task.progress(loss.item()) == {"nats_per_step": loss.item()}


def test_evaluate_by_hand(past, tmp_path):
    task = prepare(past, hidden=4)
    model = task.build().eval()
    with torch.no_grad():  # the tag A, whatever is read
        for parameter in model.readout.parameters():
            parameter.zero_()
        model.readout.v.bias[0] = 1
    other = write(tmp_path / "o.tsv", [[("a", "A"), ("x", "A"), ("é", "B")], [("b", "B")]])
    found = task.evaluate(model, [other])
    assert (found["accuracy"], found["steps"], found["unknown_tokens"]) == (0.5, 4, 1)
    assert found["error_by_step"] == [0.5, 0, 1]
    p = math.exp(1) / (1 + math.exp(1))
    assert found["nats_per_step"] == pytest.approx(-(math.log(p) + math.log(1 - p)) / 2)
    assert set(found["baselines"]) == {"most_frequent_tag", "most_frequent_per_token"}
    assert found["confusion"] == {"A": {"A": 2, "B": 0}, "B": {"A": 2, "B": 0}}
    assert found["classes"]["A"] == {"precision": 0.5, "recall": 1, "f1": 2 / 3, "examples": 2}
    assert list(task.drawings(model)) == ["confusion.png"]


def test_predict_words_and_characters(past, tmp_path):
    task = prepare(past, hidden=16, lr=0.02)
    (found,) = task.predict(learn(task, 60), ["abxx"])
    assert found == {"tokens": list("abxx"), "tags": list("ABBB")}
    words = write(tmp_path / "w.tsv", [[("to", "P"), ("be", "V")]] * 20)
    task = prepare(words, hidden=4, split="1,0,0")
    (found,) = task.predict(task.build().eval(), ["to  be"])
    assert found["tokens"] == ["to", "be"]
    with pytest.raises(InputError, match="text 2 to tag is empty"):
        list(task.predict(task.build(), ["to", " "]))


@pytest.mark.parametrize("flags", [{}, {"readout": "crf", "characters": "cnn"}])
def test_restored_without_its_data(past, flags):
    task = prepare(past, hidden=4, **flags)
    kept = task.artefacts()
    again = Tag.restore(
        task.settings, Artefacts(json.loads(json.dumps(kept.vocabulary)), kept.baseline)
    )
    model = task.build().eval()
    assert again.evaluate(model, [past]) == task.evaluate(model, [past])
    again.build().load_state_dict(model.state_dict())
    with pytest.raises(RunError, match="no training data"):
        again.batch(0, slice(0, 1))
    with pytest.raises(InputError, match="no tagger"):
        Tag.restore(task.settings, Artefacts({"tokens": []}))
    with pytest.raises(InputError, match="counts is"):
        Tag.restore(task.settings, Artefacts(kept.vocabulary, {"counts": np.zeros((2, 2))}))


def test_show(past):
    task = prepare(past, hidden=4)
    lines = task.show(task.build().eval(), 0).splitlines()
    assert len(lines) == 3
    assert all("/A" in line or "/B" in line for line in lines)


@pytest.mark.parametrize("kind", ["file", "copying", "python-tokens"])
def test_from_the_command_line(cli, past, tmp_path, monkeypatch, kind):  # noqa: F811
    monkeypatch.setattr("unrolled.data.python_tokens.MODULES", ("cmd", "glob"))
    monkeypatch.setattr("unrolled.tasks.tag_copying.HELD_OUT", 250)
    source = past if kind == "file" else kind
    out = str(tmp_path / "model")
    options = ["--steps", "2", "--hidden", "4", "--batch-size", "2"]
    options += ["--length", "3"] if kind == "copying" else []
    done = cli("train", "tag", source, *options, "--out", out)
    assert done.code == 0, done.err
    done = cli("predict", out, "3 1", "--json")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["predictions"]
    assert len(found["tokens"]) == len(found["tags"])
    if kind != "python-tokens":
        done = cli("evaluate", out, source, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["steps"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere.tsv", ("nowhere.tsv",)),
        ("bad.tsv", ("bad.tsv:2", "a word and its tag")),
        ("one.tsv --columns 1,3", ("one.tsv:1", "no column 3")),
        ("one.tsv --readout crf --net linear --split 1,0,0", ("--readout crf",)),
        ("one.tsv", ("1 different sequences are too few", "validation")),
        ("one.tsv --tied --split 1,0,0", ("--tied",)),
        ("copying --cell convlstm", ("convlstm", "shape")),
        ("adding", ("adding", "unrolled train forecast")),
        ("copying --length 0", ("--length 0",)),
    ],
)
def test_bad_input(cli, tmp_path, monkeypatch, arguments, words):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one.tsv", [[("a", "A"), ("b", "B")]])
    (tmp_path / "bad.tsv").write_text("a\tA\nb\n")
    done = cli("train", "tag", *arguments.split(), "--out", "model")
    assert (done.code, done.out) == (2, "")
    for word in words:
        assert word in done.sentence


def test_a_tag_the_model_does_not_know(past, tmp_path):
    task = prepare(past, hidden=4)
    other = write(tmp_path / "o.tsv", [[("a", "Q")]])
    with pytest.raises(InputError, match="does not know the tag 'Q'; it learned A, B"):
        task.evaluate(task.build(), [other])


def test_other_data_than_copying():
    task = prepare("copying", length=3, hidden=4)
    with pytest.raises(InputError, match="which is made, not read"):
        task.evaluate(task.build(), ["python-tokens"])


def test_a_word_dropped_is_dropped_on_all_processes_alike(past):
    """Rows of a batch are the same however they are shared out."""
    task = prepare(past, hidden=4, word_dropout=50)
    whole = task.batch(3, slice(0, 32))
    assert (whole.inputs[0] == len(task.source.inputs.words)).any()
    part = task.batch(3, slice(20, 24))
    steps = len(part.tags)
    np.testing.assert_array_equal(part.inputs[0], whole.inputs[0][:steps, 20:24])
    np.testing.assert_array_equal(part.tags, whole.tags[:steps, 20:24])


def test_the_same_sequence_is_in_one_split(tmp_path, caplog):
    rows = [[(word, "X")] for word in "abcdefghij" for _ in range(3)]
    source = write(tmp_path / "t.tsv", rows)
    parts = prepare(source).source.sequences.splits
    seen = {split: {one.key for one in part} for split, part in parts.items()}
    assert sum(map(len, seen.values())) == 10
    assert [len(part) for part in parts.values()] == [24, 3, 3]
    assert not caplog.text
    prepare(source, test=source)
    assert "27 of the 30 test sequences are learned from as well" in caplog.text


def test_validation_and_test_of_their_own(tmp_path):
    rows = {name: [[(name, "X"), ("b", "Y")]] * n for name, n in (("a", 6), ("c", 3), ("d", 2))}
    files = {
        name: write(tmp_path / f"{file}.tsv", rows[name])
        for name, file in (("a", "x-train"), ("c", "x-dev"), ("d", "x-test"))
    }
    given = prepare(files["a"], validation=files["c"], test=files["d"])
    found = prepare(str(tmp_path))
    for task in (given, found):
        parts = task.source.sequences.splits
        assert [len(parts[name]) for name in ("training", "validation", "test")] == [6, 3, 2]
        assert {one.steps[0] for one in parts["test"]} == {"d"}
    assert given.data_digest == found.data_digest
    own = prepare(str(tmp_path), validation=files["d"]).source.sequences.splits
    assert {one.steps[0] for one in own["training"]} == {
        "a"
    }  # the part of that name is not learned
    assert [len(own[name]) for name in ("training", "validation", "test")] == [6, 2, 2]


def spanned(count, seed=0):
    """Names are a first and a last word; each alone may be no name."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = random.choice(["ann", "lee", "it"], random.integers(3, 8)).tolist()
        tags = ["O"] * len(words)
        for t in range(len(words) - 1):
            if words[t : t + 2] == ["ann", "lee"]:
                tags[t : t + 2] = ["B-PER", "I-PER"]
        rows.append(list(zip(words, tags, strict=True)))
    return rows


def test_spans_are_scored_by_f1(tmp_path):
    task = prepare(write(tmp_path / "s.tsv", spanned(300)), hidden=16, lr=0.02, readout="crf")
    assert (task.headline, task.criterion.metric, task.criterion.better) == ("f1", "f1", "higher")
    found = task.validate(learn(task, 60), "test")
    assert found["f1"] > 0.99
    assert task.baselines("test")["most_frequent_per_token"]["f1"] < 0.9


@pytest.mark.parametrize("flags", [{"net": "linear", "lags": 1}, {"readout": "previous"}])
def test_a_tag_that_depends_on_the_last_one(tmp_path, flags):
    """An x has the tag of the letter before it: those that see earlier tags need no state."""
    source = write(tmp_path / "t.tsv", depends_on_the_past(300))
    task = prepare(source, hidden=8, lr=0.05, bidirectional=False, **flags)
    assert task.validate(learn(task, 100), "test")["accuracy"] > 0.99


def test_teacher_forcing_ends_where_it_is_asked_to(past):
    for length in ({"steps": 10}, {"epochs": 10, "batch_size": 1000}):
        task = prepare(past, readout="previous", teacher_forcing=0.5, **length)
        found = [task.batch(step, slice(0, 1)).forced for step in (0, 5, 10, 20)]
        assert found == [1, 0.75, 0.5, 0.5]


def table(path, sequences, header):
    rows = [",".join(map(str, row)) for rows in sequences for row in (*rows, [])]
    path.write_text("\n".join([",".join(header), *rows]))
    return str(path)


def prices(count, seed=0):
    """What rose is likely to rise again: the move of a step, and where the next goes."""
    random = np.random.default_rng(seed)
    sequences = []
    for _ in range(count):
        up = [bool(random.integers(2))]
        for _ in range(20):
            up.append(up[-1] if random.random() < 0.9 else not up[-1])
        moves = np.where(up, 1, -1) * random.exponential(size=21)
        sequences.append(
            [(f"{m:.3f}", "up" if u else "down") for m, u in zip(moves, up[1:], strict=False)]
        )
    return sequences


def test_up_or_down_at_each_step(tmp_path):
    source = table(tmp_path / "p.csv", prices(150), ("move", "label"))
    task = prepare(source, hidden=8, lr=0.02, bidirectional=False)
    found = task.validate(learn(task, 80), "test")
    assert found["accuracy"] > 0.85
    assert set(task.baselines("test")) == {"most_frequent_tag", "linear"}


def test_what_frames_of_a_film_show(tmp_path):
    """A bar stands at one of four places for a while, almost lost in noise: frames together tell which."""
    random = np.random.default_rng(0)
    sequences = []
    for _ in range(120):
        places = np.repeat(random.integers(4, size=3), random.integers(4, 7, size=3))
        frames = np.eye(4)[places].repeat(2, 1) + random.normal(size=(len(places), 8))
        sequences.append([(*f.round(2), f"place {p}") for f, p in zip(frames, places, strict=True)])
    header = [*(f"pixel{n}" for n in range(8)), "shown"]
    task = prepare(table(tmp_path / "f.csv", sequences, header), hidden=16, lr=0.02)
    found = task.validate(learn(task, 80), "test")["accuracy"]
    assert found > task.baselines("test")["linear"]["accuracy"] + 0.1


def test_a_path_in_the_plane(tmp_path):
    """Speeds are read, and where one is by then is told: two targets, which a net must add up."""
    random = np.random.default_rng(0)
    sequences = []
    for _ in range(120):
        speed = random.normal(size=(12, 2)).round(3)
        sequences.append([(*v, *p) for v, p in zip(speed, speed.cumsum(0).round(3), strict=True)])
    source = table(tmp_path / "w.csv", sequences, ("u", "v", "x", "y"))
    task = prepare(source, targets="x,y", net="linear", lags=1, lr=0.05)
    found = task.validate(learn(task, 200), "test")
    assert (task.headline, task.criterion.metric) == ("r2", "mse")
    assert found["r2"] > 0.98
    assert task.baselines("test")["linear"]["r2"] < 0.7
    assert list(task.drawings(learn(task, 1))) == ["course.png"]
    (first, *_) = task.predict(learn(task, 1), [source])
    assert set(first["numbers"]) == {"x", "y"}


def test_sound_from_the_command_line(cli, tmp_path):  # noqa: F811
    """Tones, low and high, and where they are."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    t = np.arange(1600) / 8000
    for number in range(10):
        tone = np.where(t < 0.1, np.sin(2 * np.pi * 300 * t), np.sin(2 * np.pi * 2000 * t))
        wavfile.write(folder / f"{number}.wav", 8000, ((9000 + number) * tone).astype(np.int16))
        (folder / f"{number}.txt").write_text("0\t0.1\tlow\n0.1\t0.2\thigh\n")
    out = str(tmp_path / "model")
    options = ["--steps", "20", "--hidden", "4", "--lr", "0.05", "--out", out]
    done = cli("train", "tag", str(folder), *options)
    assert done.code == 0, done.err
    done = cli("predict", out, str(folder / "0.wav"), "--json")
    (found,) = json.loads(done.out)["predictions"]
    assert (found["tags"][0], found["tags"][-1], len(found["tags"])) == ("low", "high", 18)


@pytest.mark.parametrize("kind", ["label", "numbers"])
def test_tables_from_the_command_line(cli, tmp_path, kind):  # noqa: F811
    source = table(tmp_path / "p.csv", prices(30), ("move", "label"))
    if kind == "numbers":
        rows = [[(1.5 * t + n, 0.5 * t + n, t - n) for t in range(6)] for n in range(30)]
        source = table(tmp_path / "n.csv", rows, ("u", "x", "y"))
    out = str(tmp_path / "model")
    options = ["--targets", "x,y"] if kind == "numbers" else []
    done = cli("train", "tag", source, *options, "--steps", "2", "--hidden", "4", "--out", out)
    assert done.code == 0, done.err
    picture = "confusion.png" if kind == "label" else "course.png"
    assert (tmp_path / "model" / picture).exists()
    for command in ("evaluate", "predict"):
        done = cli(command, out, source, "--json")
        assert done.code == 0, done.err
    found = json.loads(done.out)["predictions"]
    assert len(found) == 30
    told = found[0]["tags"] if kind == "label" else found[0]["numbers"]["x"]
    assert len(told) == (20 if kind == "label" else 6)


@pytest.mark.slow
@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
def test_the_web_treebank():
    task = prepare("ud_english_ewt")
    parts = task.source.sequences.splits
    assert [len(parts[split]) for split in ("training", "validation", "test")] == [
        12544,
        2001,
        2077,
    ]
    assert sum(len(one) for one in parts["training"]) == 204577
    assert task.source.outputs.size == 17
    found = task.baselines("test")["most_frequent_per_token"]["accuracy"]
    assert found == pytest.approx(0.8620, abs=0.0005)
