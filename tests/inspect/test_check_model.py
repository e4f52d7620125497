"""`unrolled inspect MODEL DATA check`: right gradients pass, a wrong one in one gate is found and named."""

import json

import pytest
import torch
from command_line import cli, python  # noqa: F401 - a fixture

import unrolled as ur
from unrolled.inspect.check_model import check_model

CELL = """
import torch
from torch import nn
import unrolled as ur

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sigmoid()

    @staticmethod
    def backward(ctx, gradient):
        s = ctx.saved_tensors[0].sigmoid()
        return 0.9 * gradient * s * (1 - s)

class Gated(ur.Cell):
    state_names = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.update = nn.Linear(input_size + hidden_size, hidden_size)
        self.new = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x, h):
        xh = torch.cat([x, h], -1)
        u = self.gate("u", self.gated(self.update(xh)))
        return (1 - u) * h + u * self.new(xh).tanh()

    def gated(self, z):
        return z.sigmoid()

class WrongFactor(Gated):
    def gated(self, z):
        return Wrong.apply(z)

class Detached(Gated):
    def step(self, x, h):
        xh = torch.cat([x, h], -1)
        u = self.update(xh).sigmoid()
        return (1 - u) * h + u.detach() * self.new(xh).tanh()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    path = tmp_path_factory.mktemp("check")
    (path / "cells.py").write_text(CELL, "utf-8")
    (path / "book.txt").write_text("to be or not to be, that is the question. " * 40, "utf-8")
    texts = [(f"{word} film {n}", word) for n in range(12) for word in ("good", "dull")]
    lines = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *texts])
    (path / "films.tsv").write_text(lines, "utf-8")
    return path


def trained(home, name, task="generate", source="book.txt", **flags):
    out = home / name.lower()
    source = str(home / source) if "." in source else source
    short = {"steps": 3, "batch_size": 4, "sample_length": 0, "threads": 1}
    ur.train(task, source, out=out, overwrite=True, **{**short, **flags})
    return out, source


def with_cell(home, name):
    cell = f"{home / 'cells.py'}:{name}"
    out, source = trained(home, name, cell=cell, hidden=6, window=8)
    return check_model(ur.load(out, cell), source, entries=6)


def test_a_right_cell_passes(home):
    report = with_cell(home, "Gated")
    assert report.ok, str(report)
    assert {row.check for row in report.rows} == {"differences", "steps", "engines", "rows"}


@pytest.mark.parametrize("name", ["WrongFactor", "Detached"])
def test_a_wrong_gate_is_named(home, name):
    report = with_cell(home, name)
    assert not all(row.ok for row in report.rows if row.check == "differences")
    steps = {row.name: row.ok for row in report.rows if row.check == "steps"}
    assert {n for n, ok in steps.items() if not ok} == {
        "net: layer 0: update.weight",
        "net: layer 0: update.bias",
    }
    assert "wrong in a single step already: net: layer 0: update.weight" in str(report)


@pytest.mark.parametrize(
    ("task", "source", "flags"),
    [
        ("tag", "copying", {"hidden": 4, "bidirectional": True, "layers": 2}),
        ("classify", "digits", {"model": "cnn"}),
        ("forecast", "mackey-glass", {"hidden": 4, "window": 12}),
        ("translate", "dates", {"hidden": 6}),
        ("embed", "films.tsv", {"hidden": 4, "batch_size": 16}),
    ],
)
def test_other_tasks(home, task, source, flags):
    out, source = trained(home, task, task, source, **flags)
    report = check_model(ur.load(out), source, entries=3)
    assert report.ok, str(report)


def test_the_command(home, cli):  # noqa: F811
    out, source = trained(home, "plain", hidden=5, window=6)
    found = json.loads(cli("inspect", out, source, "check", "--epsilon", "1e-5", "--json").out)
    assert found["ok"]
    assert found["page"].endswith("check.html")
    assert (out / "check" / "errors.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "check" / "check.html").read_text("utf-8")
    assert "readout.weight" in page
    assert "http" not in page
    done = cli("inspect", out, source, "check", "--epsilon", "-1")
    assert (done.code, done.sentence) == (2, "eps must be above 0, not -1.0")


def test_float32_weights_stay(home):
    out, source = trained(home, "stays", hidden=5, window=6)
    model = ur.load(out)
    before = {name: w.clone() for name, w in model.model.state_dict().items()}
    check_model(model, source, entries=1)
    for name, w in model.model.state_dict().items():
        assert torch.equal(w, before[name])
