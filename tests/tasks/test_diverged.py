"""Runs that diverge fail in a sentence, damaged models are refused, and advice fits the command."""

import json
import shutil

import numpy as np
import pytest
from command_line import TEXT, cli  # noqa: F401
from PIL import Image

import unrolled as ur
from unrolled.errors import InputError, RunError


@pytest.fixture
def pictures(tmp_path):
    """Pictures of two labels."""
    random = np.random.default_rng(0)
    for n in range(40):
        folder = tmp_path / "pics" / ("cat" if n % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        low, high = (0, 128) if n % 2 else (128, 255)
        Image.fromarray(random.integers(low, high, (6, 6), np.uint8)).save(folder / f"{n}.png")
    return tmp_path / "pics"


@pytest.fixture
def table(tmp_path):
    """Rows to be forecast."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    rows = "\n".join(",".join(map(str, row)) for row in x)
    (tmp_path / "h.csv").write_text(f"a,b,price\n{rows}\n")
    return tmp_path / "h.csv"


WILD = {"optimizer": "sgd", "clip_norm": 0.0, "evaluate_every": 1}


def test_reconstruct_that_diverges(pictures, tmp_path):
    with pytest.raises(RunError, match="lower --lr"):
        ur.train("reconstruct", str(pictures), steps=9, lr=1e20, out=tmp_path / "r", **WILD)


def test_embed_that_diverges(pictures, tmp_path):
    with pytest.raises(RunError, match="lower --lr"):
        ur.train("embed", str(pictures), steps=5, lr=1e30, out=tmp_path / "r", **WILD)


def test_a_forecast_that_diverges(table, tmp_path):
    flags = {"rows": True, "targets": ("price",), "steps": 9, "lr": 1e20, **WILD}
    with pytest.raises(RunError, match="lower --lr"):
        ur.train("forecast", str(table), out=tmp_path / "r", **flags)


def texts(path, *labels):
    rows = [f"{label} {label[0] * (n % 5 + 1)} {n}\t{label}" for n in range(20) for label in labels]
    path.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    return str(path)


def test_labels_that_are_no_texts_are_refused(tmp_path):
    source = texts(tmp_path / "c.tsv", "ham", "spam")
    ur.train("classify", source, hidden=4, steps=2, out=tmp_path / "run", sample_length=0)
    shutil.copytree(tmp_path / "run", tmp_path / "bad")
    path = tmp_path / "bad" / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": [1, 2]}))
    with pytest.raises(InputError, match="its labels are not a list of texts"):
        ur.load(tmp_path / "bad")


def test_embed_judges_labels_that_came_later(tmp_path):
    source = texts(tmp_path / "c.tsv", "ham", "spam")
    trained = ur.train("embed", source, hidden=8, steps=5, batch_size=16, out=tmp_path / "run")
    found = trained.evaluate(texts(tmp_path / "later.tsv", "ham", "rare"))
    assert found["examples_of_new_labels"] == 20
    assert 0 <= found["recall_at_1"] <= 1
    # Accuracy is that of the labels there were: the same as without the others, of which none is nearer.
    of_known = trained.evaluate(texts(tmp_path / "known.tsv", "ham"))
    assert found["accuracy"] == of_known["accuracy"]
    assert "examples_of_new_labels" not in of_known
    new = trained.evaluate(texts(tmp_path / "new.tsv", "rare", "odd"))
    assert "accuracy" not in new
    assert new["baselines"].keys() == {"raw_features"}


def test_a_forecaster_says_what_can_be_done_where_it_is(tmp_path, cli):  # noqa: F811
    days = np.arange("2020-01-01", "2020-07-01", dtype="datetime64[D]")
    rows = [f"{day},{np.sin(n / 3)}" for n, day in enumerate(days)]
    (tmp_path / "s.csv").write_text("date,x\n" + "\n".join(rows) + "\n")
    (tmp_path / "gap.csv").write_text("date,x\n" + "\n".join(rows[:50] + rows[52:]) + "\n")
    ur.train("forecast", str(tmp_path / "s.csv"), model="ar", out=tmp_path / "run")
    for verb in ("evaluate", "predict"):
        done = cli(verb, tmp_path / "run", tmp_path / "gap.csv")
        assert done.code == 2
        assert "train with --missing" in done.sentence
        assert "interpolate" not in done.sentence


def test_a_prompt_with_unknown_symbols(tmp_path, cli):  # noqa: F811
    (tmp_path / "fox.txt").write_text(TEXT)
    flags = {"hidden": 8, "steps": 2, "batch_size": 4, "sample_length": 0}
    ur.train("generate", str(tmp_path / "fox.txt"), out=tmp_path / "run", **flags)
    done = cli("predict", tmp_path / "run", "Q")
    assert done.code == 2
    assert "--unknown" not in done.sentence
    assert "--unknown skip" in cli("sample", tmp_path / "run", "--prompt", "Q").sentence


def test_a_folder_is_no_picture(pictures, tmp_path, cli):  # noqa: F811
    ur.train("classify", str(pictures), model="mlp", hidden=4, steps=2, out=tmp_path / "run")
    done = cli("predict", tmp_path / "run", pictures / "cat")
    assert done.code == 2
    assert "is a folder" in done.sentence
    assert "Errno" not in done.sentence
