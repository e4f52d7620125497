"""What the pages say is run: Python blocks, recipes, and the words of every command."""

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser
from typer.main import get_command

from unrolled import cli
from unrolled.data.builtin import BUILTINS, english
from unrolled.errors import InputError
from unrolled.settings import GROUPS, Settings
from unrolled.tasks.task import TASKS
from unrolled.train import plan

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = english()[50_000:65_000]
NAMED = re.compile(r"# (\w+\.py)\n")


def blocks(language):
    """Give (page, text) for every block of a language."""
    sybil = Sybil(parsers=[CodeBlockParser(language=language, evaluator=lambda _: None)])
    return [(page, block.parsed) for page in PAGES for block in sybil.parse(page).examples()]


def pages_with(language):
    return sorted({page for page, _ in blocks(language)})


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A place with the files the pages speak of, where a run makes four updates on a short text."""
    complete = plan.complete

    def briefly(settings, task):
        steps = min(settings.training.steps or 4, 4)
        short = {"steps": steps, "epochs": None, "evaluate_every": 4, "sample_length": 10}
        training = settings.training.model_copy(update=short)
        return complete(settings.model_copy(update={"training": training}), task)

    if "torch._dynamo" in sys.modules:  # other tests may have come to the limit of recompilations
        sys.modules["torch._dynamo"].reset()
    monkeypatch.setattr(plan, "complete", briefly)
    builtin = dataclasses.replace(BUILTINS["english"], text=lambda: TEXT)
    monkeypatch.setitem(BUILTINS, "english", builtin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("book.txt").write_text(TEXT, "utf-8")
    Path("other-book.txt").write_text(TEXT[:500], "utf-8")
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.stem)
def test_python_blocks_run(page, desk):
    """In order and in one namespace; a block that begins with a file's name is that file too."""
    for example in Sybil(parsers=[PythonCodeBlockParser()]).parse(page).examples():
        if named := NAMED.match(example.parsed):
            (desk / named[1]).write_text(example.parsed, "utf-8")
        example.evaluate()


@pytest.mark.parametrize("block", [block for _, block in blocks("toml")])
def test_recipes_are_valid(block, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(block, "utf-8")
    assert Settings.from_toml(recipe).training.steps


COMMANDS = [
    pytest.param(line[2:], id=f"{page.stem}: {line[2:]}")
    for page, block in blocks("console")
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_would_be_understood(line):
    assert understood(line)


def test_a_wrong_word_would_be_found():
    for line in ("unrolled trian", "unrolled train generate --hiden 3", "make dmo"):
        with pytest.raises((typer.TyperException, KeyError, AssertionError)):
            understood(line)
    with pytest.raises(InputError):
        understood("unrolled train generate --hidden 0")
    assert not understood("cat book.txt | tr a b")


def understood(line):
    """Parse the commands of a line that are the project's own; tell whether there is one."""
    commands = [shlex.split(part, comments=True) for part in line.split(" | ")]
    known = [words for words in commands if {"make", "unrolled"} & set(words)]
    for words in known:
        words = words[: words.index(">")] if ">" in words else words
        if words[0] == "make":
            makefile = (ROOT / "Makefile").read_text("utf-8")
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        else:
            parse(words[words.index("unrolled") + 1 :])
    return bool(known)


def parse(words):
    """Read words as the program would, and let the settings judge the flags of `train`."""
    command, words = get_command(cli.app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    given = command.make_context(command.name, words).params
    if command.name == "train":
        fields = {name for model in GROUPS.values() for name in model.model_fields}
        task = "generate" if given["what"].endswith(".toml") else given["what"]
        Settings.from_flags(task, {name: given[name] for name in fields & set(given)})
        assert task in TASKS
