"""The language model that is told a label."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn
from torch.nn import functional

from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks.generate import Generate
from unrolled.tasks.labelled_texts import PADDING
from unrolled.tasks.ngram import NGram

RECIPE = Path(__file__).parents[2] / "recipes/names-generate.toml"
SHARES = {"split": (0.6, 0.2, 0.2)}


def write(path, count=40, labels=("ab", "cd")):
    """Texts of a label repeat its letters."""
    rows = [f"{label * 2}{n}\t{label}" for n in range(count) for label in labels]
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", "utf-8")
    return path


def prepare(path, **flags):
    flags = {"condition": "input", "batch_size": 8, "hidden": 16, "lr": 0.02, **flags}
    settings = Settings.from_flags("generate", {"source": (str(path),), **flags})
    return Generate.prepare(settings.with_defaults(Generate.defaults))


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "t.tsv")


def test_a_batch_begins_and_ends_every_text(table):
    task = prepare(table, **SHARES)
    texts, batch = task.texts, task.batch(0, slice(0, 3))
    end = texts.end
    assert end == len(texts.vocabulary) == texts.size - 1
    for row, length in enumerate(batch.lengths):
        read, wanted = batch.inputs[:, row], batch.targets[:, row]
        assert read[0] == wanted[length - 1] == end
        assert (read[1:length] == wanted[: length - 1]).all()
        assert (read[length:] == end).all()
        assert (wanted[length:] == PADDING).all()
        text = texts.vocabulary.decode(read[1:length])
        assert text.startswith(texts.labels[batch.labels[row]])
    whole = task.batch(0, slice(None))
    assert (task.batch(0, slice(3, 8)).labels == whole.labels[3:]).all()


@pytest.mark.parametrize("condition", ["input", "state"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_label_counts(table, condition, cell):
    task = prepare(table, condition=condition, cell=cell, layers=2, dtype="float64", **SHARES)
    model = task.build()
    ids, states = torch.tensor([[task.texts.end]] * 3), None
    logits = [model(ids, states, labels=torch.tensor([n]))[0] for n in (0, 1)]
    assert not torch.allclose(*logits)
    loss, carry = task.loss(model, task.batch(0, slice(None)), {})
    loss.backward()
    assert carry == {}
    assert all(p.grad is not None and p.grad.any() for p in model.label.parameters())


@pytest.mark.parametrize("condition", ["input", "state"])
def test_rows_side_by_side_are_scored_as_alone(table, condition):
    task = prepare(table, condition=condition, dtype="float64", **SHARES)
    model, total, symbols = task.build(), 0.0, 0
    part = task.texts._part("test")
    for row, label in zip(part.rows, part.labels, strict=True):
        ids = np.array([task.texts.end, *row, task.texts.end])
        x = torch.from_numpy(ids.astype(np.int64))[:, None]
        with torch.no_grad():
            logits, _ = model(x[:-1], labels=torch.tensor([label]))
        total += functional.cross_entropy(logits[:, 0], x[1:, 0], reduction="sum").item()
        symbols += len(row) + 1
    found = task.validate(model, "test")
    assert found["nats_per_symbol"] == pytest.approx(total / symbols)
    assert found["bits_per_character"] == pytest.approx(total / symbols / math.log(2))
    assert found["perplexity"] == pytest.approx(math.exp(total / symbols))


def test_it_learns_what_a_label_tells_and_beats_the_model_that_is_told_nothing(table):
    told, untold = prepare(table, **SHARES), prepare(table, condition="none", **SHARES)
    models = [learn(task, 80) for task in (told, untold)]
    nats = [
        task.validate(model, "test")["nats_per_symbol"]
        for task, model in zip((told, untold), models, strict=True)
    ]
    assert nats[0] < nats[1] - 0.02
    assert not any("label" in name for name, _ in models[1].named_parameters())
    for label in ("ab", "cd"):
        text = "".join(told.sample(models[0], label=label, temperature=0))
        assert text.startswith(label)
        assert len(text) < 10  # it ends by itself
        assert told.beam(models[0], label=label, width=3).startswith(label)
    assert "".join(told.sample(models[0], "a", label="ab", temperature=0)).startswith("b")
    (found,) = told.predict(models[0], ["c"])
    assert found["prompt"] == "c"
    assert found["texts"]["cd"].startswith("d")
    assert next(iter(untold.predict(models[1], ["c"])))["text"].startswith("d")
    assert {line.split(":")[0] for line in told.show(models[0], 3).splitlines()} == {"ab", "cd"}


def test_ngrams_of_all_texts_and_of_each_label_by_hand(table):
    task = prepare(table, **SHARES)
    texts = task.texts
    train, test = texts._part("training"), texts._part("test")
    chosen = [r for r, n in zip(train.rows, train.labels, strict=True) if n == 1]
    own = NGram.fit(np.concatenate([[texts.end], *[[*r, texts.end] for r in chosen]]), texts.size)
    wanted = {n: [0.0, 0] for n in (1, 3)}
    for row, label in zip(test.rows, test.labels, strict=True):
        if label != 1:
            continue
        for n in wanted:
            nats = own.nats(np.append(row, texts.end), n, np.array([texts.end]))
            wanted[n][0] += nats.sum()
            wanted[n][1] += len(nats)
    test = test.__class__(
        [r for r, n in zip(test.rows, test.labels, strict=True) if n == 1],
        np.ones(sum(test.labels == 1), np.int64),
        test.characters,
    )
    found = texts._baselines(test)
    for n, (nats, count) in wanted.items():
        beside = found[f"{n}-gram of the label"]["nats_per_symbol"]
        assert beside == pytest.approx(nats / count)
    assert set(found) == {f"{n}-gram{of}" for n in range(1, 8) for of in ("", " of the label")}
    assert found["2-gram of the label"] != found["2-gram"]


@pytest.mark.parametrize("condition", ["input", "none"])
def test_restored_it_writes_and_judges_the_same(table, tmp_path, condition):
    task = prepare(table, condition=condition, **SHARES)
    model = task.build().eval()
    copy = Generate.restore(task.settings, task.artefacts())
    options = {"label": "cd" if condition == "input" else None, "seed": 2, "length": 20}
    assert "".join(copy.sample(model, **options)) == "".join(task.sample(model, **options))
    other = write(tmp_path / "other.tsv", 5)
    found = copy.evaluate(model, [str(other)])
    assert found == task.evaluate(model, [str(other)])
    assert found["texts"] == 10
    assert found["labels"]["ab"]["texts"] == 5
    assert ("1-gram of the label" in found["baselines"]) == (condition == "input")
    with pytest.raises(RunError, match="no training data"):
        copy.batch(0, slice(None))


def test_words(tmp_path):
    rows = [f"the {noun} {verb}\t{noun}" for noun in ("cat", "dog") for verb in "abcdefgh"]
    path = tmp_path / "t.tsv"
    path.write_text("\n".join(["text\tlabel", *rows]))
    task = prepare(path, symbols="word", **SHARES)
    assert task.headline == "perplexity"
    assert task.progress(1.0) == {"perplexity": pytest.approx(math.e)}
    model = learn(task, 60)
    assert "".join(task.sample(model, label="dog", temperature=0)).startswith(" the dog")


def test_bad_input(table, tmp_path, cli):  # noqa: F811
    task = prepare(table, **SHARES)
    model = task.build()
    with pytest.raises(InputError, match="--label is missing: give one of ab, cd"):
        task.sample(model)
    with pytest.raises(InputError, match="--label ef: give one of ab, cd"):
        task.beam(model, label="ef")
    with pytest.raises(InputError, match="told no labels"):
        prepare(table, condition="none", **SHARES).sample(model, label="ab")
    other = write(tmp_path / "other.tsv", 3, labels=("ab", "ef"))
    with pytest.raises(InputError, match=r"other.tsv:3: the model does not know the label 'ef'"):
        task.evaluate(model, [str(other)])
    with pytest.raises(InputError, match=r"(?s)no vector.*--condition input"):
        prepare(table, condition="state", cell="convlstm", cell_options={"shape": (2, 2)}).build()


def test_at_the_command_line(table, tmp_path, cli):  # noqa: F811
    out = tmp_path / "run"
    tiny = ("--hidden", "8", "--steps", "4", "--evaluate-every", "2", "--batch-size", "4")
    done = cli("train", "generate", table, "--condition", "state", *tiny, "--out", out)
    assert done.code == 0, done.err
    assert "7-gram of the label" in done.out
    done = cli("sample", out, "--label", "cd", "--prompt", "c", "--length", "5", "--json")
    assert json.loads(done.out)["prompt"] == "c"
    assert cli("sample", out).sentence.startswith("--label is missing")
    assert cli("evaluate", out, table).code == 0
    assert "writes without --length-penalty" not in cli("predict", out, "a").err
    assert "has no compose" in cli("sample", out, "--out", tmp_path / "a.png").sentence


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs the data set")
def test_names_are_read():
    settings = Settings.from_toml(RECIPE)
    task = Generate.prepare(settings.with_defaults(Generate.defaults))
    assert len(task.texts.labels) == 18
    beside = task.baselines("validation")
    assert beside["4-gram"]["nats_per_symbol"] < 2.5
