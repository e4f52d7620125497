"""Cells of one's own under torch.compile and torch.export."""

import os
import subprocess
import sys

import pytest
import torch
from test_native import needs_core

import unrolled as ur

CELL = """
import torch
from torch import nn
import unrolled as ur

class Skewed(ur.Cell):
    extra_names = ("m",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Parameter(0.3 * torch.randn(hidden_size, hidden_size))
        self.rate = nn.Parameter(torch.zeros(hidden_size))
        self.scale = 1.0

    def step(self, x, h, m):
        new = (self.x(x) + h @ (self.h - self.h.T)).tanh() * self.scale
        r = self.gate("r", self.rate.sigmoid().expand_as(h))
        return (r * h + (1 - r) * new) * m
"""
given: dict = {}
exec(CELL, given)  # the same source as the other process has
Skewed = given["Skewed"]


def inputs(steps, rows):
    torch.manual_seed(steps)
    x = torch.randn(steps, rows, 3, dtype=torch.float64, requires_grad=True)
    return x, {"m": torch.rand(steps, rows, 4, dtype=torch.float64)}


def outcome(run, net, steps, rows, **options):
    x, extras = inputs(steps, rows)
    y, states, *history = run(x, extras=extras, **options)
    values = [y, *states.values(), *(history[0].values() if history else ())]
    loss = sum(value.sin().sum() for value in values)
    return [*values, *torch.autograd.grad(loss, [x, *net.parameters()])]


def same(a, b, tolerance=1e-12):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()


def loops(graphs):
    loop = torch.ops.unrolled.loop_forward
    return [sum(node.target is loop for node in graph.graph.nodes) for graph in graphs]


@needs_core
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("unequal", [False, True])
def test_a_cell_of_ones_own(keep, unequal):
    net = ur.Recurrent(Skewed(3, 4), 2, bidirectional=True).double()
    graphs = []
    backend = lambda graph, _: graphs.append(graph) or graph.forward  # noqa: E731
    runs = [
        torch.compile(net, fullgraph=True, backend=backend),
        torch.compile(net, fullgraph=True, backend="aot_eager"),
    ]
    for run in runs:
        for steps, rows in ((5, 3), (4, 6), (8, 2)):
            options = {"return_states": keep}
            if unequal:
                options["lengths"] = torch.arange(rows) % (steps + 1)
            same(
                outcome(run, net, steps, rows, **options), outcome(net, net, steps, rows, **options)
            )
    assert loops(graphs) == [4, 4]


@needs_core
def test_what_a_step_reads_may_change():
    net = ur.Recurrent(Skewed(3, 4)).double()
    run = torch.compile(net, fullgraph=True, backend="eager")
    before = outcome(run, net, 4, 2)
    net.cell.scale = 0.5
    after = outcome(run, net, 4, 2)
    same(after, outcome(net, net, 4, 2))
    assert not torch.equal(before[0], after[0])


@needs_core
def test_what_has_no_program_is_unrolled():
    class Odd(ur.Cell):
        def step(self, x, h):
            return (
                torch.linalg.vector_norm(x, 3, dim=-1, keepdim=True).expand_as(h) * 0.1 + h.tanh()
            )

    net = ur.Recurrent(Odd(3, 4)).double()
    run = torch.compile(net, fullgraph=True, backend="eager")
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    same([run(x)[0]], [net(x)[0]])


@needs_core
def test_autocast():
    layer = ur.LSTM(3, 4)
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        same([run(x)[0]], [layer(x)[0]], 0)
    assert not torch.equal(run(x)[0], run(x.bfloat16().float())[0])


@needs_core
def test_an_exported_program_in_another_process(tmp_path):
    net = ur.Recurrent(Skewed(3, 4)).double()
    x, extras = inputs(4, 2)
    x = x.detach()
    dims = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = {"x": dims, "extras": {"m": dims}}
    program = torch.export.export(net, (x,), {"extras": extras}, dynamic_shapes=shapes)
    assert loops([program]) == [0]  # it holds the overload
    assert sum("loop_forward" in str(node.target) for node in program.graph.nodes) == 1
    module = program.module()
    same(outcome(module, module, 7, 3), outcome(net, net, 7, 3))
    torch.export.save(program, tmp_path / "net.pt2")
    x, extras = inputs(6, 5)
    torch.save([x.detach(), extras, net(x, extras=extras)[0].detach()], tmp_path / "values.pt")
    code = f"""{CELL}
import unrolled.layers
x, extras, y = torch.load(r"{tmp_path / "values.pt"}")
module = torch.export.load(r"{tmp_path / "net.pt2"}").module()
try:
    module(x, extras=extras)
except RuntimeError as error:
    print(error)
ur.Recurrent(Skewed(3, 4)).double()(x, extras=extras)
print(torch.equal(module(x, extras=extras)[0], y))
"""
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        said, agrees = done.stdout.splitlines()
        assert "was not compiled in this process" in said, done.stderr
        assert agrees == "True"


@needs_core
def test_saved_tensors_may_be_copies():
    layer = ur.LSTM(3, 4).double()
    hx = tuple(torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    outcomes = []
    for copy in (lambda t: t, lambda t: t.clone()):
        with torch.autograd.graph.saved_tensors_hooks(copy, lambda t: t):
            y, _ = layer(x, hx)
        outcomes.append(torch.autograd.grad(y.sin().sum(), [x, *hx, *layer.parameters()]))
    same(*outcomes, 0)


def test_without_the_core_steps_are_unrolled(monkeypatch):
    monkeypatch.setattr("unrolled.engine.native._native", None)
    layer = ur.GRU(3, 4).double()
    graphs = []
    backend = lambda graph, _: graphs.append(graph) or graph.forward  # noqa: E731
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    same([torch.compile(layer, fullgraph=True, backend=backend)(x)[0]], [layer(x)[0]])
    assert loops(graphs) == [0]


@needs_core
def test_what_is_wrong_is_said():
    net = ur.Recurrent(ur.cells.LSTM(3, 4))
    run = torch.compile(net, backend="eager")
    with pytest.raises(Exception, match="input_size is 3"):
        run(torch.zeros(4, 2, 5))
    net.cell.to("meta")
    with pytest.raises(Exception, match="meta"):
        run(torch.zeros(4, 2, 3))
