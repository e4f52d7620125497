"""What forecasts series: lines, perceptrons, convolutions, windows less their last value; heads."""

import json

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn

import unrolled as ur
from unrolled.settings import Settings
from unrolled.settings.forecast import ForecastSettings
from unrolled.tasks.forecast import Forecast
from unrolled.tasks.forecast_heads import Gaussian, Quantile, Told, make_head
from unrolled.tasks.forecast_models import Convolutional

SEASON = np.sin(np.arange(600) * 2 * np.pi / 12)


def write(path, values, names="x"):
    rows = np.atleast_2d(values.T).T.tolist()
    path.write_text(names + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows))
    return str(path)


def prepare(source, **flags):
    flags = {"source": (source,), "threads": 1, "dtype": "float64", **flags}
    settings = Settings.from_flags("forecast", flags)
    return Forecast.prepare(settings.with_defaults(Forecast.defaults_for(settings)))


@pytest.fixture
def noisy():
    """An autoregression of two steps, x_t = 0.6 x_{t-1} - 0.5 x_{t-2} + 0.8 u_{t-1} + noise."""
    random = np.random.default_rng(0)
    x, u, noise = np.zeros(4000), random.standard_normal(4000), 0.3 * random.standard_normal(4000)
    for t in range(2, 4000):
        x[t] = 0.6 * x[t - 1] - 0.5 * x[t - 2] + 0.8 * u[t - 1] + noise[t]
    return np.stack([x, u], 1)


def test_an_autoregression_finds_its_coefficients(tmp_path, noisy):
    source = write(tmp_path / "s.csv", noisy, "x,u")
    task = prepare(source, targets="x", model="ar", order=2, scaling="none", head="gaussian")
    assert task.closed_form
    model = task.build()
    loss = task.fit(model)
    # the oldest step first, its columns side by side
    weight = model.net.weight[:, 0].numpy().reshape(2, 2)
    np.testing.assert_allclose(weight[::-1], [[0.6, 0.8], [-0.5, 0]], atol=0.02)
    assert model.net.bias.abs() < 0.02
    found = task.validate(model, "test")
    assert found["rmse"] == pytest.approx(0.3, rel=0.1)
    assert found["nll"] == pytest.approx(np.log(0.3) + 0.5 * np.log(2 * np.pi * np.e), abs=0.1)
    assert found["nll"] == pytest.approx(loss, abs=0.1)
    assert found["coverage"] == pytest.approx(0.8, abs=0.06)
    assert task.baselines("test")["persistence"]["rmse"] > 2 * found["rmse"]


def test_an_autoregression_that_knows_ahead(tmp_path, noisy):
    known = np.roll(noisy[:, 1], 1)  # what moves x stands in the row of x itself
    source = write(tmp_path / "s.csv", np.stack([noisy[:, 0], known], 1), "x,u")
    found = {}
    for flags in ({}, {"known": "u"}):
        task = prepare(source, targets="x", model="ar", order=2, head="quantile", **flags)
        model = task.build()
        task.fit(model)
        found[len(flags)] = task.validate(model, "test")
    assert found[1]["rmse"] == pytest.approx(0.3, rel=0.1)
    assert found[0]["rmse"] > 2 * found[1]["rmse"]
    assert found[1]["coverage"] == pytest.approx(0.8, abs=0.06)


def test_ridge_is_that_of_scikit_learn(tmp_path, noisy):
    from sklearn.linear_model import Ridge

    task = prepare(write(tmp_path / "s.csv", noisy[:200], "x,u"), model="ar", order=3, ridge=7.0)
    model = task.build()
    task.fit(model)
    values = task.source.values[: task.source.ends[0][1]]
    features = np.stack([values[t - 2 : t + 1].ravel() for t in range(2, len(values) - 1)])
    expected = Ridge(alpha=7.0).fit(features, values[3:])
    np.testing.assert_allclose(model.net.weight.T, expected.coef_, atol=1e-10)
    np.testing.assert_allclose(model.net.bias, expected.intercept_, atol=1e-10)


@pytest.mark.parametrize(
    "flags",
    [
        {"model": "ar", "order": 12},
        {"model": "mlp", "order": 12, "hidden": 16},
        {"cell": "gru", "window": 12, "hidden": 8},
        {"model": "cnn", "layers": 2, "window": 12, "hidden": 8},
    ],
)
def test_a_window_forgets_its_level(tmp_path, flags):
    values = np.stack([SEASON, np.cos(SEASON)], 1)
    source = write(tmp_path / "s.csv", values, "a,b")
    task = prepare(source, scaling="window", horizon=3, targets="a", known="b", **flags)
    model = task.build().eval()
    if task.closed_form:
        task.fit(model)
    x = torch.from_numpy(task.batch(0, slice(0, 5)).x)
    moved = x.clone()
    moved[..., 0] += 100
    y, higher = model(x)[0], model(moved)[0]
    assert y.shape == (*x.shape[:2], 1, 3)
    torch.testing.assert_close(higher[-1], y[-1] + 100, rtol=0, atol=1e-9)
    moved[..., 1] += 1  # what is known ahead is not taken off
    if flags.get("model") != "ar":
        assert (model(moved)[0][-1] - higher[-1]).abs().max() > 1e-6


@pytest.mark.parametrize("flags", [{"cell": "gru"}, {"model": "mlp", "order": 7}])
def test_windows_side_by_side_are_windows_alone(tmp_path, flags, monkeypatch):
    monkeypatch.setattr("unrolled.tasks.forecast_models.WINDOWS", 3)
    task = prepare(write(tmp_path / "s.csv", SEASON), window=7, scaling="window", **flags)
    model = task.build().eval()
    x = torch.randn(12, 2, 1, dtype=torch.float64)
    together = model(x)[0]
    assert not together[:6].any()
    for t in range(6, 12):
        torch.testing.assert_close(together[t], model(x[t - 6 : t + 1])[0][-1], rtol=0, atol=1e-12)


def test_a_convolution_sees_no_future():
    torch.manual_seed(0)
    model = Convolutional(
        2, (1, 4), Settings.from_flags("forecast", {"layers": 2, "hidden": 3}).model
    )
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    x = torch.randn(20, 3, 2)
    later = x.clone()
    later[12:] += 1
    y, other = model(x)[0], model(later)[0]
    assert y.shape == (20, 3, 1, 4)
    torch.testing.assert_close(y[:12], other[:12])
    assert (y[12] - other[12]).abs().max() > 1e-3
    assert model.reach == 1 + 2 * 2 * (2**2 - 1)
    torch.testing.assert_close(model.at_end(x), y[-1])


@pytest.mark.parametrize(
    ("flags", "metric", "worse"),
    [
        ({"model": "mlp", "order": 12}, "mse", 0.05),
        ({"model": "cnn", "layers": 2, "window": 24, "hidden": 16}, "mse", 0.1),
        ({"head": "quantile", "scaling": "window", "window": 12}, "pinball", 0.1),
        ({"head": "gaussian", "window": 24}, "nll", 0.0),
    ],
)
def test_models_learn_a_season(tmp_path, flags, metric, worse):
    task = prepare(write(tmp_path / "s.csv", SEASON), horizon=6, lr=0.01, **{"hidden": 24, **flags})
    found = task.validate(learn(task, 150), "test")
    assert task.headline == metric
    assert found[metric] < worse
    assert found["mse"] < 0.1 * task.baselines("test")["persistence"]["mse"]


def test_whether_it_rises(tmp_path):
    task = prepare(
        write(tmp_path / "s.csv", SEASON), head="direction", horizon=2, lr=0.02, window=24
    )
    assert task.criterion.better == "higher"
    assert task.initial_loss == pytest.approx(2 * np.log(2))
    model = learn(task, 100)
    assert task.validate(model, "test")["accuracy"] > 0.95
    beside = task.baselines("test")
    assert beside["majority"]["accuracy"] < 0.7
    assert beside["persistence"]["accuracy"] < 0.95
    assert task.drawings(model)["forecast.png"][:4] == b"\x89PNG"


def test_heads_by_hand():
    quantile = Quantile((0.1, 0.5, 0.9))
    told = quantile.told(np.array([[3.0, 1, 2]]))
    assert (told.low, told.point, told.high) == ([1.0], [2.0], [3.0])
    assert quantile.level == pytest.approx(0.8)
    found = quantile.figures(told, np.array([2.5]))
    assert found["coverage"] == 1
    assert found["pinball"] == pytest.approx((0.1 * 1.5 + 0.5 * 0.5 + 0.1 * 0.5) / 3)
    gaussian = Gaussian(0.95)
    told = gaussian.told(np.array([[1.0, np.log(2)]]))
    assert told.high is not None
    assert told.high[0] == pytest.approx(1 + 1.959964 * 2)
    found = gaussian.figures(told, np.array([5.0]))
    assert found["coverage"] == 0
    assert found["nll"] == pytest.approx(np.log(2) + 2 + 0.5 * np.log(2 * np.pi))
    errors = np.array([[-1.0], [0], [1]])
    np.testing.assert_allclose(gaussian.around(errors), [[0, 0.5 * np.log(2 / 3)]])
    np.testing.assert_allclose(quantile.around(errors), [[-0.8, 0, 0.8]])
    assert make_head(ForecastSettings(), binary=True).told(np.zeros(1)).point == 0.5
    assert quantile.figures(Told(np.zeros(1)), np.zeros(1)) == {}


def test_rolling_origins_learn_from_all_before(tmp_path):
    source = write(tmp_path / "s.csv", SEASON)
    from unrolled.train.several import mean_figures, train_several

    runs = train_several(
        "forecast", source, out=tmp_path / "folds", all_folds=True, folds=3, model="ar", order=12,
        horizon=4, split="0.8,0.1,0.1",
    )  # fmt: skip
    assert [run.task.source.ends[2] for run in runs] == [(420, 480), (480, 540), (540, 600)]
    assert mean_figures(runs)["mean"]["mse"] < 1e-6


@pytest.mark.parametrize("head", ["quantile", "gaussian"])
def test_predicts_with_times_and_intervals(cli, tmp_path, head):  # noqa: F811
    months = np.datetime64("1950-01") + np.arange(240)
    random = np.random.default_rng(0)
    values = 10 + SEASON[:240] + 0.1 * random.standard_normal(240)
    path = tmp_path / "s.csv"
    lines = [f"{month},{value}" for month, value in zip(months, values.tolist(), strict=True)]
    path.write_text("\n".join(["month,sales", *lines]))
    out = str(tmp_path / "model")
    done = cli(
        *("train", "forecast", str(path), "--model", "ar", "--order", "24", "--horizon", "12"),
        *("--head", head, "--out", out, "--scaling", "window", "--ridge", "0.1"),
    )
    assert done.code == 0, done.err
    for name in ("forecast.png", "horizon.png"):
        assert (tmp_path / "model" / name).exists()
    assert "seasonal naive" in done.out.replace("_", " ") + done.err.replace("_", " ")
    done = cli("predict", out, str(path), "--json")
    (found,) = json.loads(done.out)["predictions"]
    assert found["times"] == [f"1970-{month:02}-01" for month in range(1, 13)]
    assert found["interval"] == pytest.approx(0.8)
    low, point, high = (np.array(found[k]["sales"]) for k in ("low", "forecast", "high"))
    assert ((low < point) & (point < high)).all()
    np.testing.assert_allclose(point, 10 + SEASON[240:252], atol=0.3)
    trained = ur.load(out)
    judged = trained.evaluate(str(path))
    assert len(judged["mse_by_step"]) == 12
    assert judged["mse"] == pytest.approx(np.mean(judged["mse_by_step"]))
    assert judged["baselines"]["persistence"]["mse"] > judged["mse"]
