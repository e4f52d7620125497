"""Numbers from the numbers before them: series, sums, films, music."""

import json
import math

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn

import unrolled as ur
from unrolled.data.music import Music
from unrolled.data.sequences import Sequences
from unrolled.data.series import Series
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.forecast import Forecast
from unrolled.tasks.forecast_figures import figures
from unrolled.tasks.forecast_heads import Told, make_head
from unrolled.tasks.forecast_models import Echo, Forecaster

SINE = np.sin(np.arange(400) / 5)
ESN = {
    "cell": "esn",
    "hidden": 200,
    "dtype": "float64",
    "cell_options": {"spectral_radius": 1.0, "input_scaling": 0.5, "bias_scaling": 1.0},
}


def write(path, values, names="x"):
    rows = np.atleast_2d(values.T).T.tolist()
    path.write_text(names + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows))
    return str(path)


def chorale(path, pieces=4):
    """A piece in which each chord tells the next."""
    chords = [[60, 64], [62, 65], [64, 67]]
    piece = [chords[t % 3] for t in range(12)]
    path.write_text(json.dumps({part: [piece] * pieces for part in ("train", "valid", "test")}))
    return str(path)


def prepare(source, **flags):
    settings = Settings.from_flags("forecast", {"source": (source,), "threads": 1, **flags})
    return Forecast.prepare(settings.with_defaults(Forecast.defaults))


def test_learns_a_series_that_a_line_of_one_lag_cannot(tmp_path):
    task = prepare(write(tmp_path / "s.csv", SINE), window=20, horizon=5, lr=0.01)
    found = task.validate(learn(task, 150), "test")
    beside = task.baselines("test")
    assert found["nrmse"] < 0.1
    assert beside["persistence"]["nrmse"] > 0.5
    assert found["mse"] < beside["seasonal_naive"]["mse"]
    assert beside["training_mean"]["nrmse"] == pytest.approx(1, abs=0.1)
    assert beside["linear"]["nrmse"] < 1e-3


def test_learns_to_add(tmp_path):
    task = prepare("adding", length=4, hidden=32, lr=0.01)
    assert task.baselines("test")["constant"]["mse"] == pytest.approx(1 / 6, rel=0.05)
    assert task.validate(learn(task, 300), "test")["mse"] < 0.02


def test_learns_music(tmp_path):
    task = prepare(chorale(tmp_path / "m.json"), batch_size=4, lr=0.02)
    found = task.validate(learn(task, 100), "test")["nats_per_step"]
    assert found < 0.5
    for baseline in task.baselines("test").values():
        assert baseline["nats_per_step"] > 2


@pytest.mark.parametrize("cell", ["convlstm", "convgru", "gru"])
def test_learns_films_a_little(cell):
    task = prepare("moving-digits", cell=cell, hidden=4, length=3, batch_size=4, lr=0.02)
    task.source.held = 8
    before = task.validate(task.build().eval(), "validation")["mse"]
    assert task.validate(learn(task, 15), "validation")["mse"] < 0.8 * before


def test_other_cells_see_each_pixel_by_itself():
    torch.manual_seed(0)
    settings = Settings.from_flags("forecast", {"hidden": 5, "dtype": "float64"}).model
    x = torch.rand(3, 2, 1, 4, 4, dtype=torch.float64)
    order = torch.randperm(16)

    def moved(films):
        return films.flatten(3)[..., order].unflatten(3, (4, 4))

    model = Forecaster(1, (1,), (4, 4), settings).double()
    torch.testing.assert_close(model(moved(x))[0], moved(model(x)[0]), rtol=0, atol=1e-14)
    convolving = settings.model_copy(update={"cell": "convlstm"})
    model = Forecaster(1, (1,), (4, 4), convolving).double()
    y, _ = model(x)
    assert y.shape == x.shape
    assert (model(moved(x))[0] - moved(y)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["adding", "moving-digits", "music", "mackey-glass"])
def test_the_loss_is_that_of_validation(tmp_path, kind):
    source = chorale(tmp_path / "m.json") if kind == "music" else kind
    length = {"music": None, "mackey-glass": 300}.get(kind, 3)
    task = prepare(source, batch_size=3, hidden=4, length=length, dtype="float64")
    batch = task.batch(0, slice(0, 3))
    task.source.held_out = lambda split: iter([batch])
    model = task.build().eval()
    loss, _ = task.loss(model, batch, {})
    found = task.validate(model, "test")
    assert found[task.headline] == pytest.approx(loss.item())
    assert task.progress(loss.item()) == {task.headline: loss.item()}


def test_padding_makes_no_difference(tmp_path):
    path = tmp_path / "m.json"
    pieces = [[[60]] * n for n in (9, 3, 5)]
    path.write_text(json.dumps({"train": pieces, "valid": pieces, "test": pieces}))
    task = prepare(str(path), batch_size=3, hidden=8, dtype="float64")
    model = task.build().eval()
    (batch,) = task.source.held_out("test")
    together = task._forecast(model, batch)
    for row, steps in enumerate(batch.lengths):
        part = Sequences.full(batch.x[:steps, [row]], batch.y[:steps, [row]])
        np.testing.assert_allclose(
            task._forecast(model, part)[:, 0], together[:steps, row], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("cell", ["lstm", "skip"])
def test_recursive_forecasts_step_by_step(tmp_path, cell):
    source = write(tmp_path / "s.csv", np.stack([SINE, SINE**2], 1), "a,b")
    task = prepare(source, cell=cell, hidden=6, horizon=4, recursive=True, dtype="float64")
    model = task.build().eval()
    (batch,) = task.source.held_out("test")
    told = task._forecast(model, batch)
    x = torch.from_numpy(batch.x)
    for start in np.flatnonzero(batch.judged[:, 0])[::9]:
        read = x[: start + 1]
        for _ in range(4):
            read = torch.cat([read, model(read)[0][-1:, ..., 0]])
        expected = read[-4:, 0].T.detach()
        np.testing.assert_allclose(told[start, 0], expected, rtol=0, atol=1e-12)
    (found,) = task.predict(model, [source])
    series = np.stack([SINE, SINE**2], 1)
    read = torch.from_numpy((series - task.source.mean) / task.source.deviation)[:, None]
    for _ in range(4):
        read = torch.cat([read, model(read)[0][-1:, ..., 0]])
    expected = read[-4:, 0].detach().numpy() * task.source.deviation + task.source.mean
    np.testing.assert_allclose(found["forecast"]["b"], expected[:, 1], atol=1e-10)


@pytest.mark.parametrize(
    "flags",
    [
        {"model": "cnn", "layers": 2, "hidden": 4},
        {"model": "mlp", "order": 6, "hidden": 4},
        {"model": "ar", "order": 6, "scaling": "window"},
        {"scaling": "window", "window": 6, "cell": "gru", "hidden": 4},
    ],
)
def test_recursive_forecasts_of_models_that_look_back(tmp_path, flags):
    values = np.stack([SINE, SINE**2], 1)
    source = write(tmp_path / "s.csv", values, "a,b")
    task = prepare(
        source, targets="a", known="b", horizon=3, recursive=True, dtype="float64", **flags
    )
    model = task.build().eval()
    if task.closed_form:
        task.fit(model)
    (batch,) = task.source.held_out("test")
    told = task._forecast(model, batch)
    x = torch.from_numpy(batch.x)
    for start in np.flatnonzero(batch.judged[:, 0])[::9]:
        read, expected = x[: start + 1], []
        for ahead in range(1, 4):
            expected.append(model(read)[0][-1, 0, 0, 0].item())
            following = x[start + ahead].clone()
            following[0, 0] = expected[-1]
            read = torch.cat([read, following[None]])
        np.testing.assert_allclose(told[start, 0, 0], expected, rtol=0, atol=1e-12)


def test_direct_forecasts_reach_beyond_the_end(tmp_path):
    source = write(tmp_path / "s.csv", SINE)
    task = prepare(source, window=20, horizon=5, lr=0.01)
    (found,) = task.predict(learn(task, 150), [source])
    expected = np.sin(np.arange(400, 405) / 5)
    np.testing.assert_allclose(found["forecast"]["x"], expected, atol=0.2)


def test_an_echo_state_network_is_fitted_at_once(tmp_path):
    trained = ur.train(
        "forecast", "mackey-glass", length=1500, split=(0.6, 0.2, 0.2), horizon=10, recursive=True,
        ridge=1e-12, out=tmp_path / "esn", **ESN,
    )  # fmt: skip
    assert trained.metrics["step"] == 1
    assert trained.metrics["test"]["nrmse"] < 0.03
    assert trained.metrics["training"]["loss"] < 1e-6
    assert not list(trained.model.parameters())
    again = ur.load(tmp_path / "esn")
    assert again.evaluate("mackey-glass") == trained.evaluate("mackey-glass")
    assert (tmp_path / "esn" / "forecast.png").read_bytes()[:4] == b"\x89PNG"


def test_the_read_out_is_that_of_ridge_regression():
    from sklearn.linear_model import Ridge

    task = prepare("mackey-glass", length=600, ridge=0.5, washout=20, **{**ESN, "hidden": 30})
    model = task.build()
    assert isinstance(model, Echo)
    task.fit(model)
    whole = task.source.whole()
    x = torch.from_numpy(whole.x)
    h, _ = model.esn.reservoir(x)
    features = torch.cat([x, h], -1)[20:, 0].numpy()
    ridge = Ridge(alpha=0.5).fit(features, whole.y[20:, 0, :, 0])
    np.testing.assert_allclose(
        model(x)[0][20:, 0, :, 0], ridge.predict(features).reshape(-1, 1), rtol=0, atol=1e-8
    )


def test_figures_by_hand():
    scale = np.array([1.0, 10.0])
    settings = Settings.from_flags("forecast", {"horizon": 2})
    source = Series(settings, ["a", "b"], np.zeros(2), scale, season=1)
    head = make_head(settings.forecast, binary=False)
    truth = np.zeros((3, 2, 2))
    truth[..., 1] = [[0.0, 0], [2, 0], [4, 3]]
    error = np.array([[2, 1], [0, 0.1]])  # (columns, steps ahead)
    found = figures(truth, Told(truth + error), source, head)
    assert found["mse"] == pytest.approx((4 + 1 + 0.01) / 4)
    assert found["mae"] == pytest.approx((2 + 1 + 0.1) / 4)
    assert found["rmse"] == pytest.approx(math.sqrt((4 + 1 + 100 * 0.01) / 4))
    assert found["nrmse"] == pytest.approx(math.sqrt((1 / (8 / 3) + 0.01 / 2) / 2))
    music = Music(Settings(task="forecast"))
    truth, p = np.array([[1.0, 0], [0, 0]]), np.array([[0.5, 0.2], [0.1, 0.1]])
    expected = -(math.log(0.5) + math.log(0.8) + 2 * math.log(0.9)) / 2
    found = figures(truth, Told(p), music, make_head(settings.forecast, binary=True))
    assert found == {"nats_per_step": pytest.approx(expected)}


def test_restored_without_its_data(tmp_path):
    source = write(tmp_path / "s.csv", SINE)
    task = prepare(source, hidden=4)
    kept = task.artefacts()
    again = Forecast.restore(
        task.settings, Artefacts(json.loads(json.dumps(kept.vocabulary)), kept.baseline)
    )
    model = task.build().eval()
    assert again.evaluate(model, [source]) == task.evaluate(model, [source])
    with pytest.raises(RunError, match="no training data"):
        again.batch(0, slice(0, 1))
    for damaged in ({}, {"kind": "dance"}, {"kind": "series", "columns": ["x"]}):
        with pytest.raises(InputError, match="is of no forecaster"):
            Forecast.restore(task.settings, Artefacts(damaged))


def test_the_digest_is_of_the_data(tmp_path):
    digest = prepare(write(tmp_path / "a.csv", SINE)).data_digest
    assert prepare(write(tmp_path / "b.csv", SINE)).data_digest == digest
    assert prepare(write(tmp_path / "b.csv", SINE + (np.arange(400) == 7))).data_digest != digest
    assert prepare("adding", length=7).data_digest != prepare("adding", length=8).data_digest


def test_a_line_is_for_series_alone(cli):  # noqa: F811
    done = cli("train", "classify", "--model", "ar")
    assert done.code == 2
    assert done.sentence == "--model ar is for the task forecast alone"


def small(tmp_path, kind):
    """A source, and an input to predict from."""
    if kind == "music":
        one = tmp_path / "one.json"
        one.write_text(json.dumps({"mine": [[[60, 64], [62, 65]]]}))
        return chorale(tmp_path / "m.json"), str(one)
    if kind == "adding":
        return "adding", write(tmp_path / "x.csv", np.eye(2), "number,mark")
    if kind == "moving-digits":
        np.save(tmp_path / "film.npy", np.zeros((2, 16, 16)))
        return "moving-digits", str(tmp_path / "film.npy")
    source = write(tmp_path / "s.csv", SINE)
    return source, source


@pytest.mark.parametrize("kind", ["series", "adding", "moving-digits", "music"])
def test_from_the_command_line(cli, tmp_path, monkeypatch, kind):  # noqa: F811
    monkeypatch.setattr("unrolled.data.sequences.Made.held", 20)
    monkeypatch.setattr("unrolled.data.frames.Films.held", 20)
    source, asked = small(tmp_path, kind)
    out = str(tmp_path / "model")
    options = ["--steps", "2", "--hidden", "4", "--batch-size", "2", "--out", out]
    if kind in ("adding", "moving-digits"):
        options += ["--length", "3"]
    done = cli("train", "forecast", source, *options)
    assert done.code == 0, done.err
    assert (tmp_path / "model" / "forecast.png").exists()
    done = cli("predict", out, asked, "--json")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["predictions"]
    assert set(found) == {"file", "forecast"}
    done = cli("evaluate", out, source, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["steps"] > 0
    assert found["baselines"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere.csv", ("nowhere.csv",)),
        ("bad.csv", ("bad.csv:3", "'two'", "in x")),
        ("good.csv --columns y", ("no column 'y'", "it has x")),
        ("good.csv --window 500", ("--window", "--horizon")),
        ("gap.csv", ("gap.csv:3", "of x", "--missing")),
        ("good.csv --model bag", ("--model bag", "rnn, cnn, mlp or ar")),
        ("good.csv --model ar --head direction", ("--model ar", "--head direction")),
        ("good.csv --head quantile --quantiles 0.9,0.1", ("--quantiles 0.9,0.1", "rising")),
        ("good.csv --head gaussian --recursive", ("--recursive", "--head gaussian")),
        ("good.csv --cell esn --scaling window", ("esn", "--scaling window")),
        ("adding --model mlp", ("--model mlp", "series")),
        ("adding --head quantile", ("--head", "not for adding")),
        ("moving-digits --model cnn", ("--model cnn", "convlstm")),
        ("good.csv --bidirectional", ("--bidirectional",)),
        ("good.csv --tied", ("--tied",)),
        ("good.csv --cell convlstm", ("convlstm", "films")),
        ("good.csv --cell esn --layers 2", ("--layers 2", "one reservoir")),
        ("good.csv --cell esn --washout 1000", ("--washout 1000", "319 steps")),
        ("good.csv --cell esn --cell-options leak=2", ("leak", "2")),
        ("good.csv --cell esn --cell-options spectral_radius=-1", ("spectral radius", "positive")),
        ("good.csv --cell lstm --cell-options leak=1", ("lstm", "leak")),
        ("good.csv --cell-options leak", ("--cell-options", "name=value")),
        ("good.csv --horizon 0", ("--horizon 0",)),
        ("adding --length 1", ("--length 1", "adding", "2")),
        ("adding --cell esn", ("esn", "adding")),
        ("adding --horizon 3", ("--horizon", "adding")),
        ("english", ("english",)),
        ("copying", ("copying", "unrolled train tag")),
        ("bad.json", ("bad.json", "not JSON")),
        ("moving-digits --cell convlstm --cell-options kernel_size=2", ("kernel_size", "odd")),
    ],
)
def test_bad_input(cli, tmp_path, monkeypatch, arguments, words):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "good.csv", SINE)
    (tmp_path / "bad.csv").write_text("x\n1\ntwo\n")
    (tmp_path / "gap.csv").write_text("x\n1\nnan\n")
    (tmp_path / "bad.json").write_text("{")
    done = cli("train", "forecast", *arguments.split(), "--out", "model")
    assert (done.code, done.out) == (2, "")
    for word in words:
        assert word in done.sentence
    assert not (tmp_path / "model" / "model.safetensors").exists()
