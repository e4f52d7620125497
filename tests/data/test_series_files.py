"""Files of series: CSV and Parquet, time, missing values."""

import numpy as np
import pytest

from unrolled.data.series_files import read_series
from unrolled.data.times import Clock, moment
from unrolled.errors import InputError
from unrolled.settings import Settings


def read(path, **flags):
    open_end = flags.pop("open_end", ())
    length = flags.pop("length", None)
    settings = Settings.from_flags("forecast", flags)
    return read_series([str(path)], settings, length=length, open_end=open_end)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "s.csv"
        path.write_text(text, "utf-8")
        return path

    return write


def test_reads_all_columns_or_some(write):
    path = write("a,b\n1,2\n\n3,4\n")
    found = read(path)
    assert found.names == ["a", "b"]
    np.testing.assert_array_equal(found.values, [[1, 2], [3, 4]])
    assert found.clock is None
    assert found.known == 2
    np.testing.assert_array_equal(read(path, columns="b,a").values, [[2, 1], [4, 3]])
    np.testing.assert_array_equal(read(path, length=1).values, [[1, 2]])


@pytest.mark.parametrize(
    ("text", "flags", "sentence"),
    [
        ("", {}, "is empty"),
        ("a,b\n", {}, "no rows"),
        ("a,b\n1,2\n\n3,x\n", {}, r"s\.csv:4: 'x' in b is not a number"),
        ("a,b\n1,2\n3\n", {}, r"s\.csv:3 has 1 cells, but the header names 2"),
        ("a,b\n1,\n", {}, r"s\.csv:2: the value of b is missing.*--missing"),
        ("a,b\n1,2\n1,nan\n", {}, r"s\.csv:3: the value of b is missing"),
        ("a,b\n1,2\n1,inf\n", {}, r"s\.csv:3: inf in b is not a finite number"),
        ("a,b\nx,2\n1,2\n", {}, r"s\.csv:2: 'x' in a is not a number; --columns"),
        ("a,b\n1,2\n", {"columns": "c"}, "no column 'c'; it has a, b"),
        ("a,b\n1,2\n", {"time": "c"}, "no column 'c'"),
        ("a,b\nnow,2\n", {"time": "a"}, r"s\.csv:2: 'now' in a is no time"),
        ("t,b\n2020-01-01,2\n2020-01-02,1\n5,3\n", {}, r"s\.csv:4: '5' in t is no time"),
        (
            "t,b\n2020-01-01,2\n2020-01-02,1\n2020-01-03,1\n2020-01-05,3\n",
            {},
            r"s\.csv:5: 2020-01-05 in t follows 2020-01-03.*fill gaps with --missing",
        ),
        ("t,b\n2020-01-02,2\n2020-01-01,1\n", {}, r"s\.csv:3: time runs backwards in t"),
        (
            "t,b\n2020-01-01,2\n2020-01-02,1\n2020-01-03,1\n2020-01-03 05:00,3\n",
            {"missing": "interpolate"},
            r"s\.csv:5: 2020-01-03 05:00 in t.*make them even$",
        ),
        ("a,b\n1,\n2,\n", {"missing": "interpolate"}, r"s\.csv, b: channel 1 has no value at all"),
    ],
)
def test_bad_files(write, text, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        read(write(text), **flags)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("forward", [[1, 10], [1, 10], [1, 30], [4, 40]]),
        ("interpolate", [[1, 10], [2, 20], [3, 30], [4, 40]]),
        ("drop", [[1, 10], [4, 40]]),
    ],
)
def test_missing_values(write, missing, expected):
    path = write("a,b\n1,10\n,NA\nnull,30\n4,40\n")
    np.testing.assert_array_equal(read(path, missing=missing).values, expected)


@pytest.mark.parametrize(
    ("missing", "expected"), [("forward", [1, 1, 1, 4]), ("interpolate", [1, 2, 3, 4])]
)
def test_missing_steps(write, missing, expected):
    path = write("t,a\n2020-01-31,1\n2020-02-03,4\n2020-02-04,5\n2020-02-05,6\n")
    found = read(path, missing=missing)
    np.testing.assert_array_equal(found.values[:, 0], [*expected, 5, 6])
    assert found.clock is not None
    assert found.clock.after(1) == ["2020-02-06"]
    assert read(path, missing="drop").clock is None


@pytest.mark.parametrize(
    ("first", "second", "third", "season", "fourth"),
    [
        ("1949-11", "1949-12", "1950-01", 12, "1950-02-01"),
        ("2019-12-15", "2020-01-15", "2020-02-15", 12, "2020-03-15"),
        ("2020-01-01", "2020-04-01", "2020-07-01", 4, "2020-10-01"),
        ("2020-02-27", "2020-02-28", "2020-02-29", 7, "2020-03-01"),
        ("2020-01-01", "2020-01-08", "2020-01-15", 52, "2020-01-22"),
        ("2020-01-01 22:00", "2020-01-01 23:00", "2020-01-02T00:00:00", 24, "2020-01-02 01:00:00"),
        ("2020-01-01 22:00+01:00", "2020-01-01 22:15+01:00", "2020-01-01 21:30Z", 96, "2020-01-01 21:45:00"),
        ("1749", "1750", "1751", 1, "1752-01-01"),
    ],
)  # fmt: skip
def test_time_goes_on(write, first, second, third, season, fourth):
    found = read(write(f"t,a\n{first},1\n{second},2\n{third},3\n"), time="t")
    assert found.names == ["a"]
    assert found.clock is not None
    assert found.clock.season == season
    assert found.clock.after(1) == [fourth]
    assert found.clock.after(2, -1)[1] == fourth


def test_time_that_runs_backwards(write):
    path = write("t,a\n2020-01-03,1\n2020-01-02,2\n2020-01-01,3\n")
    with pytest.raises(
        InputError, match=":3: time runs backwards in t, from 2020-01-03 to 2020-01-02"
    ):
        read(path, time="t")


def test_a_clock_without_a_usual_season():
    assert Clock(np.datetime64("2020-01-01", "ms"), 7_000, months=False).season is None
    assert Clock(np.datetime64("2020-01-01", "ms"), 5, months=True).season is None
    assert moment("yesterday") is None


def test_an_open_end(write):
    path = write("a,b\n1,10\n2,20\n,30\n,40\n")
    found = read(path, open_end=["a"])
    assert found.known == 2
    np.testing.assert_array_equal(found.values, [[1, 10], [2, 20], [0, 30], [0, 40]])
    path = write("a,b\n1,10\n,20\n3,30\n,\n,50\n")
    found = read(path, open_end=["a"], missing="interpolate")
    assert found.known == 3
    np.testing.assert_array_equal(found.values, [[1, 10], [2, 20], [3, 30], [0, 40], [0, 50]])
    with pytest.raises(InputError, match=r"s\.csv:3: the value of a is missing"):
        read(path, open_end=["a"])


def test_several_files_are_no_series(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    with pytest.raises(InputError, match="a series is one file"):
        read(tmp_path)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    times = np.array(["2020-01-01T00", "2020-01-01T01", "2020-01-01T02"], "datetime64[ms]")
    table = pyarrow.table({"when": times, "a": [1.0, None, 3.0], "b": [4, 5, 6]})
    path = tmp_path / "s.parquet"
    parquet.write_table(table, path)
    found = read(path, missing="interpolate")
    assert found.names == ["a", "b"]
    np.testing.assert_array_equal(found.values, [[1, 4], [2, 5], [3, 6]])
    assert found.clock is not None
    assert found.clock.season == 24
    with pytest.raises(InputError, match=r"s\.parquet, row 2: the value of a is missing"):
        read(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"s\.parquet is not a readable Parquet file"):
        read(path)


def test_parquet_without_its_reader(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "s.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"pyarrow; install it, or unrolled\[parquet\]"):
        read(tmp_path / "s.parquet")
