"""Bad input gives one clear sentence and an exit code, never a traceback."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from command_line import TEXT, TINY, cli  # noqa: F401 - a fixture
from safetensors.numpy import load_file, save_file

from unrolled.cli import main
from unrolled.settings import FORMAT_VERSION


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole model directory and its text; copied before it is damaged."""
    place = tmp_path_factory.mktemp("whole")
    (place / "fox.txt").write_text(TEXT, "utf-8")
    out = str(place / "model")
    with pytest.raises(SystemExit) as exit_:
        main(["train", "generate", str(place / "fox.txt"), *TINY, "--out", out, "--quiet"])
    assert not exit_.value.code
    return place


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    """A directory to stand in, with fox.txt and model/."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(done, *words, code=2):
    assert done.code == code
    assert done.out == ""
    for word in words:
        assert word in done.sentence


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("verb", ["train generate", "train classify", "evaluate model"])
def test_a_missing_file(cli, place, verb):  # noqa: F811
    refused(cli(*verb.split(), "nowhere.txt"), "nowhere.txt")


def test_a_directory_without_text(cli, place):  # noqa: F811
    (place / "empty").mkdir()
    refused(cli("train", "generate", "empty"), "empty", "text")


@pytest.mark.parametrize("verb", ["train generate", "evaluate model"])
def test_an_empty_file(cli, place, verb):  # noqa: F811
    (place / "empty.txt").touch()
    refused(cli(*verb.split(), "empty.txt"), "empty.txt", "empty")


def test_nothing_on_standard_input(cli, place, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    refused(cli("train", "generate", "-"), "standard input", "empty")


def test_a_text_shorter_than_one_window(cli, place):  # noqa: F811
    (place / "short.txt").write_text("too short", "utf-8")
    refused(cli("train", "generate", "short.txt", "--window", "64"), "--window")


@pytest.mark.parametrize("verb", ["train generate", "train classify", "evaluate model"])
def test_bytes_that_are_not_utf8(cli, place, verb):  # noqa: F811
    (place / "latin.txt").write_bytes(b"text\tlabel\n" + TEXT.encode() + b"caf\xe9\tx\n")
    offset = 11 + len(TEXT) + 3
    refused(cli(*verb.split(), "latin.txt"), "latin.txt", f"offset {offset:,}", "--encoding")


def test_bytes_are_offered_where_they_would_help(cli, place):  # noqa: F811
    (place / "latin.txt").write_bytes(b"caf\xe9 " * 200)
    assert "--symbols byte" in cli("train", "generate", "latin.txt").sentence
    for way in (("--encoding", "latin-1"), ("--symbols", "byte")):
        done = cli("train", "generate", "latin.txt", *way, *TINY, "--quiet", "--out", way[1])
        assert done.code == 0, done.err


def test_an_unknown_encoding(cli, place):  # noqa: F811
    refused(cli("train", "generate", "fox.txt", "--encoding", "klingon"), "klingon")


# ---------------------------------------------------------------- words and flags


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train nothing", ("no task 'nothing'", "generate", "classify")),
        ("train nothing.toml", ("nothing.toml",)),
        ("train", ("Missing argument",)),
        ("trian", ("No such command 'trian'",)),
        ("train generate fox.txt --hiden 3", ("--hiden", "--hidden")),
        ("train generate fox.txt --hidden 0", ("--hidden 0", "greater than or equal to 1")),
        ("train generate fox.txt --hidden many", ("--hidden", "integer")),
        ("train generate fox.txt --lr 0", ("--lr 0", "greater than 0")),
        ("train generate fox.txt --lr nan", ("--lr", "finite")),
        ("train generate fox.txt --dropout 1", ("--dropout 1", "less than 1")),
        ("train generate fox.txt --optimizer adamm", ("--optimizer", "'adam'")),
        ("train generate fox.txt --split 0.9,0.2,0.2", ("split", "sum to 1")),
        ("train generate fox.txt --split most", ("--split", "'most'")),
        ("train generate fox.txt --split 0.9,0.1", ("--split '0.9,0.1'", "three fractions")),
        ("train generate fox.txt --split a,b,c", ("--split 'a,b,c'", "three fractions")),
        ("train generate fox.txt --fold 1", ("--fold 1", "--folds")),
        ("train generate fox.txt --nonlinearity relu", ("--nonlinearity", "rnn", "lstm")),
        ("train generate fox.txt --seeds 0,0 --out s", ("--seeds", "0 twice")),
        ("train generate fox.txt --seeds 0,1 --seed 3 --out s", ("--seeds", "--seed")),
        ("train generate fox.txt --seeds 0,-1 --out s", ("--seed -1",)),
        ("train classify c.tsv --class-weights x=-3", ("--class-weights", "x", "above 0", "-3")),
        ("train classify c.tsv --class-weights x=y", ("--class-weights", "x", "above 0", "y")),
        ("train classify c.tsv --class-weights some", ("balanced", "spam=3")),
        ("train several c.tsv --loss-weights foo", ("--loss-weights", "learned", "1,0.5")),
        ("train several c.tsv --loss-weights 1,-1", ("--loss-weights", "learned", "1,0.5")),
        ("train generate fox.txt --steps 5 --epochs 1", ("--steps or --epochs",)),
        ("train generate fox.txt --batch-size 0", ("--batch-size 0",)),
        ("train generate fox.txt --device tpu", ("--device tpu",)),
        ("train generate fox.txt --cell rmn", ("'rmn'", "lstm")),
        ("train generate fox.txt --cell nowhere.py:Cell", ("nowhere.py",)),
        ("train generate fox.txt --tied", ("--tied", "--embedding")),
        ("train generate fox.txt --resume", ("--resume", "--out")),
        ("train generate fox.txt --out model", ("model", "--resume", "--overwrite")),
        ("train generate fox.txt --out fox.txt", ("fox.txt", "not a directory")),
        ("train generate fox.txt --record r.json", ("recipe",)),
        ("sample model --temperature -1", ("temperature", "-1")),
        ("sample model --temperature nan", ("temperature", "nan")),
        ("sample model --top-k 0", ("top-k", "0")),
        ("sample model --top-p 1.5", ("top-p", "1.5")),
        ("sample model --length -1", ("--length", "-1")),
        ("sample model --samples 0", ("--samples", "greater than or equal to 1")),
        ("sample model --beam 0", ("beam", "0")),
        ("sample model --beam 2 --samples 2", ("--beam", "--samples")),
        ("sample model --seed -1", ("--seed", "greater than or equal to 0")),
        ("sample model --cell gru", ("lstm", "gru")),
        ("sample model --prompt É", ("'É'", "--unknown skip")),
        ("sample nowhere", ("nowhere",)),
        ("predict model", ("nothing to predict",)),
        ("predict model --file nowhere.txt", ("nowhere.txt",)),
        ("data get nothing", ("nothing", "unrolled data list")),
        ("train classify digits --model bag", ("--model bag", "cnn, mlp or rnn")),
        ("train classify digits --model cnm", ("--model", "'cnn'")),
        ("train classify digits --phrases", ("--phrases", "texts")),
        ("train classify digits --vectors x.txt", ("--vectors", "texts")),
        ("train classify digits --folds 3 --fold 3", ("fold 3", "folds 3")),
        ("train classify digits --folds 3 --test digits", ("folds or test",)),
        ("train classify digits --folds 2000", ("1797", "too few", "2000")),
        ("train classify digits --test nowhere", ("nowhere",)),
        ("train classify digits --test fox.txt", ("fox.txt", "IDX")),
        ("train classify digits --rotate 200", ("--rotate 200", "180")),
        ("train classify digits --scale 1", ("--scale 1", "less than 1")),
        ("train classify digits --size 0", ("--size 0",)),
        ("train classify digits --class-weights 12=3", ("--class-weights", "'12'")),
        ("train classify digits --calibrate --split 0.8,0,0.2", ("--calibrate", "validation")),
        ("train classify digits --over-time first", ("--over-time", "'last'")),
        ("train classify dna --vectors nowhere.txt --symbols word", ("nowhere.txt",)),
        ("train classify fox.txt --filter-widths 2,0", ("--filter-widths",)),
        ("train classify fox.txt --pooling k-max --k 0", ("--k 0",)),
        ("train classify fox.txt", ("fox.txt:1", "text and label")),
        ("inspect model fox.txt ngrams", ("model", "no text CNN")),
    ],
)
def test_one_sentence(cli, place, arguments, words):  # noqa: F811
    refused(cli(*arguments.split()), *words)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("task = ", ("recipe.toml",)),
        ('task = "generate"\n[model]\nhiden = 3', ("recipe.toml", "model.hiden")),
        ('task = "generate"\n[model]\nhidden = 0', ("recipe.toml", "--hidden 0")),
        ("[model]\nhidden = 3", ("recipe.toml", "task", "missing")),
        ('task = "generate"\n[model]\nhidden = true', ("--hidden True", "number")),
        ('task = "generate"\n[model]\nlayers = "2"', ("--layers '2'", "number", "quotes")),
        ('task = "generate"\n[model]\ntied = "no"', ("--tied 'no'", "true or false", "quotes")),
        ('task = "generate"\n[model]\ndropout = "0.5"', ("--dropout '0.5'", "number")),
        ('task = "generate"\n[model]\nzoneout = [true]', ("--zoneout", "number")),
        ('task = "generate"\n[training]\nbatch_size = true', ("--batch-size True", "number")),
        ('task = "generate"\n[training]\nclip_norm = true', ("--clip-norm True", "number")),
        ('task = "generate"\n[data]\nsplit = [0.9, 0.1]', ("--split", "three fractions")),
        ('task = "generate"\n[data]\nsplit = [true, false, false]', ("--split", "number")),
        ('task = "generate"\n[data]\nsource = "fox.txt"', ("data.source", '["fox.txt"]')),
        ('task = "generate"\nformat_version = 0', ("format_version", "0")),
        ('task = "generate"\n[target]\nmetric = "nats"\nvalue = true', ("target", "number")),
    ],
)
def test_a_wrong_recipe(cli, place, recipe, words):  # noqa: F811
    (place / "recipe.toml").write_text(recipe, "utf-8")
    refused(cli("train", "recipe.toml"), *words)


# ---------------------------------------------------------------- pictures


@pytest.fixture
def pictures(place):
    """A folder per label, dark and bright."""
    from PIL import Image

    for shade, label in ((10, "dark"), (200, "bright")):
        (place / "shades" / label).mkdir(parents=True)
        for n in range(8):
            Image.new("L", (8, 8), shade + n).save(place / "shades" / label / f"{n}.png")
    return place / "shades"


def test_a_folder_with_a_file_that_is_no_picture(cli, pictures):  # noqa: F811
    (pictures / "dark" / "broken.png").write_bytes(b"no picture")
    refused(cli("train", "classify", "shades"), "broken.png", "--unreadable skip")
    flags = (*("--unreadable", "skip", "--steps", "1"), *("--out", "run", "--quiet"))
    done = cli("train", "classify", "shades", "--split", "0.5,0.25,0.25", *flags)
    assert done.code == 0, done.err


def test_pictures_of_different_sizes(cli, pictures):  # noqa: F811
    from PIL import Image

    Image.new("L", (9, 5)).save(pictures / "dark" / "wide.png")
    words = ("8 x 8", "wide.png is 9 x 5", "--size 32", "AdaptivePool")
    refused(cli("train", "classify", "shades"), *words)


def test_a_damaged_idx_file(cli, place):  # noqa: F811
    (place / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 9]) + bytes(20))
    (place / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(9))
    done = cli("train", "classify", "train-images-idx3-ubyte")
    refused(done, "train-images-idx3-ubyte is damaged", "get it again")


# ---------------------------------------------------------------- model directories

PARTS = "config.json", "vocabulary.json", "model.safetensors", "baseline.safetensors"


@pytest.mark.parametrize("verb", ["sample model", "predict model the", "evaluate model fox.txt"])
@pytest.mark.parametrize("part", PARTS)
def test_a_model_directory_that_misses_a_part(cli, place, verb, part):  # noqa: F811
    (place / "model" / part).unlink()
    refused(cli(*verb.split()), "model", part)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_model_directory_with_a_truncated_part(cli, place, part, keep):  # noqa: F811
    path = place / "model" / part
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refused(cli("sample", "model"), part)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def test_a_model_of_a_newer_format(cli, place):  # noqa: F811
    edit(place / "model" / "config.json", format_version=FORMAT_VERSION + 1)
    refused(cli("sample", "model"), "config.json", "newer", "upgrade")


@pytest.mark.parametrize("version", [0, -1, True])
def test_a_model_of_no_format(cli, place, version):  # noqa: F811
    edit(place / "model/config.json", format_version=version)
    refused(cli("sample", "model"), "config.json", "format")


def test_shapes_that_disagree_with_the_config(cli, place):  # noqa: F811
    path = place / "model" / "config.json"
    model = json.loads(path.read_text("utf-8"))["model"]
    edit(path, model={**model, "hidden": 13})
    refused(cli("sample", "model"), "model.safetensors", "(48, ", "(52, ")


def test_weights_that_are_missing(cli, place):  # noqa: F811
    path = place / "model" / "model.safetensors"
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors.pop("readout.bias")
    save_file(tensors, path, metadata)
    refused(cli("sample", "model"), "model.safetensors", "readout.bias")


# ---------------------------------------------------------------- resuming


def resume(cli, *arguments):  # noqa: F811
    return cli("train", "generate", "fox.txt", "--out", "model", "--resume", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--hidden", "24"), ("--hidden", "24", "12")),
        (("--lr", "0.5"), ("--lr", "0.5")),
        (("--seed", "1"), ("--seed", "1")),
        (("--steps", "3"), ("--steps 3", "6")),
    ],
)
def test_resuming_with_other_settings(cli, place, arguments, words):  # noqa: F811
    refused(resume(cli, *arguments), *words)


def test_resuming_with_other_data(cli, place):  # noqa: F811
    (place / "fox.txt").write_text(TEXT.upper(), "utf-8")
    refused(resume(cli, "--steps", "9"), "data")


def test_resuming_from_a_truncated_checkpoint(cli, place):  # noqa: F811
    path = place / "model" / "training.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    refused(resume(cli, "--steps", "9"), "training.safetensors")


# ---------------------------------------------------------------- a run that fails: exit code 1


def test_a_loss_that_is_not_a_number(cli, place):  # noqa: F811
    done = cli(
        *("train", "generate", "fox.txt", *TINY, "--evaluate-every", "1", "--out", "nan"),
        *("--cell", "rnn", "--nonlinearity", "relu", "--optimizer", "sgd", "--lr", "1e30"),
        *("--steps", "50", "--clip-norm", "1e30", "--quiet"),
    )
    refused(done, "became nan", "--lr", "--clip-norm", "checkpoint of step", code=1)
    assert cli("sample", "nan", "--length", "3").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk(cli, place, monkeypatch):  # noqa: F811
    before = {path.name: path.read_bytes() for path in (place / "model").iterdir()}
    real = Path.open

    def full(path, mode="r", *rest, **named):
        if "w" in mode and place in path.resolve().parents:
            return real(Path("/dev/full"), mode, *rest, **named)
        return real(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", full)
    done = resume(cli, "--steps", "9", "--quiet")
    monkeypatch.undo()
    os.chdir(place)
    refused(done, "cannot write", "model", "no space left", code=1)
    for name in (*PARTS, "training.safetensors"):
        assert (place / "model" / name).read_bytes() == before[name]
    assert cli("sample", "model", "--length", "3").code == 0


def test_a_directory_that_cannot_be_written(cli, place):  # noqa: F811
    (place / "file").touch()
    refused(
        cli("train", "generate", "fox.txt", *TINY, "--quiet", "--out", "file/run"),
        "file/run",
        code=1,
    )
