"""Tables with a label or numbers at each step, and sound with a label track."""

import numpy as np
import pytest
from scipy.io import wavfile

from unrolled.data.stepwise import is_stepwise, read_stepwise
from unrolled.errors import InputError
from unrolled.settings import DataSettings


def read(path, text, numeric=None, **data):
    path.write_text(text)
    return read_stepwise([str(path)], DataSettings(**data), numeric=numeric)


def test_labels(tmp_path):
    found = read(tmp_path / "a.csv", "u,label,v\n1,up,2\n3,down,4\n\n5,up,6\n")
    assert (found.columns, found.targets, found.numeric) == (["u", "v"], ["label"], False)
    assert [one.tags for one in found.sequences] == [["up", "down"], ["up"]]
    np.testing.assert_array_equal(found.sequences[0].steps, [[1, 2], [3, 4]])


def test_sequences_by_id(tmp_path):
    found = read(tmp_path / "a.csv", "id,time,u,y\na,0,1,0\na,1,2,1\nb,0,3,1\n")
    assert (found.columns, found.targets, found.numeric) == (["u"], ["y"], False)
    assert [one.tags for one in found.sequences] == [["0", "1"], ["1"]]


@pytest.mark.parametrize(
    ("text", "data", "targets"),
    [
        ("u,y\n1,0.5\n2,1\n", {}, ["y"]),
        ("u,x,y\n1,2,3\n", {"targets": ("x", "y")}, ["x", "y"]),
    ],
)
def test_numbers(tmp_path, text, data, targets):
    found = read(tmp_path / "a.csv", text, **data)
    assert (found.columns, found.targets, found.numeric) == (["u"], targets, True)
    assert found.sequences[0].tags.shape[1] == len(targets)


def test_chosen_columns_and_missing_values(tmp_path):
    text = "u,v,w,label\n1,2,x,a\n,4,x,a\n3,6,x,b\n"
    found = read(tmp_path / "a.csv", text, columns=("v", "u"), missing="interpolate")
    np.testing.assert_array_equal(found.sequences[0].steps, [[2, 1], [4, 2], [6, 3]])
    found = read(tmp_path / "a.csv", text, columns=("v", "u"), missing="drop")
    np.testing.assert_array_equal(found.sequences[0].steps, [[2, 1], [6, 3]])
    assert found.sequences[0].tags == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "data", "words"),
    [
        ("u,label\n1,a\n,b\n", {}, ("a.csv:3", "the value of u is missing", "--missing")),
        ("u,label\n1,a\nx,b\n", {}, ("a.csv:3", "'x' in u is not a number")),
        ("u,label\n1,a\n2,\n", {}, ("a.csv:3", "the value of label is missing")),
        ("u,x,y\n1,2,3\n1,b,3\n", {"targets": ("x", "y")}, ("a.csv:3", "'b' in x")),
        ("u,label\n1,a\n2\n", {}, ("a.csv:3 has 1 cells", "2")),
        ("u,label\n1,a\n", {"targets": ("z",)}, ("no column 'z'", "u, label")),
        ("u,label\n1,a\n", {"columns": ("z",)}, ("no column 'z'",)),
        ("label\na\n", {}, ("a column to read and one to tell",)),
        ("u,label\n", {}, ("holds no rows",)),
        ("", {}, ("is empty",)),
    ],
)
def test_bad_tables(tmp_path, text, data, words):
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.csv", text, **data)
    for word in words:
        assert word in str(error.value)


def sound(path, seconds=0.3, rate=8000):
    t = np.arange(int(seconds * rate)) / rate
    wavfile.write(path, rate, (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16))
    return path


def test_sound_and_its_label_track(tmp_path):
    sound(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("0.0\t0.1\tlow\n0.2\t0.3\thigh\n")
    for source in (tmp_path, tmp_path / "a.wav"):
        assert is_stepwise([str(source)])
        found = read_stepwise([str(source)], DataSettings())
        (one,) = found.sequences
        assert one.steps.shape == (28, 32)
        middles = np.arange(28) * 0.01 + 0.0125
        expected = np.where(middles < 0.1, "low", np.where(middles < 0.2, "none", "high"))
        assert one.tags == expected.tolist()
    asked = read_stepwise([str(tmp_path / "a.wav")], DataSettings(), told=False)
    np.testing.assert_array_equal(asked.sequences[0].steps, one.steps)


def test_sound_where_columns_are_known(tmp_path):
    sound(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"a\.wav is sound; the model reads u, v"):
        read_stepwise([str(tmp_path / "a.wav")], DataSettings(), columns=["u", "v"], told=False)


@pytest.mark.parametrize(
    ("track", "words"),
    [
        (None, ("a.txt",)),
        ("0.0 0.1 low\n", ("a.txt:1", "with tabs between")),
        ("0.0\tx\tlow\n", ("a.txt:1",)),
    ],
)
def test_bad_tracks(tmp_path, track, words):
    sound(tmp_path / "a.wav")
    if track:
        (tmp_path / "a.txt").write_text(track)
    with pytest.raises(InputError) as error:
        read_stepwise([str(tmp_path / "a.wav")], DataSettings())
    for word in words:
        assert word in str(error.value)


def test_what_is_read_so(tmp_path):
    assert is_stepwise(["a.csv.gz"])
    assert not is_stepwise(["a.tsv", "python-tokens", str(tmp_path)])
