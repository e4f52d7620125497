"""Computational graphs: numbers worked by hand, torch's own backward pass, drawings, models."""

import json
from xml.etree import ElementTree

import pytest
import torch
from command_line import cli  # noqa: F401
from torch import nn

import unrolled as ur
from unrolled.engine.randomness import counter
from unrolled.inspect.model_data import with_data


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(node, *values):
    torch.testing.assert_close(node.gradient.flatten(), numbers(*values), rtol=0, atol=5e-8)


def perceptron(x, w1, w2, v, t):
    y1, y2 = torch.sigmoid(w1 @ x), torch.sigmoid(w2 @ x)
    p = torch.sigmoid(v[0] * y1 - v[1] * y2)
    return (p - t) ** 2


@pytest.mark.parametrize("w", [2.0, -1.0, 0.5])
def test_a_polynomial(w):
    graph = ur.graph(lambda w: w**2 * (w - 3), {"w": w})
    assert graph.loss.value == w**2 * (w - 3)
    assert float(graph["w"].gradient) == pytest.approx(3 * w**2 - 6 * w)
    assert len(graph["w"].parts) == 2  # 2 w (w - 3) through the square, w² through the difference
    assert sorted(float(p) for _, p in graph["w"].parts) == sorted([2 * w * (w - 3), w**2])


def test_two_hidden_units():
    given = {"x": numbers(1, 2), "w1": numbers(0.5, 0.25), "w2": numbers(-1, 0.5)}
    graph = ur.graph(perceptron, {**given, "v": numbers(2, 1), "t": 1.0})
    assert float(graph.loss.value) == pytest.approx(0.0764270933, abs=1e-10)
    close(graph["v"], -0.0808528550, 0.0552984791)
    close(graph["w1"], -0.0434893584, -0.0869787168)
    torch.testing.assert_close(
        graph["w2"].gradient, numbers(0.0276492, 0.0552985), rtol=0, atol=5e-8
    )


def test_a_matrix():
    given = {"W": numbers(1, -1, 0, 2).reshape(2, 2), "x": numbers(1, 2)}
    graph = ur.graph(lambda W, x: torch.sigmoid(W @ x).sum(), given)
    assert float(graph.loss.value) == pytest.approx(1.250955211, abs=1e-9)
    close(graph["x"], 0.19661193, -0.16128652)
    slope = graph["sigmoid"].value * (1 - graph["sigmoid"].value)
    torch.testing.assert_close(graph["W"].gradient, slope[:, None] * given["x"])  # delta x'


def test_delta_rules():
    """Of three layers, E = (1/2) sum (t - o)²: the rules of 1986 are the gradients."""
    torch.manual_seed(0)
    x, t, rate = torch.rand(4).double(), torch.rand(2).double(), 0.3
    weights = {"W": torch.randn(3, 4).double(), "V": torch.randn(2, 3).double()}

    def error(W, V):
        return (t - torch.sigmoid(V @ torch.sigmoid(W @ x))).square().sum() / 2

    graph = ur.graph(error, weights)
    hidden = torch.sigmoid(weights["W"] @ x)
    out = torch.sigmoid(weights["V"] @ hidden)
    delta_k = (t - out) * out * (1 - out)
    delta_j = hidden * (1 - hidden) * (weights["V"].T @ delta_k)
    for name, delta, given in (("V", delta_k, hidden), ("W", delta_j, x)):
        torch.testing.assert_close(
            rate * delta[:, None] * given, -rate * graph[name].gradient, rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize(
    "net", [ur.RNN(2, 3), ur.LSTM(2, 3), ur.GRU(2, 3), ur.Recurrent(ur.cells.PeepholeLSTM(2, 3))]
)
def test_three_steps_share_parameters(net):
    net, x = net.double(), torch.randn(3, 2, 2).double()
    graph = ur.graph(lambda x: net(x)[0].square().sum(), {"x": x}, module=net)
    net.zero_grad()
    net(x)[0].square().sum().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(graph[name].gradient, parameter.grad, msg=name)
    shared = [n for n in graph.nodes if n.kind == "input" and len(n.parts) == 3]
    assert shared  # one part a step
    for node in graph.nodes:
        if node.parts:
            torch.testing.assert_close(sum(part for _, part in node.parts), node.gradient)


def test_in_place_and_views():
    def loss(x):
        y = x * 2
        y.add_(1)
        return (y.relu_() * x.reshape(2, 2).T.flatten()).sum()

    x = numbers(-3, -0.2, 0.1, 4)
    leaf = x.clone().requires_grad_()
    loss(leaf).backward()
    close(ur.graph(loss, {"x": x})["x"], *leaf.grad.tolist())


def test_it_refuses():
    with pytest.raises(ur.InputError, match="one number"):
        ur.graph(lambda x: x * 2, {"x": numbers(1, 2)})
    with pytest.raises(ur.InputError, match="no input"):
        ur.graph(lambda x: torch.ones(()), {"x": 1.0})
    with pytest.raises(ur.InputError, match="other numbers each time"):
        ur.graph(lambda x: nn.functional.dropout(x).sum(), {"x": torch.ones(100).double()})

    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    with pytest.raises(ur.InputError, match=r"Odd.*cannot be watched"):
        ur.graph(lambda x: Odd.apply(x * 1).sum(), {"x": 1.0})


def test_drawing():
    graph = ur.graph(lambda w: w**2 * (w - 3), {"w": 2.0})
    root = ElementTree.fromstring(graph.to_svg())
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"w", "pow 2", "sub 3", "mul"} <= set(texts)
    boxes = [[float(e.get(k)) for k in ("x", "y", "width", "height")] for e in rects(root)]
    assert len(boxes) == 4
    for i, (x, y, w, h) in enumerate(boxes):
        for a, b, c, d in boxes[:i]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y, "boxes overlap"
    assert "= 4 + -4" in str(graph) or "= -4 + 4" in str(graph)
    assert graph.to_dict()["nodes"][0]["name"] == "w"


def rects(root):
    return [element for element in root.iter() if element.tag.endswith("rect")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    short = {"steps": 2, "batch_size": 4, "sample_length": 0}
    ur.train("classify", "digits", model="mlp", hidden=4, out=home / "digits", **short)
    ur.train("tag", "copying", hidden=4, out=home / "copying", **short)
    return home


@pytest.mark.parametrize(("name", "has"), [("digits", "cross_entropy"), ("copying", "tanh")])
def test_a_model(models, name, has, cli):  # noqa: F811
    found = json.loads(cli("inspect", models / name, name, "graph", "--json").out)
    assert any(node["name"].startswith(has) for node in found["nodes"])
    assert (models / name / "graph" / "graph.svg").exists()
    if name == "digits":  # against torch
        trained = ur.load(models / name)
        task = with_data(trained, name, batch_size=1)
        with counter(0, 0, 0):
            task.loss(trained.model, task.batch(0, slice(0, 1)), {})[0].backward()
        by_name = {node["name"]: node["gradient"] for node in found["nodes"]}
        for parameter, weight in trained.model.named_parameters():
            torch.testing.assert_close(torch.tensor(by_name[parameter]), weight.grad)


def test_other_data(models, cli):  # noqa: F811
    told = cli("inspect", models / "copying", "python-tokens", "graph").sentence
    assert told.endswith("give the data of its training, copying")


def test_statistics_have_no_gradient():
    """Batch normalisation cannot be differentiated by them, and nobody asks for it."""
    norm, x = nn.BatchNorm1d(2).double().eval(), torch.randn(3, 2, dtype=torch.float64)
    norm.running_mean.copy_(numbers(0.5, -1))
    norm.running_var.copy_(numbers(2, 0.3))
    graph = ur.graph(lambda x: norm(x).pow(3).sum(), {"x": x}, module=norm)
    leaf = x.clone().requires_grad_()
    norm(leaf).pow(3).sum().backward()
    torch.testing.assert_close(graph["x"].gradient, leaf.grad)
    torch.testing.assert_close(graph["weight"].gradient, norm.weight.grad)
