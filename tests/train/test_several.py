"""Several seeds, every fold: one run each, and the mean of their figures."""

import json
from pathlib import Path

import pytest
from command_line import cli  # noqa: F401 - a fixture

RECIPE = """task = "classify"
[data]
source = ["{source}"]
split = [0.8, 0.2, 0.0]
folds = 4
[model]
hidden = 4
[training]
steps = 3
[target]
metric = "accuracy"
value = 0.1
better = "higher"
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    rows = [f"{'ab' if n % 2 else 'cd'} {n}\t{n % 2}\n" for n in range(40)]
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + "".join(rows))
    (tmp_path / "r.toml").write_text(RECIPE.format(source=tmp_path / "t.tsv"))
    monkeypatch.chdir(tmp_path)
    return "r.toml"


def test_every_fold(cli, recipe, tmp_path):  # noqa: F811
    done = cli("train", recipe, "--all-folds", "--out", "runs", "--record", "r.json", "--json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    found = [event["metrics"]["test"]["accuracy"] for event in events if event["event"] == "end"]
    assert len(found) == 4
    figures = events[-1]["figures"]
    assert figures["mean"]["accuracy"] == pytest.approx(sum(found) / 4)
    assert figures["smallest"]["accuracy"] == min(found)
    assert figures["largest"]["accuracy"] == max(found)
    assert set(figures) > {"majority", "bag_of_characters"}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        f"fold-{n}" for n in range(4)
    ]
    (entry,) = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert entry["value"] == pytest.approx(sum(found) / 4)
    assert entry["command"].endswith("--all-folds")
    again = cli("train", recipe, "--all-folds", "--out", "runs", "--resume")
    assert "Over 4 runs:" in again.out


def test_several_seeds(cli, recipe):  # noqa: F811
    done = cli("train", recipe, "--seeds", "3,5", "--out", "runs", "--record", "r.json", "--quiet")
    assert (done.code, done.out) == (0, "")
    (entry,) = json.loads(Path("r.json").read_text("utf-8"))
    assert entry["seeds"] == [3, 5]
    assert entry["command"] == "unrolled train r.toml --seeds 3,5"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seeds", "1,x", "--out", "a"], "--seeds '1,x'"),
        (["--seeds", "1"], "need --out"),
        (["--seeds", "1", "--all-folds", "--out", "a"], "one of them"),
        (["--all-folds", "--out", "a", "--fold", "9"], "fold 9 must be below folds 4"),
    ],
)
def test_what_cannot_be(cli, recipe, flags, words):  # noqa: F811
    done = cli("train", recipe, *flags)
    assert done.code == 2
    assert words in done.err


def test_folds_are_needed(cli, recipe, tmp_path):  # noqa: F811
    done = cli("train", "classify", "t.tsv", "--all-folds", "--out", "a")
    assert done.code == 2
    assert "--folds 10" in done.err
