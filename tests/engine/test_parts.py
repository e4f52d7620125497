"""Rows of two dimensions inside a step: stacked, viewed as parts, computed with part by part."""

import pytest
import torch
from looped import Plain, check
from torch import nn

import unrolled as ur
from unrolled.engine import native
from unrolled.engine.choose import run
from unrolled.engine.explain import explain_cell

pytestmark = pytest.mark.skipif(not native.available(), reason="the core is not built")
WIDTH = 6


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


def heads(h):
    return h.view(-1, 2, 3)


FORMULAS = {
    "columns": lambda x, h: torch.stack([h[:, k] * x[:, -k] for k in range(WIDTH)], 1),
    "of one number a row": lambda x, h: torch.stack([h.sum(1), x.mean(1)], -1).repeat(1, 3),
    "stacked and summed": lambda x, h: torch.stack([x, h, x * h], 1).sum(1),
    "stacked and flat": lambda x, h: torch.stack([x[:, :3], h[:, 3:]], 1).flatten(1),
    "interleaved": lambda x, h: torch.stack([x[:, :3], h[:, 3:]], -1).flatten(1),
    "stacked at the end": lambda x, h: torch.stack([x, h], -1).mean(-1),
    "one stacked": lambda x, h: torch.stack([h, x], 2)[..., 1] * h,
    "unbound": lambda x, h: torch.cat([p.tanh() for p in heads(h).unbind(1)], -1) + x,
    "unbound columns": lambda x, h: torch.cat([*heads(h).unbind(2)], -1) + x,
    "each number": lambda x, h: torch.stack([a.exp() * a for a in (x + h).unbind(1)], 1),
    "selected": lambda x, h: torch.cat([heads(h)[:, 1], heads(x)[:, 0]], 1),
    "a column": lambda x, h: heads(h)[:, :, 1].repeat(1, 3) * x,
    "sliced": lambda x, h: torch.cat([heads(h)[:, 1:], heads(x)[:, :1]], 1).reshape(-1, WIDTH),
    "sliced within": lambda x, h: torch.cat([heads(h)[..., 2:], heads(x)[..., :2]], 2).flatten(1),
    "every other": lambda x, h: x.view(-1, 1, 6)[..., ::2].squeeze(1).repeat(1, 2) + h,
    "split": lambda x, h: torch.cat([p.flatten(1) for p in heads(h).split(1, 1)][::-1], 1) + x,
    "split within": lambda x, h: torch.cat([p.flatten(1) for p in heads(h).chunk(3, -1)], 1) + x,
    "pointwise": lambda x, h: (heads(h).sigmoid() * heads(x) - 0.5).flatten(1),
    "by a number a part": lambda x, h: (heads(h) * heads(x).mean(2, keepdim=True)).flatten(1),
    "by a part": lambda x, h: (heads(h) * x[:, None, :3]).flatten(1),
    "the outer product": lambda x, h: (x[:, :2, None] * h[:, None, :3]).flatten(1),
    "spread": lambda x, h: (h[:, :2, None].expand(-1, -1, 3) * heads(x)).flatten(1),
    "softmax": lambda x, h: heads(h + x).softmax(-1).flatten(1),
    "log softmax": lambda x, h: heads(h + x).log_softmax(2).flatten(1),
    "highest": lambda x, h: heads(h).amax(2).repeat(1, 3) + x,
    "lowest of two": lambda x, h: heads(h + x).amin(1).repeat(1, 2),
    "all": lambda x, h: heads(h * x).sum((1, 2))[:, None] + x,
    "mean of all": lambda x, h: heads(h * x).mean((1, 2), keepdim=True).flatten(1) + x,
    "a mean of parts": lambda x, h: heads(h).mean(1, keepdim=True).expand(-1, 2, -1).flatten(1) * x,
    "chosen": lambda x, h: torch.where(heads(h) > heads(x), heads(x), 0.5).flatten(1),
    "another view": lambda x, h: heads(h).reshape(-1, 3, 2).sum(2).repeat(1, 2) + x,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_rows_of_two_dimensions(name):
    torch.manual_seed(0)
    x, h = (torch.randn(*shape, WIDTH, dtype=torch.float64) for shape in ((4, 3), (3,)))
    check(Plain(FORMULAS[name], WIDTH), x, h)


class HeadWise(ur.Cell):
    """Several heads, each with gates of its own."""

    def __init__(self, heads=2, width=3):
        super().__init__(4, heads * width)
        self.heads = heads
        self.given = nn.Linear(4, 3 * heads * width)

    def step(self, x, h):
        new, gate, _ = self.given(x).view(x.shape[0], 3, self.heads, -1).unbind(1)
        return (new * gate).flatten(1) + h


class Gated(ur.Cell):
    """Gates cut by a view, each scaled by a vector that all share."""

    def __init__(self):
        super().__init__(4, 5)
        self.w, self.u = nn.Linear(4, 15), nn.Linear(5, 15, bias=False)
        self.scale = nn.Parameter(torch.rand(5))

    def step(self, x, h):
        gates = (self.w(x) + self.u(h)).view(-1, 3, 5) * self.scale
        r, z, n = gates.unbind(1)
        return z.sigmoid() * h + r.sigmoid() * n.tanh()


def test_gates_cut_by_a_view():
    torch.manual_seed(0)
    x, h = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    check(Gated(), x, h)


class Vectors(ur.Cell):
    """Parts of vectors that are joined, some with rows."""

    def __init__(self, formula):
        super().__init__(WIDTH, WIDTH)
        torch.manual_seed(0)
        self.formula, self.v = formula, nn.Parameter(torch.randn(WIDTH))

    def step(self, x, h):
        return self.formula(self.v, self.v.expand_as(x), x) * h + x


@pytest.mark.parametrize(
    "formula",
    [
        lambda v, rows, x: torch.cat([v[3:], v[:3]]),
        lambda v, rows, x: torch.cat([rows[:, 3:], rows[:, :3]], 1),
        lambda v, rows, x: torch.cat([rows[:, 3:] * 2, rows.tanh()[:, 3:]], 1),
        lambda v, rows, x: torch.cat([rows[:, :3], x[:, :3]], 1),
        lambda v, rows, x: rows.flip(1) + x,
    ],
)
def test_vectors_side_by_side(formula):
    torch.manual_seed(1)
    x, h = (torch.randn(*shape, WIDTH, dtype=torch.float64) for shape in ((4, 3), (3,)))
    check(Vectors(formula), x, h)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (lambda x, h: h.view(-1, 3, 2).amax(1).repeat(1, 3), "amax over more than two parts"),
        (lambda x, h: heads(h).softmax(1).flatten(1), "a softmax over parts of its rows"),
        (lambda x, h: (heads(h) * (1 + 2j)).abs().flatten(1), "complex rows of 2 dimensions"),
        (lambda x, h: heads(h).transpose(1, 2).flatten(1), "it turns rows into columns"),
    ],
)
def test_what_is_declined_says_why(formula, reason, monkeypatch):
    monkeypatch.delenv("UNROLLED_STRICT")
    assert reason in str(explain_cell(Plain(formula, WIDTH)))


def test_three_dimensions_a_row_are_declined(monkeypatch):
    monkeypatch.delenv("UNROLLED_STRICT")
    cell = HeadWise()
    assert "gives rows of 3 dimensions" in str(explain_cell(cell))
    assert run(cell, torch.randn(3, 2, 4)).y.shape == (3, 2, 6)


def test_many_parts_are_declined(monkeypatch):
    monkeypatch.delenv("UNROLLED_STRICT")
    cell = Plain(lambda x, h: h.view(-1, 100, 2).sum(2).repeat(1, 2), 200)
    assert "rows of 2 dimensions, 100 parts each" in str(explain_cell(cell))
