"""Signals from files of many formats, sounds and films; word vectors; DNA that is made."""

import gzip
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from unrolled.data import catalogue
from unrolled.data.audio import log_bands, read_wav
from unrolled.data.dna import BASES, BOXES, dna, promoters
from unrolled.data.signal_formats import read_long, read_steps, read_ts
from unrolled.data.signals import filled, is_signals, read_signals
from unrolled.data.vectors import read_vectors
from unrolled.errors import InputError
from unrolled.settings import DataSettings

TS = """#a comment
@problemName Toy
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true up down
@data
1,2,3:4,5,6:up
7,?:8,9:down
"""


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(*sources, **data):
    labelled = data.pop("labelled", True)
    return read_signals(sources, DataSettings(**data), labelled=labelled)


# ---------------------------------------------------------------- text


def test_ts():
    first, second = read_ts("x.ts", TS)
    np.testing.assert_array_equal(first.values, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(second.values, [[7, 8], [np.nan, 9]])
    assert (first.label, second.label) == ("up", "down")
    assert (first.where, second.where) == ("x.ts:10", "x.ts:11")
    assert first.values.dtype == np.float32


def test_ts_of_one_channel_and_without_labels():
    (one,) = read_ts("x.ts", "@univariate true\n@classLabel true 1 2\n@data\n1.5,2:2\n")
    assert (one.values.tolist(), one.label) == ([[1.5], [2.0]], "2")
    (one,) = read_ts("x.ts", "\ufeff@classLabel false\n@data\n1,2:3,4\n")
    assert (one.values.tolist(), one.label) == ([[1, 3], [2, 4]], None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TS.replace("8,9", "8"), r"x\.ts:11: channel 2 has 1 values, but channel 1 has 2"),
        (TS.replace("4,5,6:", ""), r"x\.ts:10 has 1 channels, but there should be 2"),
        (TS.replace(":up", ":left"), r"x\.ts:10 has the label 'left', but @classLabel up, down"),
        (TS.replace("2,3", "two,3"), r"x\.ts:10, channel 1, value 2: 'two' is not a number"),
        (TS.replace("2,3", "inf,3"), "'inf' is not a number"),
        (TS.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
        ("1,2:a\n", r"x\.ts:1 stands before @data"),
    ],
)
def test_bad_ts(text, sentence):
    with pytest.raises(InputError, match=sentence):
        list(read_ts("x.ts", text))


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n3,\n", "1,2\n3,?\n", "1\t2\n3\tNaN\n", "\ufeffa,b\r\n1,2\r\n\r\n3,na\r\n"]
)
def test_a_table_that_is_one_signal(text):
    np.testing.assert_array_equal(read_steps("x.csv", text).values, [[1, 2], [3, np.nan]])


def test_a_long_table():
    text = "label,id,time,x,y\nup,a,0,1,2\ndown,b,0,3,4\nup,a,2.5,5,6\n"
    first, second = read_long("x.csv", text)
    assert (first.values.tolist(), first.label, first.where) == ([[1, 2], [5, 6]], "up", "x.csv:2")
    assert (second.values.tolist(), second.label) == ([[3, 4]], "down")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("label,x\nup,1\n", "must name a column id"),
        ("id,label\na,up\n", "and channels"),
        ("id,label,x\n", "no rows"),
        ("id,label,x\na,up,1\na,up\n", r"x\.csv:3 has 2 cells, but the header names 3"),
        ("id,label,x\na,up,1\na,down,2\n", r"x\.csv:3 has another label than x\.csv:2"),
        ("id,label,x\na,up,1\na,up,one\n", r"x\.csv:3, value 1: 'one' is not a number"),
        ("id,time,x\na,1,1\na,1,2\n", r"x\.csv:3: time does not rise"),
    ],
)
def test_bad_long_tables(text, sentence):
    with pytest.raises(InputError, match=sentence):
        list(read_long("x.csv", text))


@pytest.mark.parametrize(
    ("how", "expected"),
    [("interpolate", [2, 2, 4, 6, 8, 8]), ("forward", [2, 2, 2, 2, 8, 8])],
)
def test_missing_values(how, expected):
    values = np.array([[np.nan, 2, np.nan, np.nan, 8, np.nan], [1] * 6], np.float32).T
    whole = filled(values, how, "x")
    np.testing.assert_allclose(whole, np.stack([expected, np.ones(6)], 1))
    assert np.isnan(values).sum() == 4


def test_missing_values_stop_by_themselves():
    values = np.array([[1, 2], [3, np.nan]], np.float32)
    with pytest.raises(
        InputError, match="x: the value of step 2 in channel 2 is missing; --missing"
    ):
        filled(values, "error", "x")
    with pytest.raises(InputError, match="x: channel 2 has no value at all"):
        filled(values[1:], "forward", "x")
    with pytest.raises(InputError, match="empty sequence"):
        filled(values[:0], "error", "x")


# ---------------------------------------------------------------- files and folders


def test_a_file_of_signals(tmp_path):
    path = write(tmp_path / "x.ts.gz", gzip.compress(TS.encode(), mtime=0))
    assert is_signals([path])
    found = read(path, missing="forward")
    assert found.labels == ["up", "down"]
    assert found.items[1].tolist() == [[7, 8], [7, 9]]
    with pytest.raises(InputError, match=r"x\.ts\.gz:11: the value of step 2 in channel 1"):
        read(path)


def test_a_folder_per_label_of_every_kind(tmp_path):
    random = np.random.default_rng(0)
    write(tmp_path / "tables/a/1.csv", "1,2\n3,4\n")
    write(tmp_path / "tables/b/2.tsv", "x\ty\n5\t6\n")
    for label in "ab":
        (tmp_path / "arrays" / label).mkdir(parents=True)
        np.save(tmp_path / "arrays" / label / "1.npy", random.random((7, 2)))
        (tmp_path / "films" / label / "1").mkdir(parents=True)
        for frame in range(3):
            image = Image.fromarray(np.full((4, 5), 51 * frame, np.uint8))
            image.save(tmp_path / "films" / label / "1" / f"{frame}.png")
    for name, steps, shape in (("tables", 2, (2,)), ("arrays", 7, (2,)), ("films", 3, (1, 4, 5))):
        assert is_signals([str(tmp_path / name)])
        found = read(str(tmp_path / name))
        assert found.labels == ["a", "b"]
        assert found.items[0].shape == (steps, *shape)
        assert found.items[0].dtype == np.float32
    np.testing.assert_allclose(found.items[0][:, 0, 0, 0], [0, 0.2, 0.4])
    alone = read(str(tmp_path / "films" / "a" / "1"), labelled=False)
    assert alone.items[0].shape == (3, 1, 4, 5)
    assert alone.labels == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pos/1.txt", "so good"),
        ("pos/1.csv", "text,label\nso good,pos\n"),
        ("x.csv", "id,text,label\n1,so good,pos\n"),
        ("x.csv", "text,label\nso good,pos\n"),
    ],
)
def test_texts_are_no_signals(tmp_path, name, content):
    write(tmp_path / "data" / name, content)
    source = tmp_path / "data" if "/" in name else tmp_path / "data" / name
    assert not is_signals([str(source)])
    assert not is_signals(["nowhere.csv", "english", "-"])


def test_a_long_table_is_known_by_its_header(tmp_path):
    path = write(tmp_path / "x.csv", "id,label,x\na,up,1\nb,down,2\n")
    assert is_signals([path])
    assert read(path).labels == ["up", "down"]


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.zeros(5), (5, 1)),
        (np.zeros((5, 2), np.int16), (5, 2)),
        (np.zeros((5, 4, 3)), (5, 1, 4, 3)),
        (np.full((5, 3, 4, 2), 255, np.uint8), (5, 3, 4, 2)),
    ],
)
def test_arrays(tmp_path, array, shape):
    np.save(tmp_path / "x.npy", array)
    (item,) = read(str(tmp_path / "x.npy"), labelled=False).items
    assert item.shape == shape
    assert item.max() == array.max() / (255 if array.ndim == 4 else 1)


def test_what_cannot_be_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array(["a"]))
    write(tmp_path / "y.npy", "no")
    write(tmp_path / "z.ts", TS + "1,2:3,4:5,6:up\n")
    write(tmp_path / "w.ts", "@classLabel false\n@data\n1,2\n")
    write(tmp_path / "v.ts", "@classLabel true a\n@data\n1,2:a\n")
    for name, sentence in (("x", "<U1"), ("y", "not a readable")):
        with pytest.raises(InputError, match=sentence):
            read(str(tmp_path / f"{name}.npy"), labelled=False)
    with pytest.raises(InputError, match=r"w\.ts:3 has no label"):
        read(str(tmp_path / "w.ts"))
    with pytest.raises(InputError, match="3 channels, but there should be 2"):
        read(str(tmp_path / "z.ts"))
    (tmp_path / "z.ts").write_text(TS)
    with pytest.raises(InputError, match=r"v\.ts:3 has 1 channel, but .*z\.ts:10 has 2 channels"):
        read(str(tmp_path / "z.ts"), str(tmp_path / "v.ts"))


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
@pytest.mark.parametrize(
    ("name", "count", "channels", "steps", "classes"),
    [
        ("JapaneseVowels_TRAIN", 270, 12, (7, 26), 9),
        ("JapaneseVowels_TEST", 370, 12, (7, 29), 9),
        ("ItalyPowerDemand_TRAIN", 67, 1, (24, 24), 2),
        ("BasicMotions_TEST", 40, 6, (100, 100), 4),
        ("PLAID_TRAIN", 537, 1, (100, 1344), 11),
    ],
)
def test_sets_of_the_archive(name, count, channels, steps, classes):
    source = f"ucr_timeseries/{name}.ts"
    if catalogue.find(source).where() != "local":
        pytest.skip(f"{source} is not there")
    assert is_signals([source])
    found = read(source)
    assert len(found.items) == count
    assert {item.shape[1:] for item in found.items} == {(channels,)}
    lengths = [len(item) for item in found.items]
    assert (min(lengths), max(lengths)) == steps
    assert len(set(found.labels)) == classes


# ---------------------------------------------------------------- sound


@pytest.mark.parametrize(
    ("dtype", "full"), [("int16", 2**15), ("int32", 2**31), ("uint8", 128), ("float32", 1)]
)
def test_sound_of_every_kind(tmp_path, dtype, full):
    sine = np.sin(np.arange(200) / 5) / 2
    zero = 128 if dtype == "uint8" else 0
    written = (np.stack([sine, -sine], 1) * full + zero).astype(dtype)
    wavfile.write(tmp_path / "x.wav", 8000, written)
    samples, rate = read_wav(tmp_path / "x.wav")
    assert (rate, samples.dtype) == (8000, np.float32)
    np.testing.assert_allclose(
        samples, np.stack([sine, -sine], 1), atol=1 / min(full, 2**15) + 1e-6
    )


def test_a_pitch_lies_in_its_band():
    rate, bands = 16_000, 32
    time = np.arange(rate) / rate
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)[1:-1]
    for band in (5, 15, 30):
        pitch = 700 * (10 ** (mel[band] / 2595) - 1)
        power = log_bands(np.sin(2 * np.pi * pitch * time)[:, None], rate, bands)
        assert power.shape == (98, bands)
        assert (power.argmax(1) == band).all()
    silence = log_bands(np.zeros((3, 2)), rate)
    assert silence.shape == (1, bands)
    np.testing.assert_allclose(silence, np.log(1e-10), rtol=1e-6)


def test_a_folder_of_sounds(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        wavfile.write(tmp_path / label / "x.wav", 8000, np.zeros(8000, np.int16))
    assert is_signals([str(tmp_path)])
    assert read(str(tmp_path)).items[0].shape == (98, 32)
    assert read(str(tmp_path), audio="samples").items[0].shape == (8000, 1)
    write(tmp_path / "a" / "y.wav", "no")
    with pytest.raises(InputError, match=r"y\.wav cannot be read as WAV"):
        read(str(tmp_path))


# ---------------------------------------------------------------- word vectors


GLOVE = "the 1 2 3\nThe 4 5 6\n. . . 7 8 9\ncafé -1 0 1e-1\n"


@pytest.mark.parametrize("head", ["", "4 3\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_word_vectors(tmp_path, head, packed):
    content = (head + GLOVE).encode()
    path = write(
        tmp_path / ("x.gz" if packed else "x"), gzip.compress(content) if packed else content
    )
    words = (" the", "the", " The", "THE", " . . .", " unknown", "café")
    vectors = read_vectors(path, words)
    rows = [[1, 2, 3], [1, 2, 3], [4, 5, 6], [1, 2, 3], [7, 8, 9], [0, 0, 0], [-1, 0, 0.1]]
    np.testing.assert_allclose(vectors.table, rows)
    assert vectors.found.tolist() == [True] * 5 + [False, True]
    begun = vectors.begin(0)
    np.testing.assert_array_equal(begun[vectors.found], vectors.table[vectors.found])
    assert begun[5].any()
    np.testing.assert_array_equal(begun, vectors.begin(0))


def test_vectors_that_are_drawn_spread_as_those_that_were_read(tmp_path):
    random = np.random.default_rng(0)
    lines = [f"w{n} " + " ".join(map(str, random.normal(0, 0.3, 50).round(4))) for n in range(50)]
    path = write(tmp_path / "x", "\n".join(lines))
    begun = read_vectors(path, [f"{kind}{n}" for kind in "wv" for n in range(50)]).begin(0)
    assert begun[50:].std() == pytest.approx(begun[:50].std(), rel=0.05)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no word vectors"),
        ("the 1 2\nof 1\n", "x:2 is not a word and 2 numbers"),
        ("the 1 2\nof 1 two\n", "x:2: the vector of 'of' is not 2 numbers"),
        ("the\n", "x:1 is not a word"),
        (b"th\xe9 1 2\n", "0xe9"),
    ],
)
def test_bad_word_vectors(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read_vectors(write(tmp_path / "x", content), ["the", "of"])
    with pytest.raises(InputError, match="nowhere"):
        read_vectors(str(tmp_path / "nowhere"), ["the"])


# ---------------------------------------------------------------- DNA


def test_promoters_hold_their_boxes_and_others_the_same_letters():
    rows = promoters(4000, np.random.default_rng(0))
    assert dna().count("\n") == 4001
    counts = {"promoter": Counter(), "other": Counter()}
    boxed = Counter()
    for text, label in rows:
        assert len(text) == 60
        counts[label].update(text)
        boxed[label] += any(box in text for box in BOXES)
    for base in BASES:
        shares = [counts[label][base] / (2000 * 60) for label in counts]
        assert shares[0] == pytest.approx(shares[1], abs=0.005)
    assert boxed["promoter"] > 1500
    assert boxed["other"] < 300
    assert promoters(10, np.random.default_rng(1), 31)[0][0] != rows[0][0][:31]
