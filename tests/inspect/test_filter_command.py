"""`unrolled filter`."""

import json

import numpy as np
import pytest
import torch
from command_line import cli, python  # noqa: F401 - a fixture
from PIL import Image

from unrolled.layers import filter_picture


@pytest.fixture(autouse=True)
def _desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(mode, name="in.png"):
    size = (6, 8, len(mode)) if len(mode) > 1 else (6, 8)
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(pixels).save(name)
    return pixels


def opened(name):
    with Image.open(name) as image:
        return image.copy()


def test_the_picture_is_written(cli):  # noqa: F811
    pixels = picture("RGB")
    done = cli("filter", "in.png", "sharpen")
    assert (done.code, done.out, done.err) == (0, "in-sharpen.png\n", "")
    wanted = filter_picture(torch.tensor(pixels).permute(2, 0, 1).float(), "sharpen")
    wanted = wanted.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(opened("in-sharpen.png")), wanted)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_identity_and_transparency(cli, mode):  # noqa: F811
    pixels = picture(mode)
    done = cli("filter", "in.png", "identity", "--out", "same.png", "--json")
    assert json.loads(done.out) == {
        "picture": "in.png", "kernel": "identity", "out": "same.png", "width": 8, "height": 6
    }  # fmt: skip
    assert np.array_equal(np.asarray(opened("same.png")), pixels)
    cli("filter", "in.png", "sobel", "--out", "edges.png")
    edges = opened("edges.png")
    assert edges.mode == mode
    if "A" in mode:
        assert np.array_equal(np.asarray(edges)[..., -1], pixels[..., -1])


def test_edges_have_no_sign(cli):  # noqa: F811
    row = np.array([255, 255, 255, 0, 0, 0, 255, 255], np.uint8)
    Image.fromarray(np.tile(row, (4, 1))).save("in.png")
    cli("filter", "in.png", "sobel-x", "--out", "out.png")
    assert np.asarray(opened("out.png"))[0].tolist() == [0, 0, 255, 255, 0, 255, 255, 0]


def test_jpeg(cli):  # noqa: F811
    picture("RGB", "in.jpg")
    assert cli("filter", "in.jpg", "blur", "--out", "out.jpg").code == 0
    with Image.open("out.jpg") as found:
        assert found.format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.png", "blur"), "no file at none.png"),
        (("words.png", "blur"), "is not a picture that can be read"),
        (("in.png", "swirl"), "no kernel 'swirl'"),
        (("in.png", "blur", "--out", "out.docx"), "must end in .png"),
        (("in.png", "blur", "--out", "out.jpg"), "write .png"),
        (("deep.png", "blur"), "more than 8 bits"),
        (("half.png", "blur"), "half.png cannot be read"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(cli, arguments, words, tmp_path):  # noqa: F811
    picture("RGBA")
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes((tmp_path / "in.png").read_bytes()[:100])
    Image.fromarray(np.zeros((3, 3), np.uint16)).save("deep.png")
    before = {path.name for path in tmp_path.iterdir()}
    done = cli("filter", *arguments)
    assert done.code == 2
    assert words in done.sentence
    assert {path.name for path in tmp_path.iterdir()} == before


def test_help_needs_no_torch():
    done = python("-X", "importtime", "-m", "unrolled", "filter", "--help")
    assert done.code == 0
    assert "KERNEL" in done.out
    assert " torch\n" not in done.err
