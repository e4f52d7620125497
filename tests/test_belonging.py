"""Settings that a task or a kind of data would not heed are refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from command_line import cli  # noqa: F401 - a fixture

from unrolled.errors import InputError
from unrolled.settings import GROUPS, Settings
from unrolled.settings.belonging import (
    CHOICES,
    EXAMPLES,
    NETS,
    NUMBERS,
    STEPS,
    TASKS,
    TEXTS,
    check_task,
)
from unrolled.tasks.task import TASKS as KNOWN
from unrolled.tasks.task import task_class
from unrolled.train.plan import new_run

RECIPES = Path(__file__).parents[1] / "recipes"


def test_all_that_is_named_is_there():
    fields = {field for group in GROUPS.values() for field in group.model_fields}
    assert TASKS.keys() <= fields | GROUPS.keys()
    assert {task for tasks in TASKS.values() for task in tasks} <= KNOWN.keys()
    for readers in (EXAMPLES, STEPS, TEXTS, NUMBERS, *NETS.values()):
        assert {field for some in readers.values() for field in some} <= fields
    for choice in CHOICES:
        field = GROUPS[choice.table].model_fields[choice.field]
        assert {*choice.readers} <= {*re.findall(r"'([\w-]+)'", repr(field.annotation))}
        assert {name for some in choice.readers.values() for name in some} <= fields


def test_a_task_of_somebody_else_may_read_anything():
    check_task(Settings.from_flags("theirs", {"rotate": 5, "unknown": False}))


@pytest.mark.parametrize("task", [name for name in KNOWN if name != "toy"])
def test_defaults_of_a_task_belong_to_it(task):
    settings = Settings(task=task)
    check_task(settings.with_defaults(task_class(task).defaults_for(settings)))


@pytest.mark.parametrize(
    ("task", "flags", "sentence"),
    [
        ("generate", {"rotate": 5}, "--rotate is for classify and embed, not for generate; leave"),
        ("translate", {"size": 5}, "--size is for classify, embed, caption, reconstruct and few"),
        ("tag", {"model": "cnn"}, "--model is for classify, embed, caption and forecast, not for"),
        ("forecast", {"drop_symbols": 0.1}, "--drop-symbols is for classify and embed, not for"),
        ("caption", {"horizon": 3}, "--horizon is for forecast, not for caption"),
        ("classify", {"readout": "crf"}, "--readout is for tag and several, not for classify"),
        ("embed", {"best_by": "f1_macro"}, "--best-by is for classify, not for embed"),
    ],
)
def test_of_another_task(task, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        check_task(Settings.from_flags(task, flags))


def test_what_is_given_as_it_is_anyway_is_heeded():
    check_task(Settings.from_flags("generate", {"rotate": 0, "horizon": 1, "shift": None}))


@pytest.mark.parametrize(
    ("task", "flags", "sentence"),
    [
        (
            "classify",
            {"source": ("t.tsv",), "model": "mlp", "zoneout": 0.1},
            "for --model rnn, not for",
        ),
        (
            "classify",
            {"source": ("digits",), "cell": "gru"},
            "--cell is for --model rnn, not for cnn",
        ),
        ("classify", {"source": ("t.tsv",), "pooling": "mean"}, "for --model cnn, not for rnn"),
        ("embed", {"source": ("t.tsv",), "model": "bag", "bidirectional": True}, "not for bag"),
        ("embed", {"source": ("digits",), "objective": "group", "margin": 1}, "not for group"),
        ("forecast", {"model": "ar", "activation_penalty": 1}, "--model rnn, not for ar"),
        ("forecast", {"source": ("diabetes",), "zoneout": 0.1}, "--model rnn, not for mlp"),
        ("tag", {"net": "cnn", "cell": "gru"}, "--cell is for --net rnn, not for cnn"),
        ("tag", {"span": 5}, "--span is for --net cnn, not for rnn"),
        ("tag", {"teacher_forcing": 0.5}, "--teacher-forcing is for --readout previous, not for"),
        ("tag", {"readout": "crf", "lags": 3}, "--lags is for --net linear, not for rnn"),
        ("several", {"distance": 0.1}, "--distance is for --sharing soft, not for hard"),
        ("translate", {"attended": 5}, "--attended is for --attention top-k, not for general"),
        (
            "classify",
            {"source": ("t.tsv",), "model": "cnn", "hidden": 9},
            "rnn and mlp, not for cnn",
        ),
        (
            "classify",
            {"source": ("t.tsv",), "model": "bag", "layers": 2},
            "rnn and mlp, not for bag",
        ),
        ("embed", {"source": ("digits",), "model": "cnn", "dense": (9,)}, "--model mlp, not for"),
        ("classify", {"source": ("t.tsv",), "model": "cnn", "over_time": ("max",)}, "not for cnn"),
        ("tag", {"net": "linear", "hidden": 9}, "--hidden is for --net rnn and cnn, not for lin"),
        ("generate", {"samples": 9}, "--samples is for --softmax sampled, not for full"),
    ],
)
def test_of_another_choice(task, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        new_run(Settings.from_flags(task, flags))


@pytest.mark.parametrize(
    ("task", "flags"),
    [
        ("tag", {"readout": "window", "lags": 3}),
        ("tag", {"net": "linear", "lags": 3}),
        ("tag", {"net": "cnn", "bidirectional": False, "span": 5}),
        ("classify", {"source": ("digits",), "model": "rnn", "cell": "gru", "scan": "pixels"}),
        ("classify", {"source": ("t.tsv",), "model": "cnn", "pooling": "k-max", "k": 3}),
        ("classify", {"source": ("t.tsv",), "model": "mlp", "hidden": 9, "layers": 2}),
    ],
)
def test_of_this_choice(task, flags):
    new_run(Settings.from_flags(task, flags))


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_have_no_idle_setting(recipe):
    new_run(Settings.from_toml(recipe))


@pytest.mark.parametrize(
    ("task", "data", "flag", "sentence"),
    [
        ("classify", "t.tsv", ("--rotate", "5"), "--rotate is for pictures, not for texts"),
        ("classify", "t.tsv", ("--jitter", "1"), "--jitter is for signals, not for texts"),
        (
            "classify",
            "digits",
            ("--drop-symbols", "0.1"),
            "--drop-symbols is for texts, not for pict",
        ),
        ("classify", "digits", ("--symbols", "word"), "--symbols is for texts, not for pictures"),
        ("classify", "iris", ("--lowercase",), "--lowercase is for texts, not for rows"),
        ("embed", "t.tsv", ("--size", "3"), "--size is for signals and pictures, not for texts"),
        ("tag", "t.csv", ("--lowercase",), "--lowercase is for words, not for vectors"),
        ("tag", "python-tokens", ("--length", "9"), "--length is for copying, not for words"),
        (
            "tag",
            "copying",
            ("--columns", "1,2"),
            "--columns is for words and vectors, not for copy",
        ),
        (
            "generate",
            "english",
            ("--merge", "a=b"),
            "is for texts with labels .--condition., not for",
        ),
        ("generate", "english", ("--folds", "3"), "--folds is for texts with labels"),
        (
            "forecast",
            "adding",
            ("--targets", "x"),
            "--targets is for series and rows, not for adding",
        ),
        ("forecast", "t.csv", ("--quarter", "3"), "--quarter is for music, not for series"),
        (
            "forecast",
            "t.csv",
            ("--interval", "0.5"),
            "--interval goes with --head gaussian, not with",
        ),
        ("tag", "t.csv", ("--drop-symbols", "0.5"), "--drop-symbols is for classify and embed"),
    ],
)
def test_of_other_data(cli, tmp_path, monkeypatch, task, data, flag, sentence):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + "a b\tx\nc d\ty\n" * 20)
    values = np.arange(80).reshape(40, 2)
    rows = [f"{a},{b}" + (",u" if task == "tag" else "") for a, b in values]
    header = "a,b,label" if task == "tag" else "a,b"
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    done = cli("train", task, data, *flag, "--steps", "1", "--out", "m")
    assert done.code == 2
    assert re.search(sentence, done.sentence), done.sentence
    assert not (tmp_path / "m").exists()
