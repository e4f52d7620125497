"""Every inspector with every kind of model: a user's cell, two directions, rows of their own lengths."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled.errors import InputError
from unrolled.inspect.examine import examine
from unrolled.inspect.model_data import with_data
from unrolled.inspect.page import Page
from unrolled.inspect.report import SECTIONS, report

CELL = '''
import torch
from torch import nn
import unrolled as ur


class Mine(ur.Cell):
    """Two states, one of them twice as wide, read from three steps back too, and a named gate."""

    state_names = ("h", "m")
    delays = {"h": (1, 3)}

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 2 * hidden_size)
        self.h = nn.Linear(2 * hidden_size, 2 * hidden_size, bias=False)
        self.read = nn.Linear(2 * hidden_size, hidden_size)

    @property
    def state_sizes(self):
        return {"h": self.hidden_size, "m": 2 * self.hidden_size}

    def step(self, x, h, m):
        gate = self.gate("keep", (self.x(x) + self.h(torch.cat(h, -1))).sigmoid())
        m = gate * m + (1 - gate) * self.x(x).tanh()
        return self.read(m).tanh(), m
'''
SMALL = {"hidden": 4, "batch_size": 8, "steps": 3, "sample_length": 0}
TWO_WAYS = {"layers": 2, "bidirectional": True}
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "language model, own cell": ("generate", {"cell": "own", "layers": 2, "window": 12}),
    "tagger, own cell, both ways": ("tag", {"cell": "own", **TWO_WAYS}),
    "tagger, lstm, both ways": ("tag", {"cell": "lstm", **TWO_WAYS}),
    "classifier, own cell": ("classify", {"cell": "own"}),
    "classifier, gru, both ways": ("classify", {"cell": "gru", **TWO_WAYS}),
    "translator, own cell": ("translate", {"cell": "own"}),
    "translator": ("translate", {"layers": 2, "bidirectional": True}),
    "language model, batch norm": ("generate", {"cell": "lstm-batchnorm", "window": 12}),
    "labelled texts": ("labelled", {"cell": "own", "condition": "input"}),
}
QUICK = ("language model, own cell", "tagger, own cell, both ways")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
WORDS = ["ab", "cab", "acb", "bac", "cabba", "bb", "a", "cc"]


def write(kind: str, path: Path) -> Path:
    """Rows of one to eight words, whose label or translation depends on them."""
    random, rows = np.random.default_rng(0), []
    for _ in range(90):
        words = random.choice(WORDS, random.integers(1, 9)).tolist()
        match kind:
            case "tag":
                rows.append("".join(f"{w}\t{len(w)}\n" for w in words))
            case "translate":
                rows.append(f"{' '.join(words)}\t{' '.join(words[::-1])}")
            case "generate":
                rows.append(f'{" ".join(words)}. "{words[0]}" (x)')
            case _:
                rows.append(f"{' '.join(words)}\t{'long' if len(words) > 4 else 'short'}")
    head = [] if kind in ("tag", "generate", "translate") else ["text\tlabel"]
    path.write_text("\n".join([*head, *rows]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[str], tuple[ur.Trained, str]]:
    home = tmp_path_factory.mktemp("models")
    (home / "mine.py").write_text(CELL)
    kept: dict[str, tuple[ur.Trained, str]] = {}

    def make(name: str) -> tuple[ur.Trained, str]:
        if name not in kept:
            kind, flags = MODELS[name]
            suffix = "txt" if kind == "generate" else "tsv"
            data = str(write(kind, home / f"{kind}.{suffix}"))
            own = f"{home / 'mine.py'}:Mine"
            given = {**SMALL, **flags, **({"cell": own} if flags.get("cell") == "own" else {})}
            task = "generate" if kind == "labelled" else kind
            kept[name] = ur.train(task, data, out=home / f"run-{len(kept)}", **given), data
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE_DIR", str(home / "cache"))
        yield make


OTHERS = {
    "filters": "looks at no pictures in layers; filters are of",
    "ngrams": "is no text CNN; n-grams are of classify --model cnn",
    "attention": "writes nothing about what it reads; attention is of translate and caption",
}
"""What a model lacks, and what is said of it."""


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_inspector(name, section, made, tmp_path):
    trained, data = made(name)
    _, inspector = SECTIONS[section]
    has = section not in OTHERS or (section == "attention" and "translator" in name)
    if not has:
        with pytest.raises(InputError, match=OTHERS[section]) as refused:
            inspector(trained, data, tmp_path / "out.html")
        has = "graph, check, gradients, activations"
        has += ", attention" if "translator" in name else ""
        assert str(refused.value).endswith(f"of this {trained.task.name} model look at {has}")
        return
    page = inspector(trained, data, tmp_path / "out.html")
    assert isinstance(page, Page)
    text = page.to_html()
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).split()
    if section == "check":
        assert "wrong" not in text
    if section == "gradients" and "own" in name:
        assert "keep" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_doctor(name, made):
    trained, data = made(name)
    found = examine(with_data(trained, data, lr=0.01), trained.model, steps=10)
    assert {"weights", "loss at start", "gradient error", "trial"} <= set(found.facts)
    assert "wrong gradient" not in found.names
    assert "state not reset" not in found.names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagger, own cell, both ways", "translator"])
def test_the_report(name, made, tmp_path):
    trained, data = made(name)
    text = report(trained, data, tmp_path / "out.html").read_text("utf-8")
    for section, (title, _) in SECTIONS.items():
        has = section not in OTHERS or (section == "attention" and "translator" in name)
        assert (f"<h2>{title}</h2>" in text) == has
