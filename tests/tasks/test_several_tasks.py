"""Several tags for each word, learned together."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn

from unrolled.data.python_tokens import NESTED, tag_python
from unrolled.data.several import Heads, head_names
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks.several import Several
from unrolled.tasks.tag import Tag

RECIPES = Path(__file__).parents[2] / "recipes"


def write(path, count=300, seed=0):
    """An x has the tags of the letter before it; a tag of two kinds, of which one tells more."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        letter = "a"
        for word in ["a", *random.choice(["a", "b", "c", "x"], random.integers(3, 8))]:
            letter = letter if word == "x" else word
            lines.append(f"{word} {letter.upper()} {'vowel' if letter == 'a' else 'other'}")
        lines.append("")
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def prepare(source, **flags):
    settings = Settings.from_flags("several", {"source": (source,), "threads": 1, **flags})
    return Several.prepare(settings.with_defaults(Several.defaults))


@pytest.fixture
def letters(tmp_path):
    return write(tmp_path / "t.txt")


SMALL = {"hidden": 16, "lr": 0.02, "embedding": 8}


@pytest.mark.parametrize("flags", [{}, {"sharing": "soft"}, {"loss_weights": "learned"}])
def test_all_tasks_are_learned(letters, flags):
    task = prepare(letters, **SMALL, **flags)
    model = learn(task, 60)
    found, beside = task.validate(model, "test"), task.baselines("test")
    assert task.heads.names == ["column 2", "column 3"]
    for name in ("accuracy", "column_2_accuracy", "column_3_accuracy"):
        assert found[name] > 0.97
        assert beside["most_frequent_per_token"][name] < 0.9
    two = found["column_2_accuracy"], found["column_3_accuracy"]
    assert found["accuracy"] == pytest.approx(sum(two) / 2)
    (told,) = task.predict(model, ["axbx"])
    assert told == {
        "tokens": list("axbx"),
        "column 2": list("AABB"),
        "column 3": ["vowel", "vowel", "other", "other"],
    }
    assert set(task.drawings(model)) == {"confusion-column-2.png", "confusion-column-3.png"}
    assert task.show(model, 0).startswith("column 2: a/A")


def test_one_encoder_or_one_each(letters):
    hard, soft = (prepare(letters, **SMALL, sharing=s).build() for s in ("hard", "soft"))
    assert len(hard.readers) == 1
    assert len(soft.readers) == 2
    assert soft.apart().item() == 0  # they begin alike
    assert soft.readers[0].net.stream != soft.readers[1].net.stream


def test_the_distance_is_that_of_each_two(letters):
    task = prepare(letters, **SMALL, sharing="soft", distance=0.5, dtype="float64")
    model = task.build()
    with torch.no_grad():
        for p in model.readers[1].parameters():
            p += torch.randn_like(p)
    one, other = ([*reader.parameters()] for reader in model.readers)
    apart = sum(((a - b) ** 2).sum() for a, b in zip(one, other, strict=True))
    assert model.apart().item() == pytest.approx(apart.item())
    batch = task.batch(0, slice(None))
    near, _ = task.loss(model, batch, {})
    model.distance = 0
    free, _ = task.loss(model, batch, {})
    assert near.item() - free.item() == pytest.approx(0.5 * apart.item())


def test_weighted_losses_by_hand(letters):
    alike = prepare(letters, **SMALL, dtype="float64")
    batch, model = alike.batch(0, slice(None)), alike.build()
    inputs = tuple(map(torch.from_numpy, batch.inputs))
    lengths, tags = torch.from_numpy(batch.lengths), torch.from_numpy(batch.tags)
    a, b = model.losses(model.states(inputs, lengths), lengths, tags).tolist()
    assert alike.loss(model, batch, {})[0].item() == pytest.approx(a + b)
    fixed = prepare(letters, **SMALL, dtype="float64", loss_weights=(1, 0.25))
    assert fixed.loss(fixed.build(), batch, {})[0].item() == pytest.approx(a + b / 4)
    assert fixed.initial_loss == pytest.approx(math.log(3) + math.log(2) / 4)
    learned = prepare(letters, **SMALL, dtype="float64", loss_weights="learned").build()
    with torch.no_grad():
        learned.log_variances.copy_(torch.tensor([math.log(4), 0.0]))
    loss = learned(inputs, lengths, tags)
    assert loss.item() == pytest.approx(a / 4 + b + math.log(2))
    loss.backward()
    # d/ds (exp(-s) l + s / 2) = 1/2 - exp(-s) l
    wanted = [0.5 - a / 4, 0.5 - b]
    torch.testing.assert_close(learned.log_variances.grad.tolist(), wanted)


@pytest.mark.parametrize("readout", ["crf", "window", "previous"])
def test_readouts(letters, readout):
    task = prepare(letters, **SMALL, readout=readout)
    found = task.validate(learn(task, 40), "validation")
    assert found["accuracy"] > 0.9


def test_far_apart_encoders_learn_as_if_alone(letters, tmp_path):
    """Soft sharing without a penalty is a tagger each."""
    flags = {**SMALL, "dtype": "float64", "split": "0.8,0.1,0.1"}
    both = prepare(letters, sharing="soft", distance=0, clip_norm=0, **flags)
    settings = Settings.from_flags("tag", {"source": (letters,), "columns": ("1", "2"), **flags})
    alone = Tag.prepare(settings.with_defaults(Tag.defaults))
    models = both.build(), alone.build()
    models[1].load_state_dict(
        {
            name.removeprefix("readers.0.").replace("readouts.0.", "readout."): weight
            for name, weight in models[0].state_dict().items()
            if name.startswith(("readers.0.", "readouts.0."))
        }
    )
    for task, model in zip((both, alone), models, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for step in range(3):
            optimizer.zero_grad()
            loss, _ = task.loss(model, task.batch(step, slice(None)), {})
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(
        models[0].readers[0].state_dict(),
        {name: weight for name, weight in models[1].state_dict().items() if "readout" not in name},
    )


def test_restored_it_tells_and_judges_the_same(letters, tmp_path):
    task = prepare(letters, **SMALL, loss_weights="learned")
    model = task.build().eval()
    copy = Several.restore(task.settings, task.artefacts())
    assert list(copy.predict(model, ["a x"])) == list(task.predict(model, ["a x"]))
    other = write(tmp_path / "other.txt", 5, seed=1)
    found = copy.evaluate(model, [other])
    assert found == task.evaluate(model, [other])
    assert found["tasks"]["column 3"]["weight"] == 1
    with pytest.raises(RunError, match="no training data"):
        copy.batch(0, slice(None))


def test_brackets_of_python():
    source = b"f(a, [1])\nx = 1\n"
    first, second = tag_python(source, nested=True)
    depth = [NESTED.index(tag) for _, tag in first.tags]
    assert depth == [0, 1, 1, 1, 1, 2, 2, 2, 1]
    assert {tag for _, tag in second.tags} == {"top"}
    plain, _ = tag_python(source)
    assert [kind for kind, _ in first.tags] == plain.tags


def test_names_of_tasks():
    assert head_names(("form", "upos", "feats.Number"), 2, usual=()) == ["upos", "number"]
    assert head_names((), 2, usual=("upos", "xpos")) == ["upos", "xpos"]
    assert head_names(("1", "2", "-1"), 2, usual=()) == ["column 2", "column -1"]
    with pytest.raises(InputError, match="twice"):
        head_names(("form", "upos", "upos"), 2, usual=())


def test_heads_as_arrays():
    heads = Heads(["one", "two"], Heads.restore({"one": ["a", "b"], "two": ["c"]}).labels)
    found = heads.targets([[("b", "c"), ("a", "c")], [("a", "c")]])
    assert found.tolist() == [[[1, 0], [0, 0]], [[0, 0], [-1, -1]]]
    assert Heads.restore(heads.to_json()) == heads


def test_bad_input(letters, tmp_path):
    with pytest.raises(InputError, match=r"--columns 1,2 names 1 besides the words"):
        prepare(letters, columns=("1", "2"))
    with pytest.raises(InputError, match=r"no column 4; it has 3 columns"):
        prepare(letters, columns=("1", "2", "4"))
    one = tmp_path / "one.txt"
    one.write_text("a A\nb B\n\n" * 20)
    with pytest.raises(InputError, match=r"one.txt has one column of tags"):
        prepare(str(one))
    with pytest.raises(InputError, match=r"--loss-weights gives 3 numbers"):
        prepare(letters, loss_weights=(1, 1, 1)).build()
    with pytest.raises(InputError, match="--net linear"):
        prepare(letters, net="linear").build()
    with pytest.raises(InputError, match="loss-weights"):
        prepare(letters, loss_weights="1,0")
    task = prepare(letters, **SMALL)
    with pytest.raises(InputError, match="has 1 tags, but the model learned column 2, column 3"):
        task.heads.targets([[("A",)]])
    other = tmp_path / "new.txt"
    other.write_text("a A vowel\nb Z other\n")
    with pytest.raises(InputError, match="does not know the tag 'Z'"):
        task.evaluate(task.build(), [str(other)])


def test_at_the_command_line(letters, tmp_path, cli):  # noqa: F811
    out = tmp_path / "run"
    tiny = ("--hidden", "8", "--steps", "4", "--evaluate-every", "2")
    done = cli("train", "several", letters, *tiny, "--loss-weights", "1,0.5", "--out", out)
    assert done.code == 0, done.err
    found = json.loads(cli("evaluate", out, letters, "--json").out)
    assert found["tasks"]["column 3"]["weight"] == 0.5
    assert "column 3" in cli("evaluate", out, letters).out
    (told,) = json.loads(cli("predict", out, "ax", "--json").out)["predictions"]
    assert told["tokens"] == ["a", "x"]


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs the data set")
@pytest.mark.slow
def test_english_has_parts_of_speech_and_numbers():
    settings = Settings.from_toml(RECIPES / "ewt-several.toml")
    task = Several.prepare(settings.with_defaults(Several.defaults))
    assert task.heads.names == ["upos", "xpos", "number"]
    found = task.baselines("test")["most_frequent_per_token"]
    assert found["upos_accuracy"] == pytest.approx(0.85, abs=1e-3)  # in lower case


@pytest.mark.parametrize("sharing", ["hard", "soft"])
def test_words_begin_with_vectors_in_every_encoder(letters, tmp_path, sharing):
    (tmp_path / "v.txt").write_text("b 1 2 3\nx 4 5 6\n", "utf-8")
    flags = {"vectors": str(tmp_path / "v.txt"), "frozen_vectors": True, "hidden": 4}
    task = prepare(letters, sharing=sharing, **flags)
    model = task.build()
    tables = [reader.front.symbols.table.weight for reader in model.readers]
    assert len(tables) == (2 if sharing == "soft" else 1)
    for table in tables:
        assert table[task.words.words.index("b")].tolist() == [1, 2, 3]
        assert not table.requires_grad
    assert "v.txt has vectors for 2 of 5 symbols" in task.show(model, 0)
