"""Perceptrons that tell columns of rows that stand alone."""

import json

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

import unrolled as ur
from unrolled.data.row_targets import RowTargets
from unrolled.errors import InputError
from unrolled.layers.activation import make_activation
from unrolled.settings import Settings
from unrolled.tasks.forecast import Forecast
from unrolled.tasks.forecast_models import RowPerceptron


def prepare(*source, **flags):
    wanted = Settings.from_flags("forecast", {"source": tuple(map(str, source)), **flags})
    return Forecast.prepare(wanted.with_defaults(Forecast.defaults_for(wanted)))


@pytest.fixture
def table(tmp_path):
    """Two columns of names that count up, a + 2 b and a b beside them."""
    a, b = np.divmod(np.random.default_rng(0).choice(2500, 200, replace=False), 50)
    lines = [f"{x},{x + 2 * y},{y},{x * y}" for x, y in zip(a, b, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,sum,b,product", *lines]), "utf-8")
    return path


@pytest.fixture(scope="module")
def friedman(tmp_path_factory):
    out = tmp_path_factory.mktemp("rows") / "m"
    return ur.train("forecast", "friedman", steps=600, sample_length=0, threads=1, out=out)


def test_a_curve_is_learned_better_than_a_line(friedman):
    test, beside = friedman.metrics["test"], friedman.metrics["baselines"]
    assert test["r2"] > 0.85 > beside["least_squares"]["r2"] > 0.5 > beside["training_mean"]["r2"]
    assert test["mse"] < beside["least_squares"]["mse"] < beside["training_mean"]["mse"]
    assert (friedman.directory / "forecast.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_it_is_what_the_formula_says(activation):
    flags = {"dense": (5, 3), "dense_activation": activation}
    net = RowPerceptron(4, (2,), Settings.from_flags("forecast", flags)).double()
    first, _, second, _, third = net.readout
    x, a = torch.randn(1, 6, 4).double(), make_activation(activation)
    h = a(x @ first.weight.T + first.bias)
    h = a(h @ second.weight.T + second.bias)
    torch.testing.assert_close(net(x)[0], h @ third.weight.T + third.bias)


def test_figures_and_baselines_are_scikit_learns(table):
    task = prepare(table, rows=True, targets="sum,product", split="0.5,0.25,0.25")
    source = task.source
    assert source.columns == ["a", "b", "sum", "product"]
    (batch,) = source.held_out("test")
    assert batch.x.shape == (1, 50, 2)
    training, test = source._parts["training"], source._parts["test"]
    np.testing.assert_allclose(training.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(training.std(0), 1)
    line = LinearRegression().fit(training[:, :2], training[:, 2:])
    told, truth = line.predict(test[:, :2]), test[:, 2:]
    found = task.baselines("test")
    assert found["least_squares"] == pytest.approx(
        {
            "mse": mean_squared_error(truth, told),
            "mae": mean_absolute_error(truth, told),
            "rmse": mean_squared_error(truth * source.scale, told * source.scale) ** 0.5,
            "r2": r2_score(truth, told),
        }
    )
    first = np.column_stack([truth[:, 0], told[:, 0]])
    np.testing.assert_allclose(first[:, 0], first[:, 1])  # the sum is a line
    assert found["training_mean"]["mse"] == pytest.approx(np.mean(truth**2))


def test_same_rows_are_in_one_split(tmp_path, caplog):
    path = tmp_path / "t.csv"
    rows = [f"{n % 30},{n % 30 + 1}" for n in range(90)] + [f"{n},77" for n in range(9)]
    path.write_text("\n".join(["x,target", *rows]), "utf-8")
    source = prepare(path, rows=True, split="0.4,0.3,0.3").source
    seen = [{row.tobytes() for row in part} for part in source._parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 39
    assert "read the same as rows that are learned from" in caplog.text


@pytest.mark.parametrize("head", ["quantile", "gaussian"])
def test_other_heads(head, cli, table, tmp_path):  # noqa: F811
    flags = ("--rows", "--targets", "sum", "--steps", "5", "--head", head, "--quiet")
    cli("train", "forecast", table, *flags, "--out", tmp_path / "m")
    (found,) = json.loads(cli("predict", tmp_path / "m", "1,2,3", "--json").out)["predictions"]
    assert found["row"] == "1,2,3"
    assert found["low"]["sum"] < found["high"]["sum"]


def test_rows_files_and_words(cli, friedman, tmp_path):  # noqa: F811
    path = tmp_path / "some.csv"
    columns = friedman.task.source.columns
    row = [0.5] * 10
    path.write_text("\n".join([",".join(reversed(columns[:10])), *[",".join(map(str, row))] * 2]))
    asked = ("predict", friedman.directory, path, ",".join(map(str, row)), "--json")
    found = json.loads(cli(*asked).out)["predictions"]
    assert [one["row"] for one in found] == ["some.csv:1", "some.csv:2", ",".join(map(str, row))]
    assert len({one["forecast"]["target"] for one in found}) == 1
    # 10 sin(pi / 4) + 5 + 2.5
    assert found[0]["forecast"]["target"] == pytest.approx(14.6, abs=1.5)
    told = json.loads(cli("evaluate", friedman.directory, "friedman", "--json").out)
    assert told["rows"] == 1000
    assert told["baselines"].keys() == {"training_mean", "least_squares"}
    assert (
        "has 2 numbers, but the model reads 10"
        in cli("predict", friedman.directory, "1,2").sentence
    )
    assert "has no column 'x1'" in cli("evaluate", friedman.directory, _plain(tmp_path)).sentence


def _plain(path):
    (path / "plain.csv").write_text("x,target\n1,2\n")
    return path / "plain.csv"


@pytest.mark.parametrize(
    ("content", "flags", "sentence"),
    [
        (
            "x,y\n1,2\n",
            {},
            "no column 'target' to tell; name one or several of x, y with --targets",
        ),
        ("x,y\n1,2\n", {"targets": "z"}, "no column 'z' to tell"),
        ("x,y\n1,2\n", {"targets": "x,y"}, "leaves no column to tell them from"),
        ("x,y\n1,b\n", {"targets": "y"}, r"t.csv:2: 'b' in y is not a number; --columns chooses"),
        ("x,y\n1,2\n3,\n", {"targets": "y"}, r"t.csv:3: the value of y is missing"),
        ("x,y\n1,2\n", {"targets": "y", "missing": "forward"}, "takes rows in order of time"),
        ("x,y\n1,2\n1,2\n", {"targets": "y"}, "1 different rows are too few to split"),
        ("x,y\n1,2\n", {"model": "rnn"}, "--model rnn: of rows that stand alone an mlp tells"),
        ("x,y\n1,2\n", {"head": "direction"}, "--head direction is for series"),
        ("x,y\n1,2\n", {"scaling": "window"}, "--scaling window is for series"),
        ("x,y\n1,2\n", {"horizon": 2}, "--horizon is for series, not for rows"),
    ],
    ids=str,
)
def test_what_is_refused(tmp_path, content, flags, sentence):
    (tmp_path / "t.csv").write_text(content, "utf-8")
    with pytest.raises(InputError, match=sentence):
        prepare(tmp_path / "t.csv", rows=True, **flags)


def test_missing_rows_are_dropped_and_columns_chosen(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,x,target\n" + "".join(f"a{n},{n},{n}\n" for n in range(9)) + "b,,3\n")
    source = prepare(path, rows=True, columns="x", missing="drop").source
    assert (source.columns, sum(map(len, source._parts.values()))) == (["x", "target"], 9)
    assert isinstance(source, RowTargets)
