"""A program is what the step says now, whatever it reads."""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from test_native import needs_core
from torch import nn

import unrolled as ur
from unrolled.engine import reference
from unrolled.engine.choose import run
from unrolled.engine.signature import signature

GAIN = 1.0
SETTINGS = {"gain": 1.0}
OWN_MODULE = ModuleType("of_the_user")


class Gains:
    gain = 1.0


class Base(ur.Cell):
    k = 1.0

    def __init__(self, scale=1.0):
        super().__init__(3, 3)
        self._scale = scale

    def gained(self, h):
        return h

    def step(self, x, h):
        return (x + self.gained(h)).tanh()


def helper(h):
    return h * GAIN


def loop(cell, x):
    """A plain loop over step."""
    h, found = torch.zeros(x.shape[1], 3), []
    for row in x:
        h = cell.step(row, h)
        found.append(h.detach())
    return torch.stack(found)


def check(cell):
    """Whether the native engine runs a cell, and gives what a loop does."""
    assert ur.explain(cell).engine == "native"
    x = torch.linspace(-1, 1, 24).view(4, 2, 3)
    found = run(cell, x).y
    torch.testing.assert_close(found, loop(cell, x))
    return found


def differ(cell, change):
    before = check(cell)
    change(cell)
    assert not torch.allclose(check(cell), before)


@pytest.fixture(autouse=True)
def _as_they_were(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "GAIN", 1.0)
    monkeypatch.setitem(SETTINGS, "gain", 1.0)
    monkeypatch.setattr(Gains, "gain", 1.0)
    monkeypatch.setattr(OWN_MODULE, "gain", 1.0, raising=False)


# ---------------------------------------------------------------- what a step reads


class Private(Base):
    def gained(self, h):
        return h * self._scale


@needs_core
def test_attributes_that_begin_with_an_underscore():
    first, second = check(Private(1.0)), check(Private(3.0))
    assert not torch.allclose(first, second)
    cell = Private(1.0)
    differ(cell, lambda cell: setattr(cell, "_scale", -2.0))
    cell._scale = 1.0
    torch.testing.assert_close(check(cell), first)


@needs_core
def test_zeros_of_either_sign_and_one_and_true():
    class Signed(Base):
        def step(self, x, h):
            return h * 0 + (2.0 if str(self._scale)[0] == "-" else 1.0) * x * (
                5 if self._scale is True else 3
            )

    for first, second in ((0.0, -0.0), (1, True), (1.0, True)):
        assert not torch.allclose(check(Signed(first)), check(Signed(second)))


@needs_core
def test_attributes_of_a_class_and_of_those_it_comes_from():
    class Own(Base):
        def gained(self, h):
            return h * self.k

    differ(Own(), lambda cell: setattr(Own, "k", 2.0))
    del Own.k
    differ(Own(), lambda cell: setattr(Base, "k", 3.0))
    Base.k = 1.0


@needs_core
def test_a_step_or_a_method_that_is_replaced():
    class Own(Base):
        pass

    differ(Own(), lambda cell: setattr(Own, "step", lambda self, x, h: x - h))
    differ(Own(), lambda cell: setattr(Own, "step", Base.step))
    differ(Own(), lambda cell: setattr(Own, "gained", lambda self, h: -h))

    def other(self, h):
        return h * 7

    # As autoreload does.
    differ(Own(), lambda cell: setattr(Own.gained, "__code__", other.__code__))


@needs_core
def test_properties_and_static_methods():
    class Own(Base):
        def gained(self, h):
            return self.doubled(h) * self.rate

        @property
        def rate(self):
            return GAIN

        @staticmethod
        def doubled(h, by=2):
            return h * by

    differ(Own(), lambda cell: globals().update(GAIN=0.25))
    differ(Own(), lambda cell: setattr(Own, "doubled", staticmethod(lambda h: h * 3)))
    differ(Own(), lambda cell: setattr(Own, "rate", property(lambda self: 5)))


READERS = {
    "a variable": (lambda self, h: h * GAIN, lambda: globals().update(GAIN=2.0)),
    "a variable within": (
        lambda self, h: next(g(h) for g in (lambda a: a * GAIN,)),
        lambda: globals().update(GAIN=2.0),
    ),
    "a function's variable": (lambda self, h: helper(h), lambda: globals().update(GAIN=2.0)),
    "a dictionary": (lambda self, h: h * SETTINGS["gain"], lambda: SETTINGS.update(gain=2.0)),
    "a class": (lambda self, h: h * Gains.gain, lambda: setattr(Gains, "gain", 2.0)),
    "a module": (lambda self, h: h * OWN_MODULE.gain, lambda: setattr(OWN_MODULE, "gain", 2.0)),
    "by name": (lambda self, h: h * getattr(Gains, "gain"), lambda: setattr(Gains, "gain", 2.0)),  # noqa: B009
}


@needs_core
@pytest.mark.parametrize("name", READERS)
def test_variables_of_a_module(name):
    reader, change = READERS[name]

    class Own(Base):
        gained = reader

    differ(Own(), lambda cell: change())


@needs_core
@pytest.mark.parametrize("name", READERS)
def test_variables_that_a_function_reads_which_a_cell_holds(name):
    class Own(Base):
        def gained(self, h):
            return self.act(self, h)

    cell = Own()
    cell.act = READERS[name][0]
    differ(cell, lambda cell: READERS[name][1]())


@needs_core
def test_what_a_step_closes_over():
    gain, within = 1.0, {"gain": 1.0}

    class Own(Base):
        def gained(self, h):
            return h * gain * within["gain"]

    def change(cell):
        nonlocal gain
        gain = 2.0

    differ(Own(), change)
    differ(Own(), lambda cell: within.update(gain=3.0))
    cell = Base()
    cell.gained = (lambda by: lambda h: h * by[0])([2.0])
    differ(cell, lambda cell: cell.gained.__closure__[0].cell_contents.__setitem__(0, 3.0))


class Settings:
    def __init__(self, k):
        self.k = k

    def times(self):
        return self.k * 2


class Slotted:
    __slots__ = ("k",)


@needs_core
@pytest.mark.parametrize("make", [Settings, lambda k: SimpleNamespace(k=k), lambda k: Slotted()])
def test_attributes_of_a_plain_object(make):
    class Own(Base):
        def gained(self, h):
            return h * self.cfg[0].inner.k

    def of(k):
        cell = Own()
        cell.cfg = [SimpleNamespace(inner=make(k))]
        cell.cfg[0].inner.k = k
        cell.cfg[0].inner_of = cell.cfg  # round in a circle
        return cell

    assert not torch.allclose(check(of(1.0)), check(of(2.0)))
    differ(of(1.0), lambda cell: setattr(cell.cfg[0].inner, "k", 3.0))


@needs_core
def test_methods_of_a_plain_object():
    class Own(Base):
        def gained(self, h):
            return h * self.cfg.times()

    cell = Own()
    cell.cfg = Settings(1.0)
    differ(cell, lambda cell: setattr(cell.cfg, "k", 3.0))
    before = Settings.times
    differ(cell, lambda cell: setattr(Settings, "times", lambda self: -self.k))
    Settings.times = before


@needs_core
def test_partial_functions_and_submodules():
    class Inner(nn.Module):
        rate = 1.0

        def forward(self, h):
            return h * self.rate * self._by

    class Own(Base):
        def __init__(self):
            super().__init__()
            self.inner, self.act = Inner(), partial(torch.mul, other=1.0)
            self.inner._by = 1.0

        def gained(self, h):
            return self.act(self.inner(h))

    differ(Own(), lambda cell: setattr(cell, "act", partial(torch.mul, other=2.0)))
    differ(Own(), lambda cell: setattr(cell.inner, "_by", 2.0))
    differ(Own(), lambda cell: setattr(Inner, "rate", 3.0))


@needs_core
def test_plain_tensors_that_are_changed_in_place():
    class Own(Base):
        def gained(self, h):
            return h * self.gain.item() * self.many.tolist()[30]

    cell = Own()
    cell.gain, cell.many = torch.tensor(1.0), torch.ones(40)
    differ(cell, lambda cell: cell.gain.fill_(2.0))
    differ(cell, lambda cell: cell.gain.data.mul_(2.0))
    differ(cell, lambda cell: cell.many.mul_(2.0))
    differ(cell, lambda cell: setattr(cell, "many", torch.ones(40)))


@needs_core
def test_arrays_that_are_changed_in_place():
    class Own(Base):
        def gained(self, h):
            return h * float(self.table[500])

    cell = Own()
    cell.table = np.ones(2000)
    differ(cell, lambda cell: cell.table.__setitem__(500, 2.0))
    cell.table = np.ones(100_001)
    assert "array of 100,001 numbers" in ur.explain(cell).reason
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(run(cell, x).y, loop(cell, x))
    cell.table[500] = 3
    torch.testing.assert_close(run(cell, x).y, loop(cell, x))


@needs_core
def test_cells_alike_share_a_program_and_what_is_not_read_does_not_count():
    class Own(Base):
        def __init__(self, k):
            super().__init__(k)
            self.cfg, self.act = Settings(k), lambda h: h * k
            self.cfg.unread = object()

        def gained(self, h):
            return self.act(h) * self.cfg.k

    assert signature(Own(2.0)) == signature(Own(2.0))
    assert signature(Own(2.0)) != signature(Own(3.0))


@needs_core
def test_the_precision_of_parameters_tells_cells_apart():
    class Own(Base):
        def __init__(self):
            super().__init__()
            self.h = nn.Linear(3, 3)

        def gained(self, h):
            return self.h(h)

    cell, x = Own(), torch.randn(4, 2, 3).double()
    assert ur.explain(cell, dtype=torch.float64).engine == "native"
    with pytest.raises(RuntimeError):
        run(cell, x)
    cell.double()
    torch.testing.assert_close(run(cell, x).y, reference.run(cell, x).y)
    assert ur.explain(cell).engine == "native"
