"""Cells nobody wrote: random small programs run alike in both engines, forwards and backwards."""

from dataclasses import dataclass, field
from functools import cached_property

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_native import needs_core
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.engine import reference
from unrolled.engine.choose import run

INPUT = 3
UNARY = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "elu": functional.elu,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": lambda a: (a.clamp(-4, 4)).exp(),
    "log": lambda a: (a * a + 0.5).log(),
    "sqrt": lambda a: (a * a + 0.25).sqrt(),
    "reciprocal": lambda a: 1 / (a.abs() + 0.5),
    "neg": torch.neg,
    "affine": lambda a: 1 - 0.3 * a,
    "detach": torch.detach,
    "sign": lambda a: a * (a > 0.1),
    "softmax": lambda a: a.softmax(-1),
    "layer norm": lambda a: functional.layer_norm(a, a.shape[-1:], eps=0.1),
    "centred": lambda a: a - a.mean(-1, keepdim=True),
    "scaled": lambda a: a / (1 + a.square().sum(-1, keepdim=True)),
    "by the largest": lambda a: a * a.amax(-1, keepdim=True).sigmoid(),
    "flip": lambda a: a.flip(-1),
    "halves": lambda a: torch.cat([a[:, a.shape[1] // 2 :], a[:, : a.shape[1] // 2]], -1),
    "one of it": lambda a: a * a[:, :1],
    "twice": lambda a: torch.cat([a, a], -1),
    "first": lambda a: a[:, : max(1, a.shape[1] // 2)],
    "last": lambda a: a[:, a.shape[1] // 3 :],
    "every other": lambda a: a[:, ::2],
    "chunks": lambda a: a.chunk(2, -1)[0].tanh() if a.shape[1] > 1 else a,
    "sum": lambda a: a.sum(-1, keepdim=True).tanh(),
    "parts": lambda a: torch.cat([a, a], -1).view(-1, 2, a.shape[1]).softmax(-1).flatten(1),
    "by the mean of parts": lambda a: (a[:, None] * a[:, None].mean(2, keepdim=True)).flatten(1),
    "spectrum": lambda a: torch.fft.rfft(a, norm="ortho").imag + 0.1,
    "convolved with itself": lambda a: torch.fft.ifft(torch.fft.fft(a, norm="ortho") ** 2).real,
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: a / (b * b + 0.5),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where": lambda a, b: torch.where(a > 0.05, a, b),
    "lerp": lambda a, b: torch.lerp(a, b, a.sigmoid()),
    "turn": lambda a, b: (torch.complex(a, b) * torch.exp(1j * b)).real,
    "quotient": lambda a, b: (1 / torch.complex(a.abs() + 0.5, b)).imag,
    "interleave": lambda a, b: torch.stack(torch.broadcast_tensors(a, b), -1).flatten(1),
    "stack": lambda a, b: torch.stack(torch.broadcast_tensors(a, b), 1).mean(1),
}


@dataclass(frozen=True)
class Plan:
    """A step: names of what there is, and what is done with which values, one after the other."""

    widths: tuple[int, ...]
    outputs: int
    extras: tuple[int, ...]
    moves: tuple[tuple, ...]
    results: tuple[tuple[int, bool], ...] = field(default=())


class Random(ur.Cell):
    """Follows a plan. Results of the wrong width go through a matrix, and through tanh lest they grow."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(INPUT, plan.widths[0])
        self.plan = plan
        self.linear, self.vectors = nn.ModuleDict(), nn.ParameterDict()
        self.shared: dict[int, str | None] = {}
        self.building = True
        rows = [torch.zeros(2, INPUT), *(torch.zeros(2, n) for n in (*plan.widths, *plan.extras))]
        self.follow(rows)
        self.building = False

    @cached_property
    def _names(self):
        return tuple(f"s{k}" for k in range(len(self.plan.widths)))

    @property
    def state_names(self):
        return self._names

    @property
    def output_names(self):
        return tuple(f"y{k}" for k in range(self.plan.outputs))

    @property
    def extra_names(self):
        return tuple(f"e{k}" for k in range(len(self.plan.extras)))

    @property
    def state_sizes(self):
        return dict(zip(self.state_names, self.plan.widths, strict=True))

    @property
    def output_size(self):
        return self.plan.widths[0]

    def map(self, key, a, width, bias=True):
        if self.building and key not in self.linear:
            self.linear[key] = nn.Linear(a.shape[1], width, bias=bias)
        return self.linear[key](a)

    def follow(self, rows):
        values = list(rows)
        for place, (kind, *what) in enumerate(self.plan.moves):
            a, *more = (values[k % len(values)] for k in what[1:])
            if kind == "map":
                width, bias = what[0]
                value = self.map(f"m{place}", a, width, bias)
            elif kind == "share":  # a matrix that is used already
                if self.building:
                    alike = [k for k, m in self.linear.items() if m.in_features == a.shape[1]]
                    self.shared[place] = alike[what[0] % len(alike)] if alike else None
                key = self.shared[place]
                value = a if key is None else self.linear[key](a)
            elif kind == "unary":
                value = UNARY[what[0]](a)
            elif kind == "vector":
                key = f"v{place}"
                if self.building:
                    self.vectors[key] = nn.Parameter(torch.rand(a.shape[1]) + 0.5)
                value = BINARY[what[0]](a, self.vectors[key])
            elif kind == "cat":
                value = torch.cat([a, *more], -1)
            elif kind == "binary":
                (b,) = more
                if 1 not in (a.shape[1], b.shape[1]):
                    n = min(a.shape[1], b.shape[1])
                    a, b = a[:, :n], b[:, b.shape[1] - n :]
                value = BINARY[what[0]](a, b)
            else:
                value = a
            values.append(value if value.shape[1] <= 12 else value[:, :12])
        results = []
        widths = (*self.plan.widths, *self.plan.widths[:1] * self.plan.outputs)
        for place, (width, (k, squash)) in enumerate(zip(widths, self.plan.results, strict=True)):
            value = values[-1 - k % len(values)]
            value = value if value.shape[1] == width else self.map(f"r{place}", value, width)
            results.append(value.tanh() if squash or place < len(self.plan.widths) else value)
        return tuple(results)

    def step(self, x, *states, **extras):
        return self.follow([x, *states, *extras.values()])


@st.composite
def plans(draw):
    places = st.integers(0, 40)
    widths = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    outputs = draw(st.integers(0, 2))
    extras = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    maps = st.tuples(st.just("map"), st.tuples(st.integers(1, 8), st.booleans()), places)
    move = st.one_of(
        maps,
        maps,
        st.tuples(st.just("share"), places, places),
        st.tuples(st.just("unary"), st.sampled_from(sorted(UNARY)), places),
        st.tuples(st.just("binary"), st.sampled_from(sorted(BINARY)), places, places),
        st.tuples(st.just("vector"), st.sampled_from(["add", "mul", "sub", "maximum"]), places),
        st.tuples(st.just("cat"), st.none(), places, places),
        st.tuples(st.just("cat"), st.none(), places, places, places),
    )
    moves = tuple(draw(st.lists(move, min_size=1, max_size=12)))
    ends = st.tuples(st.integers(0, 12), st.booleans())
    many = len(widths) + outputs
    results = tuple(draw(st.lists(ends, min_size=many, max_size=many)))
    return Plan(widths, outputs, extras, moves, results)


@st.composite
def calls(draw):
    batch, steps = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    lengths = draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    return batch, steps, lengths, draw(st.booleans()), draw(st.booleans()), draw(st.booleans())


def results(engine, cell, x, states, extras, call):
    """All results and gradients of a run; zeros for what has none."""
    outputs = engine(cell, x, states, extras=extras, **call)
    given = [x, *(states or {}).values(), *extras.values(), *cell.parameters()]
    history = [outputs.history[name] for name in sorted(outputs.history)]
    found = [outputs.y, *outputs.states.values(), *history]
    loss = sum((r * torch.linspace(0.3, 1, r.numel()).double().view_as(r)).sum() for r in found)
    assert isinstance(loss, torch.Tensor)
    gradients = [None] * len(given)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, given, allow_unused=True)
    zeroed = [
        torch.zeros_like(t) if g is None else g for t, g in zip(given, gradients, strict=True)
    ]
    return [*(r.detach() for r in found), *zeroed]


def compare(plan, call):
    batch, steps, lengths, reverse, keep, start = call
    torch.manual_seed(0)
    cell = Random(plan).double()
    generator = torch.Generator().manual_seed(1)

    def rows(*shape):
        return torch.randn(*shape, generator=generator).double().requires_grad_()

    x = rows(steps, batch, INPUT)
    states = {n: rows(batch, w) for n, w in cell.state_sizes.items()} if start else None
    extras = {n: rows(steps, batch, w) for n, w in zip(cell.extra_names, plan.extras, strict=True)}
    lengths = None if lengths is None else torch.tensor(lengths)
    further = {"lengths": lengths, "reverse": reverse, "keep": keep}
    if lengths is not None and not int(lengths.max()):
        further["lengths"] = None
    found = results(run, cell, x, states, extras, further)
    wanted = results(reference.run, cell, x, states, extras, further)
    for a, b in zip(found, wanted, strict=True):
        scale = max(1.0, float(b.abs().max()) if b.numel() else 1.0)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * scale)
    with torch.no_grad():
        again = run(cell, x, states, extras=extras, **further)
    torch.testing.assert_close(again.y, found[0], rtol=1e-10, atol=1e-10)


plain = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


@needs_core
@settings(plain, max_examples=150)
@given(plans(), calls())
def test_random_cells(plan, call):
    compare(plan, call)


@needs_core
@pytest.mark.slow
@settings(plain, max_examples=4000, derandomize=False)
@given(plans(), calls())
def test_many_random_cells(plan, call):
    compare(plan, call)
