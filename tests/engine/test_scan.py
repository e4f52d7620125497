"""The scan over time equals the loop, with its gradients, whatever the numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unrolled as ur
from unrolled import cells
from unrolled.engine import native, run
from unrolled.engine.scan import run_linear, scan


def loop(decay, value, initial=None):
    h = torch.zeros_like(value[0]) if initial is None else initial
    found = []
    for a, b in zip(decay.expand(value.shape), value, strict=True):
        h = a * h + b
        found.append(h)
    return torch.stack(found)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 40),
    width=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.complex128]),
    start=st.booleans(),
)
def test_equal_to_the_loop(steps, width, dtype, start):
    generator = torch.Generator().manual_seed(steps)
    a, b = torch.randn(2, steps, 2, width, dtype=dtype, generator=generator)
    a = a / (1 + a.abs())
    h = torch.randn(2, width, dtype=dtype, generator=generator) if start else None
    bound = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(scan(a, b, h), loop(a, b, h), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients(dtype):
    torch.manual_seed(0)
    a, b = torch.randn(2, 7, 2, dtype=dtype)
    h = torch.randn(2, dtype=dtype)
    inputs = [tensor.requires_grad_() for tensor in (a, b, h)]
    assert torch.autograd.gradcheck(scan, inputs)
    assert torch.autograd.gradgradcheck(scan, inputs)
    one = torch.randn(2, dtype=dtype, requires_grad=True)  # a decay that is the same at all steps
    assert torch.autograd.gradcheck(scan, (one, b, h))


def test_hard_numbers():
    """No quotients or logarithms: decays of zero, below zero, and products that vanish."""
    value = torch.ones(5000, 3)
    decay = torch.tensor([0.0, -0.5, 1e-30]).expand(5000, 3).clone().requires_grad_()
    h = scan(decay, value)
    torch.testing.assert_close(h, loop(decay, value))
    h.sum().backward()
    assert decay.grad is not None
    assert decay.grad.isfinite().all()
    ones = scan(torch.ones(3), value)
    assert (ones[-1] == 5000).all()


@pytest.mark.parametrize("name", ["mingru", "minlstm", "lru"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, torch.tensor([9, 30, 0])])
def test_linear_cells_by_scan_as_by_loop(name, reverse, lengths):
    torch.manual_seed(0)
    cell = cells.CELLS[name](3, 4).double()
    x = torch.randn(30, 3, 3, dtype=torch.float64)
    if lengths is not None:
        x[torch.arange(30)[:, None] >= lengths] = float("nan")
    h = torch.randn(3, cell.state_sizes["h"], dtype=torch.float64, requires_grad=True)
    inputs = [x.requires_grad_(), h, *cell.parameters()]
    call = {"lengths": lengths, "reverse": reverse, "keep": True}
    found, wanted = run_linear(cell, x, {"h": h}, **call), run(cell, x, {"h": h}, **call)
    assert found.history.keys() == wanted.history.keys()
    for key in ("y", "states", "history"):
        torch.testing.assert_close(getattr(found, key), getattr(wanted, key), rtol=0, atol=1e-12)
    for a, b in zip(
        *(
            torch.autograd.grad(o.y.square().sum() + o.states["h"].sum(), inputs)
            for o in (found, wanted)
        ),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(run_linear(cell, x).states, run(cell, x).states, equal_nan=True)


def test_bad_input():
    with pytest.raises(ValueError, match="value must be"):
        scan(torch.ones(3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="must broadcast to value"):
        scan(torch.ones(4), torch.ones(2, 3))


@pytest.mark.parametrize("kind", ["mingru", "minlstm", "lru"])
def test_what_the_native_engine_declines_is_scanned(kind, monkeypatch):
    net = ur.Recurrent(cells.CELLS[kind](3, 4), num_layers=2, bidirectional=True).double()
    x = torch.randn(9, 3, 3, dtype=torch.float64)
    lengths = torch.tensor([4, 9, 0])
    wanted, _ = net(x, lengths=lengths)
    monkeypatch.setattr(native, "_native", None)
    steps = []
    kinds = type(net.cells[0])
    monkeypatch.setattr(kinds, "step", lambda *_: steps.append(1))
    found, _ = net(x, lengths=lengths)
    torch.testing.assert_close(found, wanted)
    assert not steps
    monkeypatch.undo()
    with ur.engine("reference"):  # the loop is what is right
        torch.testing.assert_close(net(x, lengths=lengths)[0], wanted)
