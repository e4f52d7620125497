"""The lines of a listing compute what they say: they are read as formulas and run."""

import re
from typing import get_args

import pytest
import torch
from cases import TRACED, LayerNormLSTM
from test_graph import FORMULAS, Formula
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.engine.compile import SECTIONS, build
from unrolled.engine.formula import Formula as Written
from unrolled.engine.formula import apply
from unrolled.engine.listing import Names, write
from unrolled.engine.program import Instruction
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace

FUNCTIONS = {
    **{name: getattr(torch, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt")},
    **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "relu", "erf", "sin", "cos")},
    **{name: getattr(torch, name) for name in ("sign", "floor", "ceil", "round", "trunc", "abs")},
    "reciprocal": torch.reciprocal,
    "detach": torch.detach,
    "softplus": nn.functional.softplus,
    "min": lambda a, b: torch.minimum(*torch.broadcast_tensors(*map(torch.as_tensor, (a, b)))),
    "max": lambda a, b: torch.maximum(*torch.broadcast_tensors(*map(torch.as_tensor, (a, b)))),
    "where": lambda c, a, b: torch.where(torch.as_tensor(c).bool(), a, b),
}


class Reader:
    """Computes the lines of a listing as a person would, with torch, for all rows of one step.

    Names become Python's: h[t-1] is `h_before`, d(x.weight) is `d_x_weight`.
    """

    def __init__(self, values, names):
        self.values = dict(values)
        self.names = sorted(names, key=len, reverse=True)

    def plain(self, text):
        for name in self.names:
            text = text.replace(f"d({name})", f"d_{name.replace('.', '_')}")
            text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", name.replace(".", "_"), text)
        return text.replace("[t-1]", "_before")

    def run(self, line):
        text = self.plain(line)
        target, sign, formula = re.fullmatch(r"(.+?) (\+?=) (.+)", text).groups()
        formula = re.sub(r"\[(\d*:\d*)\]", r"[..., \1]", formula)
        formula = formula.replace(".sum(-1)", ".sum(-1, keepdim=True)")
        formula = formula.replace(".amax(-1)", ".amax(-1, keepdim=True)")
        value = eval(formula, {}, FUNCTIONS | self.values)
        value = value.to(torch.float64)
        base, bracket, rest = target.partition("[")
        if not bracket:
            value = self.values[base] + value if sign == "+=" and base in self.values else value
            self.values[base] = value
            return
        self.values.setdefault(base, None)
        parts = self.values.get(f"{base}!parts", [])
        self.values[f"{base}!parts"] = [*parts, (rest, value)]
        start = [int(r.split(":")[0] or 0) for r, _ in self.values[f"{base}!parts"]]
        ordered = sorted(zip(start, self.values[f"{base}!parts"], strict=True), key=lambda p: p[0])
        if sum(v.shape[-1] for _, (_, v) in ordered) and sign == "=":
            width = max(s + v.shape[-1] for s, (_, v) in ordered)
            whole = torch.full((value.shape[0], width), float("nan"), dtype=torch.float64)
            for first, (_, v) in ordered:
                whole[:, first : first + v.shape[-1]] = v
            self.values[base] = whole


def step_lines(cell, extras=()):
    widths = dict(extras)
    step = rewrite(trace(cell, widths, torch.float64))
    first = (cell.output_names or cell.state_names)[0]
    program = build(step, [first], differentiate=True)
    return step, program, write(program, Names(step, program))


SIMPLE = [cells.Elman, cells.LSTM, cells.GRU, LayerNormLSTM]


@pytest.mark.parametrize("make", SIMPLE)
def test_the_lines_compute_the_step_and_its_gradients(make):
    """Read the listing as formulas and run it: one step, forwards and backwards."""
    torch.manual_seed(0)
    cell, rows = make(3, 4).double(), 5
    _, _, lines = step_lines(cell)
    x = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    states = {
        name: torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
        for name in cell.state_names
    }
    parameters = dict(cell.named_parameters())
    given = {name.replace(".", "_"): p.detach() for name, p in parameters.items()}
    given |= {f"{name}_before": state.detach() for name, state in states.items()}
    reader = Reader(given | {"x": x.detach()}, parameters)
    for section in SECTIONS[:3]:
        for line in lines[section]:
            reader.run(line.text)
    results = cell.step(x, *states.values())
    results = results if isinstance(results, tuple) else (results,)
    for name, result in zip(cell.state_names, results, strict=True):
        torch.testing.assert_close(reader.values[name], result.detach(), rtol=1e-5, atol=1e-7)
    weights = [torch.randn_like(result) for result in results]
    reader.values |= {
        f"d{name}": w.clone() for name, w in zip(cell.state_names, weights, strict=True)
    }
    reader.values["dy"] = torch.randn(rows, 4, dtype=torch.float64)
    weights[0] = weights[0] + reader.values["dy"]
    for section in SECTIONS[3:]:
        for line in lines[section]:
            reader.run(line.text)
    loss = sum((result * w).sum() for result, w in zip(results, weights, strict=True))
    wanted = torch.autograd.grad(loss, [x, *states.values(), *parameters.values()])
    found = [
        reader.values["dx"],
        *(reader.values[f"d{name}_before"] for name in states),
        *(reader.values[f"d_{name.replace('.', '_')}"] for name in parameters),
    ]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", TRACED, ids=lambda case: case.name)
def test_every_instruction_has_its_number_and_no_name_is_used_before_it_is_there(case):
    cell = case.build()
    _, program, lines = step_lines(cell, dict.fromkeys(cell.extra_names, 1))
    known = set()
    for section in SECTIONS:
        numbers = [line.number for line in lines[section] if line.number]
        assert numbers == [*range(1, len(program.sections[section]) + 1)]
        for line in lines[section]:
            target, _, formula = line.text.partition("= ")
            used = set(re.findall(r"\b[adu]\d+\b", formula))
            assert used <= known, line.text
            known |= set(re.findall(r"\b[adu]\d+\b", target))


@pytest.mark.parametrize("name", FORMULAS)
def test_any_formula_can_be_written(name):
    explained = ur.explain(Formula(FORMULAS[name]))
    assert explained.part("loop").lines
    assert "%" not in str(explained)


@pytest.mark.parametrize(
    ("op", "inputs", "text"),
    [
        ("sub", ["a", ("sub", ["b", "c"])], "a - (b - c)"),
        ("sub", [("sub", ["a", "b"]), "c"], "a - b - c"),
        ("add", ["a", ("neg", ["b"])], "a - b"),
        ("add", [("neg", ["a"]), "b"], "b - a"),
        ("mul", [("add", ["a", "b"]), "c"], "(a + b) * c"),
        ("mul", ["a", "a"], "a**2"),
        ("mul", ["a", 1 / 768], "a / 768"),
        ("mul", ["a", 0.1], "0.1 * a"),
        ("div", ["a", ("mul", ["b", "c"])], "a / (b * c)"),
        ("div", [("div", ["a", "b"]), "c"], "a / b / c"),
        ("neg", [("add", ["a", "b"])], "-(a + b)"),
        ("mul", ["b", ("gt", ["a", 0.0])], "b * (a > 0)"),
        ("gt", [("gt", ["a", "b"]), "c"], "(a > b) > c"),
        ("pow", ["a", -2.0], "a**(-2)"),
        ("sigmoid_grad", [("add", ["g", "k"]), "y"], "(g + k) * y * (1 - y)"),
        ("tanh_grad", ["g", "y"], "g * (1 - y**2)"),
        ("multiply_add", ["a", "b", "c"], "a * b + c"),
        ("multiply_subtract", ["a", "b", "c"], "c - a * b"),
        ("lerp", ["a", "b", "c"], "a + c * (b - a)"),
        ("where", ["a", "b", 0.0], "where(a, b, 0)"),
        ("nothing_known", ["a", 2.5], "nothing_known(a, 2.5)"),
    ],
)
def test_formulas_have_the_parentheses_they_need(op, inputs, text):
    def write_it(op, inputs):
        given = [
            write_it(*i) if isinstance(i, tuple) else Written(i) if isinstance(i, str) else i
            for i in inputs
        ]
        return apply(op, given)

    assert write_it(op, inputs).text == text


def test_every_kind_of_instruction_is_known():
    assert {kind.__name__ for kind in get_args(Instruction)} == {
        *("Kernel", "Product", "Reduce", "Gather")
    }


def test_names_of_a_user_are_not_taken():
    class Awkward(ur.Cell):
        state_names = ("a1",)

        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.d1 = nn.Linear(input_size, hidden_size)

        def step(self, x, a1):
            return self.gate("u1", (self.d1(x) + a1).tanh()) * a1.sigmoid()

    lines = [line.text for part in ur.explain(Awkward(2, 3)).parts for line in part.lines]
    assert lines[0] == "a2 = x @ d1.weight.T + d1.bias"
    assert "u1 = tanh(a2 + a1[t-1])" in lines
    targets = [line.partition(" ")[0] for line in lines]
    assert len([target for target in targets if target == "a1"]) == 1
