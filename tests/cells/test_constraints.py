"""What cells promise beside their equations: norms, radii, starts, teachers, views; and bad input."""

import math

import pytest
import torch
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.engine import randomness
from unrolled.layers import LSTMCell, RNNCell


def values(weight):
    return torch.linalg.svdvals(weight)


# ---------------------------------------------------------------- matrices held


@pytest.mark.parametrize("mapping", ["householder", "cayley", "matrix_exp"])
def test_orthogonal_stays_so_while_it_learns(mapping):
    torch.manual_seed(0)
    net = ur.Recurrent(cells.Orthogonal(3, 8, mapping))
    before = net.cell.h.weight.detach().clone()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        y, _ = net(torch.randn(5, 2, 3))
        optimiser.zero_grad()
        y.square().sum().backward()
        optimiser.step()
    assert (net.cell.h.weight - before).abs().max() > 1e-3
    torch.testing.assert_close(values(net.cell.h.weight), torch.ones(8), rtol=0, atol=1e-5)


def test_the_spectral_bound():
    cell = cells.Spectral(3, 6, 0.5)
    with torch.no_grad():
        cell.h.parametrizations.weight.original.normal_()
    assert values(cell.h.weight).max().item() == pytest.approx(0.5)
    with torch.no_grad():
        cell.h.parametrizations.weight.original.mul_(0.01)
    assert values(cell.h.weight).max() < 0.2  # below the bound nothing is scaled


def test_singular_values_near_one():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 6, dtype=torch.float64))
    singular = values(weight.detach())
    wanted = ((singular - 1).abs() - 0.1).clamp(min=0).square().sum()
    torch.testing.assert_close(cells.singular_value_penalty(weight, 0.1).detach(), wanted)
    assert torch.autograd.gradcheck(lambda w: cells.singular_value_penalty(w, 0.1), weight)
    cells.project_singular_values_(weight, 0.1)
    found = values(weight.detach())
    assert 0.9 - 1e-12 <= found.min() <= found.max() <= 1.1 + 1e-12
    torch.testing.assert_close(found, singular.clamp(0.9, 1.1))
    assert cells.singular_value_penalty(weight, 0.1).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_unitary_network_keeps_the_norm_over_1000_steps(dtype):
    torch.manual_seed(0)
    net = ur.Recurrent(cells.Unitary(1, 16)).to(dtype)
    h = torch.randn(1, 3, 32, dtype=dtype)
    y, _ = net(torch.zeros(1000, 3, 1, dtype=dtype), {"h": h})
    torch.testing.assert_close(y.norm(dim=-1), h.norm(dim=-1).expand(1000, 3), rtol=1e-5, atol=0)
    assert (y[1:] - y[:-1]).abs().max() > 0.1  # it moves


def test_the_unitary_matrix():
    w = cells.Unitary(1, 7).double().matrix()
    torch.testing.assert_close(w @ w.conj().T, torch.eye(7, dtype=w.dtype), rtol=0, atol=1e-7)


def test_the_reservoir():
    torch.manual_seed(0)
    cell = cells.EchoState(2, 50, 0.8, density=0.1, input_scaling=0.5, bias_scaling=0.2)
    assert torch.linalg.eigvals(cell.weight_h).abs().max().item() == pytest.approx(0.8, rel=1e-5)
    assert ((cell.weight_h != 0).sum(1) == 5).all()
    assert 0.4 < cell.weight_x.abs().max() <= 0.5
    assert 0.1 < cell.bias.abs().max() <= 0.2
    assert not [*cell.parameters()]


def test_a_state_is_forgotten_below_radius_one():
    torch.manual_seed(0)
    net = ur.Recurrent(cells.EchoState(1, 30, 0.5))
    x = torch.randn(100, 1, 1)
    _, one = net(x, {"h": torch.ones(1, 1, 30)})
    _, other = net(x)
    torch.testing.assert_close(one["h"], other["h"], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- clocks, gates, stabilisers


def test_clocks_go_on_through_windows_and_single_steps():
    net = ur.Recurrent(cells.Clockwork(1, 8, (1, 3, 4, 100)))
    y, states = net(torch.randn(13, 1, 1))
    changes = (y[1:] != y[:-1]).view(12, 4, 2).all(-1)
    for module, period in enumerate((1, 3, 4, 100)):
        assert changes[:, module].nonzero().flatten().add(1).tolist() == [
            t for t in range(1, 13) if t % period == 0
        ]
    assert states["clock"].item() == 13
    _, states = net.step(torch.randn(1, 1), states)
    assert states["clock"].item() == 14


def test_slower_modules_do_not_see_faster_ones():
    cell = cells.Clockwork(1, 4, (1, 2, 4, 8))
    h = torch.randn(1, 4, requires_grad=True)
    new, _ = cell.step(torch.zeros(1, 1), h, torch.zeros(1, 1))
    (grad,) = torch.autograd.grad(new[0, 2], h)
    assert (grad[0] != 0).tolist() == [False, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential_gates_do_not_overflow(dtype):
    torch.manual_seed(0)
    net = ur.Recurrent(cells.SLSTM(3, 4)).to(dtype)
    x = (1000 * torch.randn(20, 2, 3, dtype=dtype)).requires_grad_()
    y, _ = net(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (y.abs() <= 1 + 1e-6).all()


def test_indrnn_is_clamped():
    cell = cells.IndRNN(1, 3)
    with torch.no_grad():
        cell.u.copy_(torch.tensor([-3.0, 0.5, 3.0]))
    cell.clamp_(10)
    torch.testing.assert_close(cell.u.detach(), torch.tensor([-(2**0.1), 0.5, 2**0.1]))


# ---------------------------------------------------------------- teachers


def test_a_teacher_and_the_models_own():
    torch.manual_seed(0)
    net = ur.Recurrent(cells.Jordan(2, 3, teacher=True)).double()
    alone = ur.Recurrent(cells.Jordan(2, 3)).double()
    alone.load_state_dict(net.state_dict())
    x, target = torch.randn(6, 2, 2).double(), torch.rand(6, 2, 3).double()
    own, _ = alone(x)
    torch.testing.assert_close(net(x, extras=cells.teacher(target, 0.0))[0], own)
    # Its own outputs as the teacher's: the same again.
    torch.testing.assert_close(net(x, extras=cells.teacher(own.detach()))[0], own)
    taught, _ = net(x, extras=cells.teacher(target))
    previous = torch.cat([torch.zeros(1, 2, 3), target[:-1]])
    for t in range(6):
        torch.testing.assert_close(taught[t], alone.cell.step(x[t], previous[t]))


def test_scheduled_sampling_draws_by_probability_and_counter():
    target = torch.zeros(500, 4, 1)
    with randomness.counter(seed=1, step=2):
        whole = cells.teacher(target, 0.3)["forced"]
    assert whole.mean().item() == pytest.approx(0.3, abs=0.03)
    with randomness.counter(seed=1, step=2, first_row=1):
        part = cells.teacher(target[:, 1:3], 0.3)["forced"]
    assert (part == whole[:, 1:3]).all()
    assert cells.teacher(target, 1.0)["forced"].min() == 1
    assert cells.teacher(target, 0.0)["forced"].max() == 0


# ---------------------------------------------------------------- starts


def test_starts_by_name():
    torch.manual_seed(0)
    w = torch.empty(200, 100)
    eye = torch.zeros(200, 100)
    eye[:100] = 0.5 * torch.eye(100)
    assert (cells.start_(w, "identity", gain=0.5) == eye).all()
    torch.testing.assert_close(values(cells.start_(w, "orthogonal")), torch.ones(100))
    assert cells.start_(w, "glorot").abs().max() <= math.sqrt(6 / 300)
    assert cells.start_(w, "he").std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.05)
    assert cells.start_(w, "lecun").std().item() == pytest.approx(0.1, rel=0.05)
    assert cells.start_(w, "normal", scale=0.3).std().item() == pytest.approx(0.3, rel=0.05)
    sparse = cells.start_(w, "sparse", connections=15, scale=2.0)
    assert ((sparse != 0).sum(1) == 15).all()
    assert sparse[sparse != 0].std().item() == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("make", [cells.LSTM, LSTMCell])
def test_starts_of_a_cells_weights(make):
    cell = make(3, 5)
    cells.start_weights(cell, "recurrent", "orthogonal")
    h = cells.joint_weight(cell)[:, 3:]
    for block in h.chunk(4):
        torch.testing.assert_close(values(block), torch.ones(5))
    cells.start_weights(cell, "input", "identity", ["f"])
    assert (cells.joint_weight(cell, "figo")[:5, :3] == torch.eye(5, 3)).all()


def bias(cell, gate):
    named = dict(cell.named_parameters())
    total = sum(named[n] for n in ("x.bias", "h.bias", "bias_ih", "bias_hh") if n in named)
    return total.chunk(len(cell.blocks))[cell.blocks.index(gate)].detach()


@pytest.mark.parametrize(
    "make", [cells.LSTM, cells.PeepholeLSTM, cells.MultiplicativeLSTM, LSTMCell]
)
def test_the_forget_bias(make):
    cell = make(3, 5)
    before = bias(cell, "i")
    cells.forget_bias_start(cell, 1.5)
    assert (bias(cell, "f") == 1.5).all()
    assert (bias(cell, "i") == before).all()
    assert (bias(cells.LSTM(3, 5, forget_bias=1.0), "f") == 1).all()


@pytest.mark.parametrize(
    ("make", "keeps", "writes"),
    [
        (cells.LSTM, "f", "i"),
        (LSTMCell, "f", "i"),
        (cells.GRU, "z", ""),
        (cells.MinimalGated, "", "f"),
        (cells.CoupledLSTM, "", "i"),
        (cells.MinGRU, "", "z"),
    ],
)
def test_chrono(make, keeps, writes):
    cell = make(3, 400)
    cells.chrono_start(cell, 50)
    for gate, sign in [(keeps, 1), (writes, -1)]:
        if gate:
            drawn = (sign * bias(cell, gate)).exp()
            assert 1 <= drawn.min() <= drawn.max() <= 49 + 1e-3
            assert drawn.mean().item() == pytest.approx(25, rel=0.1)
    if keeps and writes:
        assert (bias(cell, keeps) == -bias(cell, writes)).all()


def test_starts_of_papers():
    torch.manual_seed(0)
    irnn = cells.IRNN(3, 50)
    assert (irnn.h.weight == torch.eye(50)).all()
    assert (irnn.x.bias == 0).all()
    assert irnn.x.weight.std().item() == pytest.approx(0.001, rel=0.2)
    lru = cells.LRU(3, 500, 0.9, 0.99, 0.1)
    a, b = lru.coefficients(torch.zeros(1, 3))
    assert 0.9 - 1e-6 <= a.abs().min() <= a.abs().max() <= 0.99 + 1e-6
    assert a.angle().max() <= 0.1 + 1e-6
    assert b.shape == (1, 500)
    torch.testing.assert_close(lru.gamma.exp() ** 2, 1 - a.abs() ** 2)
    highway = cells.RecurrentHighway(3, 4)
    assert all((layer.bias[4:] == -2).all() for layer in highway.s)
    assert (bias(cells.SLSTM(3, 4), "f") == torch.linspace(3, 6, 4)).all()


# ---------------------------------------------------------------- the joint matrix


@pytest.mark.parametrize("make", [cells.Elman, RNNCell])
def test_one_joint_matrix(make):
    """h^l = tanh(W [h^(l-1); h_{t-1}])."""
    cell = make(4, 4).double()
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            if "bias" in name:
                parameter.zero_()
    x, h = torch.randn(2, 4).double(), torch.randn(2, 4).double()
    joint = cells.joint_weight(cell)
    assert joint.shape == (4, 8)
    torch.testing.assert_close(cell.step(x, h), (torch.cat([x, h], 1) @ joint.T).tanh())


@pytest.mark.parametrize("make", [cells.LSTM, LSTMCell])
def test_the_joint_matrix_of_an_lstm_by_name(make):
    n = 5
    joint = torch.randn(4 * n, 2 * n)
    cell = make(n, n)
    cells.set_joint_weight(cell, joint, "ifog")
    assert (cells.joint_weight(cell, "ifog") == joint).all()
    i, f, o, g = joint.chunk(4)
    assert (cells.joint_weight(cell) == torch.cat([i, f, g, o])).all()
    x, h, c = torch.randn(3, 2, n)
    i, f, o, g = (torch.cat([x, h], 1) @ rows.T for rows in (i, f, o, g))
    i, f, o, g = (a + bias(cell, name) for a, name in zip((i, f, o, g), "ifog", strict=True))
    c_new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h_new, found = cell.step(x, h, c)
    torch.testing.assert_close(found, c_new)
    torch.testing.assert_close(h_new, o.sigmoid() * c_new.tanh())
    cells.joint_weight(cell).sum().backward()
    assert all(p.grad is not None for name, p in cell.named_parameters() if "weight" in name)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cells.Elman(3, 4, "tan"), "no activation 'tan'; give one of identity, tanh"),
        (lambda: cells.Leaky(3, 4, 1.5), "leak must lie between 0 and 1, not 1.5"),
        (lambda: cells.Leaky(3, 4, -0.1), "leak must lie between 0 and 1"),
        (lambda: cells.Leaky(3, 4, math.nan), "leak must lie between 0 and 1"),
        (lambda: cells.Leaky(3, 4, [0.1, 0.2]), "leak must be a number or 4 numbers"),
        (lambda: cells.Leaky(3, 4, 1.0, learned=True), "a learned leak must begin between"),
        (lambda: cells.EchoState(3, 4, 0.0), "the spectral radius must be positive, not 0.0"),
        (lambda: cells.EchoState(3, 4, -1), "the spectral radius must be positive"),
        (lambda: cells.EchoState(3, 4, leak=2.0), "leak must lie between 0 and 1"),
        (lambda: cells.EchoState(3, 4, density=0), "the density must be above 0"),
        (lambda: cells.Clockwork(3, 4, (1, 2, 4)), "4 units cannot be divided among 3 clock"),
        (lambda: cells.Clockwork(3, 4, (0, 1)), "clock periods must be numbers of steps from 1"),
        (lambda: cells.Skip(3, 4, (0, 1)), "skips must be different numbers of steps from 1 up"),
        (lambda: cells.Skip(3, 4, (2, 2)), "skips must be different"),
        (lambda: cells.Dilated(3, 4, 0), "the dilation must be at least 1 step"),
        (lambda: cells.RecurrentHighway(3, 4, 0), "the depth must be at least 1"),
        (lambda: cells.SLSTM(3, 4, 3), "hidden_size 4 is not a multiple of 3 heads"),
        (lambda: cells.Spectral(3, 4, 0), "the bound of the spectral norm must be positive"),
        (lambda: cells.LRU(3, 4, 0.9, 0.5), "the radii must lie between 0 and 1 in order"),
        (lambda: cells.ConvLSTM(3, 4, (2, 2, 2)), "shape must be .length,. or .rows, columns."),
        (lambda: cells.ConvGRU(3, 4, (5,), 2), "kernel_size must be odd, not 2"),
        (
            lambda: ur.Recurrent(cells.ConvLSTM(2, 3, (4, 5)))(torch.zeros(3, 2, 2, 4, 6)),
            r"ConvLSTM: x must be \(rows, 2, 4, 5\) at each step, not \(rows, 2, 4, 6\)",
        ),
        (lambda: cells.teacher(torch.zeros(2, 1, 1), 1.2), "the probability must lie between"),
        (lambda: cells.start_(torch.empty(2, 2), "xavier"), "no initialisation 'xavier'"),
        (lambda: cells.start_(torch.empty(2, 2), "he", gain=2.0), "'he' takes no gain"),
        (lambda: cells.start_weights(cells.LSTM(3, 4), "output", "he"), "input or recurrent"),
        (lambda: cells.start_weights(cells.LSTM(3, 4), "input", "he", "q"), "has no gate 'q'"),
        (lambda: cells.start_weights(cells.LRU(3, 4), "input", "he"), "no single matrix"),
        (lambda: cells.forget_bias_start(cells.GRU(3, 4), 1), "GRU has no forget gate f"),
        (lambda: cells.chrono_start(cells.Elman(3, 4), 9), "Elman has no gate that keeps"),
        (lambda: cells.chrono_start(cells.LSTM(3, 4), 2), "must be at least 3 steps"),
        (lambda: cells.joint_weight(cells.LSTM(3, 4), "iffo"), "must name each gate of LSTM once"),
        (
            lambda: cells.set_joint_weight(cells.LSTM(3, 4), torch.zeros(4, 7)),
            r"the joint weight must be \(16, 7\), not \(4, 7\)",
        ),
        (lambda: cells.singular_value_penalty(torch.eye(2), 1.5), "the margin of the singular"),
    ],
)
def test_bad_input(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
