"""Inspectors and the doctor: what cannot be looked at is said in a sentence."""

import json
import shutil

import numpy as np
import pytest
from command_line import TEXT, cli  # noqa: F401
from PIL import Image
from safetensors.numpy import load_file, save_file

import unrolled as ur
from unrolled.checkpoint.directory import MODEL


def refused(done, *words, without=()):
    assert done.code == 2
    for word in words:
        assert word in done.sentence
    for word in without:
        assert word not in done.sentence


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A line fitted to a series."""
    home = tmp_path_factory.mktemp("line")
    values = np.sin(np.arange(300) / 7)
    (home / "s.csv").write_text("x\n" + "\n".join(map(str, values)) + "\n")
    ur.train("forecast", str(home / "s.csv"), model="ar", out=home / "ar")
    return home


@pytest.mark.parametrize("what", ["filters", "attention", "graph", "check"])
def test_a_model_in_closed_form_is_not_sent_elsewhere_in_vain(line, cli, what):  # noqa: F811
    done = cli("inspect", line / "ar", line / "s.csv", what)
    refused(done, "closed form", without=["look at graph"])


def test_a_report_of_a_model_in_closed_form(line, cli, tmp_path):  # noqa: F811
    done = cli("inspect", line / "ar", line / "s.csv", "--report", tmp_path / "x.html")
    assert done.code == 0
    assert (tmp_path / "x.html").is_file()


@pytest.fixture(scope="module")
def fox(tmp_path_factory):
    """A language model and its text."""
    home = tmp_path_factory.mktemp("fox")
    (home / "fox.txt").write_text(TEXT)
    source = str(home / "fox.txt")
    flags = {"hidden": 12, "steps": 6, "batch_size": 4, "sample_length": 10}
    ur.train("generate", source, out=home / "model", **flags)
    return home


@pytest.fixture
def broken(fox, tmp_path):
    """The same, with a weight that is no number."""
    shutil.copytree(fox / "model", tmp_path / "broken")
    path = tmp_path / "broken" / MODEL
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        note = file.metadata()
    tensors = {name: tensor.copy() for name, tensor in load_file(path).items()}
    name = max(tensors, key=lambda key: tensors[key].size)
    tensors[name].flat[0] = np.nan
    save_file(tensors, path, note)
    return tmp_path / "broken", name


@pytest.mark.parametrize("what", ["gradients", "graph", "check", "activations"])
def test_weights_that_are_no_numbers_are_not_looked_at(fox, broken, cli, what):  # noqa: F811
    model, name = broken
    refused(cli("inspect", model, fox / "fox.txt", what), name, "nan")


def test_the_doctor_tells_of_weights_that_are_no_numbers(fox, broken, cli):  # noqa: F811
    model, name = broken
    done = cli("doctor", model, fox / "fox.txt", "--steps", "10", "--json")
    (found,) = [
        one for one in json.loads(done.out)["findings"] if one["name"] == "weights are no numbers"
    ]
    assert name in found["evidence"]


def test_inspect_names_no_flags_of_training(fox, cli, tmp_path):  # noqa: F811
    (tmp_path / "tiny.txt").write_text("the fox")
    done = cli("inspect", fox / "model", tmp_path / "tiny.txt", "check")
    refused(done, "too short", without=["--batch-size", "--window"])
    (tmp_path / "latin.txt").write_bytes("café ".encode("latin-1") * 500)
    done = cli("inspect", fox / "model", tmp_path / "latin.txt", "check")
    refused(done, "utf-8", "offset 3", without=["--symbols", "--encoding"])


def test_attention_looks_at_pictures_at_any_depth(tmp_path, cli):  # noqa: F811
    folder = tmp_path / "caps"
    (folder / "img").mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = ["image,caption"]
    for n in range(12):
        pixels = random.integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "img" / f"{n}.png")
        lines.append(f"{n}.png,a picture of {'noise' if n % 2 else 'dots'}")
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    flags = ("--hidden", "8", "--steps", "2", "--attention", "general", "--batch-size", "4")
    out = tmp_path / "run"
    assert cli("train", "caption", folder, *flags, "--out", out, "--quiet").code == 0
    done = cli("inspect", out, folder, "attention", "--pictures", "2")
    assert done.code == 0, done.err
    assert len([*(out / "attention").glob("*.png")]) == 2


def test_filter_says_what_is_wrong_with_a_picture(tmp_path, cli):  # noqa: F811
    refused(cli("filter", tmp_path, "blur"), "folder", without=["Errno"])
    refused(cli("filter", tmp_path / "nosuch.png", "blur"), "no file", without=["Errno"])
