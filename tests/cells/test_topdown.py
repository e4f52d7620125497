"""Layers with feedback from above against their equations, and in one compiled loop."""

import numpy as np
import pytest
import torch

import unrolled as ur
from unrolled import cells
from unrolled.cells.topdown import TopDown

STEPS, BATCH, INPUTS, HIDDEN = 6, 4, 3, 5
LAYERED = {
    "one layer": lambda: TopDown(INPUTS, HIDDEN, 1),
    "two": lambda: TopDown(INPUTS, HIDDEN),
    "three lstm": lambda: TopDown(INPUTS, HIDDEN, 3, cells.LSTM),
    "projected": lambda: TopDown(INPUTS, 6, 2, cells.ProjectedLSTM),
}


@pytest.fixture(params=LAYERED)
def cell(request):
    torch.manual_seed(0)
    return LAYERED[request.param]().double()


def rows():
    return torch.randn(
        STEPS, BATCH, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )


def test_the_equation():
    """h_t^l = tanh(W^l [h_t^{l-1}; h_{t-1}^{l+1}] + R^l h_{t-1}^l + b^l)."""
    torch.manual_seed(0)
    net = ur.Recurrent(TopDown(INPUTS, HIDDEN, 3)).double()
    p = {name: value.detach().numpy() for name, value in net.cell.named_parameters()}
    x = rows()
    y, states = net(x)
    for row in range(BATCH):
        h = [np.zeros(HIDDEN)] * 3
        for t in range(STEPS):
            new, below = [], x[t, row].numpy()
            for layer in range(3):
                read = np.concatenate([below, h[layer + 1]]) if layer < 2 else below
                w, b = p[f"cells.{layer}.x.weight"], p[f"cells.{layer}.x.bias"]
                below = np.tanh(w @ read + p[f"cells.{layer}.h.weight"] @ h[layer] + b)
                new.append(below)
            h = new
            np.testing.assert_allclose(y[t, row].detach().numpy(), h[-1], rtol=0, atol=1e-14)
        for layer in range(3):
            last = states[f"h{layer + 1}"][0, row].detach().numpy()
            np.testing.assert_allclose(last, h[layer], rtol=0, atol=1e-14)


def test_without_feedback_it_is_a_stack():
    """Where the weights of what comes from above are zero."""
    torch.manual_seed(0)
    cell = TopDown(INPUTS, HIDDEN, 2, cells.LSTM).double()
    stack = ur.Recurrent(cells.LSTM(INPUTS, HIDDEN), 2).double()
    with torch.no_grad():
        cell.cells[0].x.weight[:, INPUTS:] = 0
        stack.cells[0].x.weight.copy_(cell.cells[0].x.weight[:, :INPUTS])
        stack.cells[0].x.bias.copy_(cell.cells[0].x.bias)
        stack.cells[0].h.weight.copy_(cell.cells[0].h.weight)
        stack.cells[1].load_state_dict(cell.cells[1].state_dict())
    y, states = ur.Recurrent(cell)(rows())
    expected, last = stack(rows())
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(states["c1"], last["c"][:1], rtol=0, atol=1e-14)
    torch.testing.assert_close(states["c2"], last["c"][1:], rtol=0, atol=1e-14)


def test_it_is_one_native_loop_like_the_reference(cell, monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    net, x = ur.Recurrent(cell, 2, bidirectional=True), rows().requires_grad_()
    lengths = torch.tensor([4, 6, 0, 1])
    found = {}
    for engine in ("native", "reference"):
        with ur.engine(engine):
            y, states, history = net(x, lengths=lengths, return_states=True)
        loss = y.square().sum() + sum(state.sin().sum() for state in states.values())
        grads = torch.autograd.grad(loss, [x, *net.parameters()])
        found[engine] = [y, *grads, *(history[name] for name in sorted(history))]
    for a, b in zip(*found.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_states_and_gates_are_named_by_layer():
    net = ur.Recurrent(TopDown(INPUTS, HIDDEN, 2, cells.LSTM))
    _, states, history = net(rows().float(), return_states=True)
    assert [*states] == ["h1", "c1", "h2", "c2"]
    gates = {f"{gate}{layer}" for gate in "ifgo" for layer in (1, 2)}
    assert set(history) == {"h1", "c1", "h2", "c2", "y", *gates}


def test_step_by_step(cell):
    net, x = ur.Recurrent(cell), rows()
    y, last = net(x)
    states, steps = None, []
    for x_t in x:
        y_t, states = net.step(x_t, states)
        steps.append(y_t)
    torch.testing.assert_close(torch.stack(steps), y, rtol=0, atol=1e-15)
    torch.testing.assert_close(states, last, rtol=0, atol=1e-15)


def test_a_row_alone_bit_for_bit(cell):
    net, x = ur.Recurrent(cell), rows().requires_grad_()
    lengths = torch.tensor([4, 6, 0, 1])
    with ur.engine("native"):
        y, _ = net(x, lengths=lengths)
        back = torch.randn_like(y)
        (grad,) = torch.autograd.grad(y, x, back)
        for row, n in enumerate(lengths.tolist()):
            if n:
                alone = x.detach()[:n, row : row + 1].clone().requires_grad_()
                found, _ = net(alone)
                assert torch.equal(found, y[:n, row : row + 1])
                (own,) = torch.autograd.grad(found, alone, back[:n, row : row + 1])
                assert torch.equal(own, grad[:n, row : row + 1])


def test_gradients(cell):
    net, x = ur.Recurrent(cell), rows()[:3, :2].requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def call(x, *parameters):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(net, given, (x,), {"lengths": torch.tensor([3, 2])})[0]

    assert torch.autograd.gradcheck(call, (x, *net.parameters()), fast_mode=True)


def test_compiled_whole(cell):
    net, x = ur.Recurrent(cell), rows()
    fast = torch.compile(net, fullgraph=True, backend="eager")
    assert torch.equal(fast(x)[0], net(x)[0])


def test_clone_and_seed(cell):
    copy = cell.clone(input_size=7)
    assert copy.input_size == 7
    assert copy.state_names == cell.state_names
    assert copy.cells[1:].state_dict().keys() == cell.cells[1:].state_dict().keys()
    torch.manual_seed(3)
    first = cells.Elman(INPUTS + HIDDEN, HIDDEN)
    torch.manual_seed(3)
    assert torch.equal(TopDown(INPUTS, HIDDEN).cells[0].h.weight, first.h.weight)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TopDown(3, 4, 0), "at least 1 layer, not 0"),
        (lambda: TopDown(3, 4, 2, cells.PreActivation), "PreActivation cannot be a layer"),
        (lambda: TopDown(3, 4, 2, cells.Skip), "Skip cannot be a layer"),
    ],
)
def test_what_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
