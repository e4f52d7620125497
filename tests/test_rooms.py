"""Imports between the rooms go one way; the order is in the design and nowhere else in code."""

import ast
from pathlib import Path

import pytest

import unrolled

ROOT = Path(unrolled.__file__).parent
BASE = ["errors", "lazy", "console", "settings", "options"]
CHAIN = ["engine", "cells", "layers", "tasks", "checkpoint", "train", "inspect"]
BELOW = {name: set(BASE[:n]) for n, name in enumerate(BASE)}
BELOW |= {name: {*BASE, *CHAIN[:n]} for n, name in enumerate(CHAIN)}
for room in CHAIN[CHAIN.index("tasks") :]:
    BELOW[room].add("data")
BELOW["data"] = set(BASE)


def imported(path):
    """Names below `unrolled` that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "unrolled" and rest != "__version__":
                yield rest.split(".")[0], node.lineno


def test_every_room_has_its_place():
    found = {path.stem for path in ROOT.iterdir() if not path.name.startswith((".", "_"))}
    assert found - {"py", "cli"} == set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_imports_go_one_way(room):
    place = ROOT / room
    for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        for name, line in imported(path):
            assert name in BELOW[room] | {room}, f"{path}:{line} imports unrolled.{name}"
