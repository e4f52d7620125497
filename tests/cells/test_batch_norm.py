"""Recurrent batch normalisation against its formula in NumPy: batch statistics, stored ones, lengths."""

import numpy as np
import pytest
import torch

import unrolled as ur
from unrolled.cells import BatchNormLSTM
from unrolled.errors import RunError

T, B, I, H = 5, 4, 3, 2  # noqa: E741
EPS = 1e-5


def build(steps=T, seed=0, **options):
    torch.manual_seed(seed)
    cell = BatchNormLSTM(I, H, steps, **options).double()
    with torch.no_grad():
        cell.norm_c.bias.normal_()
        for norm in (cell.norm_h, cell.norm_x, cell.norm_c):
            norm.weight.uniform_(0.1, 1)
    return cell


def sequence(steps=T, rows=B):
    return np.random.default_rng(1).normal(size=(steps, rows, I))


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


class Plain:
    """The equations, with the statistics of each step as they come or as they are stored."""

    def __init__(self, cell):
        self.p = {name: p.detach().numpy() for name, p in cell.named_parameters()}
        self.stored = {
            name: [buffer.numpy().copy() for buffer in (norm.mean, norm.var)]
            for name, norm in cell.named_children()
            if name.startswith("norm")
        }

    def norm(self, name, v, t, training):
        mean, var = self.stored[name]
        if training:
            m, s = v.mean(0), v.var(0)
            mean[t] = 0.9 * mean[t] + 0.1 * m
            var[t] = 0.9 * var[t] + 0.1 * v.var(0, ddof=1)
        else:
            m, s = mean[t], var[t]
        gamma, beta = self.p[f"{name}.weight"], self.p.get(f"{name}.bias", 0)
        return gamma * (v - m) / np.sqrt(s + EPS) + beta

    def run(self, x, training, seen=T):
        p, ys = self.p, []
        h, c = np.zeros((x.shape[1], H)), np.zeros((x.shape[1], H))
        for t, x_t in enumerate(x):
            at = min(t, seen - 1)
            a = self.norm("norm_h", h @ p["h.weight"].T, at, training)
            a = a + self.norm("norm_x", x_t @ p["x.weight"].T, at, training) + p["x.bias"]
            i, f, g, o = np.split(a, 4, -1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(self.norm("norm_c", c, at, training))
            ys.append(h)
        return np.stack(ys)


def test_the_equations_with_statistics_of_the_batch_and_then_stored():
    cell, x = build(), sequence()
    net, plain = ur.Recurrent(cell), Plain(cell)
    for _ in range(3):
        y, states = net(torch.from_numpy(x))
        np.testing.assert_allclose(y.detach().numpy(), plain.run(x, training=True), atol=1e-12)
    assert (states["clock"] == T).all()
    for name, stored in plain.stored.items():
        norm = cell.get_submodule(name)
        for ours, expected in zip((norm.mean, norm.var), stored, strict=True):
            np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    # Each step has its own: the first state is zero, and a later one is not.
    assert not torch.allclose(cell.norm_c.mean[0], cell.norm_c.mean[-1], atol=1e-3)
    net.eval()
    other = np.random.default_rng(2).normal(size=(T, 7, I))
    y, _ = net(torch.from_numpy(other))
    np.testing.assert_allclose(y.detach().numpy(), plain.run(other, training=False), atol=1e-12)


def test_longer_sequences_have_the_statistics_of_the_last_step_seen():
    cell = build(steps=50)
    net = ur.Recurrent(cell)
    net(torch.from_numpy(sequence()))
    plain, long = Plain(cell), sequence(9)
    y, _ = net.eval()(torch.from_numpy(long))
    np.testing.assert_allclose(y.detach().numpy(), plain.run(long, training=False), atol=1e-12)
    # While training, steps beyond those that are kept share the last.
    short = build(steps=3)
    ur.Recurrent(short)(torch.from_numpy(long))
    assert int(short.norm_h.seen) == 3


def test_gamma_begins_at_a_tenth():
    cell = BatchNormLSTM(I, H)
    assert all((norm.weight == 0.1).all() for norm in (cell.norm_h, cell.norm_x, cell.norm_c))
    assert cell.norm_h.bias is None is cell.norm_x.bias
    assert (cell.norm_c.bias == 0).all()


def test_gradients_by_finite_differences():
    cell = build()
    net = ur.Recurrent(cell)
    x = torch.from_numpy(sequence()).requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def run(x, *parameters):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(net, given, (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *net.parameters()))


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_of_their_own_lengths(reverse):
    """In evaluation each row is as alone; in training those that still run make the statistics."""
    net = ur.Recurrent(build(), bidirectional=reverse)
    x, lengths = torch.from_numpy(sequence()), torch.tensor([3, 5, 0, 2])
    x[torch.arange(T)[:, None] >= lengths] = float("nan")
    y, _ = net(x, lengths=lengths)
    assert y.isfinite().all()
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert int(net.cells[0].norm_h.seen) == 3  # after which one row alone is left
    net.eval()
    y, _ = net(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        if length:
            alone, _ = net(x[:length, row : row + 1])
            torch.testing.assert_close(y[:length, row : row + 1], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("training", [True, False])
def test_explain_says_why_the_reference_engine_runs_it(training, monkeypatch):
    net = ur.Recurrent(build(), num_layers=2).train(training)
    with ur.engine("native"):
        told = ur.explain(net)
    assert told.engine == "reference"
    assert "its rows depend on each other, as it normalises over the batch" in str(told)
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    with ur.engine("native"), pytest.raises(RunError, match="rows depend on each other"):
        net(torch.from_numpy(sequence()))


def test_step_by_step_and_in_two_windows():
    net = ur.Recurrent(build())
    x = torch.from_numpy(sequence())
    net(x)
    y, last = net.eval()(x)
    first, states = net(x[:2])
    second, states = net(x[2:], states)
    torch.testing.assert_close(torch.cat([first, second]), y, rtol=0, atol=1e-13)
    states = None
    for t in range(T):
        y_t, states = net.step(x[t], states)
        torch.testing.assert_close(y_t, y[t], rtol=0, atol=1e-13)
    torch.testing.assert_close(states["c"], last["c"], rtol=0, atol=1e-13)


def test_a_run_is_trained_resumed_and_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("abcd efg. " * 150)
    flags = {"cell": "lstm-batchnorm", "hidden": 4, "batch_size": 4, "window": 8}
    flags |= {"cell_options": {"steps": 12}, "sample_length": 0, "evaluate_every": 2}
    for name, steps in (("alone", 4), ("parts", 2)):
        ur.train("generate", str(tmp_path / "text.txt"), **flags, steps=steps, out=tmp_path / name)
    trained = ur.train("generate", out=tmp_path / "parts", steps=4, resume=True)
    alone, parts = (tmp_path / name / "model.safetensors" for name in ("alone", "parts"))
    assert alone.read_bytes() == parts.read_bytes()
    loaded = ur.load(tmp_path / "parts")
    for name, buffer in trained.model.named_buffers():
        assert torch.equal(buffer, loaded.model.get_buffer(name))
