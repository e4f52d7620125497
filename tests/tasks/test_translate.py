"""Texts into texts: learned by heart, judged, saved, written in every manner, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn

from unrolled.checkpoint.load import load
from unrolled.errors import InputError, RunError
from unrolled.inspect.attention import attention
from unrolled.settings import Settings
from unrolled.tasks.translate import Translate
from unrolled.tasks.written import PADDING, Manner

PAIRS = [
    ("eins", "one"),
    ("zwei", "two"),
    ("drei", "three"),
    ("eins zwei", "one two"),
    ("drei zwei eins", "one two three"),
    ("zwei drei", "three two"),
]
PNG = b"\x89PNG"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS), "utf-8")
    return str(path)


def prepare(source, **flags):
    flags = {"symbols": "word", "split": "1,0,0", "hidden": 24, "embedding": 16, **flags}
    sources = (source,) if isinstance(source, str) else tuple(source)
    settings = Settings.from_flags("translate", {"source": sources, "threads": 1, **flags})
    return Translate.prepare(settings.with_defaults(Translate.defaults_for(settings)))


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"attention": "none"},
        {"attention": "additive", "input_feeding": True, "cell": "gru"},
        {"attention": "top-k", "attended": 2, "shared_vocabulary": True, "tied": True},
        {"symbols": "character", "attention": "dot", "lr": 0.01, "steps": 200},
        {
            "symbols": "subword",
            "vocabulary_size": 300,
            "teacher_forcing": 0.5,
            "lr": 0.01,
            "steps": 200,
        },
    ],
    ids=str,
)
def test_learns_a_few_pairs_by_heart(table, flags):
    task = prepare(table, **{"batch_size": 6, "lr": 0.02, "steps": 100, **flags})
    model = learn(task, task.settings.training.steps)
    task.splits["test"] = task.splits["training"]
    found = task.validate(model, "test")
    assert found["exact"] == 1
    assert found["character_error_rate"] == 0
    assert found["bleu"] == pytest.approx(100)
    (first, *_) = task.predict(model, ["drei zwei eins"])
    assert first == {"source": "drei zwei eins", "text": "one two three"}


def test_a_batch_is_what_it_should_be(table):
    task = prepare(table, batch_size=6, label_smoothing=0.1)
    batch = task.batch(0, slice(0, 6))
    assert batch.before.shape == batch.after.shape == (4, 6)
    assert (batch.before[0] == task.end).all()
    for row in range(6):
        said = batch.after[batch.after[:, row] != PADDING, row]
        assert said[-1] == task.end
        assert batch.before[1 : len(said), row].tolist() == said[:-1].tolist()
        read = task.read.text(batch.inputs[0][: batch.inputs[1][row], row])
        assert (read, task.wrote.text(said[:-1])) in PAIRS
    part = task.batch(0, slice(2, 4))
    assert np.array_equal(part.after[: len(part.after)], batch.after[: len(part.after), 2:4])
    assert task.steps_per_epoch == 1
    assert task.initial_loss == math.log(task.end + 1)
    model = task.build().eval()
    loss, carry = task.loss(model, batch, {})
    assert carry == {}
    assert task._nats(model, task.rows("training")) == pytest.approx(loss.item(), rel=1e-5)
    assert task.loss(model.train(), batch, {})[0] > 0


def test_scheduled_sampling_begins_with_the_truth(table):
    task = prepare(table, teacher_forcing=0.2, steps=100)
    assert [task.batch(n, slice(0, 2)).told for n in (0, 50, 100)] == pytest.approx([1, 0.6, 0.2])
    task = prepare(table, teacher_forcing=0.2, epochs=20, batch_size=3)
    assert task.batch(20, slice(0, 2)).told == pytest.approx(0.6)


def test_baselines(table):
    task = prepare(table)
    task.splits["test"] = task.splits["training"]
    found = task.baselines("test")
    assert found["nearest"]["exact"] == 1
    assert found["copy"]["exact"] == 0
    assert task.guesses(["zwei eins drei"])["nearest"] == ["one two three"]


def test_restored_it_writes_the_same(table):
    task = prepare(table, attention="hard")
    model = task.build().eval()
    again = Translate.restore(task.settings, task.artefacts())
    inputs = ["eins drei", "zwei"]
    assert list(again.predict(model, inputs)) == list(task.predict(model, inputs))
    assert again.guesses(inputs) == task.guesses(inputs)
    assert again.longest == task.longest
    with pytest.raises(RunError, match="no training data"):
        again.rows("training")
    for broken in ({}, {"target": task.artefacts().vocabulary["target"]}):
        with pytest.raises(InputError, match="it is of no translator"):
            Translate.restore(task.settings, type(task.artefacts())(broken))


@pytest.mark.parametrize("attention", ["additive", "hard"])
def test_rows_do_not_depend_on_each_other(table, attention):
    task = prepare(table, dtype="float64", attention=attention)
    model = task.build().eval()
    inputs = [f"{'zwei ' * n}eins" for n in (4, 1, 3, 2)]
    for options in ({}, {"beam": 1}, {"beam": 3, "length_penalty": 0.0}):
        whole = [one["text"] for one in task.predict(model, inputs, **options)]
        alone = [next(task.predict(model, [one], **options))["text"] for one in inputs]
        assert whole == alone


def test_what_is_drawn_depends_on_the_seed(table):
    task = prepare(table)
    model = task.build().eval()

    def drawn(**options):
        return [one["text"] for one in task.predict(model, ["eins", "zwei"], **options)]

    assert drawn(temperature=1.0, seed=1) == drawn(temperature=1.0, seed=1)
    assert drawn(temperature=1.0, seed=1) != drawn(temperature=1.0, seed=2)
    assert drawn(temperature=0.0) == drawn(beam=1)
    assert drawn(top_k=1) == drawn(beam=1)


def test_unknown_words_are_copied_from_where_it_looks(tmp_path):
    random = np.random.default_rng(0)
    lines = set()
    for _ in range(200):  # it must look at a word to know whether it is a name
        words = random.choice(["rot", "blau", f"name{random.integers(1000)}"], 4)
        named = {"rot": "red", "blau": "blue"}
        lines.add(f"{' '.join(words)}\t{' '.join(named.get(word, word) for word in words)}\n")
    path = tmp_path / "names.tsv"
    path.write_text("".join(sorted(lines)), "utf-8")
    known = {"vocabulary_size": 3, "attention": "additive"}
    task = prepare(str(path), copy_unknown=True, lr=0.01, **known)
    model = learn(task, 250)
    asked = ["rot Ada blau rot", "blau rot Bo blau", "Cy rot rot blau"]
    found = [one["text"] for one in task.predict(model, asked)]
    assert found == ["red Ada blue red", "blue red Bo blue", "Cy red red blue"]
    task = prepare(str(path), **known)
    assert (
        "\N{REPLACEMENT CHARACTER}" not in next(task.predict(task.build(), ["ich bin X"]))["text"]
    )


def test_no_source_is_in_two_splits(tmp_path):
    path = tmp_path / "twice.tsv"
    path.write_text("".join(f"a{n % 20}\tb{n}\n" for n in range(100)), "utf-8")
    task = prepare(str(path), split="0.6,0.2,0.2")
    sources = [set(rows.items) for rows in task.splits.values()]
    assert all(sources)
    assert sum(map(len, sources)) == 20
    noisy = prepare("noisy", symbols="character", split="0.9,0.05,0.05")
    targets = [{r[0] for r in rows.references} for rows in noisy.splits.values()]
    assert not targets[0] & targets[1]
    assert not targets[0] & targets[2]


def test_data_of_its_own_for_a_split(table, tmp_path, caplog):
    other = tmp_path / "o.tsv"
    other.write_text("eins\tuno\nvier\tfour\n", "utf-8")
    task = prepare(table, test=(str(other),))
    assert task.rows("test").items == ["eins", "vier"]
    assert len(task.rows("training")) == 6
    assert "1 of the 2 test pairs are learned from as well" in caplog.text
    assert task.data_digest != prepare(table).data_digest


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"copy_unknown": True, "symbols": "character"}, "--copy-unknown"),
        ({"copy_unknown": True, "attention": "none"}, "--copy-unknown"),
        ({"split": "0.9,0.05,0.05"}, "too few to split"),
    ],
)
def test_bad_settings(table, flags, words):
    with pytest.raises(InputError, match=words):
        prepare(table, **flags)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam": 2, "temperature": 1.0}, "leave --temperature"),
        ({"beam": 0}, "--beam"),
        ({"length_penalty": -1.0}, "--length-penalty"),
        ({"temperature": -1.0}, "--temperature"),
    ],
)
def test_bad_options(table, options, words):
    task = prepare(table)
    with pytest.raises(InputError, match=words):
        list(task.predict(task.build(), ["eins"], **options))


def test_nothing_to_translate(table):
    task = prepare(table)
    with pytest.raises(InputError, match="text 2 to translate is empty"):
        list(task.predict(task.build(), ["eins", "  "]))


def test_pictures_of_attention(table):
    task = prepare(table, split="0.5,0.5,0")
    model = task.build().eval()
    assert task.drawings(model)["attention.png"].startswith(PNG)
    (read, written, weights), *_ = task.aligned(model, ["eins zwei $x^"])
    assert "".join(read).strip() == "eins zwei $x^"
    assert written[-1] == "(end)"
    assert weights.shape == (len(written), len(read))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    bare = prepare(table, attention="none", split="0.5,0.5,0")
    assert bare.drawings(bare.build()) == {}
    with pytest.raises(InputError, match="the model has no attention"):
        bare.aligned(bare.build(), ["eins"])


def test_on_the_command_line(cli, table, tmp_path):  # noqa: F811
    out = str(tmp_path / "model")
    flags = "--symbols word --hidden 8 --embedding 4 --steps 4 --evaluate-every 2 --batch-size 4"
    run = cli(
        "train",
        "translate",
        table,
        *flags.split(),
        "--split",
        "0.5,0.25,0.25",
        "--out",
        out,
        "--json",
    )
    end = json.loads(run.out.splitlines()[-1])
    assert run.code == 0
    assert end["metrics"]["note"].startswith("BLEU: nrefs:1|case:mixed|")
    assert {"copy", "nearest"} == set(end["metrics"]["baselines"])
    assert (tmp_path / "model" / "attention.png").read_bytes().startswith(PNG)
    assert "BLEU: nrefs:1" in (tmp_path / "model" / "README.md").read_text("utf-8")

    (tmp_path / "in.txt").write_text("eins\nzwei\n", "utf-8")
    found = cli("predict", out, "--file", str(tmp_path / "in.txt"), "--json", "--beam", "2")
    assert [one["source"] for one in json.loads(found.out)["predictions"]] == ["eins", "zwei"]
    assert cli("predict", out, "drei", "--temperature", "0.5", "--seed", "3").code == 0
    assert "leave --temperature" in cli("predict", out, "x", "--beam", "2", "--top-k", "3").sentence

    judged = json.loads(cli("evaluate", out, table, "--json").out)
    assert judged["pairs"] == 6
    assert judged["signature"].startswith("nrefs:1")
    assert "signature: nrefs:1" in cli("evaluate", out, table).out

    seen = json.loads(cli("inspect", out, table, "attention", "--pictures", "2", "--json").out)
    assert len(seen["texts"]) == 2
    assert (tmp_path / "model" / "attention" / "2.png").read_bytes().startswith(PNG)
    shown = cli("inspect", out, str(tmp_path / "in.txt"), "attention", "--out", str(tmp_path / "a"))
    assert "(end) <-" in shown.out
    assert len(attention(load(out), table, 3)[0].most) >= 1


def test_options_are_for_what_writes(cli, tmp_path):  # noqa: F811
    data = tmp_path / "t.tsv"
    data.write_text("text\tlabel\n" + "".join(f"a{n}\t{n % 2}\n" for n in range(40)), "utf-8")
    out = str(tmp_path / "c")
    cli("train", "classify", str(data), "--steps", "2", "--hidden", "4", "--out", out, "--quiet")
    refused = cli("predict", out, "a1", "--beam", "3")
    assert refused.code == 2
    assert "leave out --beam" in refused.sentence
    refused = cli("inspect", out, str(data), "attention")
    assert refused.code == 2
    assert "attention is of translate and caption" in refused.sentence


@pytest.mark.slow
def test_dates_are_learned(tmp_path):
    import unrolled as ur

    trained = ur.train("translate", "dates", out=tmp_path / "dates", threads=1)
    assert trained.metrics["test"]["exact"] > 0.98


def test_torch_generators_are_left_alone(table):
    task = prepare(table)
    model = task.build()
    state = torch.get_rng_state()
    task.written(model, PAIRS, task._ids(["eins"]), Manner())
    assert torch.equal(torch.get_rng_state(), state)


def test_parts_by_the_names_of_files(tmp_path, caplog):
    counts = {"training": ("train", 5), "validation": ("val", 2), "test": ("test_2016", 3)}
    for name, count in counts.values():
        for side in "de", "en":
            lines = "".join(f"{name} {side} {n}\n" for n in range(count))
            (tmp_path / f"{name}.{side}").write_text(lines)
    task = prepare(str(tmp_path), split="0.8,0.1,0.1")
    for split, (name, count) in counts.items():
        rows = task.splits[split]
        assert rows.items == [f"{name} de {n}" for n in range(count)]
    assert not caplog.text
    own = [str(tmp_path / f"train.{side}") for side in ("de", "en")]
    other = prepare(str(tmp_path), split="0.8,0.1,0.1", validation=",".join(own))
    assert [len(other.splits[split].items) for split in counts] == [5, 5, 3]
    assert "5 of the 5 validation pairs are learned from as well" in caplog.text
