"""`unrolled explain`."""

import json

import pytest
from command_line import cli, python  # noqa: F401 - a fixture

import unrolled as ur
from unrolled import cells
from unrolled.engine import native

MINE = """
import unrolled as ur
from torch import nn
class Leaky(ur.Cell):
    extra_names = ("gain",)
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
    def step(self, x, h, gain):
        return 0.5 * h + gain * self.x(x).tanh()
class Branching(Leaky):
    extra_names = ()
    def step(self, x, h):
        return h if h.sum() > 0 else self.x(x)
class Demanding(ur.Cell):
    def __init__(self, input_size, hidden_size, heads):
        super().__init__(input_size, hidden_size)
"""


@pytest.fixture(autouse=True)
def _mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    monkeypatch.chdir(tmp_path)


def test_it_prints_what_the_function_gives(cli):  # noqa: F811
    done = cli("explain", "lstm", "--input-size", 5, "--hidden-size", 6)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{ur.explain(cells.LSTM(5, 6))}\n"


def test_json(cli):  # noqa: F811
    done = cli("explain", "gru", "--hidden-size", 6, "--dtype", "float64", "--json")
    found = json.loads(done.out)
    assert found == json.loads(json.dumps(ur.explain(cells.GRU(128, 6).double()).to_dict()))
    assert found["dtype"] == "float64"


def test_the_activation_of_the_rnn_cell(cli):  # noqa: F811
    assert "h = relu(a1 + a2)" in cli("explain", "rnn", "--nonlinearity", "relu").out
    assert "h = tanh(a1 + a2)" in cli("explain", "rnn").out


def test_a_cell_of_ones_own(cli):  # noqa: F811
    done = cli("explain", "mine.py:Leaky", "--extra", "gain=128")
    assert done.code == 0
    assert "Further inputs: gain (128)" in done.out
    assert "gain (1, assumed)" in cli("explain", "mine.py:Leaky").out


@pytest.mark.skipif(not native.available(), reason="the core is not built")
def test_a_fallback_is_said_with_its_reason(cli, monkeypatch):  # noqa: F811
    done = cli("explain", "mine.py:Branching")
    assert done.code == 0
    assert "Engine: reference, since it branches on the value of a tensor" in done.out
    assert "Advice: torch.where" in done.out
    out = cli("explain", "lstm", "--dtype", "bfloat16").out
    assert "Engine: native" in out or "since the input is torch.bfloat16" in out
    monkeypatch.setenv("UNROLLED_ENGINE", "reference")
    assert "since it is asked for: UNROLLED_ENGINE=reference" in cli("explain", "lstm").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lst"], "no cell 'lst'"),
        (["nowhere.py:Cell"], "no file nowhere.py"),
        (["mine.py:Absent"], "no class 'Absent'"),
        (["mine.py:Demanding"], "cannot be built as Demanding(input_size, hidden_size)"),
        (["lstm", "--extra", "gain=2"], "LSTM takes no further input 'gain'"),
        (["lstm", "--extra", "gain"], "--extra gain must be NAME=WIDTH"),
        (["lstm", "--extra", "gain=0"], "--extra gain=0 must be NAME=WIDTH"),
        (["lstm", "--hidden-size", "0"], "--hidden-size"),
        (["lstm", "--dtype", "float8"], "--dtype"),
        ([], "CELL"),
    ],
)
def test_bad_input(cli, arguments, words):  # noqa: F811
    done = cli("explain", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.sentence


def test_help_imports_neither_torch_nor_matplotlib():
    done = python(
        "-c",
        "import sys\nfrom unrolled.cli import main\n"
        "try: main(['explain', '--help'])\nexcept SystemExit: pass\n"
        "print([n for n in ('torch', 'matplotlib', 'sklearn') if n in sys.modules], file=sys.stderr)",
    )
    assert done.err.splitlines()[-1] == "[]"


@pytest.mark.skipif(not native.available(), reason="the core is not built")
@pytest.mark.parametrize(
    ("optimizer", "said"),
    [("adam", "whole in the native core."), ("adadelta", "since adadelta is left to torch.")],
)
def test_of_a_model_it_tells_how_training_steps_are_made(cli, tmp_path, optimizer, said):  # noqa: F811
    text = tmp_path / "text.txt"
    text.write_text("abcabcab" * 40)
    settings = {"steps": 1, "hidden": 4, "batch_size": 2, "window": 5, "optimizer": optimizer}
    ur.train("generate", str(text), out=tmp_path / "run", sample_length=0, **settings)
    done = cli("explain", tmp_path / "run")
    assert done.code == 0
    assert done.out.endswith(f"{said}\n")
    assert "LanguageModel: 1 cells" in done.out
    found = json.loads(cli("explain", tmp_path / "run", "--json").out)["training_steps"]
    assert found["whole"] == (found["reason"] is None) == (optimizer == "adam")


def test_a_directory_without_a_model_is_said(cli, tmp_path):  # noqa: F811
    done = cli("explain", tmp_path)
    assert done.code == 2
    assert str(tmp_path) in done.err
