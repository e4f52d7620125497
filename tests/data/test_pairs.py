"""Pairs of texts: aligned files, tables, dates and mistyped phrases; texts as symbols and back."""

import datetime
import gzip

import numpy as np
import pytest

from unrolled.data.dates import FORMS, written_dates
from unrolled.data.noisy import NEIGHBOURS, mistyped, noisy_phrases
from unrolled.data.pairs import read_pairs
from unrolled.data.side import Side, padded
from unrolled.errors import InputError
from unrolled.settings import DataSettings
from unrolled.tasks.scoring import edits


def write(path, *lines):
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def test_aligned_files(tmp_path):
    de = write(tmp_path / "a.de", "ein Hund", "", "eine Katze")
    en = write(tmp_path / "a.en.gz", "a dog", "", "a cat")
    pairs = read_pairs([de, en])
    assert pairs.sources == ["ein Hund", "eine Katze"]
    assert pairs.targets == ["a dog", "a cat"]
    assert pairs.where == [f"{de}:1", f"{de}:3"]
    twice = read_pairs([de, en, en, de])
    assert twice.targets == ["a dog", "a cat", "ein Hund", "eine Katze"]


@pytest.mark.parametrize("name", ["p.tsv", "p.txt"])
def test_a_table(tmp_path, name):
    plain = write(tmp_path / name, "eins\tone", "", "zwei\ttwo")
    assert read_pairs([plain]).targets == ["one", "two"]
    named = write(tmp_path / f"n{name}", "id\tTarget\tsource", "1\tone\teins")
    pairs = read_pairs([named])
    assert (pairs.sources, pairs.targets) == (["eins"], ["one"])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": "x\ny\nz\n", "b": "x\ny\n"}, ["a has 3 lines", "b 2", "line 3 of", "counterpart"]),
        ({"a": "x\n", "b": "x\ny\n"}, ["b has 2 lines", "a 1", "line 2 of"]),
        ({"a": "x\n\n", "b": "x\ny\n"}, ["a:2 has an empty source"]),
        ({"a": "x\ny\n", "b": "x\n \n"}, ["a:2 has an empty target"]),
        ({"a": "x\n", "b": "y\n", "c": "z\n"}, ["two aligned files"]),
        ({"a.tsv": "x\ty\n", "b": "z\n"}, ["two aligned files"]),
        ({"a.tsv": "x\ty\nx\n"}, ["a.tsv:2 has 1 columns", "a tab"]),
        ({"a.tsv": "x\ty\tz\n"}, ["a.tsv:1 has 3 columns"]),
        ({"a.tsv": "source\ttarget\nx\ty\tz\n"}, ["a.tsv:2 has 3 columns"]),
        ({"a.tsv": "source\ttarget\n"}, ["holds no pairs"]),
        ({"a": "\n", "b": "\n"}, ["hold", "no pairs"]),
    ],
)
def test_bad_files(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(InputError) as error:
        read_pairs([str(tmp_path / name) for name in files])
    for word in words:
        assert word in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.de"):
        read_pairs(["nowhere.de", "nowhere.en"])


def test_dates_are_what_they_say():
    pairs = written_dates(0, 2000)
    assert pairs == written_dates(0, 2000) != written_dates(1, 2000)
    assert len({source for source, _ in pairs}) == len(pairs) > 1900
    for source, target in pairs:
        day = datetime.date.fromisoformat(target)
        assert 1950 <= day.year <= 2049
        assert str(day.year % 100) in source
    long = dict(written_dates(3, 3000))
    for form in ("%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d", "%Y-%m-%d"):
        read = 0
        for source, target in long.items():
            try:
                day = datetime.datetime.strptime(source, form).date()
            except ValueError:
                continue
            if form == "%Y%m%d" and not source.isdigit():
                continue
            read += 1
            assert day.isoformat() == target, source
        assert read > 3000 / len(FORMS) / 3, form


def test_phrases_have_the_mistakes_they_should():
    pairs = noisy_phrases(0, 3000)
    assert pairs == noisy_phrases(0, 3000)
    letters = sum(len(target) for _, target in pairs)
    wrong = sum(edits(source, target) for source, target in pairs)
    assert 0.04 < wrong / letters < 0.09
    assert all(2 <= len(target.split()) <= 5 and len(target) <= 28 for _, target in pairs)
    assert set(NEIGHBOURS["a"]) == set("qwszx")
    random = np.random.default_rng(0)
    assert mistyped("nothing is wrong", random, rate=0.0) == "nothing is wrong"
    kinds = {mistyped("abc", np.random.default_rng(seed), rate=1.0) for seed in range(500)}
    assert {"", "aabbcc", "bac"} <= kinds


@pytest.mark.parametrize("symbols", ["character", "word", "subword", "byte"])
def test_texts_as_symbols_and_back(symbols):
    data = DataSettings(symbols=symbols, vocabulary_size=300 if symbols == "subword" else None)
    side = Side.fit(["A dog runs.", "a dog  sleeps", "it's a dog"], data)
    for text in ("A dog runs.", "a dog  sleeps", "dog a it's"):
        assert side.text(side.ids(text)) == text
        assert "".join(side.spelt(text)).removeprefix(" ") == text
    assert "".join(side.spelt("a zebra runs")).strip() == "a zebra runs"
    assert len(side.spelt("a zebra runs")) == len(side.ids("a zebra runs"))


def test_padded():
    laid, lengths = padded([np.array([3, 4, 5]), np.array([], int), np.array([6])])
    assert laid.tolist() == [[3, 0, 6], [4, 0, 0], [5, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    assert padded([np.array([], int)])[0].shape == (1, 1)
