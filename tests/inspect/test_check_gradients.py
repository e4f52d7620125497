"""`ur.check_gradients`: right gradients pass, each kind of wrong one is found, and nothing is changed."""

import json
import math

import pytest
import torch
from cases import BASIC, CASES, LayerNormLSTM, Masked, Ranked, SkipRNN
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import unrolled as ur
from unrolled import cells
from unrolled.engine import native
from unrolled.errors import InputError
from unrolled.inspect.gradient_report import GradientReport, worst_of

needs_core = pytest.mark.skipif(not native.available(), reason="the core is not built")


class Doubled(torch.autograd.Function):
    """tanh, with twice its gradient."""

    @staticmethod
    def forward(ctx, a):
        y = a.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return 2 * g * (1 - y * y)


class Wrong(ur.Cell):
    """A recurrent network whose activation has a wrong gradient."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x, self.h = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def step(self, x, h):
        return Doubled.apply(self.x(x) + self.h(h))


class Mixing(ur.Cell):
    """Rows that see each other."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)

    def step(self, x, h):
        return (self.x(x) + h - h.mean(0)).tanh()


def by_check(report, check):
    return {row.name: row for row in report.rows if row.check == check}


# ---------------------------------------------------------------- what is right passes


@pytest.mark.parametrize(
    ("case", "engine"),
    [(case, None) for case in CASES]
    + [(case, engine) for case in BASIC for engine in ("native", "reference")],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_cell_of_the_table(case, engine):
    report = ur.check_gradients(
        case.build(), engine=engine, extras=case.extras(4, 3, 4), steps=4, entries=12
    )
    assert report.ok, report
    rows = by_check(report, "differences")
    parameters = dict(case.build().named_parameters())
    assert set(parameters) <= set(rows)
    assert {"x", *(f"initial {name}" for name in case.build().state_names)} <= set(rows)
    for name, parameter in parameters.items():
        assert (rows[name].entries, rows[name].size) == (
            min(12, parameter.numel()),
            parameter.numel(),
        )
    assert {"y", f"last {case.build().state_names[0]}"} <= set(by_check(report, "rows"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ur.Recurrent(LayerNormLSTM(3, 4), 2, bidirectional=True, batch_first=True),
        lambda: ur.Recurrent(SkipRNN(3, 4)),
        lambda: ur.Recurrent(Masked(3, 4), 2),
        lambda: ur.LSTM(3, 4, 2, bidirectional=True, proj_size=2),
        lambda: ur.GRU(3, 4, batch_first=True, dropout=0.5, num_layers=2),
        lambda: ur.RNN(3, 4, nonlinearity="relu"),
        lambda: ur.LSTMCell(3, 4),
        lambda: ur.GRUCell(3, 4, bias=False),
    ],
)
def test_nets_and_drop_ins(make):
    torch.manual_seed(3)
    report = ur.check_gradients(make(), steps=3, batch=2, entries=8)
    assert report.ok, report
    assert by_check(report, "rows")
    assert by_check(report, "differences")["x"].size == 3 * 2 * 3


@needs_core
def test_engines_are_compared_where_the_native_one_runs():
    report = ur.check_gradients(cells.LSTM(3, 4), entries=2)
    rows = by_check(report, "engines")
    assert {"y", "last c", "gradient of h.weight", "gradient of initial c"} <= set(rows)
    assert all(row.entries == row.size for row in rows.values())
    report = ur.check_gradients(Ranked(3, 4), entries=2)
    assert not by_check(report, "engines")
    assert report.notes == [
        "engines not compared: Ranked: it uses sort, which the compiler does not know"
    ]


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.symbols = nn.Embedding(7, 3)
        self.net = ur.Recurrent(cells.GRU(3, 4))
        self.out = nn.Linear(4, 2)

    def forward(self, ids, scale=None, twice=False):
        y, states = self.net(self.symbols(ids))
        y = y if scale is None else y * scale
        return {"scores": self.out(y), "last": (states["h"], ids), "twice": twice}


def test_any_module_with_its_input():
    def make_input():
        return torch.arange(6).view(3, 2), torch.rand(3, 2, 1)

    report = ur.check_gradients(Reader(), make_input)
    assert report.ok, report
    rows = by_check(report, "differences")
    assert "symbols.weight" in rows
    assert "input 1" in rows
    assert "input 0" not in rows
    assert {"result['scores']", "result['last'][0]"} <= set(by_check(report, "engines"))
    assert any("rows not compared" in note for note in report.notes)
    report = ur.check_gradients(Reader(), lambda: {"ids": torch.arange(3)[:, None]})
    assert report.ok, report


def test_packed_input():
    packed = [torch.randn(n, 3) for n in (4, 2)]
    report = ur.check_gradients(ur.LSTM(3, 4), lambda: pack_sequence(packed), entries=5)
    assert report.ok, report
    assert by_check(report, "differences")["input 0"].size == 18


# ---------------------------------------------------------------- what is wrong is found


def test_a_wrong_backward_is_found():
    report = ur.check_gradients(Wrong(3, 4), engine="reference")
    assert not report.ok
    rows = by_check(report, "differences")
    assert not any(row.ok for row in rows.values())
    assert rows["x.weight"].error > 0.1
    # Of one step alone, the gradient is just twice what it should be.
    report = ur.check_gradients(Wrong(3, 4), engine="reference", steps=1)
    row = by_check(report, "differences")["h.weight"]
    assert row.analytic == pytest.approx(2 * row.numeric, rel=1e-6)
    assert "WRONG" in str(report)


@needs_core
def test_a_wrong_backward_is_found_whatever_engine_runs():
    assert not ur.check_gradients(Wrong(3, 4)).ok


def test_rows_that_see_each_other_are_found():
    report = ur.check_gradients(Mixing(3, 4), entries=4)
    assert all(row.ok for row in by_check(report, "differences").values())
    assert not by_check(report, "rows")["y"].ok
    assert not report.ok


def test_a_wrong_gradient_of_one_parameter_alone_is_found():
    class Part(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            return w.clone()

        @staticmethod
        def backward(ctx, g):
            g = g.clone()
            g[1] *= 1.001
            return g

    class Scaled(cells.Elman):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.w = nn.Parameter(torch.rand(hidden_size))

        def step(self, x, h):
            return super().step(x, h) * Part.apply(self.w)

    report = ur.check_gradients(Scaled(3, 4), engine="reference")
    wrong = [r for r in report.rows if r.check == "differences" and not r.ok]
    assert [(row.name, row.index) for row in wrong] == [("w", (1,))]
    assert wrong[0].error == pytest.approx(1e-3, rel=0.01)
    assert report.worst == wrong[0] or report.worst.check == "engines"


def test_what_is_not_a_number_is_wrong():
    class Broken(cells.Elman):
        def step(self, x, h):
            return super().step(x, h) * (0 * x[:, :1]).log()

    assert not ur.check_gradients(Broken(3, 4), steps=2, entries=2).ok
    row = worst_of("rows", "y", 1, [((0,), math.nan, 1.0)], 1.0, 1e-3)
    assert (row.error, row.ok) == (math.inf, False)


# ---------------------------------------------------------------- the report, and what is left alone


def test_the_table():
    report = ur.check_gradients(cells.Elman(3, 40), entries=5)
    text = str(report).splitlines()
    assert text[0] == "Gradients of Elman: all right"
    assert text[2] == "Gradients against central differences (relative error at most 1e-05)"
    (line,) = [line for line in text[3:10] if line.startswith("h.weight")]
    assert "5 of 1,600" in line
    found = json.loads(json.dumps(report.to_dict()))
    assert found["ok"] is True
    assert found["rows"][0]["name"] == "x.weight"


def test_the_worst_row_is_measured_by_its_own_tolerance():
    report = GradientReport("Cell", None, 1e-5, 1e-9)
    report.rows = [
        worst_of("differences", "a", 1, [((0,), 1.0, 1 + 9e-6)], 1.0, 1e-5),
        worst_of("rows", "b", 1, [((0,), 1.0, 1 + 2e-9)], 1.0, 1e-9),
    ]
    assert report.worst.name == "b"
    assert not report.ok


def test_the_model_stays_as_it_is():
    net = ur.Recurrent(cells.LSTM(3, 4), 2, dropout=0.5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    ur.check_gradients(net, entries=2)
    assert net.training
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_same_for_a_seed():
    cell = LayerNormLSTM(3, 4)
    first, again = (ur.check_gradients(cell, entries=4, seed=5) for _ in range(2))
    assert first.rows == again.rows
    assert first.rows != ur.check_gradients(cell, entries=4, seed=6).rows


def test_frozen_parameters_are_left_out():
    cell = cells.Elman(3, 4)
    cell.h.weight.requires_grad_(False)
    report = ur.check_gradients(cell, entries=3)
    assert report.ok, report
    assert "h.weight" not in by_check(report, "differences")
    assert "frozen, so not checked: h.weight" in report.notes


@pytest.mark.parametrize(
    ("what", "arguments", "sentence"),
    [
        (nn.Linear(2, 3), {}, "how Linear is called is not known; give make_input"),
        ("lstm", {}, "no gradients to check in 'lstm'"),
        (cells.Elman(2, 3), {"steps": 0}, "steps must be at least 1, not 0"),
        (cells.Elman(2, 3), {"entries": 0}, "entries must be at least 1"),
        (cells.Elman(2, 3), {"eps": 0.0}, "eps must be above 0"),
        (cells.Elman(2, 3), {"engine": "gpu"}, "no engine 'gpu'"),
        (cells.Elman(2, 3), {"extras": {"mask": torch.ones(5, 3, 1)}}, "no further input 'mask'"),
    ],
)
def test_bad_arguments(what, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        ur.check_gradients(what, **arguments)


def test_a_module_without_anything_to_differentiate():
    with pytest.raises(InputError, match="gives no tensor of floating point"):
        ur.check_gradients(nn.Flatten(), lambda: torch.ones(2, 3, dtype=torch.int64))


def test_where_gradients_are_off():
    with torch.inference_mode():
        assert ur.check_gradients(ur.GRU(2, 3)).ok
