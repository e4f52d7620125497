"""Data that would be misread in silence, and files that are not what they are given as, are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unrolled as ur
from unrolled.data.conll import read_conll, read_several
from unrolled.data.series_files import read_series
from unrolled.data.table import read_table
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.text_examples import read_texts


def lines(path, *rows):
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize("task", ["classify", "embed", "generate", "tag", "forecast"])
def test_a_name_that_is_not_utf8(tmp_path, task):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xffname.tsv")
    Path(path).write_text("text\tlabel\n" + "a b\tx\nc d\ty\n" * 20)
    with pytest.raises(InputError, match=r"bad\\xffname.tsv is not utf-8; rename"):
        ur.train(task, path, steps=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_picture_whose_name_is_not_utf8(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "pics" / label).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "pics" / label / "a.png")
    path = tmp_path / "pics" / "cat"
    (path / "a.png").rename(os.fsdecode(os.fsencode(path) + b"/a\xff.png"))
    with pytest.raises(InputError, match=r"a\\xff.png is not utf-8"):
        ur.train("classify", str(tmp_path / "pics"), steps=2, out=tmp_path / "run")


@pytest.mark.parametrize("columns", [["1"], ["2", "2"], ["-1", "2"]])
def test_a_word_is_not_its_own_tag(columns):
    with pytest.raises(InputError, match="own tag"):
        list(read_conll("t.txt", ["Ann B\n", "sees O\n"], columns))


def test_columns_of_several_tasks_may_come_twice_among_the_tags():
    rows = ["Ann N B\n", "sees V O\n"]
    assert [one.tags for one in read_several("t.txt", rows, ["1", "2", "2"])]
    with pytest.raises(InputError, match="own tag"):
        list(read_several("t.txt", rows, ["1", "2", "1"]))


def series(path, missing="error"):
    return read_series([path], Settings.from_flags("forecast", {"missing": missing}))


def test_two_columns_of_one_name(tmp_path):
    path = lines(tmp_path / "s.csv", "x,x", "1,2", "3,4")
    with pytest.raises(InputError, match="'x' twice"):
        series(path)


@pytest.mark.parametrize("missing", ["error", "forward"])
def test_a_moment_that_comes_twice(tmp_path, missing):
    days = ["2020-01-01", "2020-01-01", "2020-01-02", "2020-01-02", "2020-01-03", "2020-01-03"]
    path = lines(tmp_path / "s.csv", "date,x", *(f"{day},1" for day in days))
    with pytest.raises(InputError, match=r"s.csv:3: 2020-01-01 in date comes twice") as error:
        series(path, missing)
    assert "--missing" not in str(error.value)


def test_a_gap_can_be_filled(tmp_path):
    days = ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-05", "2020-01-06"]
    path = lines(tmp_path / "s.csv", "date,x", *(f"{day},1" for day in days))
    with pytest.raises(InputError, match="--missing forward"):
        series(path)
    assert len(series(path, "forward").values) == 6


def test_labels_to_merge_must_be_there(tmp_path):
    path = lines(tmp_path / "c.tsv", "text\tlabel", "one\tx", "two\ty", "three\tz")
    other = lines(tmp_path / "d.tsv", "text\tlabel", "one\tx", "two\ty")
    data = Settings.from_flags(
        "classify", {"source": (path,), "merge": {"a": ("x",), "b": ("y", "zz")}}
    ).data
    with pytest.raises(InputError, match="'zz', which is no label; there are x, y, z"):
        read_texts([path], data)
    data = Settings.from_flags(
        "classify", {"source": (path,), "merge": {"a": ("x",), "b": ("y", "z")}}
    ).data
    assert read_texts([path], data).labels == ["a", "b", "b"]
    assert read_texts([other], data).labels == ["a", "b"]  # others may lack one


def test_what_has_no_label_is_no_text(tmp_path):
    np.save(tmp_path / "film.npy", np.zeros((3, 4, 4)))
    np.savez(tmp_path / "pics.npz", np.zeros((3, 4, 4)))
    (tmp_path / "flat").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "flat" / "a.png")
    for name in ("film.npy", "pics.npz", "flat"):
        with pytest.raises(InputError, match=f"{name} has no labels: .* a folder for each label"):
            read_table([str(tmp_path / name)])


def test_the_encoding_is_named_and_bytes_where_they_are_read(tmp_path):
    (tmp_path / "c.tsv").write_bytes("text\tlabel\ncafé\tx\n".encode("latin-1"))
    with pytest.raises(InputError, match="--encoding latin-1") as error:
        read_table([str(tmp_path / "c.tsv")])
    assert "--symbols" not in str(error.value)
    with pytest.raises(InputError, match=r"--encoding latin-1.*--symbols byte"):
        ur.train("generate", str(tmp_path / "c.tsv"), steps=1, out=tmp_path / "run")
