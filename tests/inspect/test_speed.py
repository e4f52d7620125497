"""Where the time goes is found where it was spent, and what helps is what was made to help."""

import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from planted import clouds
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.engine import choose
from unrolled.inspect import speed
from unrolled.inspect.speed import Updates, about_speed, duration, measure, outermost

PAUSE = 0.02


class Late(torch.autograd.Function):
    """The identity, which takes its time backwards."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(PAUSE)
        return gradient


class SlowCell(ur.Cell):
    """An Elman cell; in the reference engine each step may pause."""

    def __init__(self, input_size, hidden_size, where=""):
        super().__init__(input_size, hidden_size)
        self.x, self.h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.where = where

    def step(self, x, h):
        if self.where == "loop":
            time.sleep(PAUSE / 2)
        h = (self.x(x) + self.h(h)).tanh()
        return Late.apply(h) if self.where == "loop backwards" else h


class Net(nn.Module):
    def __init__(self, where):
        super().__init__()
        self.where = where
        self.first = nn.Linear(8, 6)
        self.net = ur.Recurrent(SlowCell(6, 5, where), 2)
        self.last = nn.Linear(5, 4)

    def forward(self, x):
        x = self.first(x)
        if self.where == "before":
            time.sleep(PAUSE)
        if self.where == "before backwards":
            x = Late.apply(x)
        y, _ = self.net(x.expand(2, *x.shape))
        if self.where == "after":
            time.sleep(PAUSE)
        if self.where == "after backwards":
            y = Late.apply(y)
        return self.last(y[-1])


def planted(where, net=True, **flags):
    """The clouds, read by a net that pauses somewhere."""
    task = clouds(**flags)
    made = task.batch
    if net:
        task.build = lambda: Net(where)
    if where == "data":
        task.batch = lambda step, rows: time.sleep(PAUSE) or made(step, rows)
    if where == "optimiser":
        task.constrain = lambda model: time.sleep(PAUSE)
    if where == "model":
        task.loss = lambda model, batch, carry: (
            time.sleep(PAUSE)
            or (functional.mse_loss(model(torch.rand(4, 8)), torch.ones(4, 4)), {})
        )
    return task


@pytest.mark.parametrize(
    ("where", "part"),
    [
        *((name, name) for name in ("data", "before", "loop", "after", "optimiser")),
        *((f"{name} backwards", name) for name in ("before", "loop", "after")),
    ],
)
def test_time_is_found_where_it_was_spent(where, part, monkeypatch):
    monkeypatch.setattr(speed, "TURNS", 2)
    with choose.engine("reference"):
        updates = Updates(planted(where))
        measure(updates)
    parts = updates.clock.parts
    assert [*parts] == ["data", "before", "loop", "after", "optimiser"]
    assert parts[part] > 0.9 * PAUSE
    assert parts[part] > 0.5 * updates.clock.whole, parts


def test_a_model_without_recurrent_nets_is_one_part(monkeypatch):
    monkeypatch.setattr(speed, "TURNS", 2)
    updates = Updates(planted("model", net=False))
    measure(updates)
    assert max(updates.clock.parts, key=updates.clock.parts.__getitem__) == "model"
    assert not [*outermost(updates.model)]


def test_updates_are_those_of_a_run():
    task = clouds()
    updates = Updates(task)
    updates.make()
    model = task.build()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    task.loss(model, task.batch(0, slice(0, 32)), {})[0].backward()
    optimizer.step()
    for ours, theirs in zip(updates.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_waiting_for_data_is_found():
    _, (found,) = about_speed(planted("data", net=False))
    assert found.name == "waits for data"
    assert "--batch-size 64" in found.command


def test_a_short_run_is_not_slow():
    facts, found = about_speed(planted("optimiser", net=False, steps=50))
    assert not found
    assert "optimiser" in facts["a step takes"]
    assert "faster" not in facts


def test_what_helps_a_long_run_is_found(monkeypatch):
    """A loss that pauses, but for one thread more."""
    before, inside = torch.get_num_threads(), []

    @contextmanager
    def threads(number):
        inside.append(number)
        yield
        inside.pop()

    monkeypatch.setattr(speed, "threads", threads)
    monkeypatch.setattr(speed, "usable_processors", lambda: before + 1)
    task = planted("", net=False, steps=1_000_000)
    plain = task.loss

    def loss(model, batch, carry):
        if not inside:
            time.sleep(PAUSE)
        return plain(model, batch, carry)

    task.loss = loss
    facts, found = about_speed(task)
    assert f"{before + 1} threads" in facts["faster"]
    (found,) = found
    assert found.name == "slow"
    assert f"times as fast with {before + 1} threads" in found.evidence
    assert found.command.endswith(f"--threads {before + 1}")
    assert found.cause == speed.CAUSES["model"]


def test_a_loop_in_the_reference_engine_is_told_with_the_reason(monkeypatch):
    monkeypatch.setattr(speed, "ways", lambda task, engine: iter(()))
    monkeypatch.setattr(speed, "Updates", lambda task: SimpleNamespace(clock=CLOCK))
    monkeypatch.setattr(speed, "measure", lambda updates, *others: [])
    CLOCK.note(data=0.001, before=0.0, loop=0.2, after=0.01, optimiser=0.001)
    with choose.engine("native"):
        _, (found,) = about_speed(clouds(steps=100_000), "reference", "it sorts")
    assert found.name == "slow"
    assert found.cause == "the reference engine runs the loop: it sorts"
    assert found.command.startswith("unrolled explain ")


CLOCK = speed.Clock()


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with speed.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(3.4, "3 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2 h")],
)
def test_times_as_people_say_them(seconds, told):
    assert duration(seconds) == told
