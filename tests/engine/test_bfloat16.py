"""Products in bfloat16: under autocast, and in modules of that dtype. Sums and states stay float32."""

import pytest
import torch
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.engine import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the core is not built")

STEPS, BATCH, INPUTS, HIDDEN = 12, 5, 7, 9


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


@pytest.fixture(params=["RNN", "LSTM", "GRU"])
def layer(request):
    torch.manual_seed(0)
    return getattr(ur, request.param)(INPUTS, HIDDEN, 2, bidirectional=True)


def gradients(layer, x, **arguments):
    layer.zero_grad()
    y, _ = layer(x, **arguments)
    y.float().square().sum().backward()
    return y.detach(), [p.grad.clone() for p in layer.parameters()]


def rounded(tensor):
    return tensor.bfloat16().double()


def test_one_product_is_that_of_rounded_numbers():
    """An RNN without past: tanh of one product, whose inputs alone are rounded."""
    layer = ur.RNN(INPUTS, HIDDEN, bias=False)
    x = torch.randn(1, BATCH, INPUTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    expected = torch.tanh(rounded(x[0]) @ rounded(layer.weight_ih_l0).T)
    torch.testing.assert_close(y[0].double(), expected, rtol=0, atol=2e-6)
    assert (
        y[0].double() - torch.tanh(x[0].double() @ layer.weight_ih_l0.double().T)
    ).abs().max() > 1e-5


def test_autocast_is_close_to_float32(layer):
    x = torch.randn(STEPS, BATCH, INPUTS)
    y, grads = gradients(layer, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, others = gradients(layer, x)
    assert z.dtype == torch.float32
    assert not torch.equal(y, z)
    torch.testing.assert_close(z, y, rtol=0, atol=0.02)
    for a, b in zip(grads, others, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(b, a, rtol=0, atol=0.03 * float(a.abs().max()))


def test_a_module_in_bfloat16(layer):
    x = torch.randn(STEPS, BATCH, INPUTS).bfloat16()
    expected, grads = gradients(layer.bfloat16().float(), x.float())
    y, others = gradients(layer.bfloat16(), x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.03)
    for a, b in zip(grads, others, strict=True):
        assert b.dtype == torch.bfloat16
        torch.testing.assert_close(b.float(), a, rtol=0, atol=0.04 * float(a.abs().max()))


def test_states_stay_float32_over_long_sequences():
    """An accumulator that adds 1/1000 a step: in bfloat16 it would stop moving at 0.5."""

    class Count(ur.Cell):
        def step(self, x, h):
            return h + x

    net = ur.Recurrent(Count(1, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = net(torch.full((1000, 1, 1), 0.001))
    assert abs(float(y[-1]) - 1) < 1e-4


def test_a_row_alone_and_any_number_of_threads_give_the_same_bits(layer):
    x = torch.randn(STEPS, 33, INPUTS)
    lengths = torch.randint(1, STEPS + 1, (33,))
    before = torch.get_num_threads()
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.set_num_threads(1)
            y, grads = gradients(layer, x, lengths=lengths)
            alone, _ = layer(x[:, 3:4], lengths=lengths[3:4])
            torch.set_num_threads(3)
            z, others = gradients(layer, x, lengths=lengths)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(y, z)
    assert torch.equal(alone[:, 0], y[:, 3])
    assert all(torch.equal(a, b) for a, b in zip(grads, others, strict=True))


def test_users_own_cells_too():
    class Leaky(ur.Cell):
        def __init__(self):
            super().__init__(INPUTS, HIDDEN)
            self.all = nn.Linear(INPUTS + HIDDEN, HIDDEN)

        def step(self, x, h):
            return 0.7 * h + 0.3 * torch.tanh(self.all(torch.cat([x, h], -1)))

    net, x = ur.Recurrent(Leaky()), torch.randn(STEPS, BATCH, INPUTS)
    expected, _ = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = net(x)
    assert not torch.equal(y, expected)
    torch.testing.assert_close(y, expected, rtol=0, atol=0.02)


def test_float64_is_left_alone_by_autocast():
    layer, x = ur.LSTM(INPUTS, HIDDEN).double(), torch.randn(STEPS, BATCH, INPUTS).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    assert torch.equal(y, layer(x)[0])


@pytest.mark.parametrize("kind", ["orthogonal", "spectral", "gru-before", "esn"])
def test_what_is_computed_of_the_weights_is_computed_in_float32(kind):
    """No factorisation of a matrix in bfloat16 exists, and a rounded one would not be orthogonal."""
    torch.manual_seed(0)
    net = ur.Recurrent(cells.CELLS[kind](INPUTS, 8), num_layers=2)
    x = torch.randn(STEPS, BATCH, INPUTS)
    wanted, _ = net(x)
    short = net.bfloat16()
    y, _ = short(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), wanted, rtol=0, atol=0.06)
    with torch.no_grad(), ur.frozen(short):
        torch.testing.assert_close(short(x.bfloat16())[0], y)


def test_weights_of_another_dtype_are_declined(monkeypatch):
    net = ur.Recurrent(cells.LSTM(INPUTS, 8))
    with pytest.raises(ur.RunError, match="another dtype than the input"):
        net(torch.randn(STEPS, BATCH, INPUTS).bfloat16())
