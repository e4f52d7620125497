"""Forward mode in the native engine: its tangents are those of the reference engine."""

import pytest
import torch
from cases import TRACED
from test_graph import FORMULAS, Formula
from torch.autograd import forward_ad
from torch.func import functional_call

import unrolled as ur
from unrolled import cells
from unrolled.engine import native, reference
from unrolled.engine.cell import bind, tensors_of
from unrolled.engine.choose import run

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="the core is not built"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


def along(tensor, random):
    """A tensor that moves."""
    direction = torch.randn(tensor.shape, generator=random, dtype=tensor.dtype)
    return forward_ad.make_dual(tensor.detach(), direction)


def pairs(outputs):
    """All results and their tangents."""
    named = {"y": outputs.y, **outputs.states, **outputs.history}
    for name, tensor in named.items():
        value, tangent = forward_ad.unpack_dual(tensor)
        yield name, value
        yield f"{name}.dot", torch.zeros_like(value) if tangent is None else tangent


def compare(cell, x, moving, bound, **call):
    """Run both engines along the same direction: what moves is named."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad(), forward_ad.dual_level():
        x = along(x, random) if "x" in moving else x
        for kind in ("states", "extras"):
            given = call.get(kind) or {}
            call[kind] = {n: along(t, random) if kind in moving else t for n, t in given.items()}
        weights = {
            name: along(t, random)
            for name, t in tensors_of(cell).items()
            if "weights" in moving and t.is_floating_point()
        }
        found = dict(pairs(run(cell, x, parameters=weights, keep=True, **call)))
        wanted = dict(pairs(reference.run(bind(cell, weights), x, keep=True, **call)))
    assert found.keys() == wanted.keys()
    moved = [name for name in found if name.endswith(".dot") and found[name].abs().max() > 0]
    assert moved
    for name, value in wanted.items():
        allowed = bound * max(1.0, float(value.abs().max()))
        torch.testing.assert_close(found[name], value, rtol=bound, atol=allowed, msg=name)


@pytest.mark.parametrize("case", TRACED, ids=lambda case: case.name)
def test_tangents_of_every_cell(case):
    torch.manual_seed(0)
    steps, batch, hidden = 5, 6, 8
    cell = case.build(4, hidden).double()
    x = torch.randn(steps, batch, 4).double()
    extras = {k: v.double() for k, v in case.extras(steps, batch, hidden).items()}
    compare(cell, x, ("x", "weights"), 1e-12, extras=extras)
    lengths = torch.tensor([5, 0, 3, 5, 1, 2])
    compare(cell, x, ("weights",), 1e-12, extras=extras, lengths=lengths)
    compare(cell, x, ("x",), 1e-12, extras=extras, lengths=lengths, reverse=True)
    states = {
        name: torch.randn(batch, width).double()
        for name, width in cell.state_sizes.items()
        if isinstance(width, int)
    }
    compare(cell, x, ("states",), 1e-12, extras=extras, states=states)


@pytest.mark.parametrize("name", FORMULAS)
def test_tangents_of_every_operation(name):
    torch.manual_seed(1)
    cell = Formula(FORMULAS[name]).double()
    x, states = torch.randn(4, 5, 3).double(), {"h": torch.randn(5, 4).double()}
    # torch has the slope of hardsigmoid, 1/6, in float32 only.
    bound = 1e-6 if name == "hard ones" else 1e-11
    compare(cell, x, ("x", "weights"), bound, states=states)


def test_tangents_of_masks_that_move():
    case = next(case for case in TRACED if case.name == "extras")
    cell = case.build(3, 6).double()
    extras = {k: v.double() for k, v in case.extras(4, 5, 6).items()}
    compare(cell, torch.randn(4, 5, 3).double(), ("extras",), 1e-12, extras=extras)


def test_in_float32():
    compare(cells.LSTM(5, 33), torch.randn(7, 9, 5), ("x", "weights"), 2e-5)


@pytest.mark.parametrize("kind", [ur.RNN, ur.LSTM, ur.GRU])
def test_through_a_deep_net_both_ways(kind):
    torch.manual_seed(0)
    net = kind(4, 6, num_layers=2, bidirectional=True).double()
    x, lengths = torch.randn(5, 3, 4).double(), torch.tensor([5, 2, 4])
    random = torch.Generator().manual_seed(1)
    directions = {
        name: torch.randn(p.shape, generator=random, dtype=p.dtype)
        for name, p in net.named_parameters()
    }

    def moved(step):
        weights = {name: p.detach() + step * directions[name] for name, p in net.named_parameters()}
        return functional_call(net, weights, (x,), {"lengths": lengths})[0]

    with torch.no_grad(), forward_ad.dual_level():
        weights = {
            name: forward_ad.make_dual(p.detach(), directions[name])
            for name, p in net.named_parameters()
        }
        y = functional_call(net, weights, (x,), {"lengths": lengths})[0]
        tangent = forward_ad.unpack_dual(y).tangent
    difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
    torch.testing.assert_close(tangent, difference.detach(), rtol=1e-6, atol=1e-8)


def test_what_does_not_move_costs_nothing():
    """One program for each set of what moves, kept; without tangents, the plain one."""
    cell = cells.LSTM(3, 5).double()
    x = torch.randn(2, 2, 3).double()
    with torch.no_grad(), forward_ad.dual_level():
        y = run(cell, x).y
        assert forward_ad.unpack_dual(y).tangent is None
        y = run(cell, forward_ad.make_dual(x, torch.ones_like(x))).y
        assert forward_ad.unpack_dual(y).tangent is not None


def test_forward_and_backward_at_once_go_through_torch(monkeypatch):
    monkeypatch.delenv("UNROLLED_STRICT")
    cell = cells.Elman(3, 5).double()
    x = torch.randn(3, 2, 3).double().requires_grad_()
    with forward_ad.dual_level():
        y = run(cell, forward_ad.make_dual(x, torch.ones_like(x))).y
        tangent = forward_ad.unpack_dual(y).tangent
        (gradient,) = torch.autograd.grad(tangent.sum(), x)
    assert gradient.abs().max() > 0
