"""Vocabularies: what goes in comes out, however it is cut; what is unknown is said."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data import Vocabulary, coded, fit_vocabulary, words
from unrolled.errors import InputError
from unrolled.settings import DataSettings

KINDS = ["character", "byte", "word", "subword"]
MIXED = "It's 3 o'clock — naïve café; हिन्दी में, é 日本語テスト。\r\n\n\n\tdef f(x):\n    return  x_1 👩‍🔬\n"
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
WORDY = st.text("ab \n.é日-\u0301", min_size=1, max_size=80)


def fit(text, kind, **fields):
    chunks = [text] if isinstance(text, str) else text
    return fit_vocabulary(chunks, DataSettings(symbols=kind, **fields))


def cuts(text, places):
    """Cut a text at any places, even empty pieces."""
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(text=PLAIN | WORDY)
def test_there_and_back(kind, text):
    vocabulary = fit(text, kind)
    ids = vocabulary.encode(text)
    assert ids.dtype == vocabulary.dtype
    assert ids.ndim == 1
    assert vocabulary.decode(ids) == text
    assert vocabulary.missing(text) == []
    stream = vocabulary.stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == text
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())), "x.json")
    assert (again.kind, again.symbols, again.unknown) == (
        kind,
        vocabulary.symbols,
        vocabulary.unknown,
    )
    np.testing.assert_array_equal(again.encode(text), ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=WORDY, places=st.lists(st.integers(0, 99), max_size=6), piece=st.integers(1, 20))
def test_chunk_borders_do_not_matter(kind, text, places, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "PIECE", piece)
        one = fit(text, kind, vocabulary_size=260 if kind == "subword" else None)
        many = fit(cuts(text, places), kind, vocabulary_size=260 if kind == "subword" else None)
        assert one.to_json() == many.to_json()
        ids = np.concatenate([np.zeros(0, one.dtype), *one.encode_chunks(cuts(text, places))])
        np.testing.assert_array_equal(ids, one.encode(text))
        assert one.decode(ids) == text


@pytest.mark.parametrize("kind", ["word", "subword"])
def test_pieces_end_where_symbols_end(kind, monkeypatch):
    text = MIXED * 40
    vocabulary = fit(text, kind, vocabulary_size=400)
    whole = vocabulary.encode(text)
    monkeypatch.setattr(words, "PIECE", 150)
    assert len(list(words.settle([text]))) > 20
    np.testing.assert_array_equal(vocabulary.encode(text), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_text(kind):
    vocabulary = fit(MIXED, kind)
    assert vocabulary.decode(vocabulary.encode(MIXED)) == MIXED
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


def test_symbols_are_sorted_by_code_point():
    assert fit("hello, ₂é!", "character").symbols == (*sorted(set("hello, ₂é!")), "\ufffd")
    assert fit("bé a", "byte").symbols == (" ", "a", "b", "\\xa9", "\\xc3", "\ufffd")


def test_words_keep_their_space():
    text = "The cat's  hat,\r\n the_1 हिन्दी é e\u0301a\xa0x"
    vocabulary = fit(text, "word")
    pieces = [vocabulary.symbols[index] for index in vocabulary.encode(text)]
    assert pieces == [
        *("The", " cat", "'", "s", " ", " hat", ",", "\r", "\n", " the_1", " हिन्दी", " é"),
        *(" e\u0301a", "\xa0", "x"),
    ]


def test_words_are_ranked_by_frequency():
    vocabulary = fit("b b b a a c" + " d" * 9, "word", vocabulary_size=2)
    assert vocabulary.symbols == (" d", " a", "\ufffd")
    assert fit(" w".join(map(str, range(30_000))), "word").unknown == 20_000


def test_counting_words_forgets_the_rarest(monkeypatch):
    monkeypatch.setattr(words, "MOST_WORDS", 50)
    text = "".join(f"rare{number} often\n" for number in range(20_000))
    symbols = fit(text, "word", vocabulary_size=3).symbols
    assert {" often", "\n"} < set(symbols)


@pytest.mark.parametrize(
    ("kind", "unknown"), [("character", "é"), ("byte", "é"), ("word", "zebra")]
)
def test_unknown(kind, unknown):
    vocabulary = fit("abc abc xyz", kind)
    assert vocabulary.unknown == len(vocabulary) - 1
    assert vocabulary.symbols[-1] == "\N{REPLACEMENT CHARACTER}"
    ids = vocabulary.encode(f"abc{unknown}")
    assert (ids == vocabulary.unknown).any()
    assert "\N{REPLACEMENT CHARACTER}" in vocabulary.decode(ids)


def test_missing_says_each_once_in_order():
    assert fit("abc", "character").missing("xaybx") == ["x", "y"]
    assert fit("aé", "byte").missing("éèa€") == ["è", "€"]
    assert fit("a b", "word").missing("a b c a d c") == [" c", " a", " d"]
    assert fit("a b", "subword").missing("anything — at all") == []


@pytest.mark.parametrize("text", ["\U0010ffff", "\0", "\ud800", "é"])
def test_characters_beyond_the_table(text):
    vocabulary = fit("mno", "character")
    assert vocabulary.encode("m" + text).tolist() == [0, 3]


def test_bytes_that_are_no_text():
    content = bytes(range(256))
    vocabulary = fit(content.decode("utf-8", "surrogateescape"), "byte")
    assert len(vocabulary) == 257
    assert vocabulary.encode(content.decode("utf-8", "surrogateescape")).tolist() == list(
        range(256)
    )
    assert vocabulary.decode([0x61, 0xFF, 0x62]) == "a\ufffdb"


@pytest.mark.parametrize("kind", ["byte", "subword"])
def test_a_stream_shows_text_once_it_is_settled(kind):
    vocabulary = fit("€", kind, vocabulary_size=256 if kind == "subword" else None)
    stream = vocabulary.stream()
    assert [stream.push(index) for index in vocabulary.encode("€")] == ["", "", "€"]
    first = vocabulary.encode("€")[0]
    assert stream.push(first) == ""
    assert stream.flush() == "\ufffd"


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.uint32)],
)
def test_smallest_dtype(count, dtype):
    text = "".join(map(chr, range(0x10000, 0x10000 + count)))
    vocabulary = fit(text, "character")
    assert vocabulary.dtype == dtype
    np.testing.assert_array_equal(vocabulary.encode(text + "a"), np.arange(count + 1))


@pytest.mark.parametrize("kind", ["character", "byte", "word"])
def test_a_closed_vocabulary(kind):
    vocabulary = fit("ab c" * 3, kind, unknown=False)
    assert vocabulary.unknown is None
    assert vocabulary.encode("ab").max() < len(vocabulary)
    again = Vocabulary.from_json(vocabulary.to_json(), "x.json")
    for closed in (vocabulary, again):
        with pytest.raises(InputError, match=r"holds 'é'.*U\+00E9.*closed"):
            closed.encode("é")


def test_closing_makes_no_room_for_an_unknown_symbol():
    text = "".join(map(chr, range(0x100, 0x200)))
    assert fit(text, "character", unknown=False).dtype == np.uint8
    assert len(fit(text, "character", unknown=False)) == 256


def test_a_cap_keeps_the_most_frequent():
    vocabulary = fit("aaabbbcdd", "character", vocabulary_size=3)
    assert vocabulary.symbols == ("a", "b", "d", "\ufffd")
    with pytest.raises(InputError, match="--vocabulary-size 3 drops some of the 4"):
        fit("aaabbbcdd", "character", vocabulary_size=3, unknown=False)


def test_subwords_need_all_bytes():
    with pytest.raises(InputError, match="--vocabulary-size 255 is too small for subwords"):
        fit("abc", "subword", vocabulary_size=255)
    assert len(fit("abc" * 50, "subword", vocabulary_size=256)) == 256


def test_subwords_learn_merges():
    vocabulary = fit("the cat and the hat and the mat " * 9, "subword", vocabulary_size=262)
    assert len(vocabulary) == 262
    assert " the" in vocabulary.symbols
    assert len(vocabulary.encode(" the the")) == 2


def test_subwords_of_long_runs_are_learnt_quickly():
    letters = "".join(random.Random(0).choices("ACGT", k=300_000))
    vocabulary = fit(letters, "subword", vocabulary_size=600)  # minutes, were the run one word
    assert vocabulary.decode(vocabulary.encode(letters)) == letters
    assert len(vocabulary.encode(letters)) < 100_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunks", [[], [""], ["", ""]])
def test_no_text(kind, chunks):
    with pytest.raises(InputError, match="training text is empty"):
        fit(chunks, kind)


def test_errors_of_the_reading_come_through():
    def chunks():
        yield "some text " * 10_000
        raise InputError("the file is gone")

    for kind in KINDS:
        with pytest.raises(InputError, match="the file is gone"):
            fit(chunks(), kind)


@pytest.mark.parametrize(
    "table",
    [
        {},
        [],
        None,
        {"kind": "letters"},
        {"kind": ["character"]},
        {"kind": "character"},
        {"kind": "character", "unknown": True},
        {"kind": "character", "unknown": 1, "codes": [65]},
        {"kind": "character", "unknown": True, "codes": []},
        {"kind": "character", "unknown": True, "codes": [65, 65]},
        {"kind": "character", "unknown": True, "codes": [-1]},
        {"kind": "character", "unknown": True, "codes": [0x110000]},
        {"kind": "character", "unknown": True, "codes": "ab"},
        {"kind": "byte", "unknown": True, "codes": [256]},
        {"kind": "word", "unknown": True, "words": ["a", "a"]},
        {"kind": "word", "unknown": True, "words": [1]},
        {"kind": "word", "unknown": True, "words": []},
        {"kind": "subword"},
        {"kind": "subword", "tokenizer": {}},
        {"kind": "subword", "tokenizer": {"model": {"type": "BPE", "vocab": {}, "merges": []}}},
    ],
)
def test_damaged_json(table):
    with pytest.raises(InputError, match=r"^m/vocabulary\.json is damaged"):
        Vocabulary.from_json(table, "m/vocabulary.json")


def test_damaged_tokens():
    table = fit("abc", "subword", vocabulary_size=256).to_json()
    vocab = table["tokenizer"]["model"]["vocab"]
    vocab["€"] = vocab.pop("a")
    with pytest.raises(InputError, match="is damaged"):
        Vocabulary.from_json(table, "vocabulary.json")


@settings(max_examples=30, deadline=None)
@given(text=PLAIN)
def test_encoding_agrees_with_a_dictionary(text):
    """The table look-up, against the obvious way."""
    vocabulary = fit("some text to know: äöü", "character")
    known = {symbol: index for index, symbol in enumerate(vocabulary.symbols[:-1])}
    expected = [known.get(character, vocabulary.unknown) for character in text]
    assert vocabulary.encode(text).tolist() == expected
    assert isinstance(vocabulary, coded.CharacterVocabulary)
