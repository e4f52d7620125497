"""The native engine: there, equal to the reference engine, the same for any number of threads."""

import gc
import os
import subprocess
import sys
import threading

import pytest
import torch
from cases import TRACED, LayerNormLSTM, Ranked
from test_graph import FORMULAS, Formula
from torch.nn import functional

import unrolled as ur
from unrolled import cells
from unrolled.engine import native, reference
from unrolled.engine.choose import run
from unrolled.engine.programs import _compiled
from unrolled.errors import InputError, RunError

needs_core = pytest.mark.skipif(not native.available(), reason="the core is not built")


def test_the_core_is_there():
    assert native.available() or os.environ.get("UNROLLED_PURE") == "1", (
        "the native core was not built"
    )


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


def everything(cell, x, engine, **call):
    """All results and gradients of a run."""
    x = x.detach().requires_grad_()
    cell.zero_grad()
    outputs = engine(cell, x, **call)
    weights = torch.linspace(-1, 1, outputs.y.numel(), dtype=x.dtype).view_as(outputs.y)
    (outputs.y * weights).sum().backward()
    gradients = [p.grad for p in cell.parameters() if p.grad is not None]
    states = [state.detach() for state in outputs.states.values()]
    return [outputs.y.detach(), *states, x.grad, *gradients]


@needs_core
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", TRACED, ids=lambda case: case.name)
def test_equal_to_the_reference(case, dtype):
    steps, batch, hidden = 5, 37, 33
    cell = case.build(20, hidden).to(dtype)
    x = torch.randn(steps, batch, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    extras = {k: v.to(dtype) for k, v in case.extras(steps, batch, hidden).items()}
    lengths = torch.arange(batch) % (steps + 1)
    bound = 1e-11 if dtype == torch.float64 else 3e-4
    for call in (
        {},
        {"reverse": True},
        {"lengths": lengths},
        {"lengths": lengths, "reverse": True},
    ):
        found = everything(cell, x, run, extras=extras, **call)
        wanted = everything(cell, x, reference.run, extras=extras, **call)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(
                a, b, rtol=bound, atol=bound * max(1.0, float(b.abs().max()))
            )


@needs_core
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name):
    torch.manual_seed(1)
    cell = Formula(FORMULAS[name], 4).double()
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    for a, b in zip(everything(cell, x, run), everything(cell, x, reference.run), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@needs_core
@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, LayerNormLSTM])
def test_the_same_bits_for_any_number_of_threads_and_any_batch(make):
    torch.manual_seed(0)
    cell = make(24, 40)
    x = torch.randn(9, 30, 24)
    lengths = torch.arange(30) % 10
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            runs.append(everything(cell, x, run, lengths=lengths))
    finally:
        torch.set_num_threads(before)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))
    y = run(cell, x).y
    for row in (0, 7, 29):
        assert torch.equal(run(cell, x[:, row : row + 1]).y, y[:, row : row + 1])


@needs_core
def test_second_derivatives():
    cell = cells.LSTM(2, 3).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: run(cell, x, lengths=torch.tensor([2, 3])).y, x)


@needs_core
def test_nothing_differentiable_costs_no_backward_arrays():
    cell = cells.LSTM(2, 3)
    with torch.no_grad():
        assert not run(cell, torch.randn(3, 2, 2)).y.requires_grad
    for parameter in cell.parameters():
        parameter.requires_grad_(False)
    assert not run(cell, torch.randn(3, 2, 2)).y.requires_grad
    cell.h.weight.requires_grad_()
    run(cell, torch.randn(3, 2, 2)).y.sum().backward()
    assert cell.x.weight.grad is None
    assert cell.h.weight.grad is not None


@needs_core
def test_one_trace_serves_all_sizes_and_a_changed_attribute_is_seen():
    class Leaky(ur.Cell):
        def __init__(self, input_size, hidden_size, leak):
            super().__init__(input_size, hidden_size)
            self.leak = leak
            self.h = torch.nn.Linear(hidden_size, hidden_size)

        def step(self, x, h):
            return (1 - self.leak) * h + self.leak * functional.tanh(self.h(h) + x)

    _compiled.clear()  # or the oldest would leave as new ones come
    cell = Leaky(3, 3, 0.5)
    run(cell, torch.randn(4, 2, 3))
    count = len(_compiled)
    for steps, batch in ((1, 1), (7, 2), (2, 9)):
        run(cell, torch.randn(steps, batch, 3))
    assert len(_compiled) == count
    x = torch.randn(4, 2, 3)
    cell.leak = 0.25
    torch.testing.assert_close(run(cell, x).y, reference.run(cell, x).y)
    assert len(_compiled) == count + 1


@needs_core
def test_what_cannot_be_compiled_runs_in_the_reference_engine_or_says_why(monkeypatch):
    cell, x = Ranked(3, 4), torch.randn(4, 2, 3)
    with pytest.raises(RunError, match="Ranked does not run in the native engine: it uses sort"):
        run(cell, x)
    monkeypatch.delenv("UNROLLED_STRICT")
    torch.testing.assert_close(run(cell, x).y, reference.run(cell, x).y)


def test_engines_by_name(monkeypatch):
    with pytest.raises(InputError, match="no engine 'gpu'; the engines are native, reference"):
        ur.engine("gpu").__enter__()
    monkeypatch.setenv("UNROLLED_ENGINE", "fast")
    with pytest.raises(InputError, match="no engine 'fast'"):
        run(cells.Elman(3, 4), torch.randn(4, 2, 3))
    with ur.engine("reference"):
        assert run(Ranked(3, 4), torch.randn(4, 2, 3)).y.shape == (4, 2, 4)


SCRIPT = """
import torch
from unrolled import cells
from unrolled.engine import native, reference, run
torch.manual_seed(0)
print(native.instruction_set())
cell, x = cells.LSTM(19, 21), torch.randn(6, 11, 19)
torch.testing.assert_close(run(cell, x).y, reference.run(cell, x).y, rtol=1e-5, atol=1e-6)
maps = {line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line or "libomp" in line}
assert len(maps) == 1, maps
"""


@needs_core
@pytest.mark.parametrize("isa", ["portable", "avx2"])
def test_an_instruction_set_can_be_forced(isa):
    if isa == "avx2" and native.instruction_set() == "portable":
        pytest.skip("this machine lacks it")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "UNROLLED_ISA": isa},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, isa), done.stderr


@needs_core
def test_an_unknown_instruction_set_is_said(monkeypatch):
    monkeypatch.setenv("UNROLLED_ISA", "mmx")
    with pytest.raises(InputError, match="UNROLLED_ISA"):
        native.instruction_set()


@needs_core
def test_several_python_threads_at_once():
    cell, x = cells.GRU(12, 16), torch.randn(20, 8, 12)
    wanted = everything(cell, x, reference.run)[0]
    found = []

    def work():
        for _ in range(20):
            with torch.no_grad():
                found.append(run(cell, x).y)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(torch.equal(y, found[0]) for y in found)
    torch.testing.assert_close(found[0], wanted)


@needs_core
def test_a_forked_child_does_not_hang():
    script = (
        "import os, torch\nfrom unrolled import cells\nfrom unrolled.engine import run\n"
        "torch.set_num_threads(2)\ncell, x = cells.LSTM(8, 16), torch.randn(9, 32, 8)\ny = run(cell, x).y\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    os._exit(0 if torch.equal(run(cell, x).y, y) else 1)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "0", done.stderr


@needs_core
def test_ten_thousand_calls_leave_no_memory_behind():
    import resource

    cell, x = cells.Elman(4, 8), torch.randn(3, 2, 4)
    for _ in range(200):
        run(cell, x).y.sum().backward()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        run(cell, x).y.sum().backward()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4000  # kilobytes


@needs_core
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_that_share_the_columns_of_a_step_change_no_bit(kind, batch):
    """Few rows and many units: the threads divide the units between them."""
    layer, x = getattr(ur, kind)(40, 170), torch.randn(9, batch, 40)
    lengths = torch.tensor([9, 4, 1][:batch])
    found, before = [], torch.get_num_threads()
    try:
        for number in (1, 2, 3, 5):
            torch.set_num_threads(number)
            layer.zero_grad()
            y, _ = layer(x, lengths=lengths)
            y.square().sum().backward()
            found.append([y.detach(), *(p.grad.clone() for p in layer.parameters())])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


class Through(ur.Cell):
    """An output that is an input, and two inputs with one gradient."""

    output_names = ("y",)
    extra_names = ("e", "k")

    def step(self, x, h, e, k):
        return (x + e + 0.5 * h).tanh(), k


@needs_core
def test_inputs_whose_gradient_is_given_or_shared():
    cell, rows = Through(3, 3), [torch.randn(4, 2, 3).requires_grad_() for _ in range(3)]
    weights = torch.randn(4, 2, 3)
    found = []
    for engine in (run, reference.run):
        outputs = engine(cell, rows[0], extras={"e": rows[1], "k": rows[2]})
        loss = (outputs.y * weights).sum() + outputs.states["h"].sum()
        found.append(torch.autograd.grad(loss, rows))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
