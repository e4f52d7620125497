"""Every cell of the registry against its equations, written anew in NumPy, gate by gate."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import linalg, signal

import unrolled as ur
from unrolled import cells
from unrolled.engine.cell import tensors_of

STEPS, BATCH, INPUTS, HIDDEN = 6, 2, 3, 4


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def norm(v, gain, bias):
    return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5) * gain + bias


def gates(p, x, h, names):
    """Gate -> W_x x + W_h h + b, each with matrices of its own."""
    found = {}
    for place, name in enumerate(names):
        rows = slice(place * HIDDEN, (place + 1) * HIDDEN)
        found[name] = p["x.weight"][rows] @ x + p["x.bias"][rows] + p["h.weight"][rows] @ h
    return SimpleNamespace(**found)


# Each takes the tensors p of the cell, x_t (I,) and the states of one row, and gives the new states
# and then the outputs.


def elman(phi):
    return lambda p, x, h: [phi(p["x.weight"] @ x + p["h.weight"] @ h + p["x.bias"])]


def preactivation(p, x, h):
    h = p["h.weight"] @ np.tanh(h) + p["x.weight"] @ x + p["x.bias"]
    return [h, p["y.weight"] @ np.tanh(h)]


def jordan(p, x, y):
    h = np.tanh(p["x.weight"] @ x + p["y.weight"] @ y + p["x.bias"])
    return [sigmoid(p["o.weight"] @ h + p["o.bias"])]


def leaky(p, x, h):
    a = p["leak"] if "leak" in p else sigmoid(p["logit"])
    return [(1 - a) * h + a * elman(np.tanh)(p, x, h)[0]]


def unitary(p, x, h):
    def reflect(z, v):
        return z - 2 * v * (v.conj() @ z) / (v.conj() @ v)

    z = h[:HIDDEN] + 1j * h[HIDDEN:]
    d = np.exp(1j * p["w"])
    v = p["v"][:, 0] + 1j * p["v"][:, 1]
    fourier = linalg.dft(HIDDEN) / np.sqrt(HIDDEN)
    z = reflect(fourier @ (d[0] * z), v[0])
    z = d[1] * (np.eye(HIDDEN)[p["permutation"]] @ z)
    z = d[2] * reflect(linalg.inv(fourier) @ z, v[1])
    z = z + p["x.weight"][:HIDDEN] @ x + 1j * (p["x.weight"][HIDDEN:] @ x)
    z = np.maximum(np.abs(z) + p["b"], 0) * z / np.abs(z)
    return [np.concatenate([z.real, z.imag])]


def indrnn(p, x, h):
    return [np.maximum(p["x.weight"] @ x + p["u"] * h + p["x.bias"], 0)]


def esn(p, x, h):
    new = np.tanh(p["weight_x"] @ x + p["weight_h"] @ h + p["bias"])
    return [(1 - p["leak"]) * h + p["leak"] * new]


def lstm(phi):
    def step(p, x, h, c):
        a = gates(p, x, h, "ifgo")
        c = sigmoid(a.f) * c + sigmoid(a.i) * np.tanh(a.g)
        return [sigmoid(a.o) * phi(c), c]

    return step


def lstm_1997(p, x, h, c):
    a = gates(p, x, h, "igo")
    c = c + sigmoid(a.i) * 2 * np.tanh(a.g / 2)
    return [sigmoid(a.o) * np.tanh(c / 2), c]


def peephole(p, x, h, c):
    a = gates(p, x, h, "ifgo")
    i, f = sigmoid(a.i + p["w_i"] * c), sigmoid(a.f + p["w_f"] * c)
    c = f * c + i * np.tanh(a.g)
    return [sigmoid(a.o + p["w_o"] * c) * np.tanh(c), c]


def coupled(p, x, h, c):
    a = gates(p, x, h, "igo")
    c = (1 - sigmoid(a.i)) * c + sigmoid(a.i) * np.tanh(a.g)
    return [sigmoid(a.o) * np.tanh(c), c]


def layer_norm_lstm(p, x, h, c):
    a = norm(p["h.weight"] @ h, p["norm_h.weight"], p["norm_h.bias"])
    a = a + norm(p["x.weight"] @ x, p["norm_x.weight"], p["norm_x.bias"])
    i, f, g, o = a.reshape(4, HIDDEN)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(norm(c, p["norm_c.weight"], p["norm_c.bias"])), c]


def multiplicative(p, x, h, c):
    m = (p["mx.weight"] @ x) * (p["mh.weight"] @ h)
    return lstm(np.tanh)({**p, "h.weight": p["m.weight"]}, x, m, c)


def projected(p, x, h, c):
    h, c = lstm(np.tanh)(p, x, h, c)
    return [p["p.weight"] @ h, c]


def slstm(p, x, h, c, n, m):
    """Without a stabiliser: exponentials as they are; m is checked by what it scales."""
    a = p["x.weight"] @ x + p["x.bias"]
    width = p["r"].shape[-1]
    z, i, f, o = (
        a[k * HIDDEN : (k + 1) * HIDDEN]
        + np.concatenate([r @ h[j * width : (j + 1) * width] for j, r in enumerate(p["r"][k])])
        for k in range(4)
    )
    past = np.exp(m)
    kept, new = sigmoid(f) * past, np.exp(i)
    m = i if (n == 0).all() else np.log(np.maximum(kept, new))
    c = (kept * c + new * np.tanh(z)) / np.exp(m)
    n = (kept * n + new) / np.exp(m)
    return [sigmoid(o) * c / n, c, n, m]


def reset_before(p, x, h):
    a = gates(p, x, h, "rzn")
    r, z = sigmoid(a.r), sigmoid(a.z)
    n = np.tanh(gates(p, x, r * h, "rzn").n)
    return [z * h + (1 - z) * n]


def gru(p, x, h):
    r, z, x_n = (p["x.weight"] @ x + p["x.bias"]).reshape(3, HIDDEN)
    h_r, h_z, h_n = (p["h.weight"] @ h + p["h.bias"]).reshape(3, HIDDEN)
    r, z = sigmoid(r + h_r), sigmoid(z + h_z)
    return [z * h + (1 - z) * np.tanh(x_n + r * h_n)]


def layer_norm_gru(p, x, h):
    w_x, w_h, n = p["x.weight"], p["h.weight"], 2 * HIDDEN
    a = norm(w_h[:n] @ h, p["norm_h.weight"], p["norm_h.bias"])
    a = a + norm(w_x[:n] @ x, p["norm_x.weight"], p["norm_x.bias"])
    r, z = sigmoid(a[:HIDDEN]), sigmoid(a[HIDDEN:])
    new = norm(w_x[n:] @ x, p["norm_xn.weight"], p["norm_xn.bias"])
    new = np.tanh(new + r * norm(w_h[n:] @ h, p["norm_hn.weight"], p["norm_hn.bias"]))
    return [(1 - z) * h + z * new]


def minimal_gated(p, x, h):
    f = sigmoid(gates(p, x, h, "fn").f)
    return [(1 - f) * h + f * np.tanh(gates(p, x, f * h, "fn").n)]


def clockwork(p, x, h, clock):
    """Module by module: units of period 1, 2, 4 and 8, one each."""
    new = h.copy()
    for k, period in enumerate([1, 2, 4, 8]):
        if int(clock[0]) % period == 0:
            a = p["x.weight"][k] @ x + p["x.bias"][k] + p["h.weight"][k, k:] @ h[k:]
            new[k] = np.tanh(a)
    return [new, clock + 1]


def highway(p, x, s):
    for depth in range(3):
        a = p[f"s.{depth}.weight"] @ s + p[f"s.{depth}.bias"]
        a = a + p["x.weight"] @ x if depth == 0 else a
        n, t = np.tanh(a[:HIDDEN]), sigmoid(a[HIDDEN:])
        s = n * t + s * (1 - t)
    return [s]


def min_gru(p, x, h):
    z, n = (p["x.weight"] @ x + p["x.bias"]).reshape(2, HIDDEN)
    return [(1 - sigmoid(z)) * h + sigmoid(z) * n]


def min_lstm(p, x, h):
    f, i, n = (p["x.weight"] @ x + p["x.bias"]).reshape(3, HIDDEN)
    f, i = sigmoid(f), sigmoid(i)
    return [(f * h + i * n) / (f + i)]


def lru(p, x, h):
    z = h[:HIDDEN] + 1j * h[HIDDEN:]
    pole = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    b = p["B.weight"][:HIDDEN] + 1j * p["B.weight"][HIDDEN:]
    c = p["C.weight"][:, :HIDDEN] + 1j * p["C.weight"][:, HIDDEN:]
    z = pole * z + np.exp(p["gamma"]) * (b @ x)
    return [np.concatenate([z.real, z.imag]), (c @ z).real + p["D.weight"] @ x]


def convolve(x, kernels):
    """Correlate every channel (I, *grid) with kernels (O, I, *k), zeros outside."""
    return np.stack(
        [
            sum(
                signal.correlate(channel, kernel, "same")
                for channel, kernel in zip(x, row, strict=True)
            )
            for row in kernels
        ]
    )


def conv_parts(p, x, count):
    bias = p["x.bias"].reshape(-1, *[1] * (x.ndim - 1))
    a = convolve(x, p["x.weight"]) + bias
    return np.split(a, count), np.split(p["h.weight"], count)


def conv_lstm(p, x, h, c):
    parts, kernels = conv_parts(p, x, 4)
    i, f, g, o = (a + convolve(h, k) for a, k in zip(parts, kernels, strict=True))
    i, f = sigmoid(i + p["w_i"] * c), sigmoid(f + p["w_f"] * c)
    c = f * c + i * np.tanh(g)
    return [sigmoid(o + p["w_o"] * c) * np.tanh(c), c]


def conv_gru(p, x, h):
    (r, z, n), (w_r, w_z, w_n) = conv_parts(p, x, 3)
    r, z = sigmoid(r + convolve(h, w_r)), sigmoid(z + convolve(h, w_z))
    return [(1 - z) * h + z * np.tanh(n + convolve(r * h, w_n))]


TANH = elman(np.tanh)


def topdown(p, x, h1, h2):
    p1, p2 = (
        {name: p[f"cells.{k}.{name}"] for name in ("x.weight", "x.bias", "h.weight")}
        for k in (0, 1)
    )
    (h1,) = TANH(p1, np.concatenate([x, h2]), h1)
    (h2,) = TANH(p2, h1, h2)
    return [h1, h2, h2]


EQUATIONS = {
    "rnn": (cells.Elman, TANH),
    "lstm": (cells.LSTM, lstm(np.tanh)),
    "gru": (cells.GRU, gru),
    "irnn": (cells.IRNN, elman(lambda v: np.maximum(v, 0))),
    "preactivation": (cells.PreActivation, preactivation),
    "jordan": (cells.Jordan, jordan),
    "leaky": (lambda i, h: cells.Leaky(i, h, [0.0, 0.3, 0.9, 1.0]), leaky),
    "learned leak": (lambda i, h: cells.Leaky(i, h, 0.3, learned=True), leaky),
    "orthogonal": (cells.Orthogonal, TANH),
    "spectral": (cells.Spectral, TANH),
    "unitary": (cells.Unitary, unitary),
    "indrnn": (cells.IndRNN, indrnn),
    "esn": (lambda i, h: cells.EchoState(i, h, bias_scaling=0.3, leak=0.4), esn),
    "lstm identity": (lambda i, h: cells.LSTM(i, h, output="identity"), lstm(lambda c: c)),
    "lstm-1997": (cells.LSTM1997, lstm_1997),
    "lstm-peephole": (cells.PeepholeLSTM, peephole),
    "lstm-coupled": (cells.CoupledLSTM, coupled),
    "lstm-layernorm": (cells.LayerNormLSTM, layer_norm_lstm),
    "lstm-multiplicative": (cells.MultiplicativeLSTM, multiplicative),
    "lstm-projected": (cells.ProjectedLSTM, projected),
    "slstm": (lambda i, h: cells.SLSTM(i, h, 2), slstm),
    "gru-before": (cells.ResetBeforeGRU, reset_before),
    "gru-layernorm": (cells.LayerNormGRU, layer_norm_gru),
    "mgu": (cells.MinimalGated, minimal_gated),
    "clockwork": (cells.Clockwork, clockwork),
    "highway": (cells.RecurrentHighway, highway),
    "topdown": (cells.TopDown, topdown),
    "mingru": (cells.MinGRU, min_gru),
    "minlstm": (cells.MinLSTM, min_lstm),
    "lru": (cells.LRU, lru),
    "conv lstm 1-d": (lambda i, h: cells.ConvLSTM(i, h, (5,)), conv_lstm),
    "conv lstm 2-d": (lambda i, h: cells.ConvLSTM(i, h, (4, 3)), conv_lstm),
    "conv gru 1-d": (lambda i, h: cells.ConvGRU(i, h, (7,), 5), conv_gru),
    "conv gru 2-d": (lambda i, h: cells.ConvGRU(i, h, (3, 4)), conv_gru),
}


def drawn(make):
    torch.manual_seed(0)
    cell = make(INPUTS, HIDDEN).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.uniform_(-0.8, 0.8)
    p = {name: tensor.detach().numpy() for name, tensor in tensors_of(cell).items()}
    if "h.weight" not in p and isinstance(getattr(cell, "h", None), torch.nn.Module):
        p["h.weight"] = cell.h.weight.detach().numpy()  # a parametrisation
    return cell, p


@pytest.mark.parametrize("name", EQUATIONS)
def test_equation(name):
    make, step = EQUATIONS[name]
    cell, p = drawn(make)
    x = np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS, *getattr(cell, "shape", ())))
    y, states = ur.Recurrent(cell)(torch.from_numpy(x))
    place = len(cell.state_names) if cell.output_names else 0
    for row in range(BATCH):
        now = [np.zeros(width) for width in cell.state_sizes.values()]
        for t in range(STEPS):
            results = step(p, x[t, row], *now)
            now = results[: len(now)]
            np.testing.assert_allclose(y[t, row].detach().numpy(), results[place], atol=1e-13)
        for state, value in zip(states.values(), now, strict=True):
            np.testing.assert_allclose(state[0, row].detach().numpy(), value, atol=1e-12)


def test_every_registered_cell_has_an_equation():
    elsewhere = {"skip", "dilated", "lstm-batchnorm"}  # two below, and test_batch_norm.py
    assert set(cells.CELLS) <= {*EQUATIONS, *elsewhere}


def test_the_page_has_every_cell():
    page = (Path(__file__).parents[2] / "docs" / "all-cells.md").read_text("utf-8")
    for name, cell in cells.CELLS.items():
        assert f"| `{name}` | `{cell.__name__}` |" in page


def test_skips_and_dilation():
    x = np.random.default_rng(0).normal(size=(9, INPUTS))
    cell, p = drawn(lambda i, h: cells.Skip(i, h, (1, 3, 20)))
    h = [np.zeros(HIDDEN)] * 20
    for x_t in x:
        a = p["x.weight"] @ x_t + p["x.bias"]
        for place, k in enumerate((1, 3, 20)):  # longer than the sequence: zeros
            a = a + p["h.weight"][:, place * HIDDEN : (place + 1) * HIDDEN] @ h[-k]
        h.append(np.tanh(a))
    y, _ = ur.Recurrent(cell)(torch.from_numpy(x)[:, None])
    np.testing.assert_allclose(y[:, 0].detach().numpy(), h[20:], atol=1e-13)

    cell, p = drawn(lambda i, h: cells.Dilated(i, h, 3, cells.LSTM))
    p = {name.removeprefix("cell."): value for name, value in p.items()}
    states = [[np.zeros(HIDDEN)] * 2] * 3
    for x_t in x:
        states.append(lstm(np.tanh)(p, x_t, *states[-3]))
    y, last = ur.Recurrent(cell)(torch.from_numpy(x)[:, None])
    np.testing.assert_allclose(y[:, 0].detach().numpy(), [h for h, _ in states[3:]], atol=1e-13)
    np.testing.assert_allclose(last["c"][0, 0].detach().numpy(), states[-1][1], atol=1e-13)


# ---------------------------------------------------------------- exact cases


def test_the_sigmoid_network_by_hand():
    """s_t = sigma(U x_t + W s_{t-1}), o_t = sigma(V s_t), L = sum o_t."""
    cell = cells.Elman(1, 1, "sigmoid").double()
    v = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        cell.x.weight.fill_(1), cell.x.bias.zero_(), cell.h.weight.fill_(-1)
    x = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)
    s, _ = ur.Recurrent(cell)(x)
    loss = (v * s).sigmoid().sum()
    loss.backward()
    found = [loss, cell.x.weight.grad, cell.h.weight.grad, v.grad]
    exact = [2.258905401, 0.117983067, 0.084484532, 0.294806297]
    assert [value.item() for value in found] == pytest.approx(exact, abs=5e-10)


@pytest.mark.parametrize("name", ["rnn", "irnn", "lstm", "gru"])
def test_a_network_over_t_steps_is_t_tied_layers(name):
    """Values and gradients: the gradient of a tied weight is the sum over copies of it."""
    torch.manual_seed(0)
    cell = cells.CELLS[name](INPUTS, HIDDEN).double()
    x = torch.randn(5, 2, INPUTS, dtype=torch.float64)
    y, _ = ur.Recurrent(cell)(x)
    y[-1].square().sum().backward()

    layers = [cell.clone() for _ in x]
    states = tuple(x.new_zeros(2, HIDDEN) for _ in cell.state_names)
    for layer, x_t in zip(layers, x, strict=True):
        layer.load_state_dict(cell.state_dict())
        found = layer.step(x_t, *states)
        states = found if isinstance(found, tuple) else (found,)
    torch.testing.assert_close(states[0], y[-1], rtol=0, atol=1e-14)
    states[0].square().sum().backward()
    for key, parameter in cell.named_parameters():
        copies = [dict(layer.named_parameters())[key].grad for layer in layers]
        copies = [grad for grad in copies if grad is not None]
        torch.testing.assert_close(parameter.grad, sum(copies), rtol=1e-12, atol=1e-13)
