"""Noise within the time loop: what it draws, what it does, and that the loop stays compiled."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unrolled as ur
from unrolled import cells
from unrolled.engine import randomness
from unrolled.layers.regularise import RecurrentDropout, WeightDropout, Zoneout

NOISY = {
    "recurrent dropout": lambda: RecurrentDropout(cells.LSTM(3, 4), 0.4),
    "per step": lambda: RecurrentDropout(cells.LSTM(3, 4), 0.4, per_step=True),
    "zoneout": lambda: Zoneout(cells.LSTM(3, 4), h=0.3, c=0.5),
    "weights": lambda: WeightDropout(cells.LSTM(3, 4), 0.3),
    "weights of a drop-in": lambda: WeightDropout(ur.GRUCell(3, 4), 0.3, ["weight_hh"]),
    "all": lambda: Zoneout(
        RecurrentDropout(WeightDropout(cells.LSTM(3, 4), 0.3), 0.2, per_step=True), h=0.2
    ),
    "skips": lambda: Zoneout(RecurrentDropout(cells.Skip(3, 4), 0.3), h=0.2),
}


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(1, 9),
    rows=st.integers(1, 6),
    width=st.integers(1, 70),
    p=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    first=st.integers(0, 5),
    layer=st.integers(0, 2**40),
    seed=st.integers(0, 2**63 - 1),
)
def test_masks_are_numpys_numbers(steps, rows, width, p, first, layer, seed):
    with randomness.counter(seed, 7, first):
        kept = randomness.keep((steps, rows, width), p, layer, torch.empty(0))
    for row in range(rows):
        bits = np.random.Philox(key=seed, counter=[0, first + row, layer, 7])
        words = bits.random_raw(-(-steps * width // 4)).astype("<u8").view("<u2")
        wanted = words[: steps * width].reshape(steps, width) >= round(p * 65536)
        np.testing.assert_array_equal(kept[:, row].numpy(), wanted)


def test_without_the_core_the_masks_are_the_same(monkeypatch):
    def draw():
        with randomness.counter(5, 3, 2):
            return randomness.keep((6, 5, 7), 0.3, 9, torch.empty(0, dtype=torch.float64))

    wanted = draw()
    monkeypatch.setattr(randomness, "_native", None)
    assert torch.equal(draw(), wanted)
    assert wanted.dtype == torch.float64


def test_shared_masks_are_the_same_in_all_processes():
    masks = []
    for first in (0, 4):
        with randomness.counter(1, 2, first):
            masks.append(randomness.keep((1, 1, 50), 0.5, 0, torch.empty(0), shared=True))
    assert torch.equal(*masks)


@pytest.fixture(params=NOISY, ids=str)
def net(request):
    torch.manual_seed(1)
    return ur.Recurrent(NOISY[request.param](), num_layers=2, bidirectional=True).double()


def test_the_compiled_loop_equals_the_reference(net, monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([6, 2, 0, 5, 3])
    found = {}
    for engine in ("native", "reference"):
        net.zero_grad()
        with ur.engine(engine), randomness.counter(3, 1):
            y, states = net(x, lengths=lengths)
        (y.square().sum() + sum(s.sum() for s in states.values())).backward()
        found[engine] = [y, *states.values(), *(p.grad for p in net.parameters())]
    for a, b in zip(found["native"], found["reference"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_nothing_is_drawn_in_use(net):
    net.eval()
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    first, _ = net(x)
    assert torch.equal(first, net(x)[0])
    assert all(cell.noise(x, 0) == ({}, {}) for cell in net.cells)


def test_a_row_draws_the_same_in_any_batch(net):
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    with randomness.counter(2, 8):
        whole, _ = net(x)
    with randomness.counter(2, 8, first_row=1):
        part, _ = net(x[:, 1:3])
    assert torch.equal(part, whole[:, 1:3])
    with randomness.counter(2, 9):
        assert not torch.equal(net(x)[0], whole)


def test_one_mask_for_all_steps_or_one_for_each():
    x = torch.randn(7, 50, 3)
    fixed = RecurrentDropout(cells.LSTM(3, 40), 0.25)
    extras, _ = fixed.noise(x, 0)
    assert extras["h.dropout"].shape == (50, 40)
    assert extras["h.dropout"].unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float(extras["h.dropout"].mean()) == pytest.approx(1, abs=0.05)
    each, _ = RecurrentDropout(cells.LSTM(3, 40), 0.25, per_step=True).noise(x, 0)
    assert each["h.dropout"].shape == (7, 50, 40)
    assert not torch.equal(each["h.dropout"][0], each["h.dropout"][1])
    assert fixed.eval().noise(x, 0) == ({}, {})


def test_dropout_of_the_state_as_its_formula_says():
    cell = RecurrentDropout(cells.Elman(3, 4), 0.5).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    with randomness.counter(0):
        y, _ = ur.Recurrent(cell)(x)
        mask = cell.noise(x, 0)[0]["h.dropout"]
    h = torch.zeros(2, 4, dtype=torch.float64)
    for t in range(5):
        h = cell.cell.step(x[t], h * mask)
        torch.testing.assert_close(y[t], h)


def test_zoneout_as_its_formula_says():
    cell = Zoneout(cells.LSTM(3, 4), h=0.3, c=0.6).double()
    net = ur.Recurrent(cell)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for training in (True, False):
        net.train(training)
        with randomness.counter(0):
            y, states = net(x)
            masks, _ = cell.noise(x, 0)
        h, c = torch.zeros(2, 2, 4, dtype=torch.float64)
        for t in range(5):
            new_h, new_c = cell.cell.step(x[t], h, c)
            keep_h = 1 - masks["h.zoneout"][t] if training else 0.3
            keep_c = 1 - masks["c.zoneout"][t] if training else 0.6
            h, c = keep_h * h + (1 - keep_h) * new_h, keep_c * c + (1 - keep_c) * new_c
            torch.testing.assert_close(y[t], h)
        torch.testing.assert_close(states["c"][0], c)


def test_dropped_weights_are_those_that_meet_the_state():
    assert WeightDropout(cells.LSTM(3, 4), 0.5).dropped == ("h.weight",)
    assert WeightDropout(ur.LSTMCell(3, 4), 0.5).dropped == ("weight_hh",)
    assert WeightDropout(cells.ResetBeforeGRU(3, 4), 0.5).dropped
    net = ur.Recurrent(WeightDropout(cells.LSTM(3, 4), 0.5))
    with randomness.counter(4):
        net(torch.randn(3, 2, 3))[0].sum().backward()
        (dropped,) = net.cell.noise(torch.randn(3, 2, 3), 0)[1].values()
    weight = net.cell.cell.h.weight
    assert torch.equal(weight.grad == 0, dropped == 0)
    assert 0.2 < float((dropped == 0).float().mean()) < 0.8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: RecurrentDropout(cells.LSTM(3, 4), 1.0),
            "recurrent dropout must be a probability",
        ),
        (lambda: RecurrentDropout(cells.LSTM(3, 4), 0.1, ["q"]), "LSTM has no state 'q'"),
        (lambda: RecurrentDropout(cells.GRU(3, 4), 0.1), "GRU does not only multiply h by weights"),
        (lambda: RecurrentDropout(cells.LSTM(3, 4), 0.1, ["c"]), "keeps it from step to step"),
        (lambda: RecurrentDropout(cells.Leaky(3, 4), 0.1), "keeps it from step to step"),
        (lambda: Zoneout(cells.LSTM(3, 4), h=-0.1), "zoneout of h must be a probability"),
        (lambda: Zoneout(cells.LSTM(3, 4), z=0.1), "LSTM has no state 'z'"),
        (lambda: Zoneout(cells.Dilated(3, 4), h=0.1), "does not read 'h' of the step before"),
        (lambda: Zoneout(cells.ConvLSTM(3, 4, (5,)), h=0.1), "no state 'h' of one dimension"),
        (lambda: WeightDropout(cells.LSTM(3, 4), 0.1, ["w"]), "LSTM has no parameter 'w'"),
        (lambda: WeightDropout(cells.ConvLSTM(3, 4, (5,)), 0.1), "cannot be found, since"),
    ],
)
def test_what_makes_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make()
