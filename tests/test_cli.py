"""The frame of the command line: help, flags made from the settings, errors and exit codes."""

import ast
import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from command_line import cli, python  # noqa: F401 - a fixture

import unrolled
from unrolled import console
from unrolled.errors import InputError, Interrupted, RunError
from unrolled.options import POSITIONAL
from unrolled.settings import GROUPS, Settings, flag
from unrolled.tasks import TASKS

ROOT = Path(__file__).parents[1]
FIELDS = {
    name: field
    for model in GROUPS.values()
    for name, field in model.model_fields.items()
    if name not in POSITIONAL
}

# ---------------------------------------------------------------- what is imported when

HEAVY = "torch", "matplotlib", "sklearn", "tokenizers"


@pytest.mark.parametrize(
    "statement",
    [
        "import unrolled; dir(unrolled)",
        "import unrolled; unrolled.Settings, unrolled.data",
        *(
            f"from unrolled.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
            for arguments in (
                ["--help"],
                ["--version"],
                ["train", "--help"],
                ["sample", "--help"],
                ["bench", "--help"],
                ["data", "list"],
                ["train", "generate", "--no-such-flag"],
            )
        ),
    ],
)
def test_nothing_heavy_is_imported_for(statement):
    check = f"import sys; print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    done = python("-c", f"{statement}\n{check}")
    assert done.err.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", unrolled.__all__)
def test_every_public_name_is_there(name):
    assert getattr(unrolled, name) is not None
    assert name in dir(unrolled)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unrolled.nothing  # noqa: B018


def test_type_checkers_see_the_lazy_names():
    tree = ast.parse(Path(unrolled.__file__).read_text("utf-8"))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    seen = {alias.asname or alias.name for node in imports for alias in node.names} - {
        *("TYPE_CHECKING", "lazily")
    }
    assert seen | {"__version__"} == set(unrolled.__all__)


def test_train_can_be_called_whatever_is_imported_first():
    done = python(
        "-c",
        "import unrolled.train.callbacks, unrolled as ur\n"
        "try: ur.train('nothing')\nexcept ur.InputError as e: print(e)",
    )
    assert done.out.startswith("no task 'nothing'")


# ---------------------------------------------------------------- help and version


def test_version(cli):  # noqa: F811
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert cli("--version").out == f"unrolled {project['version']}\n"
    assert python("-m", "unrolled", "--version").out == f"unrolled {project['version']}\n"


def test_without_a_command_it_prints_help(cli):  # noqa: F811
    done = cli()
    assert done.code == 2
    assert "Commands" in done.out


@pytest.fixture(scope="module")
def train_help():
    done = python("-m", "unrolled", "train", "--help", env={**os.environ, "COLUMNS": "200"})
    assert done.code == 0
    return done.out


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_a_flag_with_its_description(name, train_help):
    (line,) = (text for text in train_help.splitlines() if text[2:].startswith(f"{flag(name)} "))
    assert FIELDS[name].description[:30] in line
    for choice in get_args(FIELDS[name].annotation):
        if isinstance(choice, str):
            assert choice in train_help


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("hidden", "[>= 1, default 128]"),
        ("dropout", "[>= 0, < 1, default 0.0]"),
        ("unknown", "[default on]"),
        ("split", "[default 0.9,0.05,0.05]"),
        ("lr", "[> 0]"),
    ],
)
def test_help_shows_bounds_and_defaults(name, note, train_help):
    (line,) = (text for text in train_help.splitlines() if f" {flag(name)} " in text)
    assert note in line


def test_help_names_every_task_and_group(train_help):
    ours = [name for name, home in TASKS.items() if home.startswith("unrolled.")]
    assert f"A task ({', '.join(ours)}) or a recipe" in train_help
    for group in GROUPS:
        assert f" {group.capitalize()} ─" in train_help


def test_no_flag_is_cut_off_on_a_narrow_terminal(cli, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "80")
    text = cli("train", "--help").out
    assert all(flag(name) in text for name in FIELDS)


def test_shell_completion_knows_commands_and_choices():
    code = "import sys; sys.argv = ['unrolled']; from unrolled.cli import main; main()"

    def complete(words):
        environment = {
            "_UNROLLED_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        return python("-c", code, env=environment).out.split()

    assert complete("unrolled tr") == ["train"]
    assert complete("unrolled train generate --optimizer ad") == [
        *("adagrad", "adadelta", "adam", "adamw")
    ]


# ---------------------------------------------------------------- from flags to the function


@pytest.fixture
def trained_with(monkeypatch):
    """What `unrolled train` called its function with, instead of training."""
    calls = []

    def train(*positional, **named):
        calls.append((positional, named))

    monkeypatch.setattr("unrolled.train.run.train", train)
    return calls


def test_flags_arrive_as_settings(cli, trained_with):  # noqa: F811
    done = cli(
        *("train", "generate", "a.txt", "b.txt", "--hidden", "32", "--lr", "0.01", "--tied"),
        *("--optimizer", "sgd", "--split", "80/10/10", "--no-unknown", "--out", "runs/x"),
    )
    assert done.code == 0
    ((positional, named),) = trained_with
    assert positional == ("generate", "a.txt", "b.txt")
    assert named.pop("out") == Path("runs/x")
    for name, off in (("resume", False), ("overwrite", False), ("record", None)):
        assert named.pop(name) is off
    assert len(named.pop("callbacks")) == 1
    assert set(named) == set(FIELDS)
    assert {name: value for name, value in named.items() if value is not None} == {
        "hidden": 32,
        "lr": 0.01,
        "tied": True,
        "optimizer": "sgd",
        "split": "80/10/10",
        "unknown": False,
    }
    assert Settings.from_flags("generate", named).data.split == (0.8, 0.1, 0.1)


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ([], ["PlainDisplay"]),
        (["--json"], ["JsonLines"]),
        (["--quiet"], []),
        (["--quiet", "--tensorboard"], ["TensorBoard"]),
    ],
)
def test_who_is_told_of_the_run(cli, trained_with, arguments, kinds):  # noqa: F811
    cli("train", "generate", *arguments)
    ((_, named),) = trained_with
    assert [type(callback).__name__ for callback in named["callbacks"]] == kinds


# ---------------------------------------------------------------- errors and exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no file x"), 2),
        (RunError("the disk is full"), 1),
        (Interrupted("go on with --resume"), 130),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(cli, monkeypatch, error, code):  # noqa: F811
    def train(*_, **__):
        raise error

    monkeypatch.setattr("unrolled.train.run.train", train)
    done = cli("train", "generate")
    assert (done.code, done.out, done.err) == (code, "", f"error: {error}\n")


def test_ctrl_c_exits_130(cli, monkeypatch):  # noqa: F811
    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("unrolled.train.run.train", train)
    assert cli("train", "generate").code == 130


def test_a_bug_shows_itself(monkeypatch):
    def train(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("unrolled.train.run.train", train)
    with pytest.raises(ZeroDivisionError):
        unrolled.cli.main(["train", "generate"])


def test_a_reader_that_leaves_is_no_error():
    writer = f"{sys.executable} -m unrolled train --help"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {writer} | true; {writer} | head -c 5"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""


def test_colours_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    console.complain("x")
    assert re.search(r"\x1b\[[\d;]*3\d", stream.getvalue())
    stream.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    console.complain("x")
    assert not re.search(r"\x1b\[[\d;]*3\d", stream.getvalue())


def test_json_holds_no_nan():
    value = {"a": float("nan"), 3: [float("inf"), 1.5, None, True], "é": ("x",)}
    assert console._plain(value) == {"a": None, "3": [None, 1.5, None, True], "é": ["x"]}


def test_what_a_model_writes_cannot_steer_a_terminal():
    assert console.visible("a\x1b[2J\tb\n\x9b\x7f") == "a␛[2J\tb\n��"
