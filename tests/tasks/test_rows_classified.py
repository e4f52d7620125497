"""Perceptrons that classify rows of numbers."""

import json

import pytest
import torch
from command_line import cli  # noqa: F401
from sklearn.neural_network import MLPClassifier
from torch import nn

import unrolled as ur
from unrolled.layers.activation import make_activation
from unrolled.settings import Settings
from unrolled.tasks.row_examples import RowMLP


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    return ur.train("classify", "iris", out=tmp_path_factory.mktemp("m") / "iris", sample_length=0)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "identity"])
def test_it_is_what_the_formula_says(activation):
    flags = {"dense": (5, 3), "dense_activation": activation}
    net = RowMLP(4, 2, Settings.from_flags("classify", flags)).double()
    first, _, second, _, third = net.readout
    x, a = torch.randn(6, 4).double(), make_activation(activation)
    h = a(x @ first.weight.T + first.bias)
    h = a(h @ second.weight.T + second.bias)
    torch.testing.assert_close(net(x), h @ third.weight.T + third.bias)
    assert sum(isinstance(layer, nn.Linear) for layer in net.readout) == 3


def test_iris(iris):
    rows = iris.metrics["test"]
    assert rows["accuracy"] >= 0.85
    found = list(iris.predict(["5.1,3.5,1.4,0.2", "6.3,3.3,6.0,2.5"]))
    assert [one["label"] for one in found] == ["setosa", "virginica"]


def test_as_good_as_scikit_learn(iris):
    training = iris.evaluate("iris")
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    other = MLPClassifier((32,), max_iter=3000, random_state=0).fit(x, y).score(x, y)
    assert training["accuracy"] > other - 0.03


def test_files_and_words(iris, tmp_path, cli):  # noqa: F811
    path = tmp_path / "some.csv"
    columns = ",".join(iris.task.kind.columns)
    path.write_text(f"label,{columns}\nsetosa,5.1,3.5,1.4,0.2\nvirginica,6.3,3.3,6,2.5\n")
    found = json.loads(cli("evaluate", iris.directory, path, "--json").out)
    assert (found["accuracy"], found["examples"]) == (1, 2)
    found = json.loads(cli("predict", iris.directory, path, "--json").out)["predictions"]
    assert [one["label"] for one in found] == ["setosa", "virginica"]
    assert "has 2 numbers, but the model reads 4" in cli("predict", iris.directory, "1,2").sentence
    told = cli("train", "classify", "iris", "--model", "cnn", "--out", tmp_path / "x").sentence
    assert told == "--model cnn: rows of numbers are read by mlp"
