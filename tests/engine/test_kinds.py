"""Numbers of other kinds than the rows': truth values, whole numbers and single numbers beside them."""

import pytest
import torch
from test_native import needs_core
from torch import nn

import unrolled as ur
from unrolled.engine import reference
from unrolled.engine.choose import decide, run

pytestmark = needs_core


class Kinds(ur.Cell):
    """Parameters and buffers of many kinds."""

    def __init__(self):
        super().__init__(3, 3)
        torch.manual_seed(0)
        self.a, self.u = nn.Linear(3, 3), nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("count", torch.tensor([1, 2, 3]))

    def new(self, x, h):
        return (self.a(x) + self.u(h)).tanh()


STEPS = {
    "a choice of numbers": lambda s, x, h: torch.where(s.a(x) > 0, 1.0, -1.0) * h.tanh() + s.u(h),
    "a choice of whole numbers": lambda s, x, h: s.new(x, h) * torch.where(s.a(x) > 0, 1, 0),
    "a number": lambda s, x, h: s.new(x, h) * torch.tensor(0.5),
    "a mask that chooses": lambda s, x, h: torch.where(s.mask, s.new(x, h), h),
    "a mask that multiplies": lambda s, x, h: s.new(x, h) * s.mask,
    "whole numbers": lambda s, x, h: s.new(x, h) / s.count,
    "places": lambda s, x, h: s.new(x, h) * torch.arange(3),
    "a single parameter": lambda s, x, h: s.new(x, h) * s.scale,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STEPS)
def test_they_take_the_kind_of_the_rows(name, dtype):
    cell = type("Of", (Kinds,), {"step": STEPS[name]})().to(dtype)
    cell.scale.data = cell.scale.data.float()
    assert decide(cell, {}, dtype, "cpu")[1] is None
    x = torch.randn(5, 2, 3, dtype=dtype, requires_grad=True)
    wanted = [x, *cell.parameters()]
    found = []
    for how in (run, reference.run):
        y = how(cell, x).y
        grads = torch.autograd.grad(y.square().sum(), wanted, allow_unused=True)
        found.append([y, *(g for g in grads if g is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "output", [lambda h: h.sum(-1), lambda h: h > 0], ids=["a number a row", "truth values"]
)
def test_outputs_that_are_no_rows_of_numbers_are_left_to_torch(output):
    def step(self, x, h):
        return self.new(x, h), output(h)

    cell = type("Of", (Kinds,), {"step": step, "output_names": ("y",)})()
    assert decide(cell, {}, torch.float32, "cpu")[1].startswith("y is torch.")
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(run(cell, x).y, reference.run(cell, x).y)
