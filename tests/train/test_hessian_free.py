"""Hessian-free optimisation against matrices written out."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional

import unrolled as ur
from unrolled.errors import InputError
from unrolled.tasks.task import Objective
from unrolled.train import hessian_free
from unrolled.train.conjugate import conjugate_gradients
from unrolled.train.hessian_free import HessianFree


class Net(nn.Module):
    """A recurrent layer and a read-out at every step."""

    def __init__(self, inputs=2, hidden=3, outputs=2):
        super().__init__()
        self.rnn = ur.RNN(inputs, hidden)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


LOSSES = {
    "squared error": lambda z, y: 0.5 * (z - torch.nn.functional.one_hot(y, 2)).square().mean(),
    "cross-entropy": lambda z, y: functional.cross_entropy(z.flatten(0, 1), y.flatten()),
    "of bits": lambda z, y: functional.binary_cross_entropy_with_logits(z[..., 0], y.double()),
}


def explicit(model, x, y, loss, structural):
    """(J' H J + structural J_h' J_h / B) from whole matrices."""
    named = {name: w.detach() for name, w in model.named_parameters()}
    sizes = [w.numel() for w in named.values()]

    def moved(flat):
        parts = flat.split(sizes)
        return {n: p.view_as(w) for (n, w), p in zip(named.items(), parts, strict=True)}

    with ur.engine("reference"):
        flat = torch.cat([w.reshape(-1) for w in named.values()])
        z = model(x).detach()
        j = jacrev(lambda v: functional_call(model, moved(v), (x,)))(flat).reshape(z.numel(), -1)
        h = hessian(lambda z: loss(z, y))(z).reshape(z.numel(), -1)

        def states(v):
            rnn = {n.removeprefix("rnn."): w for n, w in moved(v).items() if n.startswith("rnn")}
            return functional_call(model.rnn, rnn, (x,))[0]

        jh = jacrev(states)(flat).reshape(-1, len(flat))
    return j.T @ h @ j + structural / x.shape[1] * jh.T @ jh


@pytest.mark.parametrize("structural", [0.0, 0.3])
@pytest.mark.parametrize("name", LOSSES)
def test_products_are_those_of_the_matrix_written_out(name, structural):
    torch.manual_seed(0)
    model, x = Net().double(), torch.randn(4, 3, 2).double()
    y = torch.randint(2, (4, 3))
    problem = Objective(lambda m: m(x), lambda z: LOSSES[name](z, y))
    recurrent = [model.rnn] if structural else []
    found = HessianFree(model, structural=structural, recurrent=recurrent)
    wanted = explicit(model, x, y, LOSSES[name], structural * 0.25)
    v = torch.randn(len(wanted)).double()
    with found._curvature(problem, damping=0.25) as (product, _):
        for _ in range(2):  # what is kept may be used again
            torch.testing.assert_close(product(v), wanted @ v + 0.25 * v, rtol=1e-9, atol=1e-10)


def test_conjugate_gradients_solve():
    torch.manual_seed(0)
    root = torch.randn(30, 30).double()
    a, b = root @ root.T + torch.eye(30), torch.randn(30).double()
    found = conjugate_gradients(lambda v: a @ v, b, torch.zeros(30).double(), None, 200)
    least = -0.5 * b @ torch.linalg.solve(a, b)
    assert 0.5 * found.x @ a @ found.x - b @ found.x == pytest.approx(float(least), rel=1e-2)
    assert found.kept[-1].iteration == found.iterations
    scaled = torch.diag(torch.logspace(0, 6, 30).double())
    plain = conjugate_gradients(lambda v: scaled @ v, b, torch.zeros(30).double(), None, 200)
    helped = conjugate_gradients(
        lambda v: scaled @ v, b, torch.zeros(30).double(), scaled.diagonal(), 200
    )
    assert helped.iterations < plain.iterations
    torch.testing.assert_close(helped.x, b / scaled.diagonal())


def test_conjugate_gradients_begin_where_they_are_told():
    a = torch.eye(4).double() * 2
    b = torch.ones(4).double()
    found = conjugate_gradients(lambda v: a @ v, b, b / 2)
    torch.testing.assert_close(found.x, b / 2)


def linear(rows=40):
    torch.manual_seed(0)
    model = nn.Linear(5, 2).double()
    x, y = torch.randn(rows, 5).double(), torch.randn(rows, 2).double()
    return model, Objective(lambda m: m(x), lambda z: 0.5 * (z - y).square().sum(-1).mean()), x, y


def test_a_quadratic_is_solved_in_one_update():
    model, problem, x, y = linear()
    report = HessianFree(model, damping=1e-9).step(problem)
    ones = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    best = torch.linalg.lstsq(ones, y).solution
    torch.testing.assert_close(model.weight.T.detach(), best[:-1], rtol=1e-3, atol=1e-4)
    assert report.ratio == pytest.approx(1, abs=1e-3)
    assert report.step == 1
    assert report.after < report.loss


def test_the_damping_follows_the_model():
    model, problem, _, _ = linear()
    optimiser = HessianFree(model, damping=1e-3)
    optimiser.step(problem)  # the model is exact
    assert optimiser.damping == pytest.approx(1e-3 * 2 / 3)
    # A loss flatter at its foot than its curvature says: the model promises too much.
    torch.manual_seed(0)
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 3.0)
    x = torch.ones(1, 1).double()
    steep = Objective(lambda m: m(x).sinh(), lambda z: z.square().sum())
    optimiser = HessianFree(model, damping=1e-6)
    for _ in range(3):
        report = optimiser.step(steep)
        assert report.after < report.loss


def test_a_last_direction_that_leads_up_is_forgotten():
    model, problem, _, _ = linear()
    optimiser = HessianFree(model, damping=1e-3, iterations=1)
    for w in optimiser.weights:
        optimiser.state[w]["direction"].fill_(50.0)
    report = optimiser.step(problem)
    assert report.after < report.loss
    assert report.step == 1
    assert report.ratio > 0


def test_the_preconditioner_does_not_change_where_it_goes():
    model, problem, _, _ = linear()
    HessianFree(model, damping=1e-9).step(problem)
    other, _, _, _ = linear()
    HessianFree(other, damping=1e-9, exponent=0.0).step(problem)
    torch.testing.assert_close(model.weight, other.weight, rtol=1e-2, atol=1e-3)


def test_the_preconditioner_estimates_the_diagonal(monkeypatch):
    """Of a logistic regression: diag G = mean of p (1 - p) x^2."""
    monkeypatch.setattr(hessian_free, "DRAWS", 2000)
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False).double()
    x = torch.randn(50, 3).double() * torch.tensor([0.1, 1.0, 30.0])
    problem = Objective(lambda m: m(x), lambda z: functional.softplus(z).mean())
    p = model(x).detach().sigmoid()
    with HessianFree(model)._curvature(problem, 1.0) as (_, diagonal):
        torch.testing.assert_close(diagonal, (p * (1 - p) * x**2).mean(0), rtol=0.15, atol=0)


def test_the_preconditioner_saves_iterations():
    """Where inputs differ much in scale."""
    torch.manual_seed(0)
    x = torch.randn(200, 40).double() * torch.logspace(-1.5, 1.5, 40)
    y = torch.randn(200, 1).double()
    problem = Objective(lambda m: m(x), lambda z: 0.5 * (z - y).square().sum() / 200)
    found = {}
    for exponent in (0.0, 0.75):
        torch.manual_seed(1)
        model = nn.Linear(40, 1, bias=False).double()
        optimiser = HessianFree(model, damping=1e-6, iterations=200, exponent=exponent)
        found[exponent] = optimiser.step(problem)
    assert found[0.75].iterations < found[0.0].iterations
    assert found[0.75].after < found[0.0].after


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"damping": 0.0}, "positive"),
        ({"structural": -1.0}, "negative"),
        ({"structural": 0.1}, "modules"),
        ({"iterations": 0}, "positive"),
    ],
)
def test_numbers_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        HessianFree(nn.Linear(2, 2), **options)


def adding(steps, rows, seed):
    """The adding problem: x (T, B, 2), the sum (B,)."""
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(steps, rows, 2, generator=random)
    x[..., 1] = 0
    first = torch.randint(steps // 2, (rows,), generator=random)
    second = steps // 2 + torch.randint(steps - steps // 2, (rows,), generator=random)
    each = torch.arange(rows)
    x[first, each, 1] = x[second, each, 1] = 1
    return x, x[first, each, 0] + x[second, each, 0]


def test_it_learns_to_add_over_twenty_steps_with_a_plain_rnn():
    torch.manual_seed(3)
    model = Net(2, 24, 1)
    nn.init.orthogonal_(model.rnn.weight_hh_l0)
    optimiser = HessianFree(model, damping=0.1, structural=0.05, recurrent=[model.rnn])
    x, y = adding(20, 128, 0)
    problem = Objective(lambda m: m(x)[-1, :, 0], lambda z: 0.5 * (z - y).square().mean())
    for _ in range(30):
        report = optimiser.step(problem)
    assert report.after < 0.5 * 0.167 / 4


RUNS = {
    "reconstruct": {"source": ("digits",), "widths": (16, 4)},
    "classify": {"source": ("digits",), "model": "mlp"},
    "forecast": {"source": ("adding",), "length": 8, "cell": "rnn", "hidden": 8},
}


@pytest.mark.parametrize("task", RUNS)
def test_on_the_command_line(task, tmp_path):
    """Four updates lower the loss, and come out the same if the run is resumed after two."""
    flags = {**RUNS[task], "optimizer": "hessian-free", "batch_size": 64, "cg_iterations": 8}
    flags |= {"curvature": 0.5, "sample_length": 0, "evaluate_every": 2, "damping": 0.3}
    whole = ur.train(task, out=tmp_path / "whole", steps=4, **flags)
    ur.train(task, out=tmp_path / "parts", steps=2, **flags)
    parts = ur.train(task, out=tmp_path / "parts", steps=4, resume=True, **flags)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name
    start = ur.train(task, out=tmp_path / "start", steps=1, **RUNS[task], lr=1e-9)
    judged = whole.task.criterion
    found, before = (r.metrics["validation"][judged.metric] for r in (whole, start))
    assert judged.improves(found, before)


def test_structural_damping_on_the_command_line(tmp_path):
    flags = {**RUNS["forecast"], "optimizer": "hessian-free", "batch_size": 32, "cg_iterations": 5}
    ur.train("forecast", out=tmp_path / "a", steps=2, structural_damping=0.1, **flags)
    flags = {**RUNS["classify"], "optimizer": "hessian-free", "structural_damping": 0.1}
    with pytest.raises(InputError, match="nothing in this model is recurrent"):
        ur.train("classify", out=tmp_path / "b", steps=1, **flags)


@pytest.mark.parametrize(
    ("task", "flags", "said"),
    [
        ("tag", {}, "no loss for it"),
        ("forecast", {"source": ("adding",), "weight_decay": 0.1}, "neither decays"),
        (
            "forecast",
            {"source": ("mackey-glass",), "length": 500, "head": "gaussian"},
            "--head gaussian",
        ),
        ("reconstruct", {"sparse_units": 0.1}, "without penalties"),
    ],
)
def test_what_it_cannot_do(task, flags, said, tmp_path):
    with pytest.raises(InputError, match=said):
        ur.train(task, out=tmp_path / "run", steps=1, optimizer="hessian-free", **flags)
