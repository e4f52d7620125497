"""A step that draws random numbers, or changes what it finds, is left to the reference engine."""

import random
import sys
from collections import deque
from functools import cached_property
from types import FunctionType

import numpy as np
import pytest
import torch
from test_native import needs_core
from test_reads import Base, Settings, check, loop
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.engine import programs, reference
from unrolled.engine.choose import run

COUNT = 0
SEEN: list[torch.Tensor] = []


@pytest.fixture(autouse=True)
def _as_they_were(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "COUNT", 0)
    SEEN.clear()


# ---------------------------------------------------------------- what a step draws


class Drawing(Base):
    def __init__(self, draw):
        super().__init__()
        self.w = nn.Parameter(torch.full((3,), 0.5))
        self.draw = draw
        self.own = random.Random(0)
        self.generator = np.random.default_rng(0)

    def gained(self, h):
        return self.draw(self, h)


DRAWS = {
    "random": lambda self, h: h if random.random() < 0.5 else h * 2,
    "numpy": lambda self, h: h * np.random.rand(),
    "random of its own": lambda self, h: h * self.own.random(),
    "numpy of its own": lambda self, h: h * self.generator.random(),
    "a vector": lambda self, h: h * 0 + torch.randn(3),
    "dropout of a parameter": lambda self, h: h * functional.dropout(self.w, 0.5, self.training),
    "in place": lambda self, h: h + torch.empty(3).uniform_(),
    "bernoulli": lambda self, h: h * torch.bernoulli(self.w),
    "of rows": lambda self, h: h + torch.rand_like(h),
    "a number": lambda self, h: h * float(torch.rand(())),
}


@needs_core
@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_are_drawn_at_every_step(name):
    def seeded(engine):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        cell.own.seed(1)
        cell.generator.bit_generator.state = np.random.default_rng(1).bit_generator.state
        return engine(cell, x).y

    x = torch.linspace(-1, 1, 60).view(20, 1, 3)
    cell = Drawing(DRAWS[name])
    assert ur.explain(cell).reason == "it draws random numbers"
    programs._compiled.clear()
    # Though it is traced, which draws once more.
    torch.testing.assert_close(seeded(run), seeded(reference.run))


@needs_core
def test_dropout_that_is_off_draws_nothing():
    check(Drawing(DRAWS["dropout of a parameter"]).eval())


@needs_core
def test_what_another_thread_draws_is_not_the_step(monkeypatch):
    cell = Drawing(lambda self, h: h * 2)
    once = [lambda: random.random()]
    step = FunctionType(Base.step.__code__, globals())

    class Own(Drawing):
        def step(self, x, h):
            if once:
                once.pop()()
            return step(self, x, h)

    # Traced twice: a step that draws the first time only is like another thread that draws then.
    monkeypatch.setattr("unrolled.engine.undisturbed._Kept.changed", lambda self: None)
    monkeypatch.setattr("unrolled.engine.undisturbed._Kept.put_back", lambda self: False)
    assert ur.explain(Own(cell.draw)).engine == "native"


# ---------------------------------------------------------------- what a step changes


class Counting(Base):
    n = 0

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.log, self.table, self.last = [], {}, deque(maxlen=2)
        self.cfg, self.counts = Settings(0), np.zeros(3)
        self.register_buffer("mean", torch.ones(3))

    def gained(self, h):
        return h * self.change(self, h)


def attribute(self, h):
    self.n += 1
    return 1 + self.n % 2


def of_class(self, h):
    type(self).n += 1
    return 1 + type(self).n % 2


def variable(self, h):
    global COUNT
    COUNT += 1
    return 1 + COUNT % 2


def logged(self, h):
    self.log.append(h)
    return 1 + len(self.log) % 2


def listed(self, h):
    SEEN.append(h)
    return 1 + len(SEEN) % 2


def tabled(self, h):
    self.table[len(self.table)] = h
    return 1 + len(self.table) % 2


def queued(self, h):
    self.last.append(h)
    return len(self.last)


def object_attribute(self, h):
    self.cfg.k += 1
    return 1 + self.cfg.k % 2


def array(self, h):
    self.counts[0] += 1
    return 1 + float(self.counts[0]) % 2


def buffer(self, h):
    self.mean = self.mean * 0.5
    return self.mean


def cached(self, h):
    if not hasattr(self, "mask"):
        self.mask = torch.ones(3)
    return self.mask


CHANGES = {
    attribute: "its attribute 'n'",
    of_class: "'n'",
    variable: "'COUNT'",
    logged: "its attribute 'log'",
    listed: "shares with others",
    tabled: "its attribute 'table'",
    queued: "its attribute 'last'",
    object_attribute: "its attribute 'cfg'",
    array: "its attribute 'counts'",
    buffer: "its attribute 'mean'",
    cached: "its attribute 'mask'",
}


@needs_core
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_step_that_changes_what_it_finds(change):
    global COUNT
    x = torch.linspace(-1, 1, 60).view(20, 1, 3)
    cell = Counting(change)
    reason = ur.explain(cell).reason
    assert CHANGES[change] in reason
    assert "would do once" in reason
    assert "state_names" in ur.explain(cell).advice
    # Nothing of the trace is left.
    assert (cell.n, COUNT, SEEN, cell.log, cell.table, cell.cfg.k) == (0, 0, [], [], {}, 0)
    assert not cell.last
    assert not cell.counts.any()
    assert not hasattr(cell, "mask")
    found = run(cell, x).y
    other = Counting(change)
    Counting.n = COUNT = 0
    SEEN.clear()
    torch.testing.assert_close(found, loop(other, x))
    assert all(type(h) is torch.Tensor for h in (*SEEN, *cell.log, *cell.last))
    Counting.n = 0


@needs_core
def test_a_cell_that_changes_all_the_time_is_not_traced_for_ever(monkeypatch):
    count = []
    monkeypatch.setattr(
        programs, "_compile", lambda *args, of=programs._compile: count.append(1) or of(*args)
    )
    cell, x = Counting(attribute), torch.randn(3, 1, 3)
    other = Counting(attribute)
    for _ in range(programs.MOST_TRIED + 5):
        torch.testing.assert_close(run(cell, x).y, loop(other, x))
    assert len(count) == programs.MOST_TRIED


@needs_core
def test_what_is_computed_once_and_kept_is_no_change():
    class Own(Base):
        @cached_property
        def rate(self):
            return self.k * 2

        def gained(self, h):
            return h * self.rate

    check(Own())
