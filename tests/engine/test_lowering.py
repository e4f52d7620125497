"""What operations mean, where they are special: kinks, infinities, NaN, truth values, ranks, constants.

Each is compared with a plain loop over ``step`` that torch differentiates, in float64.
"""

import math

import pytest
import torch
from looped import Plain, PlainWithOutput, by_core, by_hand, check
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.engine import native
from unrolled.engine.choose import run
from unrolled.engine.lower import Declined
from unrolled.engine.trace import trace

pytestmark = pytest.mark.skipif(not native.available(), reason="the core is not built")

INF, NAN = math.inf, math.nan
SPECIAL = [-INF, -20, -6, -3, -1, -0.5, -0.0, 0.0, 0.25, 0.5, 1, 3, 6, 20, INF, NAN]


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


def at_special(count=1):
    """Inputs of every special number, and states so that each meets each."""
    values = torch.tensor(SPECIAL, dtype=torch.float64)
    rows = torch.stack([values.roll(k) for k in range(len(SPECIAL))])
    return values.expand(count, len(SPECIAL), -1).contiguous(), rows


ELEMENTWISE = {
    name: getattr(functional, name)
    for name in (
        *("relu", "relu6", "hardtanh", "hardsigmoid", "hardswish", "elu", "selu", "celu", "silu"),
        *("leaky_relu", "softplus", "logsigmoid", "gelu", "mish", "tanhshrink", "hardshrink"),
        *("softshrink", "softsign"),
    )
} | {
    name: getattr(torch, name)
    for name in (
        *("abs", "sign", "sgn", "floor", "ceil", "trunc", "sqrt", "rsqrt", "reciprocal", "exp"),
        *("expm1", "log", "log1p", "sigmoid", "tanh", "erf", "square", "neg"),
    )
} | {
    "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "celu alpha": lambda x: functional.celu(x, 0.5),
    "elu alpha": lambda x: functional.elu(x, 0.5),
    "leaky relu slope": lambda x: functional.leaky_relu(x, 0.25),
    "softplus at its threshold": lambda x: functional.softplus(x, beta=2, threshold=6),
    "hardtanh between": lambda x: functional.hardtanh(x, -0.5, 3),
    "threshold": lambda x: functional.threshold(x, 0.5, 0.125),
    "hardshrink at one": lambda x: functional.hardshrink(x, 1),
    "softshrink at one": lambda x: functional.softshrink(x, 1),
    "clamp": lambda x: x.clamp(-1, 0.5),
    "clamp from below": lambda x: x.clamp(min=0),
    "clamp from above": lambda x: x.clamp(max=3),
    "clamp the wrong way round": lambda x: x.clamp(1, -1),
    "clamp at NaN": lambda x: x.clamp(min=NAN),
    "glu": lambda x: functional.glu(torch.cat([x, x.flip(-1)], -1)),
    "half": lambda x: x / 2,
    "third": lambda x: x / 3,
    "root": lambda x: x**0.5,
    "inverse": lambda x: x**-1,
    "cube": lambda x: x**3,
    "a power": lambda x: x**1.5,
    "whole": lambda x: torch.div(x, 0.1, rounding_mode="floor"),
    "nearer to zero": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
}  # fmt: skip
LOOSE = {"hardsigmoid", "hardswish"}
"""Of which torch has the slope, 1/6, in float32."""


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_at_special_numbers(name):
    f = ELEMENTWISE[name]
    x, h = at_special()
    allowed = {"rtol": 1e-6, "atol": 1e-7} if name in LOOSE else {}
    check(Plain(lambda x, h: f(x), x.shape[2]), x, h, **allowed)


@pytest.mark.parametrize("name", ["elu", "selu", "celu", "relu6", "hardtanh", "hardswish", "relu"])
def test_from_a_start_at_zero(name):
    """The kink that every run begins at, over several steps."""
    f = getattr(functional, name)
    x = torch.zeros(4, 3, 5, dtype=torch.float64)
    check(Plain(lambda x, h: f(x + h), 5), x, torch.zeros(3, 5, dtype=torch.float64))


PAIRS = {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "clamp from below": lambda x, h: torch.clamp(x, min=h),
    "clamp from above": lambda x, h: torch.clamp(x, max=h),
    "clamp by two": lambda x, h: torch.clamp(x, -h.abs(), h.abs()),
    "clamp by two of which one is a number": lambda x, h: torch.clamp(x, h, 0 * h.detach() + 1),
    "clamp by two sums": lambda x, h: torch.clamp(h, x - 1, x + 1),
    "clamp_min": torch.clamp_min,
    "where": lambda x, h: torch.where(x > h, x, h),
    "and": lambda x, h: torch.logical_and(x, h) * h,
    "or": lambda x, h: torch.logical_or(x, h) * x,
    "xor": lambda x, h: torch.logical_xor(x, h) * x,
    "not": lambda x, h: torch.logical_not(x) * h,
    "alpha": lambda x, h: torch.add(x, h, alpha=0.5),
    "rsub": lambda x, h: torch.rsub(x, h, alpha=0.5),
    "divided, rounded down": lambda x, h: torch.div(x, h, rounding_mode="floor"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_special_numbers(name):
    x, h = at_special()
    check(Plain(PAIRS[name], x.shape[2]), x, h)


def test_bounds_the_wrong_way_round():
    x = torch.tensor([[[-2.0, 0.0, 0.5, 1.0, 2.0, 3.0]]], dtype=torch.float64)
    h = torch.tensor([[1.0, 1.0, -1.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    check(Plain(lambda x, h: torch.clamp(x, h, -h), 6), x, h)


WEIGHTED = {
    "prelu": lambda cell, x, h: functional.prelu(x, cell.w[:1]),
    "prelu by feature": lambda cell, x, h: functional.prelu(x, cell.w),
}


class Weighted(Plain):
    """h' = f(x, h, w)."""

    def __init__(self, formula, width):
        super().__init__(formula, width)
        self.w = nn.Parameter(torch.linspace(-1, 1.5, width))

    def step(self, x, h):
        return self.formula(self, x, h)


@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted_at_special_numbers(name):
    finite = torch.tensor([v for v in SPECIAL if abs(v) < INF], dtype=torch.float64)
    x = finite.expand(2, 3, -1).contiguous()
    check(Weighted(WEIGHTED[name], len(finite)), x, x[0] * 0)


# Truth values and whole numbers.


LOGIC = {
    "truths added": lambda x, h: ((x > 0) + (x > 0.5)).to(x.dtype) * x + h,
    "truths multiplied": lambda x, h: ((x > 0) * (h > 0)).to(x.dtype) * x,
    "truths added to numbers": lambda x, h: x + (x > 0) + (h > 0),
    "and of numbers": lambda x, h: torch.logical_and(x, h).to(x.dtype) * 2 + h,
    "or of numbers": lambda x, h: torch.logical_or(x, h).to(x.dtype) * 2 + h,
    "xor of numbers": lambda x, h: torch.logical_xor(x, h).to(x.dtype) * 2 + h,
    "xor of truths": lambda x, h: ((x > 0) ^ (h > 0)).to(x.dtype) * x,
    "not of numbers": lambda x, h: torch.logical_not(x).to(x.dtype) + h,
    "not of truths": lambda x, h: (~(x > 0) | (h > 1)).to(x.dtype) * h,
    "whole numbers": lambda x, h: ((x > 0).int() + (h > 0).int() * 3 - 1).to(x.dtype) * x,
    "numbers of whole numbers": lambda x, h: x * (1 - (x > 0).float()) + h * (h > 0).double(),
    "counts": lambda x, h: x / ((h > 0).sum(-1, keepdim=True) + 1) + h,
    "made truths": lambda x, h: x.bool().to(x.dtype) * h + torch.full_like(h, 3, dtype=torch.bool),
    "made whole": lambda x, h: x + torch.full_like(h, 2, dtype=torch.int64),
}
NOT_WRITTEN = {
    "bits turned": (lambda x, h: (~(x > 0).int()).to(x.dtype), "bitwise_not in int32"),
    "bits met": (lambda x, h: ((x > 0).int() + (h > 0).int() & 1).to(x.dtype), "bitwise_and in"),
    "bits joined": (lambda x, h: ((x > 0).int() | 2).to(x.dtype), "bitwise_or in int32"),
    "divided and cut": (
        lambda x, h: torch.div((x > 0).int(), 2, rounding_mode="trunc").to(x.dtype),
        "div in int32",
    ),
    "divided": (lambda x, h: ((x > 0).int() // 2).to(x.dtype), "floor_divide in int32"),
    "a third": (lambda x, h: x + (x > 0).int() / 3, "div in float32, and its rows are float64"),
    "a tenth": (lambda x, h: x + (x > 0).float() * 0.1, "mul in float32"),
    "small": (lambda x, h: x + ((x > 0).to(torch.uint8) - 1), "sub in uint8"),
    "cut off": (lambda x, h: x.int().to(x.dtype), "converts torch.float64 to torch.int32"),
}


@pytest.mark.parametrize("name", LOGIC)
def test_truths_and_whole_numbers(name):
    values = torch.tensor([-2, -1, -0.5, 0, 0.25, 0.5, 0.75, 2], dtype=torch.float64)
    rows = torch.stack([values.roll(k) for k in range(8)])
    check(Plain(LOGIC[name], 8), values.expand(2, 8, -1).contiguous(), rows)


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_whole_numbers_that_are_declined(name):
    formula, words = NOT_WRITTEN[name]
    with pytest.raises(Declined, match=words):
        trace(Plain(formula, 4), {}, torch.float64)


# Rows never meet other rows.

ACROSS = {
    "clamp": lambda x, h: torch.clamp(h[:, :1], max=h.mean(1)),
    "clamp by two": lambda x, h: torch.clamp(h[:, :1], h.mean(1), x[:, :1]),
    "clamp_min": lambda x, h: torch.clamp_min(h[:, :1], h.mean(1)),
    "rsub": lambda x, h: torch.rsub(h[:, :1], h.mean(1)),
    "sub": lambda x, h: torch.sub(h[:, :1], h.mean(1), alpha=2),
    "add": lambda x, h: torch.add(h.mean(1), h[:, :1], alpha=0.5),
    "mul": lambda x, h: h[:, :1] * h.mean(1),
    "div": lambda x, h: torch.div(h[:, :1], h.mean(1), rounding_mode="floor"),
    "pow": lambda x, h: (h[:, :1] ** 2) ** h.mean(1),
    "lerp": lambda x, h: torch.lerp(h[:, :1], x[:, :1], h.mean(1)),
    "where": lambda x, h: torch.where(h[:, :1] > 0, h[:, :1], h.mean(1)),
    "and": lambda x, h: torch.logical_and(h[:, :1] > 0, h.mean(1) > 0).to(h.dtype),
    "or": lambda x, h: torch.logical_or(h[:, :1], h.mean(1)).to(h.dtype),
    "expanded": lambda x, h: h.mean(1).expand(h.shape[0], h.shape[0]),
}


@pytest.mark.parametrize("name", ACROSS)
def test_one_number_a_row_meets_columns(name):
    def formula(x, h):
        return x + ACROSS[name](x, h).mean(1, keepdim=True)

    with pytest.raises(Declined, match="across the rows of the batch"):
        trace(Plain(formula, 3), {}, torch.float64)


def test_one_number_a_row_meets_one_number_a_row():
    torch.manual_seed(0)
    x, h = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)

    def formula(x, h):
        one = torch.clamp(h.mean(1), max=x[:, 0])
        other = torch.addcmul(one, x[:, 1], h[:, 2]) - torch.rsub(one, h[:, 0])
        return h * torch.lerp(one, other, x[:, 2]).unsqueeze(1)

    check(Plain(formula, 3), x, h)


# Division is division.


class Clock(ur.Cell):
    """y = floor(t / k): how many periods have passed."""

    output_names = ("y",)
    extra_names = ("t",)

    def __init__(self, periods, way):
        super().__init__(1, len(periods))
        self.periods, self.way = periods, way

    def step(self, x, h, t):
        parts = [t // k if self.way == "whole" else (t / k).floor() for k in self.periods]
        return h, torch.cat(parts, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("way", ["number", "whole"])
def test_periods_that_have_passed(way, dtype):
    periods = list(range(1, 100))
    steps = 500
    x = torch.zeros(steps, 1, 1, dtype=dtype)
    y = run(Clock(periods, way).to(dtype), x).y[:, 0]
    wanted = torch.arange(steps)[:, None] // torch.tensor(periods)
    assert torch.equal(y, wanted.to(dtype))


# Infinities and NaN along the features.

ROWS = [[-INF] * 3, [1, INF, 2], [1, -INF, 2], [INF, INF, -INF], [1, NAN, 2], [0, 1, 2]]
ALONG = {
    "logsumexp": lambda x, h: h + x.logsumexp(-1, keepdim=True),
    "logsumexp of the state": lambda x, h: (h + x).logsumexp(-1, keepdim=True).expand_as(h),
    "softmax": lambda x, h: h + x.softmax(-1),
    "log_softmax": lambda x, h: h + x.log_softmax(-1),
    "amax": lambda x, h: h + x.amax(-1, keepdim=True),
    "amin": lambda x, h: h - x.amin(-1, keepdim=True),
}


@pytest.mark.parametrize("name", ALONG)
def test_rows_with_infinities(name):
    x = torch.tensor([ROWS, ROWS[::-1]], dtype=torch.float64)
    check(Plain(ALONG[name], 3), x, torch.zeros(len(ROWS), 3, dtype=torch.float64))


# Products with factors.

FACTORS = {
    "both": lambda cell, x, h: torch.addmm(cell.b, h, cell.m, beta=0.5, alpha=-2) + x,
    "bias alone": lambda cell, x, h: torch.addmm(cell.b, h, cell.m.T, beta=3) + x,
    "product alone": lambda cell, x, h: torch.addmm(cell.b, h, cell.m, alpha=3) + x,
    "no bias": lambda cell, x, h: torch.addmm((cell.b * NAN).detach(), h, cell.m, beta=0) + x,
    "rows": lambda cell, x, h: torch.addmm(x, h, cell.m, beta=0.25),
}


class Factors(Plain):
    """h' = f(x, h, M, b)."""

    def __init__(self, formula, width):
        super().__init__(formula, width)
        self.m, self.b = nn.Parameter(torch.randn(width, width)), nn.Parameter(torch.randn(width))

    def step(self, x, h):
        return self.formula(self, x, h)


@pytest.mark.parametrize("name", FACTORS)
def test_products_with_factors(name):
    torch.manual_seed(0)
    x, h = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    check(Factors(FACTORS[name], 5).double(), x, h)


class Bilinear(ur.Cell):
    """h' = x A h."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.a = nn.Bilinear(input_size, hidden_size, hidden_size)

    def step(self, x, h):
        return self.a(x, h)


def test_a_bilinear_map_is_declined_in_a_sentence():
    with pytest.raises(Declined) as caught:
        trace(Bilinear(3, 4).double(), {}, torch.float64)
    assert len(str(caught.value)) < 100, caught.value
    assert "assert" not in str(caught.value).lower()


# Results that are constants, beside what is computed of them.


def _beside(f, value):
    def formula(x, h):
        one = torch.full_like(h, value)
        return h * 0 + f(one), one

    return formula


CONSTANT = {
    "mean": lambda one: one.mean(-1, keepdim=True).expand_as(one),
    "sum": lambda one: one.sum(-1, keepdim=True).expand_as(one),
    "largest": lambda one: one.amax(-1, keepdim=True).expand_as(one),
    "layer norm": lambda one: functional.layer_norm(one, one.shape[1:]),
    "softmax": lambda one: one.softmax(-1),
    "log softmax": lambda one: one.log_softmax(-1),
    "logsumexp": lambda one: one.logsumexp(-1, keepdim=True).expand_as(one),
    "length one": lambda one: functional.normalize(one, dim=-1),
    "variance": lambda one: one.var(-1, keepdim=True).expand_as(one),
    "parts": lambda one: torch.cat([one[:, :2], one[:, :2] * 2], -1).sum(-1, True).expand_as(one),
}


@pytest.mark.parametrize("value", [1.0, 0.3])
@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_result_beside_what_is_computed_of_it(name, value):
    torch.manual_seed(0)
    x, h = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    check(PlainWithOutput(_beside(CONSTANT[name], value), 5), x, h)


# Second derivatives.

TWICE = {
    "elu": lambda x, h: functional.elu(x + h),
    "selu": lambda x, h: functional.selu(x) * h,
    "hardswish": lambda x, h: functional.hardswish(x + h),
    "clamp": lambda x, h: torch.clamp(x * h, -0.5, 0.5) + torch.clamp(x * x, min=h),
    "relu": lambda x, h: functional.relu(x) ** 3 + functional.relu(h * x),
    "largest": lambda x, h: torch.maximum(x * x, h * x),
    "logsumexp": lambda x, h: h * (x * h).logsumexp(-1, keepdim=True),
    "divided": lambda x, h: x / 3 + h / (x * x + 1),
    "power": lambda x, h: (x * x + 1) ** 1.5 + h,
    "shrunk": lambda x, h: functional.softshrink(x * h) * x,
}


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    h = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    cell = Plain(TWICE[name], 4)
    found = []
    for engine in (by_core, by_hand):
        y, _ = engine(cell, x, h)
        first = torch.autograd.grad((y * y).sum(), (x, h), create_graph=True)
        found.append(torch.autograd.grad(sum((g * g).sum() for g in first), (x, h)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["relu6", "hardtanh", "hardswish", "relu"])
def test_second_derivatives_at_kinks(name):
    f = getattr(functional, name)
    cell = Plain(lambda x, h: f(x) * h, 4)
    x = torch.tensor([[[0.0, 3.0, -3.0, 6.0]]], dtype=torch.float64, requires_grad=True)
    h = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for engine in (by_core, by_hand):
        y, _ = engine(cell, x, h)
        first = torch.autograd.grad(y.sum(), (x, h), create_graph=True)
        found.append(torch.autograd.grad(first[0].sum() + (first[1] ** 2).sum(), (x, h)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
