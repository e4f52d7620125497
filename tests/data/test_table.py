"""Labelled tables: rows as written, and one sentence with file and line for what is wrong."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data import read_lines, read_table
from unrolled.errors import InputError

FIELD = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1
).filter(str.strip)


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", "text\tlabel\nso good\tpos\n\nso bad\tneg"),
        ("x.tsv", "label\tid\ttext\r\npos\t1\tso good\r\n\r\nneg\t2\tso bad\r\n"),
        ("x.csv", 'text,label\n"so good",pos\n\nso bad,neg\n'),
        ("x.csv", "\ufeffText, Label\nso good,pos\n\nso bad, neg \n"),
        ("x.data", "text\tlabel\nso good\tpos\n\nso bad\tneg\n"),
        ("x.txt", "text,label\nso good,pos\n\nso bad,neg\n"),
        ("x.csv.gz", gzip.compress(b"text,label\nso good,pos\n\nso bad,neg\n", mtime=0)),
        ("x.TSV", "text\tlabel\nso good\tpos\n\nso bad\tneg\n"),
    ],
)
def test_shapes_of_tables(tmp_path, name, content):
    path = write(tmp_path / name, content)
    table = read_table([path])
    assert table.texts == ["so good", "so bad"]
    assert table.labels == ["pos", "neg"]
    assert table.where == [f"{path}:2", f"{path}:4"]
    assert len(table) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", '{"text": "so good", "label": "pos"}\n\n{"label": "neg", "text": "so bad"}\n'),
        (
            "x.txt",
            '{"id": 1, "text": "so good", "label": "pos"}\n\n{"label":"neg","text":"so bad"}',
        ),
        ("x.txt", "__label__pos so good\n\n__label__neg so bad\n"),
        ("x.txt", "(pos (0 so) (1 good))\n\n(neg (0 so) (1 bad))\n"),
    ],
)
def test_other_formats(tmp_path, name, content):
    path = write(tmp_path / name, content)
    table = read_table([path])
    assert table.texts == ["so good", "so bad"]
    assert table.labels == ["pos", "neg"]
    assert table.where == [f"{path}:1", f"{path}:3"]


def test_a_label_that_is_a_number(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"text": "a", "label": 3}')
    assert read_table([path]).labels == ["3"]


def test_phrases_of_trees(tmp_path):
    path = write(tmp_path / "x.txt", "(3 (2 (1 Not) (4 bad)) (2 (2 -LRB-) (2 so)))\n")
    table = read_table([path])
    assert table.texts == ["Not bad ( so"]
    assert set(table.phrases[0]) == {
        *(("Not bad ( so", "3"), ("Not bad", "2"), ("Not", "1"), ("bad", "4")),
        *(("( so", "2"), ("(", "2"), ("so", "2")),
    }


def test_a_folder_per_label(tmp_path):
    for name, text in (("pos/a.txt", "so\ngood\n"), ("pos/b.txt", "fine"), ("neg/c.txt", "bad")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, text)
    table = read_table([str(tmp_path)])
    assert table.texts == ["bad", "so\ngood", "fine"]
    assert table.labels == ["neg", "pos", "pos"]


@given(rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=5))
def test_csv_there_and_back(tmp_path_factory, rows):
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("text", "label"), *rows])
    path = write(tmp_path_factory.mktemp("csv") / "x.csv", out.getvalue())
    table = read_table([path])
    assert list(zip(table.texts, table.labels, strict=True)) == [
        (text, label.strip()) for text, label in rows
    ]


def test_quotes_of_a_tsv_are_text(tmp_path):
    path = write(tmp_path / "x.tsv", 'text\tlabel\n"never closed\tneg\nsaid "so"\tpos\n')
    assert read_table([path]).texts == ['"never closed', 'said "so"']


def test_a_field_over_lines_counts_them(tmp_path):
    path = write(tmp_path / "x.csv", 'text,label\n"one\ntwo\nthree",a\nfour,b\n')
    assert read_table([path]).where == [f"{path}:2", f"{path}:5"]


def test_long_fields(tmp_path):
    path = write(tmp_path / "x.csv", "text,label\n" + "long " * 50_000 + ",a\n")
    assert len(read_table([path]).texts[0]) == 250_000


def test_several_files(tmp_path):
    write(tmp_path / "a.csv", "text,label\none,x\n")
    write(tmp_path / "b.tsv", "label\ttext\ny\ttwo\n")
    table = read_table([str(tmp_path)])
    assert (table.texts, table.labels) == (["one", "two"], ["x", "y"])


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("x.tsv", "words\tlabel\na\tb\n", ["x.tsv:1", "text not at all", "words, label"]),
        ("x.csv", "text,class\na,b\n", ["x.csv:1", "label not at all"]),
        ("x.csv", "text,label,text\na,b,c\n", ["x.csv:1", "text twice"]),
        ("x.csv", "text\tlabel\na\tb\n", ["x.csv:1", "text not at all"]),
        ("x.csv", "text,label\na,b\nc,d,e\n", ["x.csv:3", "3 fields", "names 2", "text, label"]),
        ("x.tsv", "text\tlabel\na\n", ["x.tsv:2", "1 fields"]),
        ("x.csv", "text,label\na,b\n  ,c\n", ["x.csv:3", "empty text"]),
        ("x.csv", "text,label\na,\n", ["x.csv:2", "empty label"]),
        ("x.csv", "text,label\n", ["x.csv holds no rows"]),
        ("x.csv", "\n\n", ["x.csv holds no rows"]),
        ("x.csv", "", ["x.csv holds no rows"]),
        ("x.csv", 'text,label\na,b\n"open,c\nd,e\n', ["x.csv:3", "not well-formed"]),
        ("x.csv", 'text,label\n"a" b,c\n', ["x.csv:2", "not well-formed"]),
        ("x.csv", b"text,label\ncaf\xe9,b\n", ["x.csv", "0xe9 at offset 14", "--encoding"]),
        ("x.jsonl", '{"text": "a"}', ["x.jsonl:1", "text and label"]),
        ("x.jsonl", '{"text": "a", "label": "b"}\n{"text"', ["x.jsonl:2", "not JSON"]),
        ("x.jsonl", '{"text": 1, "label": "b"}', ["x.jsonl:1", "a string"]),
        ("x.txt", "__label__a b\nno label", ["x.txt:2", "__label__", "none"]),
        ("x.txt", "__label__a __label__b c", ["x.txt:1", "it has 2"]),
        ("x.txt", "__label__a\n", ["x.txt:1", "empty text"]),
        ("x.txt", "(1 (2 a) (3 b)\n", ["x.txt:1", "closing bracket"]),
        ("x.txt", "(1 (2 a) (3 b)))\n", ["x.txt:1", "not one tree"]),
        ("x.txt", "(1 (2 ) (3 b))\n", ["x.txt:1", "without"]),
        ("x.csv.gz", gzip.compress(b"text,label\na,b\n", mtime=0)[:-4], ["x.csv.gz", "damaged"]),
    ],
)
def test_bad_tables(tmp_path, name, content, parts):
    with pytest.raises(InputError) as caught:
        read_table([write(tmp_path / name, content)])
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_table(tmp_path):
    with pytest.raises(InputError, match=r"no\.tsv"):
        read_table([str(tmp_path / "no.tsv")])


def test_an_encoding(tmp_path):
    path = write(tmp_path / "x.csv", "text,label\ncafé,b\n".encode("latin-1"))
    assert read_table([path], "latin-1").texts == ["café"]


def test_lines(tmp_path, monkeypatch):
    path = write(tmp_path / "x.txt", "\ufeffone \r\n\n  \ntwo\u2028still two\nthree")
    assert read_lines([path]) == ["one ", "two\u2028still two", "three"]
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    assert read_lines(["-"]) == ["from a pipe"]


def test_no_lines(tmp_path):
    with pytest.raises(InputError, match=r"x\.txt holds no text"):
        read_lines([write(tmp_path / "x.txt", "\n \n")])
