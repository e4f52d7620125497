"""The second task: lines of text with a label, and the two baselines beside it."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.bag import Bag
from unrolled.tasks.classify import Classify
from unrolled.tasks.examples import Found
from unrolled.tasks.splitting import split_rows

PETS = [("purr", "cat"), ("miaow", "cat"), ("hiss", "cat"), ("woof", "dog"), ("growl", "dog")]


def write(path, rows):
    lines = [f"{text}\t{label}\n" for text, label in [("text", "label"), *rows]]
    path.write_text("".join(lines), "utf-8")
    return str(path)


def numbered(count):
    """Rows whose label is whether the number in the text is odd."""
    return [(f"number {i}", "odd" if i % 2 else "even") for i in range(count)]


def before(count, seed=0):
    """Rows whose label says which of one a and one b comes first, between other letters."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        letters = random.choice(list("cdef"), random.integers(2, 10))
        first, second = sorted(random.choice(len(letters), 2, replace=False))
        order = random.permutation(["a", "b"])
        letters[[first, second]] = order
        rows.append(("".join(letters), f"{order[0]} first"))
    return rows


def prepare(source, **flags):
    settings = Settings.from_flags("classify", {"source": (source,), "threads": 1, **flags})
    return Classify.prepare(settings.with_defaults(Classify.defaults))


def learn(task, steps):
    """Train as the loop does, in its plainest form."""
    training = task.settings.training
    model = task.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=training.lr)
    losses = []
    for step in range(steps):
        loss, _ = task.loss(model, task.batch(step, slice(0, training.batch_size)), {})
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


class FirstSymbol(nn.Module):
    """Gives each text the label that its first symbol stands for."""

    def __init__(self, label_of, labels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(max(label_of) + 1, labels))
        with torch.no_grad():
            for symbol, label in label_of.items():
                self.weight[symbol, label] = 1

    def forward(self, ids, lengths):
        return self.weight[ids[0]]


def test_learns_an_order_that_a_bag_of_characters_cannot_know(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", before(1000)), cell="gru", hidden=32, lr=0.01)
    model, losses = learn(task, 100)
    assert losses[0] == pytest.approx(task.initial_loss, abs=0.1)
    assert np.mean(losses[-10:]) < 0.2
    assert task.validate(model, "validation")["accuracy"] > 0.95
    found = task.baselines("validation")
    for baseline in ("majority", "bag_of_characters"):  # in short texts three in a row give it away
        assert found[baseline]["accuracy"] < 0.7


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
def test_learns_surnames(tmp_path):
    files = sorted((Path(os.environ["UNROLLED_DATA_DIR"]) / "names").glob("*.txt"))
    if not files:
        pytest.skip("names is not there")
    rows = [
        (name, file.stem)
        for file in files
        for line in file.read_text("utf-8").splitlines()
        if (name := line.strip())
    ]
    task = prepare(write(tmp_path / "names.tsv", rows), lr=0.01, batch_size=128)
    assert len(rows) == sum(len(task.rows(split)) for split in ("training", "validation", "test"))
    assert len(task.labels) == 18
    model, _ = learn(task, 250)
    beside = task.baselines("validation")
    assert beside["majority"]["accuracy"] == pytest.approx(0.47, abs=0.03)
    assert beside["bag_of_characters"]["accuracy"] > 0.64
    found = task.validate(model, "validation")
    assert found["accuracy"] > beside["bag_of_characters"]["accuracy"] + 0.02


@given(
    st.lists(st.sampled_from("abcdefghijklmnop"), min_size=40, max_size=80),
    st.integers(0, 2**63 - 1),
)
def test_no_text_stands_in_two_splits(texts, seed):
    texts = [*texts, *"abcdefghijklmnop"]
    settings = Settings.from_flags("classify", {"split": "0.5,0.25,0.25", "seed": seed})
    parts = split_rows(Found(texts, ["x"] * len(texts), ["x"] * len(texts)), settings)
    assert list(parts) == ["training", "validation", "test"]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(texts)))
    assert [len({texts[i] for i in rows}) for rows in parts.values()] == [8, 4, 4]


def test_the_seed_decides_the_split_and_the_weights(tmp_path):
    source = write(tmp_path / "t.tsv", numbered(100))
    one, same, other = (prepare(source, seed=seed) for seed in (1, 1, 2))
    assert one.rows("test").items == same.rows("test").items != other.rows("test").items
    assert one.data_digest == same.data_digest != other.data_digest
    torch.manual_seed(5)
    weights = [task.build().readout.weight for task in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_digest_is_of_the_data_not_of_the_file(tmp_path):
    rows = numbered(50)
    digest = prepare(write(tmp_path / "a.tsv", rows)).data_digest
    assert prepare(write(tmp_path / "b.tsv", rows)).data_digest == digest
    rows[7] = ("number 7", "even")
    assert prepare(write(tmp_path / "a.tsv", rows)).data_digest != digest


@pytest.mark.parametrize("size", [1, 7, 20, 33])
def test_batches_are_epochs_laid_end_to_end(tmp_path, size):
    task = prepare(write(tmp_path / "t.tsv", numbered(25)), batch_size=size, split="0.8,0.2,0")
    assert task.steps_per_epoch == math.ceil(20 / size)
    training = task.rows("training")
    drawn = []
    for step in range(math.ceil(60 / size)):
        batch = task.batch(step, slice(0, size))
        for row in range(size):
            ids, lengths = batch.inputs
            text = task.kind.vocabulary.decode(ids[: lengths[row], row])
            drawn.append((text, batch.labels[row]))
    epochs = [drawn[i : i + 20] for i in (0, 20, 40)]
    rows = Counter(zip(training.items, training.labels, strict=True))
    assert all(Counter(epoch) == rows for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_process_reads_its_own_rows_of_the_batch(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)), batch_size=8)
    task.batch(9, slice(0, 8))
    whole = task.batch(3, slice(0, 8))
    part = task.batch(3, slice(5, 8))
    np.testing.assert_array_equal(part.labels, whole.labels[5:])
    (ids, lengths), (all_ids, all_lengths) = part.inputs, whole.inputs
    np.testing.assert_array_equal(lengths, all_lengths[5:])
    np.testing.assert_array_equal(ids, all_ids[: len(ids), 5:])


@pytest.mark.parametrize(
    "flags",
    [
        {"cell": "rnn"},
        {"cell": "lstm", "layers": 2, "dropout": 0.3},
        {"cell": "gru", "embedding": 5},
        {"symbols": "byte"},
        {"symbols": "word", "vocabulary_size": 12},
        {"symbols": "subword", "vocabulary_size": 260, "embedding": 3},
        {"model": "bag"},
        {"model": "bag", "ngrams": 3, "embedding": 7, "symbols": "word"},
        {"model": "mlp", "ngrams": 2},
        {"model": "cnn", "filters": 4, "filter_widths": (2, 12)},
        {"model": "cnn", "symbols": "word", "embedding": 5, "channels": 2, "dense": (6, 5)},
        {"model": "cnn", "filters": 4, "pooling": "k-max", "k": 9},
        {"model": "cnn", "filters": 4, "pooling": "mean"},
    ],
    ids=str,
)
def test_what_stands_beside_a_text_makes_no_difference(tmp_path, flags):
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), dtype="float64", **flags)
    model = task.build().eval()
    texts = task.kind.inputs(["number 1", "n", "number 12 and more"])
    ids, lengths = map(torch.from_numpy, task.kind.batch(texts, None))
    together = model(ids, lengths)
    assert together.dtype == torch.float64
    for row, text in enumerate(texts):
        alone = model(torch.from_numpy(text.astype(np.int64))[:, None], torch.tensor([len(text)]))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)


def test_reads_out_the_last_output_and_the_mean(tmp_path):
    flags = {"dtype": "float64", "hidden": 3, "over_time": "last,mean"}
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), **flags)
    model = task.build()
    text = torch.from_numpy(task.kind.vocabulary.encode("number 3").astype(np.int64))[:, None]
    y, _ = model.net(model.symbols(text, torch.float64))
    features = torch.cat([y[-1], y.mean(0)], -1)
    torch.testing.assert_close(model(text, torch.tensor([8])), model.readout(features))


def test_the_loss_is_the_mean_over_rows(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), batch_size=4, dtype="float64")
    model = task.build()
    batch = task.batch(0, slice(0, 4))
    loss, carry = task.loss(model, batch, {})
    p = model(*map(torch.from_numpy, batch.inputs)).softmax(-1).detach()
    expected = -np.mean([math.log(p[row, label]) for row, label in enumerate(batch.labels)])
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert carry == {}
    assert task.initial_loss == math.log(2)
    assert task.progress(0.5) == {"loss": 0.5}
    assert task.throughput() == (4, "texts")


def test_initial_scale(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), initial_scale=0.01)
    for name, parameter in task.build().named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.2)


def test_no_word_runs_on_into_the_next_text(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), symbols="word")
    assert {" number", "\n"} <= set(task.kind.vocabulary.symbols)
    assert not [symbol for symbol in task.kind.vocabulary.symbols if "number" in symbol.strip()[1:]]


def test_evaluate_by_hand(tmp_path):
    rows = [(f"{a}{b}", label) for a, label in zip("xyz", "XYZ", strict=True) for b in "abcdefgh"]
    task = prepare(write(tmp_path / "t.tsv", rows))
    symbols = [int(task.kind.vocabulary.encode(letter)[0]) for letter in "xyz"]
    model = FirstSymbol(dict(zip(symbols, range(3), strict=True)), 3)
    sure = math.e / (math.e + 2)  # of scores 1, 0, 0
    expected = {"accuracy": 1, "f1_macro": 1, "calibration_error": 1 - sure}
    assert task.validate(model, "test") == pytest.approx(expected)
    # given X: 2 of the 3 X, 1 Y; given Y: 1 X, 1 Y; Z never occurs and is never given
    other = [("xa", "X"), ("xé", "X"), ("ya", "X"), ("xb", "Y"), ("yb", "Y")]
    found = task.evaluate(model, [write(tmp_path / "other.tsv", other)])
    assert json.loads(json.dumps(found)) == found
    assert found["accuracy"] == pytest.approx(3 / 5)
    x = {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "examples": 3}
    y = {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "examples": 2}
    z = {"precision": 0, "recall": 0, "f1": 0, "examples": 0}
    assert list(found["classes"]) == ["X", "Y", "Z"]
    for label, expected in zip("XYZ", (x, y, z), strict=True):
        assert found["classes"][label] == pytest.approx(expected)
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["confusion"] == {
        "X": {"X": 2, "Y": 1, "Z": 0},
        "Y": {"X": 1, "Y": 1, "Z": 0},
        "Z": {"X": 0, "Y": 0, "Z": 0},
    }
    assert (found["examples"], found["unknown_symbols"]) == (5, 1)
    names = ["majority", "bag_of_characters", "bag_of_character_ngrams"]
    assert list(found["baselines"]) == names
    assert set(found["baselines"]["majority"]) == {"accuracy", "f1_macro"}


def test_baselines_by_hand():
    texts = ["aa", "ab", "ba", "bc", "cb", "cc", "xx"]
    labels = np.array([0, 0, 0, 3, 3, 3, 0])
    assert list(Bag.fit(texts, labels, 4, words=True).predict(["aaa"])) == [
        *("majority", "bag_of_words", "bag_of_word_ngrams")
    ]
    bag = Bag.fit(texts, labels, 4)
    np.testing.assert_array_equal(bag.frequency, [4, 0, 0, 3])
    predicted = bag.predict(["aaa", "ccc", "never seen: é"])
    np.testing.assert_array_equal(predicted["majority"], [0, 0, 0])
    np.testing.assert_array_equal(predicted["bag_of_characters"][:2], [0, 3])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bag_of_characters", {"analyzer": "char"}),
        ("bag_of_character_ngrams", {"analyzer": "char", "ngram_range": (1, 3)}),
        ("bag_of_words", {"token_pattern": r"\w+|[^\w\s]"}),
        ("bag_of_word_ngrams", {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)}),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_bag_is_the_regression_of_scikit_learn(classes, name, options):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("abcde F"), 8)) for _ in range(200)]
    labels = random.integers(0, classes, 200)
    pipeline = make_pipeline(
        CountVectorizer(lowercase=False, **options), LogisticRegression(max_iter=1000)
    ).fit(texts, labels)
    bag = Bag.fit(texts, labels, classes, words="word" in name)
    again = Bag.from_arrays(classes, bag.to_arrays())
    for mine in (bag, again):
        same = mine.predict(texts)[name] == pipeline.predict(texts)
        assert same.mean() > 0.98  # float32 may tip a tie
    assert len(np.unique(pipeline.predict(texts))) == classes


def test_restored_without_its_data(tmp_path):
    source = write(tmp_path / "t.tsv", before(60))
    task = prepare(source)
    model = task.build().eval()
    kept = task.artefacts()
    through_a_file = Artefacts(json.loads(json.dumps(kept.vocabulary)), kept.baseline)
    again = Classify.restore(task.settings, through_a_file)
    weights = again.build()
    weights.load_state_dict(model.state_dict())
    assert again.evaluate(weights, [source]) == task.evaluate(model, [source])
    assert list(again.predict(weights, ["ab"])) == list(task.predict(model, ["ab"]))
    with pytest.raises(RunError, match="no training data"):
        again.batch(0, slice(0, 1))


@pytest.mark.parametrize(
    "key", ["symbols", "labels", "bag_of_characters.weight", "bag_of_characters.bias", "frequency"]
)
def test_damaged_artefacts(tmp_path, key):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)))
    kept = task.artefacts()
    (kept.vocabulary if key in kept.vocabulary else kept.baseline).pop(key)
    with pytest.raises(InputError, match=key):
        Classify.restore(task.settings, kept)
    kept = task.artefacts()
    kept.baseline["frequency"] = kept.baseline["frequency"][:1]
    with pytest.raises(InputError, match=r"frequency is \(1,\), not \(2,\)"):
        Classify.restore(task.settings, kept)


def test_predict_keeps_the_order_of_its_inputs(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)), dtype="float64")
    model = task.build().eval()
    texts = [f"number {'1' * (i * 7 % 11)} {i}" for i in range(300)]
    found = list(task.predict(model, texts))
    assert [one["text"] for one in found] == texts
    for one in found[::50]:
        (alone,) = task.predict(model, [one["text"]])
        assert (
            alone["label"]
            == one["label"]
            == max(alone["probabilities"], key=alone["probabilities"].get)
        )
        assert alone["probabilities"] == pytest.approx(one["probabilities"], abs=1e-12)
        assert sum(alone["probabilities"].values()) == pytest.approx(1)
    assert len({one["probabilities"]["odd"] for one in found}) > 100


@pytest.mark.parametrize("text", ["", " \t"])
def test_predict_refuses_an_empty_text(tmp_path, text):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)))
    with pytest.raises(InputError, match="text 2 to label is empty"):
        list(task.predict(task.build(), ["number", text]))


def test_show(tmp_path):
    rows = [(f"{i} {'long ' * 30}", label) for i, (_, label) in enumerate(numbered(40))]
    task = prepare(write(tmp_path / "t.tsv", rows), split="0.5,0.5,0")
    model = task.build()
    shown = task.show(model, 10)
    assert shown == task.show(model, 20)
    lines = shown.splitlines()
    assert len(lines) == 6
    for line in lines:
        text, answer = line.split(" -> ")
        truth = "odd" if int(text.split()[0]) % 2 else "even"
        wrong = "even" if truth == "odd" else "odd"
        assert answer in (f"{truth} (right)", f"{wrong} (wrong: {truth})")
        assert len(text) == 50
        assert text.endswith("…")


@pytest.mark.parametrize(
    ("rows", "flags", "sentence"),
    [
        ([("a", "x"), ("b", "x"), *[(f"c{i}", "x") for i in range(9)]], {}, "same label"),
        (PETS, {}, "5 different texts are too few to split: none is left for"),
        ([("same", "a"), ("same", "b")] * 20, {}, "1 different texts are too few"),
        ([*PETS, (" ", "dog")], {}, r"t\.tsv:7 has an empty text"),
        ([*PETS, ("miaow", "")], {}, r"t\.tsv:7 has an empty label"),
        ([], {}, "holds no rows"),
    ],
)
def test_bad_tables(tmp_path, rows, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        prepare(write(tmp_path / "t.tsv", rows), **flags)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.tsv"):
        prepare(str(tmp_path / "nowhere.tsv"))


def test_a_label_the_model_does_not_know(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)))
    other = write(tmp_path / "other.tsv", [("one", "odd"), ("two and a half", "neither")])
    with pytest.raises(InputError, match=r"other\.tsv:3: .* label 'neither'.* even, odd"):
        task.evaluate(task.build(), [other])


def test_an_empty_split_is_not_judged(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)), split="0.9,0.1,0")
    with pytest.raises(InputError, match="test split is empty"):
        task.validate(task.build(), "test")


def test_a_label_only_held_out_texts_have(tmp_path):
    rows = numbered(40)
    settings = Settings.from_flags("classify", {}).with_defaults(Classify.defaults)
    texts = [text for text, _ in rows]
    (held_out, *_) = split_rows(Found(texts, texts, texts), settings)["validation"]
    rows[held_out] = (rows[held_out][0], "neither")
    task = prepare(write(tmp_path / "t.tsv", rows))
    assert task.labels == ["even", "neither", "odd"]
    assert task.baseline.bias["bag_of_characters"][1] == -np.inf
    assert task.baselines("validation")["bag_of_characters"]["accuracy"] <= 0.75
    assert math.isfinite(task.validate(task.build(), "validation")["f1_macro"])


def test_tied_weights_are_refused(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(30)), tied=True)
    with pytest.raises(InputError, match="--tied"):
        task.build()


def test_texts_as_the_settings_want_them_read(tmp_path):
    rows = [*numbered(30), ("It does n't -- `` work '' , OK ...", "odd"), ("...", "even")]
    source = write(tmp_path / "t.tsv", rows)
    found = prepare(source, simplify=True, lowercase=True, symbols="word").kind.read([source])
    assert found.items[-2:] == ["it does nt work , ok", ""]
    assert prepare(source).kind.read([source]).items == [text for text, _ in rows]
    task = prepare(source, simplify=True, symbols="word", model="cnn", embedding=3)
    (one,) = task.predict(task.build().eval(), ["..."])
    assert one["text"] == "..."
    assert sum(one["probabilities"].values()) == pytest.approx(1)


def test_texts_of_files_whose_names_tell_their_part(tmp_path):
    rows = [f"{word}\t{word[0]}" for word in ("ax", "by", "ay", "bx", "az", "bz", "aw", "bw", "av")]
    for name, part in (("train", rows[:5]), ("dev", rows[5:7]), ("test", rows[7:])):
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *part]))
    flags = {"source": (str(tmp_path),), "model": "bag", "symbols": "character"}

    def texts(**more):
        settings = Settings.from_flags("classify", {**flags, **more})
        task = Classify.prepare(settings.with_defaults(Classify.defaults_for(settings)))
        return [sorted(task.rows(split).items) for split in ("training", "validation", "test")]

    assert texts() == [["ax", "ay", "az", "bx", "by"], ["aw", "bz"], ["av", "bw"]]
    given = texts(test=str(tmp_path / "dev.tsv"))
    assert given == [["ax", "ay", "az", "bx", "by"], ["aw", "bz"], ["aw", "bz"]]
    folded = texts(folds=3, split="0.5,0.5,0")
    assert sorted(text for part in folded for text in part) == sorted(row[:2] for row in rows)
