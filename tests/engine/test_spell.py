"""Cells of torch.nn and padding inside a step: torch's own functions for them fix the size of the batch."""

import pytest
import torch
from test_native import needs_core
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.engine import reference
from unrolled.engine.choose import decide, run

pytestmark = needs_core


class Within(ur.Cell):
    """A step that calls a module."""

    state_names = ("h", "c")

    def __init__(self, module=None):
        super().__init__(4, 4)
        self.within = module

    def step(self, x, h, c):
        if isinstance(self.within, nn.LSTMCell):
            return self.within(x, (h, c))
        return self.within(x, h), c


def padded(pad, value=0.0):
    class Padded(ur.Cell):
        def step(self, x, h):
            return functional.pad(h, pad, value=value) + 0.5 * x

    return Padded(4, 4)


CELLS = {
    "gru": lambda: Within(nn.GRUCell(4, 4)),
    "gru without bias": lambda: Within(nn.GRUCell(4, 4, bias=False)),
    "lstm": lambda: Within(nn.LSTMCell(4, 4)),
    "rnn": lambda: Within(nn.RNNCell(4, 4)),
    "rnn of relu": lambda: Within(nn.RNNCell(4, 4, bias=False, nonlinearity="relu")),
    "moved on": lambda: padded((1, -1)),
    "moved back": lambda: padded((-2, 2), 0.3),
}


@pytest.mark.parametrize("name", CELLS)
def test_equal_to_the_reference(name):
    torch.manual_seed(0)
    cell = CELLS[name]().double()
    assert decide(cell, {}, torch.float64, "cpu")[1] is None
    for batch in (1, 3):
        x = torch.randn(5, batch, 4, dtype=torch.float64, requires_grad=True)
        found = []
        for how in (run, reference.run):
            y = how(cell, x).y
            found.append([y, *torch.autograd.grad(y.square().sum(), [x, *cell.parameters()])])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_padding_of_the_batch_is_declined():
    cell = padded((0, 0, 0, 1))
    assert decide(cell, {}, torch.float32, "cpu")[1] == "it pads more than the features of its rows"
