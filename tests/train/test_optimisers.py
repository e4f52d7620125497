"""Every optimiser against its formula, written out in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unrolled.errors import InputError
from unrolled.settings import TrainingSettings
from unrolled.train.optimisers import DEFAULT_RATES, AdagradInside, clip, make_optimizer

STEPS = 6


def sgd(w, g, s, t, lr):
    return w - lr * g


def momentum(w, g, s, t, lr):
    s["v"] = 0.9 * s.get("v", 0) + g
    return w - lr * s["v"]


def nesterov(w, g, s, t, lr):
    s["v"] = 0.9 * s.get("v", 0) + g
    return w - lr * (g + 0.9 * s["v"])


def adagrad(w, g, s, t, lr):
    s["n"] = s.get("n", 0) + g**2
    return w - lr * g / (np.sqrt(s["n"]) + 1e-10)


def adagrad_inside(w, g, s, t, lr):
    s["n"] = s.get("n", 0) + g**2
    return w - lr * g / np.sqrt(s["n"] + 1e-8)


def rmsprop(w, g, s, t, lr):
    s["n"] = 0.99 * s.get("n", 0) + 0.01 * g**2
    return w - lr * g / (np.sqrt(s["n"]) + 1e-8)


def adadelta(w, g, s, t, lr):
    s["n"] = 0.9 * s.get("n", 0) + 0.1 * g**2
    d = np.sqrt(s.get("d", 0) + 1e-6) / np.sqrt(s["n"] + 1e-6) * g
    s["d"] = 0.9 * s.get("d", 0) + 0.1 * d**2
    return w - lr * d


def adam(w, g, s, t, lr):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["n"] = 0.999 * s.get("n", 0) + 0.001 * g**2
    return w - lr * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["n"] / (1 - 0.999**t)) + 1e-8)


FORMULAS = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adam": adam,
    "adamw": adam,
}


def trajectory(training, seed=0):
    """Weights after some steps down a bent valley, by the optimiser and by its formula."""
    rng = np.random.default_rng(seed)
    start, slope = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    w = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = make_optimizer([w], training)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (w**4 / 4 + w * torch.from_numpy(slope)).sum().backward()
        optimizer.step()
    return start, slope, w.detach().numpy()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("lr", [None, 0.02])
@pytest.mark.parametrize("name", FORMULAS)
def test_optimiser_follows_its_formula(name, lr, decay):
    start, slope, found = trajectory(
        TrainingSettings(optimizer=name, lr=lr, weight_decay=decay)  # type: ignore[arg-type]
    )
    w, s, rate = start, {}, lr or DEFAULT_RATES[name]
    for t in range(1, STEPS + 1):
        g = w**3 + slope
        if name == "adamw":
            w = w * (1 - rate * decay)
        else:
            g = g + decay * w
        w = FORMULAS[name](w, g, s, t, rate)
    np.testing.assert_allclose(found, w, rtol=1e-12)


def test_default_rates_cover_every_optimiser():
    names = TrainingSettings.model_fields["optimizer"].annotation.__args__
    assert set(names) == set(DEFAULT_RATES) == {*FORMULAS, "hessian-free"}


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_while_the_rate_stays_both_forms_of_momentum_are_one(name, decay):
    torchs, own = (
        trajectory(
            TrainingSettings(optimizer=name, lr=0.02, momentum_form=form, weight_decay=decay)  # type: ignore[arg-type]
        )[2]
        for form in ("torch", "velocity")
    )
    np.testing.assert_allclose(own, torchs, rtol=1e-12)


@pytest.mark.parametrize(("form", "end"), [("velocity", 0.801), ("torch", 0.882)])
def test_when_the_rate_changes_the_forms_of_momentum_part(form, end):
    """x^2 / 2 from 1, mu 0.9, rates 0.1 and then 0.01, worked by hand."""
    x = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make_optimizer([x], TrainingSettings(optimizer="momentum", momentum_form=form))
    for rate in (0.1, 0.01):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (x.square() / 2).sum().backward()
        optimizer.step()
    assert x.item() == pytest.approx(end, rel=1e-14)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adagrad_with_epsilon_inside_follows_its_formula(decay):
    training = TrainingSettings(
        optimizer="adagrad", epsilon_inside=True, epsilon=1e-8, lr=0.1, weight_decay=decay
    )
    start, slope, found = trajectory(training)
    w, s = start, {}
    for t in range(1, STEPS + 1):
        w = adagrad_inside(w, w**3 + slope + decay * w, s, t, 0.1)
    np.testing.assert_allclose(found, w, rtol=1e-13)


def test_where_epsilon_stands_matters_for_small_gradients():
    moved = {}
    for inside in (True, False):
        w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        w.grad = torch.full_like(w, 1e-6)
        training = TrainingSettings(
            optimizer="adagrad", lr=0.1, epsilon=1e-8, epsilon_inside=inside
        )
        make_optimizer([w], training).step()
        moved[inside] = -w.item()
    assert moved[True] == pytest.approx(0.1 * 1e-6 / math.sqrt(1e-12 + 1e-8), rel=1e-12)
    assert moved[False] / moved[True] == pytest.approx(100, rel=0.02)


def test_adagrad_inside_leaves_weights_without_gradient_alone_and_calls_a_closure():
    w, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = AdagradInside([w, idle], lr=0.1)

    def closure():
        loss = w.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 2  # type: ignore[arg-type]
    torch.testing.assert_close(w.detach(), torch.full((2,), 0.9))
    assert torch.equal(idle, torch.ones(2))


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adadelta", "adam", "adamw"])
def test_epsilon_reaches_the_optimiser(name):
    optimizer = make_optimizer(
        [nn.Parameter(torch.ones(1))], TrainingSettings(optimizer=name, epsilon=0.5)
    )
    assert optimizer.param_groups[0]["eps"] == 0.5


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"optimizer": "sgd", "epsilon": 1e-8}, "--epsilon: sgd has none"),
        ({"optimizer": "nesterov", "epsilon": 1e-8}, "--epsilon: nesterov has none"),
        ({"optimizer": "adam", "epsilon_inside": True}, "--epsilon-inside is for adagrad"),
        ({"optimizer": "nesterov", "momentum": 0.0}, "nesterov needs a momentum above 0"),
        ({"optimizer": "adam", "momentum_form": "velocity"}, "--momentum-form is for momentum"),
        ({"optimizer": "hessian-free", "accumulate": 2}, "--accumulate: hessian-free has no use"),
        ({"optimizer": "hessian-free", "clip_each": 1.0}, "--clip-each: hessian-free has no use"),
    ],
)
def test_a_setting_the_optimiser_lacks_is_refused(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        make_optimizer([nn.Parameter(torch.ones(1))], TrainingSettings(**flags))


def with_gradients(*gradients):
    parameters = [nn.Parameter(torch.zeros(len(g), dtype=torch.float64)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    return parameters


def test_clipping_by_norm_is_exact_and_joint():
    a, b = with_gradients([3.0], [4.0])
    assert clip([a, b], 1.0, None) == 5.0
    np.testing.assert_allclose([a.grad.item(), b.grad.item()], [0.6, 0.8], rtol=1e-15)


def test_gradients_within_their_bounds_stay_bit_for_bit():
    (a,) = with_gradients([0.1, -0.2])
    assert clip([a], 5.0, 1.0) == pytest.approx(math.sqrt(0.05))
    assert a.grad.tolist() == [0.1, -0.2]


def test_clipping_by_value_is_by_element_and_comes_first():
    (a,) = with_gradients([7.0, -9.0, 4.0])
    assert clip([a], None, 5.0) is None
    assert a.grad.tolist() == [5, -5, 4]
    (a,) = with_gradients([30.0, -40.0])
    assert clip([a], 1.0, 4.0) == pytest.approx(math.sqrt(32))
    np.testing.assert_allclose(a.grad, np.array([1, -1]) / math.sqrt(2), rtol=1e-15)


def test_clipping_each_tensor_leaves_the_small_ones_alone():
    a, b, c = with_gradients([3.0, 4.0], [0.3, 0.4], [0.0, -7.0])
    assert clip([a, b, c], None, None, each=1.0) is None
    np.testing.assert_allclose(a.grad, [0.6, 0.8], rtol=1e-15)
    assert b.grad.tolist() == [0.3, 0.4]
    assert c.grad.tolist() == [0, -1]
    assert clip([a], 0.5, None, each=1.0) == pytest.approx(1.0, rel=1e-15)
    np.testing.assert_allclose(a.grad, [0.3, 0.4], rtol=1e-15)


def test_parameters_without_gradient_are_passed_over():
    a = nn.Parameter(torch.zeros(2))
    assert clip([a], 1.0, 1.0) is None


@given(
    st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=8),
    st.floats(1e-3, 1e3),
)
def test_clipping_by_norm_keeps_the_direction_and_the_bound(gradient, bound):
    (a,) = with_gradients(gradient)
    before = clip([a], bound, None)
    assert before == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-12, abs=1e-200)
    after = a.grad.numpy()
    assert np.linalg.norm(after) <= bound * (1 + 1e-12)
    np.testing.assert_allclose(
        after * max(before, bound), np.multiply(gradient, bound), rtol=1e-9, atol=1e-200
    )
