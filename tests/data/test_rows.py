"""Tables of numbers with labels: read, known, refused."""

import gzip

import pytest

from unrolled.data.rows import is_rows, parse_row, read_rows
from unrolled.errors import InputError

GOOD = "a, b ,label\n1,2.5,x\n-3e2,0,y\n"


def write(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    data = content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
def test_tables(tmp_path, name):
    content = GOOD.replace(",", "\t") if ".tsv" in name else GOOD
    path = write(tmp_path, content, name)
    assert is_rows([path])
    found = read_rows([path])
    assert (found.columns, found.labels) == (["a", "b"], ["x", "y"])
    assert found.values == [[1, 2.5], [-300, 0]]
    assert found.where == [f"{path}:2", f"{path}:3"]


def test_columns_in_another_order(tmp_path):
    found = read_rows([write(tmp_path, GOOD)], columns=["b", "a"])
    assert found.values == [[2.5, 1], [0, -300]]


@pytest.mark.parametrize(("name", "size"), [("iris", (150, 4)), ("wine", (178, 13))])
def test_built_in(name, size):
    found = read_rows([name])
    assert is_rows([name])
    assert (len(found.values), len(found.columns)) == size
    assert len(set(found.labels)) == 3


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nhello,x\n",
        "id,a,label\n1,2,x\n",
        "a,b\n1,2\n",
        "a,label\nred,x\n",
        "label\nx\n",
    ],
)
def test_what_is_none(tmp_path, content):
    assert not is_rows([write(tmp_path, content)])
    assert not is_rows(["digits"])
    assert not is_rows([])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a,b,label\n1,2,x\n1,,y\n", "t.csv:3: column b is empty, not a number"),
        ("a,b,label\n1,2,x\n1,nan,y\n", "column b is 'nan', not a number"),
        ("a,b,label\n1,2,x\n1,y\n", "t.csv:3 has 2 cells, but the header has 3"),
        ("a,b,label\n1,2,\n", "t.csv:2 has an empty label"),
        ("a,b\n1,2\n", "names no column label in its first row: a, b"),
        ("a,b,label\n", "holds no rows below its header"),
    ],
)
def test_bad_tables(tmp_path, content, told):
    with pytest.raises(InputError) as error:
        read_rows([write(tmp_path, content)])
    assert told in str(error.value)


def test_other_columns(tmp_path):
    with pytest.raises(InputError, match="has no column c"):
        read_rows([write(tmp_path, GOOD)], columns=["a", "c"])
    with pytest.raises(InputError, match="the model was trained on a, b"):
        read_rows(["iris"], columns=["a", "b"])


def test_a_row():
    assert parse_row("1, 2", ["a", "b"]) == [1, 2]
    with pytest.raises(InputError, match="has 1 numbers, but the model reads 2: a, b"):
        parse_row("1", ["a", "b"])
    with pytest.raises(InputError, match="column b is 'z', not a number"):
        parse_row("1,z", ["a", "b"])
