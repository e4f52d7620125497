"""Gradients that a step stops or bends: the native engine goes along, or says that it cannot."""

import pytest
import torch
from test_graph import Formula
from test_native import everything, needs_core
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.engine import reference
from unrolled.engine.choose import run
from unrolled.engine.lower import Declined
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace
from unrolled.errors import RunError


class Reversed(torch.autograd.Function):
    """The same value, whose gradient is turned round."""

    @staticmethod
    def forward(ctx, a):
        return a

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Rounded(torch.autograd.Function):
    """A step function that hands gradients straight through."""

    @staticmethod
    def forward(ctx, a):
        return (a > 0).to(a.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def without(z, h, w):
    with torch.no_grad():
        z = z * 2
    return z + h


def switched(z, h, w):
    with torch.set_grad_enabled(False):
        return z + h * w


def inference(z, h, w):
    with torch.inference_mode():
        v = (z * h).tanh()
    return z + v.clone()


def weight_without(z, h, w):
    with torch.no_grad():
        w = w * 2
    return z + h * w


@torch.no_grad()
def decorated(z, h, w):
    return (z + h).tanh()


def asked(z, h, w):
    h = h.detach().requires_grad_()
    (slope,) = torch.autograd.grad((h * h * w).sum(), h)
    return z + slope


def part_changed(z, h, w):
    whole = z * 1
    left, right = whole.chunk(2, -1)
    left.mul_(2)
    return torch.cat([left, right], -1) + whole


def detached_changed(z, h, w):
    h.detach().mul_(0.5)
    return z + h


def weight_changed(z, h, w):
    return z + h * w.data.mul_(0.99)


DECLINED = {
    "a function of its own": (
        lambda z, h, w: Reversed.apply(z) + h,
        r"calls Reversed, a torch.autograd.Function",
    ),
    "another": (lambda z, h, w: z * Rounded.apply(h), "calls Rounded, a torch.autograd.Function"),
    "of a weight": (lambda z, h, w: z + h * Reversed.apply(w), "calls Reversed"),
    "no_grad": (without, "switches gradients off"),
    "set_grad_enabled": (switched, "switches gradients off"),
    "inference_mode": (inference, "switches gradients off"),
    "no_grad of a weight": (weight_without, "switches gradients off"),
    "a function under no_grad": (decorated, "switches gradients off"),
    "grad": (asked, "asks for gradients"),
    "in place of a chunk": (part_changed, "in place that has another name"),
    "in place of a detached state": (detached_changed, "in place that has another name"),
    "in place of a weight": (weight_changed, "in place that has another name"),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined_with_a_reason(name):
    formula, words = DECLINED[name]
    with pytest.raises(Declined, match=words):
        trace(Formula(formula), {}, torch.float32)


@needs_core
@pytest.mark.parametrize("name", ["a function of its own", "no_grad of a weight"])
def test_the_reference_engine_takes_over(name, monkeypatch):
    cell, x = Formula(DECLINED[name][0]).double(), torch.randn(3, 2, 3).double()
    found = everything(cell, x, run)
    for a, b in zip(found, everything(cell, x, reference.run), strict=True):
        torch.testing.assert_close(a, b)
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    with pytest.raises(RunError, match="Formula does not run in the native engine: it "):
        run(cell, x)


class Frozen(ur.Cell):
    """A recurrent matrix that is taken as a constant, and a state that is handed on as one."""

    state_names = ("h", "c")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size)

    def step(self, x, h, c):
        z = self.x(x) + functional.linear(h, self.h.weight.detach(), self.h.bias)
        return z.tanh(), (c + z).detach()


@needs_core
def test_what_is_detached_has_no_gradient(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    torch.manual_seed(0)
    cell, x = Frozen(3, 4).double(), torch.randn(5, 2, 3, dtype=torch.float64)
    for a, b in zip(everything(cell, x, run), everything(cell, x, reference.run), strict=True):
        torch.testing.assert_close(a, b)
    assert cell.h.weight.grad is None
    step = rewrite(trace(cell, {}, torch.float64))
    assert step.states["c"].op == "detach"


@needs_core
def test_a_hook_that_waits_for_a_gradient(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    cell, x = Frozen(3, 4), torch.randn(5, 2, 3)
    run(cell, x)
    handle = cell.x.register_full_backward_hook(lambda module, given, out: None)
    with pytest.raises(RunError, match="x has a hook that waits for its gradient"):
        run(cell, x)
    handle.remove()
    run(cell, x)


@needs_core
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_first_call_without_gradients_compiles_the_same(mode, monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    with mode():
        cell, x = Formula(lambda z, h, w: z.tanh() * h + w), torch.randn(5, 2, 3)
        torch.testing.assert_close(run(cell, x).y, reference.run(cell, x).y)
    other, x = Formula(cell.formula), x.clone()
    run(other, x).y.sum().backward()
    assert other.w.grad is not None
