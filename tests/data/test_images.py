"""Pictures from IDX files and folders, and one sentence for what is wrong with them."""

import gzip
import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unrolled.data import idx
from unrolled.data.images import is_images, read_images, read_pictures
from unrolled.errors import InputError


def idx_file(path, array, cut=None):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = (head + array.astype(np.uint8).tobytes())[:cut]
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return str(path)


def draw(path, width=6, height=4, mode="L", value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value).save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    draw(tmp_path / "cat" / "a.png", value=10)
    draw(tmp_path / "cat" / "b.jpg", value=20)
    draw(tmp_path / "dog" / "c.bmp", value=30)
    (tmp_path / "dog" / "notes.txt").write_text("no picture, and passed over")
    return tmp_path


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx(tmp_path, end):
    pictures = np.arange(24).reshape(2, 3, 4)
    path = idx_file(tmp_path / f"train-images-idx3-ubyte{end}", pictures)
    idx_file(tmp_path / f"train-labels-idx1-ubyte{end}", np.array([7, 2]))
    found = read_images([path])
    np.testing.assert_array_equal(found.pixels, pictures[:, None])
    assert found.pixels.dtype == np.uint8
    assert found.labels == ["7", "2"]
    assert found.where == [f"{path}:0", f"{path}:1"]
    assert is_images([path])


def test_one_of_the_two_files_compressed(tmp_path):
    path = idx_file(tmp_path / "x-images-idx3-ubyte", np.zeros((2, 3, 3)))
    idx_file(tmp_path / "x-labels-idx1-ubyte.gz", np.array([0, 1]))
    assert read_images([path]).labels == ["0", "1"]


def test_a_folder_per_label(pets):
    found = read_images([str(pets)])
    assert found.pixels.shape == (3, 1, 4, 6)
    assert found.labels == ["cat", "cat", "dog"]
    assert [Path(name).name for name in found.where] == ["a.png", "b.jpg", "c.bmp"]
    assert found.pixels[0].max() == 10
    assert is_images([str(pets)])
    assert not is_images([str(pets / "cat")])


def test_grey_and_colour_together_are_colour(pets):
    draw(pets / "dog" / "d.png", mode="RGB", value=(1, 2, 3))
    found = read_images([str(pets)])
    assert found.pixels.shape == (4, 3, 4, 6)
    np.testing.assert_array_equal(found.pixels[3, :, 0, 0], [1, 2, 3])


def test_pictures_lie_upright(tmp_path):
    image = Image.new("L", (6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "x.jpg", exif=exif)
    pixels, names = read_pictures([str(tmp_path / "x.jpg")])
    assert pixels.shape == (1, 1, 6, 4)
    assert names == [str(tmp_path / "x.jpg")]


def test_different_sizes_need_a_size(pets):
    draw(pets / "dog" / "large.png", 9, 5)
    with pytest.raises(InputError) as caught:
        read_images([str(pets)])
    for part in ("a.png is 6 x 4", "large.png is 9 x 5", "--size", "AdaptivePool"):
        assert part in str(caught.value)
    assert read_images([str(pets)], size=8).pixels.shape == (4, 1, 8, 8)


def test_an_unreadable_file_stops_or_is_skipped(pets, caplog):
    (pets / "cat" / "broken.png").write_bytes(b"\x89PNG no")
    with pytest.raises(InputError, match=r"broken\.png .*--unreadable skip"):
        read_images([str(pets)])
    with caplog.at_level(logging.WARNING):
        found = read_images([str(pets)], unreadable="skip")
    assert len(found) == 3
    assert [Path(name).name for name in found.skipped] == ["broken.png"]
    assert "broken.png" in caplog.text


def test_digits():
    found = read_images(["digits"])
    assert found.pixels.shape == (1797, 1, 8, 8)
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)
    assert sorted(set(found.labels)) == list("0123456789")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: idx_file(p / "images", np.zeros((1, 2, 2))), ["no labels", "images-idx3"]),
        (lambda p: idx_file(p / "a-images-idx3", np.zeros((1, 2, 2))), ["a-labels-idx1"]),
        (
            lambda p: idx_file(p / "a-images-idx3", np.zeros((3, 2, 2)), 20),
            ["3 x 2 x 2", "damaged"],
        ),
        (lambda p: str(draw(p / "one.png")), ["one.png"]),
        (lambda p: str(p / "nowhere"), ["nowhere"]),
        (
            lambda p: str(draw(p / "x" / "deep.png", mode="I;16").parents[1]),
            ["deep.png has more than 8 bits", "--unreadable skip"],
        ),
        (lambda p: str(p), ["holds no pictures", "a folder for each label"]),
    ],
)
def test_what_is_no_picture(tmp_path, make, words):
    with pytest.raises(InputError) as caught:
        read_images([make(tmp_path)])
    for word in words:
        assert word in str(caught.value)


def test_labels_that_do_not_belong(tmp_path):
    path = idx_file(tmp_path / "a-images-idx3-ubyte", np.zeros((3, 2, 2)))
    idx_file(tmp_path / "a-labels-idx1-ubyte", np.zeros(2))
    with pytest.raises(InputError, match="as many labels as pictures"):
        read_images([path])


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
def test_a_data_set_by_name():
    if not (Path(os.environ["UNROLLED_DATA_DIR"]) / "mnist").exists():
        pytest.skip("mnist is not there")
    assert idx.is_idx("mnist/t10k-images-idx3-ubyte")
    found = read_images(["mnist/t10k-images-idx3-ubyte"])
    assert found.pixels.shape == (10000, 1, 28, 28)
    assert np.bincount([int(label) for label in found.labels])[1] == 1135
