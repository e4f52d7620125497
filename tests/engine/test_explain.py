"""`ur.explain`: what it says is what runs, and costs are those counted by hand."""

import json
import re

import pytest
import torch
from cases import CASES, LayerNormLSTM, Masked, Ranked
from test_graph import FORMULAS, Formula, branch
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.engine import choose, native
from unrolled.errors import InputError

needs_core = pytest.mark.skipif(not native.available(), reason="the core is not built")


# ---------------------------------------------------------------- what it costs


def test_costs_of_the_simple_network_by_hand():
    i, h = 65, 100
    explained = ur.explain(cells.Elman(i, h))
    costs = {
        part.name: (part.multiply_adds, part.bytes // 4, part.weight_bytes // 4, part.weights_per)
        for part in explained.parts
    }
    assert costs == {
        # x is read, W_x x + b is written; the weights once a call
        "before": (i * h, i + h, i * h + h, "call"),
        # that and the last state are read, the new one is written; the weights at every step
        "loop": (h * h, 3 * h, h * h, "step"),
        "after": (0, 0, 0, "call"),
        "back_before": (0, 0, 0, "call"),
        # h and two gradients of it are read, delta and the gradient of the last state are written;
        # this one in the place of the gradient handed down
        "back_loop": (h * h, 4 * h, h * h, "step"),
        # delta, h[t-1] and x are read, dx is written; W_x is read, three gradients are written
        "back_after": (2 * i * h + h * h, 2 * h + 2 * i, 2 * i * h + h * h + h, "call"),
    }
    assert explained.multiply_adds == 3 * (i * h + h * h)
    assert explained.kept_bytes == 4 * h
    assert [value.name for value in explained.kept] == ["h"]
    assert explained.read_again == ("x",)


def test_costs_do_not_depend_on_dtype_but_for_the_bytes():
    single, double = ur.explain(cells.GRU(5, 6)), ur.explain(cells.GRU(5, 6).double())
    assert double.dtype == "float64"
    assert double.multiply_adds == single.multiply_adds
    assert double.bytes == 2 * single.bytes
    assert double.kept_bytes == 2 * single.kept_bytes


@pytest.mark.parametrize(("make", "gates"), [(cells.Elman, 1), (cells.GRU, 3), (cells.LSTM, 4)])
def test_products_of_the_standard_cells(make, gates):
    explained = ur.explain(make(7, 9))
    assert explained.part("before").multiply_adds == gates * 7 * 9
    assert explained.part("loop").multiply_adds == gates * 9 * 9
    assert explained.multiply_adds == 3 * gates * (7 * 9 + 9 * 9)


def test_what_depends_on_parameters_alone_is_said():
    explained = ur.explain(Formula(FORMULAS["matrix of parameters"]))
    assert explained.once == ("p1 = mul(view(w, [4, 1]), w)", "p2 = diag_embed(w)")
    assert "From parameters alone" in str(explained)


# ---------------------------------------------------------------- where it runs, and why


@needs_core
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_says_where_a_run_goes(case, monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    cell = case.build()
    explained = ur.explain(cell)
    call = {"extras": case.extras(2, 3, 4)}
    x = torch.randn(2, 3, 3, dtype=torch.float64)
    if explained.engine == "native":
        assert explained.instruction_set == native.instruction_set()
        choose.run(cell, x, **call)
    else:
        with pytest.raises(ur.RunError, match=re.escape(explained.reason)):
            choose.run(cell, x, **call)


@needs_core
def test_the_reason_of_a_fallback():
    explained = ur.explain(Ranked(3, 4))
    assert (explained.engine, explained.parts) == ("reference", ())
    assert (explained.multiply_adds, explained.bytes) == (None, None)
    assert "Engine: reference, since it uses sort, which the compiler does not know" in str(
        explained
    )
    explained = ur.explain(Formula(branch))
    assert explained.reason == "it branches on the value of a tensor"
    assert "torch.where" in explained.advice


def test_an_engine_that_is_asked_for(monkeypatch):
    with ur.engine("reference"):
        explained = ur.explain(cells.LSTM(3, 4))
    assert explained.engine == "reference"
    assert 'unrolled.engine("reference")' in explained.reason
    assert explained.parts
    assert "What the native engine would run" in str(explained)
    monkeypatch.setenv("UNROLLED_ENGINE", "reference")
    assert "UNROLLED_ENGINE" in ur.explain(cells.LSTM(3, 4)).reason
    monkeypatch.setenv("UNROLLED_ENGINE", "fast")
    with pytest.raises(InputError, match="no engine 'fast'"):
        ur.explain(cells.LSTM(3, 4))


def test_without_the_core(monkeypatch):
    monkeypatch.setattr(native, "_native", None)
    explained = ur.explain(cells.LSTM(3, 4))
    assert (explained.engine, explained.instruction_set) == ("reference", None)
    assert explained.reason == "the native core is not installed"
    assert "no compiler" in explained.advice
    assert explained.part("loop").multiply_adds == 64


@needs_core
def test_parameters_of_two_dtypes():
    cell = cells.LSTM(3, 4)
    cell.h.double()
    assert ur.explain(cell).reason == "its parameters are of another dtype than the input"
    assert "cell.to(x.dtype)" in ur.explain(cell).advice
    assert ur.explain(cell, dtype=torch.float64).engine == "native"
    assert cell.x.weight.dtype == torch.float32


# ---------------------------------------------------------------- cells, nets, modules


@needs_core
def test_each_distinct_cell_of_a_net_once():
    explained = ur.explain(ur.Recurrent(LayerNormLSTM(5, 6), 3, bidirectional=True))
    assert (explained.net, explained.engine, explained.reason) == ("Recurrent", "native", None)
    assert [cell.input_size for cell in explained.cells] == [5, 12]
    assert explained.places == {
        "layer 0, forwards": 0,
        "layer 0, backwards": 0,
        "layer 1, forwards": 1,
        "layer 1, backwards": 1,
        "layer 2, forwards": 1,
        "layer 2, backwards": 1,
    }
    first, second = explained.cells
    assert explained.multiply_adds == 2 * first.multiply_adds + 4 * second.multiply_adds
    assert len(explained.parts) == 12
    text = str(explained)
    assert text.count("Engine: native") == 2
    assert text.count("dh the gradient") == 1


@needs_core
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_drop_ins(kind):
    layer = getattr(ur, kind)(5, 6, 2, bidirectional=True)
    explained = ur.explain(layer)
    assert [cell.cell for cell in explained.cells] == [f"{kind}Cell", f"{kind}Cell"]
    assert explained.engine == "native"
    alone = ur.explain(getattr(ur, f"{kind}Cell")(5, 6))
    assert alone.multiply_adds == explained.cells[0].multiply_adds
    meta = getattr(ur, f"{kind}Cell")(5, 6, device="meta")
    assert ur.explain(meta).multiply_adds == alone.multiply_adds


@needs_core
def test_any_module_with_cells_inside():
    model = nn.Sequential(nn.Linear(3, 4))
    model.encoder = nn.ModuleDict({"text": ur.GRU(4, 5)})
    model.skip = ur.Recurrent(Ranked(4, 5))
    model.cell = cells.LSTM(4, 5)
    explained = ur.explain(model)
    assert explained.places == {"encoder.text: layer 0": 0, "skip: layer 0": 1, "cell": 2}
    assert (explained.engine, explained.multiply_adds) == ("mixed", None)
    assert explained.reason == "it uses sort, which the compiler does not know"


def test_further_inputs():
    explained = ur.explain(Masked(3, 4), extras={"mask": 4})
    assert explained.extras == {"mask": 4, "gain": 1, "t": 1}
    assert explained.assumed == ("gain",)
    assert "mask (4), gain (1, assumed), t (1)" in str(explained)
    with pytest.raises(InputError, match="takes no further input 'noise'; those it declares: mask"):
        ur.explain(Masked(3, 4), extras={"noise": 4})
    with pytest.raises(InputError, match="takes a further input 'noise'"):
        ur.explain(ur.Recurrent(Masked(3, 4)), extras={"noise": 4})


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (nn.LSTM(3, 4), "LSTM has no cell inside; unrolled.convert"),
        ("lstm", "nothing to explain in 'lstm'"),
        (ur.Recurrent, "nothing to explain"),
    ],
)
def test_what_has_no_cell(what, sentence):
    with pytest.raises(InputError, match=sentence):
        ur.explain(what)


def test_plain_values():
    for what in (cells.GRU(3, 4), ur.Recurrent(cells.GRU(3, 4), 2), Ranked(3, 4)):
        explained = ur.explain(what)
        found = json.loads(json.dumps(explained.to_dict()))
        assert found["engine"] == explained.engine
        assert found["multiply_adds"] == explained.multiply_adds
    part = ur.explain(cells.GRU(3, 4)).to_dict()["parts"][0]
    assert part["lines"][0]["text"] == "a1 = x @ x.weight.T + x.bias"


def test_nothing_is_changed():
    cell = cells.LSTM(3, 4)
    before = {name: tensor.clone() for name, tensor in cell.state_dict().items()}
    ur.explain(cell, dtype=torch.float64)
    after = cell.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in cell.parameters())
