"""Sequences and what they become: words and spelling, vectors, tags, numbers."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unrolled.data.splits import part_of
from unrolled.data.tagged import (
    CODES,
    LONGEST_WORD,
    PADDING,
    Labels,
    Numbers,
    Tagged,
    Vectors,
    Words,
)
from unrolled.data.tagged_files import read_tagged
from unrolled.errors import InputError
from unrolled.settings import DataSettings


def fit(*rows, size=None, spelt=None, lowercase=False, dropout=0.0):
    sequences = [Tagged(row.split(), []) for row in rows]
    return Words.fit(sequences, size, spelt=spelt, lowercase=lowercase, dropout=dropout)


def test_words_by_frequency():
    words = fit("b a b", "a b C")
    assert words.words == ["b", "a", "C"]
    assert words.size == 4
    assert words.numbers(["a", "c", "x"]).tolist() == [1, 3, 3]
    assert fit("b a b", "a b C", size=1).words == ["b"]
    lower = fit("The the a", lowercase=True)
    assert lower.words == ["the", "a"]
    assert lower.numbers(["THE", "x"]).tolist() == [0, 2]
    assert lower.characters == "Taeht"


def test_spelling():
    words = fit("to be", "be")
    ids, spelling, lengths, which = words.inputs([["to", "be", "to"], ["bé"]])
    assert ids.tolist() == [[1, 2], [0, 0], [1, 0]]
    assert words.characters == "beot"
    assert lengths.tolist() == [2, 2, 2]
    assert spelling.T.tolist() == [[3, 2], [0, 1], [0, 4]]
    assert which.tolist() == [[0, 2], [1, 0], [0, 0]]
    long = "b" * 30 + "e" * 30
    _, spelling, lengths, _ = words.inputs([[long]])
    assert lengths.tolist() == [LONGEST_WORD]
    assert spelling[:, 0].tolist() == [0] * 20 + [1] * 20


@pytest.mark.parametrize(("text", "spelt"), [("a b", 0), ("a bc", 3)])
def test_spelt_where_words_have_more_than_a_character(text, spelt):
    assert len(fit(text).characters) == spelt
    assert not fit(text, spelt=False).characters
    assert fit(text, spelt=True).characters


def test_word_dropout_takes_rare_words():
    """A word that came n times is unknown with probability 1 / (1 + n)."""
    words = fit("a " * 9 + "b", dropout=1.0)
    rows = [["a"] * 4000 + ["b"] * 4000]
    (ids,) = words.inputs(rows, [np.random.default_rng(0)])
    gone = (ids[:, 0] == len(words.words)).reshape(2, 4000).mean(1)
    np.testing.assert_allclose(gone, [1 / 10, 1 / 2], atol=0.03)
    assert (words.inputs(rows)[0] < len(words.words)).all()


@given(
    st.lists(st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=5), min_size=1, max_size=4)
)
@example([[3.204023933702322] * 5])  # whose mean is another number, by rounding
def test_vectors_are_scaled(rows):
    rows = [np.array(row)[:, None] for row in rows]
    vectors = Vectors.fit(["x"], rows)
    (x,) = vectors.inputs(rows)
    values = np.concatenate([x[: len(row), n] for n, row in enumerate(rows)])
    np.testing.assert_allclose(values.mean(), 0, atol=1e-6)
    numbers = Numbers.fit(["x"], rows)
    y = numbers.targets(rows)
    for n, row in enumerate(rows):
        assert not x[len(row) :, n].any()
        assert np.isnan(y[len(row) :, n]).all()
        np.testing.assert_allclose(numbers.unscaled(y[: len(row), n]), row, atol=1e-9)


def test_labels():
    labels = Labels(["A", "B"])
    assert labels.targets([["B"], ["A", "B"]]).tolist() == [[1, 0], [PADDING, 1]]
    assert labels.name(np.array([1, 0])) == ["B", "A"]
    with pytest.raises(InputError, match="does not know the tag 'Q'; it learned A, B"):
        labels.targets([["A", "Q"]])


@pytest.mark.parametrize(
    "code",
    [
        fit("to be", "Be", lowercase=True),
        Vectors.fit(["a", "b"], [np.arange(6.0).reshape(3, 2)]),
        Numbers.fit(["a"], [np.ones((3, 1))]),
        Labels(["X", "Y"]),
    ],
    ids=lambda code: code.kind,
)
def test_restored(code):
    table = code.to_json()
    assert CODES[table["kind"]].restore(table).to_json() == table


def test_files(tmp_path):
    (tmp_path / "t.tsv").write_text("the\tDET\ncat\tNOUN\n\n\nsat\tVERB", "utf-8")
    one, other = read_tagged([str(tmp_path / "t.tsv")], DataSettings())
    assert (one.steps, one.tags) == (["the", "cat"], ["DET", "NOUN"])
    assert (other.steps, other.tags) == (["sat"], ["VERB"])
    (tmp_path / "empty.tsv").write_text("\n\n")
    with pytest.raises(InputError, match="holds no words"):
        read_tagged([str(tmp_path / "empty.tsv")], DataSettings())


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("en_ewt-ud-train.conllu.gz", "training"),
        ("x/en_ewt-ud-dev.conllu", "validation"),
        ("valid.txt", "validation"),
        ("eng.testa", "test"),
        ("val.de.gz", "validation"),
        ("values.tsv", None),
        ("JapaneseVowels_TEST.ts", "test"),
        ("train/constrained.tsv", None),
        ("test-train.tsv", None),
    ],
)
def test_parts_by_the_names_of_files(file, part):
    assert part_of(file) == part
