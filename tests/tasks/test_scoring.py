"""Figures of texts, by hand and by sacrebleu's own functions."""

import math

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from unrolled.tasks.scoring import edits, scores, signature

WORDS = st.text("abc", max_size=6)


def by_definition(text, other):
    if not text or not other:
        return len(text) + len(other)
    return min(
        by_definition(text[1:], other) + 1,
        by_definition(text, other[1:]) + 1,
        by_definition(text[1:], other[1:]) + (text[0] != other[0]),
    )


@given(WORDS, WORDS)
def test_edits(text, other):
    assert edits(text, other) == by_definition(text, other)


def test_scores():
    texts = ["the cat sat on the mat", "a dog"]
    references = [("the cat sat on a mat",), ("a dog",)]
    found = scores(texts, references)
    assert found["exact"] == 0.5
    assert found["character_error_rate"] == pytest.approx(3 / (20 + 5))
    own = sacrebleu.corpus_bleu(texts, [[r[0] for r in references]])
    assert found["bleu"] == pytest.approx(own.score)
    assert scores(texts, [(t,) for t in texts])["bleu"] == pytest.approx(100)


def test_several_references():
    texts = ["a man runs in the park", "two dogs play with a red ball"]
    references = [("a man walks", "a man runs in the park"), ("two dogs play with a ball",)]
    found = scores(texts, references)
    assert found["exact"] == 0.5
    assert found["character_error_rate"] == pytest.approx(4 / (22 + 25))
    streams = [[r[0] for r in references], ["a man runs in the park", None]]
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, streams).score)


def test_bleu_of_single_words_counts_single_words():
    found = scores(["three", "four", "five", "six"], [("three",), ("four",), ("five",), ("nine",)])
    assert found["bleu"] == pytest.approx(75)
    assert "eff:yes" in signature([("three",)])
    assert "eff:no" in signature([("a man runs in the park",)])
    assert f"version:{sacrebleu.__version__}" in signature([("a",)])


def test_nothing_to_judge():
    with pytest.raises(ValueError, match="no text to judge"):
        scores([], [])


def test_an_empty_text():
    found = scores([""], [("ab",)])
    assert found["bleu"] == 0
    assert found["character_error_rate"] == 1
    assert not math.isnan(found["exact"])
