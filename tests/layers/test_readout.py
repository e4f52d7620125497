"""Read-outs against their formulas, over rows of any length and step by step."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

import unrolled as ur
from unrolled import cells
from unrolled.layers.readout import Readout, WindowReadout

STEPS, BATCH, WIDTH, OUTPUTS = 6, 4, 3, 5
LENGTHS = torch.tensor([4, 6, 0, 1])


@pytest.fixture(autouse=True)
def _engine(engine):
    """Run each test in both engines."""


def states(steps=STEPS):
    torch.manual_seed(1)
    h = torch.randn(steps, BATCH, WIDTH, dtype=torch.float64)
    h[torch.arange(steps)[:, None] >= LENGTHS] = float("nan")
    return h


def window(tau=2, alpha=0.5, **options):
    torch.manual_seed(0)
    return ur.Recurrent(WindowReadout(WIDTH, OUTPUTS, tau, alpha, **options)).double()


def expected(net, h, tau, alpha):
    """y_t = softmax(sum_i alpha^i W_i h_{t-i}) of one row (n, H)."""
    w = [matrix.weight.detach().numpy() for matrix in net.cell.w]
    sums = [
        sum(alpha**i * w[i] @ h[t - i] for i in range(tau + 1) if t - i >= 0) for t in range(len(h))
    ]
    return softmax(np.reshape(sums, (-1, OUTPUTS)), -1)


@pytest.mark.parametrize("tau", [0, 1, 3, 9])
def test_the_window_is_its_formula_within_each_row(tau):
    net, h = window(tau, 0.7), states().requires_grad_()
    y, _ = net(h, lengths=LENGTHS)
    for row, n in enumerate(LENGTHS.tolist()):
        found = y[:n, row].detach().numpy()
        seen = h.detach()[:n, row].numpy()
        np.testing.assert_allclose(found, expected(net, seen, tau, 0.7), rtol=0, atol=1e-14)
        assert not y[n:, row].any()
    y.square().sum().backward()
    assert h.grad is not None
    assert h.grad.isfinite().all()


def test_the_sum_itself_and_its_softmax():
    h = torch.nan_to_num(states())
    y, _, history = window()(h, return_states=True)
    a, _ = window(softmax=False)(h)
    torch.testing.assert_close(history["sum"][0], a, rtol=0, atol=0)
    torch.testing.assert_close(y, a.softmax(-1), rtol=0, atol=1e-15)


def test_a_window_goes_on_where_the_last_part_ended():
    net, h = window(3), torch.nan_to_num(states())
    y, _ = net(h)
    first, carried = net(h[:2])
    second, _ = net(h[2:], carried)
    torch.testing.assert_close(torch.cat([first, second]), y, rtol=0, atol=1e-15)
    carried, steps = None, []
    for h_t in h:
        y_t, carried = net.step(h_t, carried)
        steps.append(y_t)
    torch.testing.assert_close(torch.stack(steps), y, rtol=0, atol=1e-15)


def test_gradients_of_the_window():
    net, h = window(2), torch.nan_to_num(states()).requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def call(h, *weights):
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(net, given, (h,), {"lengths": LENGTHS})[0]

    assert torch.autograd.gradcheck(call, (h, *net.parameters()))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("name", "outputs"), [("identity", 1), ("sigmoid", 2), ("tanh", 4)])
def test_a_plain_read_out(name, outputs, bias):
    net = ur.Recurrent(Readout(WIDTH, outputs, name, bias=bias)).double()
    h = torch.nan_to_num(states())
    a = h.numpy() @ net.cell.v.weight.detach().numpy().T
    a = a + net.cell.v.bias.detach().numpy() if bias else a
    phi = {"identity": lambda a: a, "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "tanh": np.tanh}
    y, carried = net(h)
    np.testing.assert_allclose(y.detach().numpy(), phi[name](a), rtol=0, atol=1e-15)
    assert carried == {}
    torch.testing.assert_close(net.step(h[3])[0], y[3], rtol=0, atol=1e-15)
    cut, _ = net(states(), lengths=LENGTHS)
    assert not cut[4:, 0].any()
    torch.testing.assert_close(cut[:4, 0], y[:4, 0], rtol=0, atol=0)


def test_the_sigmoid_network_by_hand():
    """s_t = sigma(U x_t + W s_{t-1}), o_t = sigma(V s_t), U = 1, W = -1, V = 2, L = sum o_t."""
    cell, readout = cells.Elman(1, 1, "sigmoid"), Readout(1, 1, "sigmoid")
    with torch.no_grad():
        (
            cell.x.weight.fill_(1),
            cell.x.bias.zero_(),
            cell.h.weight.fill_(-1),
            readout.v.weight.fill_(2),
        )
    x = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)
    s, _ = ur.Recurrent(cell.double())(x)
    o, _ = ur.Recurrent(readout.double())(s)
    o.sum().backward()
    grads = [cell.x.weight.grad, cell.h.weight.grad, readout.v.weight.grad]
    found = [o.sum().item(), *(grad.item() for grad in grads)]
    exact = [2.258905401, 0.117983067, 0.084484532, 0.294806297]
    assert found == pytest.approx(exact, abs=5e-10)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 0 steps back, not -1"):
        WindowReadout(3, 2, -1)
    with pytest.raises(ValueError, match="no activation 'sine'"):
        Readout(3, 2, "sine")
