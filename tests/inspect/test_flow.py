"""Gradients through time: the parts add up to the whole, and known nets give known figures."""

import json
import math

import pytest
import torch
from command_line import cli, python  # noqa: F401 - a fixture
from torch import nn

import unrolled as ur
from unrolled.inspect.flow import jacobians, lags, products, recurrent_matrices, unroll
from unrolled.inspect.flow_report import advice, flow_of, gradient_flow, judge, noted

T, B, N, H = 6, 3, 4, 5


def doubled(net):
    torch.manual_seed(0)
    for p in net.parameters():
        nn.init.normal_(p, std=0.4)
    return net.double()


class Leaky(ur.Cell):
    """A cell of the user's own, with a delay."""

    delays = {"h": (1, 3)}

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x, self.h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def step(self, x, h):
        recent, old = h
        return 0.5 * recent + (self.x(x) + self.h(old)).tanh()


NETS = {
    "rnn": lambda: ur.RNN(N, H),
    "lstm": lambda: ur.LSTM(N, H, num_layers=2, bidirectional=True),
    "gru": lambda: ur.GRU(N, H, batch_first=True),
    "recurrent": lambda: ur.Recurrent(ur.cells.LSTM(N, H), 2, connection="residual"),
    "own": lambda: ur.Recurrent(Leaky(N, H)),
    "own both ways": lambda: ur.Recurrent(Leaky(N, H), bidirectional=True, connection="dense"),
}


class Whole(nn.Module):
    """A net, and a loss that reads its outputs and its last state."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.x = torch.randn(T, B, N, dtype=torch.float64)

    def loss(self, lengths=None):
        x = self.x.transpose(0, 1) if self.net.batch_first else self.x
        y, last, *_ = self.net(x, lengths=lengths)
        last = next(iter(last.values())) if isinstance(last, dict) else last
        last = last[0] if isinstance(last, tuple) else last
        return y.square().sum() + last.sin().sum()


@pytest.mark.parametrize("kind", NETS)
def test_terms_add_up_to_the_gradient(kind):
    model = Whole(doubled(NETS[kind]()))
    ((call, seeds),) = noted(model, model.loss)
    unrolled = unroll(call, seeds, rows=B, apart=True)
    model.loss().backward()
    for place, (_, cell) in enumerate(call.cells):
        for name, parameter in cell.named_parameters():
            terms = [sum(unrolled.terms(t, place, name)) for t in unrolled.times]
            torch.testing.assert_close(sum(terms), parameter.grad)


@pytest.mark.parametrize("kind", ["rnn", "recurrent", "own both ways"])
def test_short_rows_are_left_out(kind):
    model = Whole(doubled(NETS[kind]()))
    lengths = torch.tensor([4, 2, 4])
    ((call, seeds),) = noted(model, lambda: model.loss(lengths))
    unrolled = unroll(call, seeds, rows=B)
    assert unrolled.y.shape[:2] == (4, 2)
    y = model.net(model.x, lengths=lengths)[0]
    torch.testing.assert_close(unrolled.y, y[:4, [0, 2]])
    assert unrolled.times == [0, 1, 2, 3, 4]


def test_packed_input():
    model = Whole(doubled(ur.RNN(N, H)))
    lengths = torch.tensor([4, 2, 6])
    packed = nn.utils.rnn.pack_padded_sequence(model.x, lengths, enforce_sorted=False)
    ((call, seeds),) = noted(model, lambda: model.net(packed)[0].data.square().sum())
    unrolled = unroll(call, seeds)
    torch.testing.assert_close(unrolled.seeds, 2 * unrolled.y)
    assert unrolled.y.shape == (6, 1, H)


def test_jacobians_are_autograds():
    net = doubled(ur.Recurrent(Leaky(N, H)))
    model = Whole(net)
    ((call, seeds),) = noted(model, model.loss)
    (layer,) = unroll(call, seeds, rows=B).layers
    found = jacobians(layer, steps=2)
    assert found.shape == (2, 3 * H, 3 * H)
    past = torch.autograd.functional.jacobian(
        lambda h: net.cell.step(model.x[-1, :1], (h, layer.states[-2]["h.past"][1, :1])),
        layer.states[-2]["h"][:1],
    )
    torch.testing.assert_close(found[-1, :H, :H], past[0, :, 0])
    whole = torch.linalg.matrix_norm(found[1] @ found[0], 2)
    torch.testing.assert_close(products(found)[1], whole)


@pytest.mark.parametrize("kind", ["rnn", "gru", "recurrent", "own"])
def test_recurrent_matrices(kind):
    model = Whole(doubled(NETS[kind]()))
    ((call, _),) = noted(model, model.loss)
    count = {"rnn": 1, "gru": 3, "recurrent": 4, "own": 1}[kind]
    assert len(recurrent_matrices(call.cells[0][1])) == count


@pytest.mark.parametrize(("radius", "kind"), [(0.5, "vanishes"), (1.0, "flows"), (2.0, "explodes")])
def test_a_linear_chain_is_judged_by_its_radius(radius, kind):
    """h_t = radius h_{t-1}: what is left after n steps is radius^n."""
    net = ur.RNN(1, 2, nonlinearity="relu", bias=False).double()
    with torch.no_grad():
        net.weight_hh_l0.copy_(radius * torch.eye(2))
        net.weight_ih_l0.zero_()
    x, h = torch.zeros(21, 1, 1).double(), torch.ones(1, 1, 2).double()
    (layer,) = gradient_flow(net, lambda: net(x, h)[0][-1].sum()).layers
    assert layer.falls == pytest.approx([radius**n for n in range(21)], rel=1e-6)
    assert layer.verdict.kind == kind
    assert layer.verdict.power == pytest.approx(20 * math.log10(radius), abs=1e-6)
    assert layer.singular == pytest.approx([radius ** (n + 1) for n in range(21)])
    assert layer.bound == pytest.approx(layer.singular)
    (matrix,) = layer.matrices.values()
    assert matrix["radius"] == pytest.approx(radius)
    assert bool(advice(layer.verdict.kind, gated=False)) == (kind != "flows")


def test_the_bound_holds():
    model = Whole(doubled(ur.RNN(N, H)))
    (layer,) = gradient_flow(model, model.loss).layers
    gamma = float(torch.linalg.matrix_norm(model.net.weight_hh_l0.detach(), 2))
    for n, (value, bound) in enumerate(zip(layer.singular, layer.bound, strict=True), 1):
        assert value <= bound <= gamma**n * (1 + 1e-9)


def test_memory_and_gates_of_an_lstm():
    """With f = sigmoid(b) alone, a cell forgets by half in ln 2 / -ln f steps."""
    net = ur.Recurrent(ur.cells.LSTM(N, H)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        bias = next(p for n, p in net.named_parameters() if n.endswith("x.bias"))
        bias.unflatten(0, (4, H))[:] = 2.0
    model = Whole(net)
    (layer,) = gradient_flow(model, model.loss).layers
    f = 1 / (1 + math.exp(-2))
    assert layer.half_life[H:] == pytest.approx([math.log(0.5) / math.log(f)] * H)
    assert layer.gates["f"]["mean"] == pytest.approx([f] * H, rel=1e-6)
    assert layer.gates["f"]["right"] == [0.0] * H


def test_judgements():
    assert str(judge([1, 0.1, 1e-3])) == "the gradient vanishes by 10^-3.0 in 2 steps"
    assert judge([1.0, 0.0, 0.0]).kind == "vanishes"
    assert judge([1.0]).kind == "flows"


def test_lags_of_the_backward_direction():
    model = Whole(doubled(ur.RNN(N, H, bidirectional=True)))
    ((call, seeds),) = noted(model, model.loss)
    unrolled = unroll(call, seeds, rows=1)
    norms = unrolled.norms()
    for layer, norm in zip(unrolled.layers, norms, strict=True):
        falls = lags(layer, norm, unrolled.times)
        assert falls[0] == 1
        assert (falls > 0).all()


def test_no_recurrent_net():
    net = nn.Linear(2, 2)
    with pytest.raises(ur.InputError, match="runs no recurrent net"):
        gradient_flow(net, lambda: net(torch.ones(1, 2)).sum())


def test_the_command(tmp_path, cli):  # noqa: F811
    short = {"steps": 4, "batch_size": 4, "sample_length": 0, "threads": 1, "hidden": 4}
    ur.train("tag", "copying", out=tmp_path / "m", bidirectional=True, clip_norm=1e-3, **short)
    found = json.loads(cli("inspect", tmp_path / "m", "copying", "gradients", "--json").out)
    assert [layer["name"] for layer in found["layers"]] == [
        "net: layer 0, forwards",
        "net: layer 0, backwards",
    ]
    assert found["clipped"] == 1
    assert "radius_before" in next(iter(found["layers"][0]["matrices"].values()))
    page = (tmp_path / "m" / "gradients" / "gradients.html").read_text("utf-8")
    assert "prefers-color-scheme:dark" in page
    assert "http" not in page
    ur.train("classify", "digits", model="mlp", out=tmp_path / "mlp", **short)
    done = cli("inspect", tmp_path / "mlp", "digits", "gradients")
    assert done.code == 2
    assert "runs no recurrent net" in done.sentence
    assert "Linear" in done.sentence
    assert flow_of(ur.load(tmp_path / "m"), "copying", steps=4).notes


class Counting(Leaky):
    """The same, with a state that only counts and has no gradient."""

    state_names = ("h", "count")

    @property
    def state_sizes(self):
        return {"h": self.hidden_size, "count": 1}

    def step(self, x, h, count):
        return super().step(x, h), count.detach() + 1


def test_a_state_that_only_counts_has_no_part_in_the_flow():
    nets = [doubled(ur.Recurrent(kind(N, H), 2, bidirectional=True)) for kind in (Leaky, Counting)]
    x = torch.randn(T, B, N, dtype=torch.float64)
    flows = [gradient_flow(net, lambda net=net: net(x)[0].square().sum()) for net in nets]
    for plain, counting in zip(flows[0].layers, flows[1].layers, strict=True):
        torch.testing.assert_close(plain.norms, counting.norms)
        assert plain.falls == pytest.approx(counting.falls)
