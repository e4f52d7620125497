"""Tokens and their tags: copying, Python's sources, files of two columns."""

import json
import math

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn
from torch import nn

from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.tag import Tag, TagBatch


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
    task._splits = {split: task._sequences("training") for split in ("test",)}
    assert task.counts[task.lexicon.ids(["a"])[0]].tolist() == [16, 8]
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
    assert len(task.batch(0, slice(0, 2)).ids) == length + 20
    assert task.data_digest != prepare("copying", length=length + 1).data_digest


def test_a_unitary_network_learns_to_copy():
    task = prepare("copying", length=5, cell="unitary", bidirectional=False, hidden=64, lr=0.01)
    found = task.validate(learn(task, 120), "test")
    assert found["nats_per_step"] < 0.5 * task.baselines("test")["memoryless"]["nats_per_step"]


def test_the_loss_is_that_of_validation(past):
    task = prepare(past, hidden=4, dtype="float64", batch_size=7)
    batch = task.batch(0, slice(0, 7))
    task._held_out = lambda split: iter([batch])
    model = task.build().eval()
    loss, _ = task.loss(model, batch, {})
    assert task.validate(model, "test")["nats_per_step"] == pytest.approx(loss.item())
    assert task.progress(loss.item()) == {"nats_per_step": loss.item()}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_makes_no_difference(past, bidirectional):
    task = prepare(past, hidden=4, dtype="float64", bidirectional=bidirectional)
    model = task.build().eval()
    batch = task.batch(0, slice(0, 9))
    together = task._probabilities(model, batch)
    for row, steps in enumerate(batch.lengths):
        part = TagBatch(batch.ids[:steps, [row]], batch.tags[:steps, [row]], batch.lengths[[row]])
        np.testing.assert_allclose(
            task._probabilities(model, part)[:, 0], together[:steps, row], rtol=0, atol=1e-12
        )


def test_evaluate_by_hand(past, tmp_path):
    task = prepare(past, hidden=4)

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0, 0.0]))

        def forward(self, ids, lengths):
            return self.weight.expand(*ids.shape, 2)

    other = write(tmp_path / "o.tsv", [[("a", "A"), ("x", "A"), ("é", "B")], [("b", "B")]])
    found = task.evaluate(Constant(), [other])
    assert (found["accuracy"], found["steps"], found["unknown_tokens"]) == (0.5, 4, 1)
    assert found["error_by_step"] == [0.5, 0, 1]
    p = math.exp(1) / (1 + math.exp(1))
    assert found["nats_per_step"] == pytest.approx(-(math.log(p) + math.log(1 - p)) / 2)
    assert set(found["baselines"]) == {"most_frequent_tag", "most_frequent_per_token"}


def test_predict_words_and_characters(past, tmp_path):
    task = prepare(past, hidden=16, lr=0.02)
    (found,) = task.predict(learn(task, 60), ["abxx"])
    assert found == {"tokens": list("abxx"), "tags": list("ABBB")}
    words = write(tmp_path / "w.tsv", [[("to", "P"), ("be", "V")]] * 20)
    task = prepare(words, hidden=4)
    (found,) = task.predict(task.build().eval(), ["to  be"])
    assert found["tokens"] == ["to", "be"]
    with pytest.raises(InputError, match="text 2 to tag is empty"):
        list(task.predict(task.build(), ["to", " "]))


def test_restored_without_its_data(past):
    task = prepare(past, hidden=4)
    kept = task.artefacts()
    again = Tag.restore(
        task.settings, Artefacts(json.loads(json.dumps(kept.vocabulary)), kept.baseline)
    )
    model = task.build().eval()
    assert again.evaluate(model, [past]) == task.evaluate(model, [past])
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
    monkeypatch.setattr("unrolled.data.tagged.MODULES", ("cmd", "glob"))
    monkeypatch.setattr("unrolled.tasks.tag.COPIES_HELD", 250)
    source = past if kind == "file" else kind
    out = str(tmp_path / "model")
    options = ["--steps", "2", "--hidden", "4", "--batch-size", "2", "--length", "3"]
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
        ("bad.tsv", ("bad.tsv:2", "a tab and its tag")),
        ("one.tsv", ("1 sequences are too few", "validation")),
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
