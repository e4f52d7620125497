"""Figures by hand; calibration; what an example counts; splits that keep the share of each label."""

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_classify import numbered, prepare, write

from unrolled.errors import InputError
from unrolled.layers.constrain import max_norm_
from unrolled.settings import Settings
from unrolled.tasks.examples import Found
from unrolled.tasks.judging import (
    calibration_error,
    class_weights,
    figures,
    fit_temperature,
    reliability,
    report,
)
from unrolled.tasks.label_pictures import confusion_picture, reliability_picture
from unrolled.tasks.splitting import split_rows

PNG = b"\x89PNG"


def test_calibration_error_by_hand():
    truth = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.95, 0.05], [0.4, 0.6]])
    # sure 0.9, 0.9, 0.95 in one bin of ten, two of three right; sure 0.6, right
    confidence, share, count = reliability(truth, p, bins=10)
    np.testing.assert_array_equal(count, [0, 0, 0, 0, 0, 1, 0, 0, 2, 1])
    assert calibration_error(truth, p, bins=10) == pytest.approx(
        1 / 4 * 0.4 + 2 / 4 * 0.1 + 1 / 4 * 0.95
    )
    assert (confidence[8], share[8]) == (pytest.approx(0.9), 1)
    assert figures(truth, p)["accuracy"] == 0.75


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_is_found_again(temperature):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (40_000, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (p.cumsum(1) < random.random((len(p), 1))).sum(1)
    assert fit_temperature(truth, logits * temperature) == pytest.approx(temperature, rel=0.03)


def test_a_report():
    told = report(["a", "b"], np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert told["classes"]["a"] == {"precision": 1, "recall": 0.5, "f1": 2 / 3, "examples": 2}
    assert told["confusion"] == {"a": {"a": 1, "b": 1}, "b": {"a": 0, "b": 1}}


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    truth = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=truth)
    found = class_weights("balanced", "abc", np.bincount(truth))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert class_weights(None, "abc", np.bincount(truth)) is None
    np.testing.assert_array_equal(class_weights({"b": 3.0}, "abc", np.ones(3)), [1, 3, 1])
    with pytest.raises(InputError, match="--class-weights names 'd'; the labels are a, b, c"):
        class_weights({"d": 1.0}, "abc", np.ones(3))


def test_pictures():
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(30), 200)
    for labels in (["a", "a label with a very long name"], [str(n) for n in range(30)]):
        truth = random.integers(0, len(labels), 200)
        assert confusion_picture(labels, truth, truth[::-1]).startswith(PNG)
    assert reliability_picture(truth, p).startswith(PNG)


# ---------------------------------------------------------------- in the task


def test_the_loss_counts_examples_by_their_weights(tmp_path):
    rows = write(tmp_path / "t.tsv", numbered(40))
    plain = prepare(rows, dtype="float64", batch_size=8)
    heavy = prepare(rows, dtype="float64", batch_size=8, class_weights="odd=3, even=0.5")
    model = plain.build()
    batch = plain.batch(0, slice(0, 8))
    p = model(*map(torch.from_numpy, batch.inputs)).log_softmax(-1).detach().numpy()
    nats = -p[np.arange(8), batch.labels]
    weight = np.where(batch.labels == heavy.labels.index("odd"), 3, 0.5)
    assert heavy.loss(model, batch, {})[0].item() == pytest.approx((weight * nats).mean())
    with pytest.raises(InputError, match="names 'old'"):
        prepare(rows, class_weights="old=3")


@pytest.mark.parametrize("value", ["odd=0", "odd=many", "odd"])
def test_weights_that_are_none(value):
    with pytest.raises(InputError, match="--class-weights"):
        Settings.from_flags("classify", {"class_weights": value})


def test_a_fitted_temperature_is_in_the_model(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(60)), calibrate=True, split="0.4,0.3,0.3")
    model = task.build().eval()
    with torch.no_grad():
        model.readout.weight.mul_(50)
    before = task.evaluate(model, [str(tmp_path / "t.tsv")])
    found = task.validate(model, "validation")
    assert model.temperature != 1
    assert "temperature" in model.state_dict()
    after = task.evaluate(model, [str(tmp_path / "t.tsv")])
    assert after["accuracy"] == before["accuracy"]
    assert after["calibration_error"] < before["calibration_error"]
    assert found["calibration_error"] <= 0.4
    with pytest.raises(InputError, match="--calibrate takes a validation part"):
        prepare(str(tmp_path / "t.tsv"), calibrate=True, split="0.8,0,0.2")


def test_the_best_weights_by_f1(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), best_by="f1_macro")
    assert (task.criterion.metric, task.headline) == ("f1_macro", "f1_macro")
    assert set(task.drawings(task.build())) == {"confusion.png", "reliability.png"}


def test_norms_of_the_read_out_are_bounded(tmp_path):
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), max_norm=3)
    model = task.build()
    with torch.no_grad():
        model.readout.weight[0] *= 100
    kept = model.readout.weight[1].clone()
    task.constrain(model)
    assert model.readout.weight[0].norm().item() == pytest.approx(3, rel=1e-6)
    assert torch.equal(model.readout.weight[1], kept)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6),
    st.floats(1e-3, 1e3),
    st.sampled_from([0, 1]),
)
def test_max_norm(numbers, bound, dim):
    weight = torch.tensor(numbers, dtype=torch.float64).view(2, 3)
    before = weight.clone()
    assert max_norm_(weight, bound, dim) is weight
    norm = before.norm(dim=dim, keepdim=True)
    expected = torch.where(norm > bound, before * bound / norm.clamp(min=1e-300), before)
    torch.testing.assert_close(weight, expected)
    within = (norm < bound * (1 - 1e-9)).expand(2, 3)
    assert torch.equal(weight[within], before[within])


def test_a_norm_has_a_positive_bound():
    with pytest.raises(ValueError, match="positive, not 0"):
        max_norm_(torch.ones(1, 1), 0)


# ---------------------------------------------------------------- word vectors


def vectors(path, width=3, words=("number", "odd")):
    lines = [
        f"{word} {' '.join(str(n + place) for place in range(width))}"
        for n, word in enumerate(words)
    ]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("model", ["rnn", "cnn", "bag", "mlp"])
@pytest.mark.parametrize("frozen", [False, True])
def test_word_vectors_begin_and_stay_if_frozen(tmp_path, model, frozen):
    flags = {"vectors": vectors(tmp_path / "v.txt"), "frozen_vectors": frozen, "model": model}
    task = prepare(write(tmp_path / "t.tsv", numbered(40)), symbols="word", **flags)
    net = task.build()
    table = net.table if model in ("bag", "mlp") else net.symbols.table
    place = task.kind.vocabulary.symbols.index(" number")
    assert table.weight[place].tolist() == [0, 1, 2]
    assert table.weight.requires_grad is not frozen
    assert "v.txt has vectors for 1 of" in task.show(net, 0)
    assert "vectors" not in task.show(net, 1)
    (tmp_path / "v.txt").unlink()
    again = type(task).restore(task.settings, task.artefacts())
    weights = again.build()
    weights.load_state_dict(net.state_dict())
    assert list(again.predict(weights, ["number 3"])) == list(task.predict(net, ["number 3"]))


def test_two_channels_begin_with_the_same_vectors(tmp_path):
    flags = {"vectors": vectors(tmp_path / "v.txt"), "model": "cnn", "channels": 2}
    net = prepare(write(tmp_path / "t.tsv", numbered(40)), symbols="word", **flags).build()
    torch.testing.assert_close(net.fixed, net.symbols.table.weight)


def test_vectors_that_do_not_fit(tmp_path):
    rows, file = write(tmp_path / "t.tsv", numbered(40)), tmp_path / "v.txt"
    with pytest.raises(InputError, match=r"vectors of 3 numbers; leave out --embedding 5"):
        prepare(rows, symbols="word", vectors=vectors(file), embedding=5)
    with pytest.raises(InputError, match="a vector for none of the"):
        prepare(rows, symbols="word", vectors=vectors(file, words=("other",)))
    with pytest.raises(InputError, match="--frozen-vectors takes --vectors"):
        prepare(rows, frozen_vectors=True).build()


# ---------------------------------------------------------------- splits


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(4, 60), min_size=2), st.integers(0, 99))
def test_a_stratified_split_keeps_the_share_of_each_label(counts, seed):
    labels = [label for label, count in counts.items() for _ in range(count)]
    found = Found([str(n) for n in range(len(labels))], labels, ["x"] * len(labels))
    flags = {"split": "0.5,0.25,0.25", "stratify": True, "seed": seed}
    parts = split_rows(found, Settings.from_flags("classify", flags))
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    for part, share in zip(parts.values(), (0.5, 0.25, 0.25), strict=True):
        for label, count in counts.items():
            assert abs(sum(labels[i] == label for i in part) - share * count) <= 2


@pytest.mark.parametrize("fold", range(3))
def test_stratified_folds(fold):
    labels = [str(n // 30) for n in range(270)]
    found = Found([str(n) for n in range(270)], labels, ["x"] * 270)
    flags = {"split": "0.5,0.5,0", "stratify": True, "folds": 3, "fold": fold}
    parts = split_rows(found, Settings.from_flags("classify", flags))
    for part, count in zip(parts.values(), (10, 10, 10), strict=True):
        assert all(abs(sum(labels[i] == label for i in part) - count) <= 1 for label in set(labels))


def test_an_example_of_several_labels_counts_as_of_the_rarest():
    texts = [str(n) for n in range(20)]
    found = Found([*texts, "0", "1"], ["a"] * 20 + ["b", "b"], ["x"] * 22)
    flags = {"split": "0.5,0.5,0", "stratify": True}
    parts = split_rows(found, Settings.from_flags("classify", flags))
    held = [sum(found.labels[i] == "b" for i in rows) for rows in parts.values()]
    assert held == [1, 1, 0]


def test_a_label_with_one_example_cannot_be_stratified(tmp_path):
    rows = [*numbered(40), ("alone", "neither"), ("alone", "neither")]
    with pytest.raises(InputError, match="the label 'neither' has one example; --stratify"):
        prepare(write(tmp_path / "t.tsv", rows), stratify=True)


def test_held_out_examples_that_are_learned_from_are_counted(tmp_path, caplog):
    train = write(tmp_path / "t.tsv", numbered(40))
    test = write(tmp_path / "test.tsv", [*numbered(3), ("number 77", "odd")])
    with caplog.at_level(logging.WARNING, "unrolled"):
        prepare(train, test=(test,), split="0.9,0.1,0")
    (record,) = caplog.records
    told = record.getMessage()
    assert told.startswith(("2 of the 4 test texts", "3 of the 4 test texts"))
    caplog.clear()
    prepare(train)
    assert not caplog.records


def test_test_data_with_a_label_of_its_own(tmp_path):
    train = write(tmp_path / "t.tsv", numbered(40))
    test = write(tmp_path / "test.tsv", [("number 77", "odd"), ("number 78", "evn")])
    with pytest.raises(InputError, match=r"test\.tsv:3: .*label 'evn'; .* even, odd"):
        prepare(train, test=(test,))


def test_nats_of_one_label_alone():
    assert fit_temperature(np.zeros(5, int), np.array([[2.0, 1.0]] * 5)) < 0.06
    assert math.isfinite(calibration_error(np.zeros(1, int), np.array([[1.0, 0.0]])))
