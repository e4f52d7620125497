"""Reconstructing and labelling pictures: from the data to what the commands say."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import cli  # noqa: F401 - a fixture
from sklearn.decomposition import PCA

import unrolled as ur
from unrolled.data.catalogue import find
from unrolled.errors import InputError, RunError
from unrolled.tasks import pictures as data
from unrolled.tasks.reconstruct import alone, check_steps

SHORT = ("--steps", "8", "--sample-length", "0", "--quiet")
TINY = {"steps": 12, "batch_size": 8, "widths": (16, 4), "layer_steps": 4, "sample_length": 0}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """One that has learned a little from the built-in digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    return ur.train("reconstruct", steps=500, lr=0.002, sample_length=0, out=out)


def test_it_learns_the_digits(learned):
    found = learned.metrics
    baselines = found["baselines"]
    assert found["test"]["squared_error"] < baselines["8 principal components"]["squared_error"]
    assert found["test"]["squared_error"] < 0.4 * baselines["mean picture"]["squared_error"]
    assert {"reconstructions.png", "codes.png"} <= {p.name for p in learned.directory.iterdir()}


def test_figures_are_what_is_given_back(learned):
    rows = learned.task.part("test").rows
    given = learned.task.reconstruct(learned.model, rows)
    error = float(np.square(given - rows).sum(1).mean())
    assert learned.metrics["test"]["squared_error"] == pytest.approx(error, rel=1e-5)


def test_the_baseline_is_principal_component_analysis(learned):
    training, test = (learned.task.part(split).rows for split in ("training", "test"))
    pca = PCA(8).fit(training)
    error = np.square(pca.inverse_transform(pca.transform(test)) - test).sum(1).mean()
    found = learned.metrics["baselines"]["8 principal components"]["squared_error"]
    assert found == pytest.approx(float(error), rel=1e-3)


def test_it_can_be_loaded_and_used(learned, cli, tmp_path):  # noqa: F811
    again = ur.load(learned.directory)
    found = again.evaluate("digits")
    assert found["pictures"] == 1797
    assert found["squared_error"] == pytest.approx(
        learned.metrics["test"]["squared_error"], rel=0.2
    )
    first = next(again.predict("digits"))
    assert len(first["code"]) == 8
    assert first["squared_error"] > 0
    done = cli("evaluate", learned.directory, "digits", "--json")
    assert json.loads(done.out)["squared_error"] == pytest.approx(found["squared_error"])


def test_show_draws_pictures(learned):
    shown = learned.task.show(learned.model, 0)
    above, below = shown.split("\n\n")
    assert len(above.splitlines()) == len(below.splitlines()) == 8


def test_layers_come_one_by_one_then_all(tmp_path):
    settings = ur.Settings.from_flags("reconstruct", TINY)
    assert [alone(settings, step) for step in (0, 3, 4, 7, 8, 11)] == [0, 0, 1, 1, None, None]
    trained = ur.train(settings, out=tmp_path / "one")
    assert trained.metrics["step"] == 12


def test_a_run_goes_on_in_the_middle_of_a_layer(tmp_path):
    whole = ur.train("reconstruct", out=tmp_path / "whole", mask_noise=0.2, **TINY)
    half = {**TINY, "steps": 9, "evaluate_every": 1}
    ur.train("reconstruct", out=tmp_path / "parts", mask_noise=0.2, **half)
    parts = ur.train("reconstruct", out=tmp_path / "parts", resume=True, steps=12)
    ends = [run.model.state_dict() for run in (whole, parts)]
    for name, weight in ends[0].items():
        np.testing.assert_array_equal(weight.numpy(), ends[1][name].numpy())


def test_rows_of_a_picture_as_a_sequence(tmp_path):
    trained = ur.train(
        "reconstruct",
        out=tmp_path / "rows",
        row_by_row=True,
        cell="gru",
        hidden=32,
        bidirectional=True,
        steps=200,
        lr=0.01,
        clip_norm=1.0,
        sample_length=0,
    )
    mean = trained.metrics["baselines"]["mean picture"]["squared_error"]
    assert trained.metrics["test"]["squared_error"] < 0.8 * mean


@pytest.mark.parametrize(
    "options", [{}, {"layer_steps": 200}, {"layer_steps": 200, "freeze": True}]
)
def test_few_labels(options, tmp_path):
    trained = ur.train(
        "few-labels",
        out=tmp_path / "few",
        labelled=200,
        widths=(64, 32),
        lr=0.003,
        steps=600,
        sample_length=0,
        **options,
    )
    assert trained.metrics["test"]["accuracy"] > 0.75
    again = ur.load(tmp_path / "few")
    found = again.evaluate("digits")
    assert found["accuracy"] > 0.75
    first = next(again.predict("digits"))
    assert first["probabilities"][first["label"]] == max(first["probabilities"].values())


def test_labels_are_shared_out_evenly(tmp_path):
    settings = ur.Settings.from_flags("few-labels", {"labelled": 20, "source": ("digits",)})
    from unrolled.tasks.few_labels import FewLabels
    from unrolled.train.plan import new_run

    rows, numbers = FewLabels.prepare(new_run(settings)).labelled
    assert np.bincount(numbers).tolist() == [2] * 10
    assert len(rows) == 20


def test_a_frozen_encoder_stays_as_its_layers_were_trained(tmp_path):
    given = {**TINY, "labelled": 20, "freeze": True, "split": (0.8, 0.0, 0.2)}
    runs = [ur.train("few-labels", out=tmp_path / str(n), **{**given, "steps": n}) for n in (9, 20)]
    first, second = (run.model.state_dict() for run in runs)
    for name, weight in first.items():
        assert name.startswith("readout") != bool((weight == second[name]).all()), name


def test_pictures_held_out_by_their_maker_are_the_test(tmp_path):
    names = [f"train-images:{n}" for n in range(10)] + [f"mnist/t10k-images:{n}" for n in range(4)]
    some = data.Pictures(np.zeros((14, 1, 2, 2), np.float32), None, np.array(names, object))
    settings = ur.Settings.from_flags("reconstruct", {"split": "0.4,0.4,0.2"})
    parts = data.split_pictures(some, settings)
    assert [len(parts[split]) for split in data.SPLITS] == [5, 5, 4]
    assert all("t10k" in name for name in parts["test"].where)


def test_a_folder_of_pictures_without_labels(tmp_path, cli):  # noqa: F811
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for n in range(20):
        pixels = random.integers(0, 255, (4, 5), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:02}.png")
    out = tmp_path / "out"
    trained = ur.train("reconstruct", str(folder), out=out, widths=(3,), steps=3, sample_length=0)
    assert trained.task.size == (1, 4, 5)
    done = cli("predict", out, str(folder / "00.png"), "--json")
    assert json.loads(done.out)["predictions"][0]["picture"] == str(folder / "00.png")
    (folder / "03.png").write_text("no picture")
    refused = cli("train", "reconstruct", folder, *SHORT)
    assert refused.code == 2
    assert "03.png" in refused.sentence
    skip = ("--unreadable", "skip", "--out", tmp_path / "skipped", "--widths", 3)
    assert cli("train", "reconstruct", folder, *SHORT, *skip).code == 0
    Image.fromarray(np.zeros((7, 7), np.uint8)).save(folder / "large.png")
    refused = cli("train", "reconstruct", folder, *SHORT, "--unreadable", "skip")
    assert "large.png is 7 x 7" in refused.sentence
    assert "--size" in refused.sentence
    for picture in folder.iterdir():
        picture.write_text("no picture")
    refused = cli("train", "reconstruct", folder, *SHORT, "--unreadable", "skip")
    assert "none of the pictures" in refused.sentence


def test_several_processes_do_not_train_layers_one_by_one(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    check_steps(ur.Settings.from_flags("reconstruct", {**TINY, "layer_steps": 0}))
    with pytest.raises(InputError, match="only one process"):
        check_steps(ur.Settings.from_flags("reconstruct", TINY))


def test_refusals(learned, cli, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    for words, reason in [
        ("reconstruct nowhere", "nowhere"),
        ("reconstruct --layer-steps 4 --steps 12", "--layer-steps 4 for 3 layers"),
        ("reconstruct --kl 1", "--activation sigmoid"),
        ("reconstruct --row-by-row --contraction 1", "--contraction"),
        ("few-labels --labelled 5", "--labelled 5: give one for each of 10 labels"),
        ("few-labels --labelled 5000", "--labelled 5000"),
        ("few-labels --freeze", "--layer-steps"),
        ("few-labels --row-by-row", "--row-by-row"),
        ("reconstruct --split 0.9999,0,0.0001", "too few to split"),
    ]:
        done = cli("train", *words.split(), "--quiet")
        assert done.code == 2, words
        assert reason in done.sentence
    from PIL import Image

    Image.fromarray(np.zeros((9, 9), np.uint8)).save("large.png")
    done = cli("predict", learned.directory, "large.png")
    assert "8 x 8" in done.sentence
    assert "9 x 9" in done.sentence
    with pytest.raises(RunError, match="has no training data"):
        ur.load(learned.directory).task.part("test")


@pytest.mark.slow
@pytest.mark.skipif(
    find("mnist").where() == "to download",
    reason="MNIST is neither in UNROLLED_DATA_DIR nor cached",
)
def test_mnist_in_the_published_setting(tmp_path):
    """Hinton & Salakhutdinov 2006: 13.87 by 30 components; a short run of 2,833,000 weights beats that."""
    recipe = Path(__file__).parents[2] / "recipes" / "mnist-deep-autoencoder.toml"
    short = {"steps": 600, "warmup": 50, "evaluate_every": 600, "sample_length": 0}
    found = ur.train(recipe, out=tmp_path / "deep", **short).metrics
    components = found["baselines"]["30 principal components"]["squared_error"]
    assert components == pytest.approx(13.87, abs=0.02)
    assert found["test"]["squared_error"] < 0.75 * components
