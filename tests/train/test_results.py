"""What a run leaves for people: results, the list of recipes' results, the card, the picture, TensorBoard."""

import json
import sys

import pytest
import toy_task  # noqa: F401 - registers the task

from unrolled.errors import InputError
from unrolled.train import picture, results
from unrolled.train.callbacks import TensorBoard
from unrolled.train.run import train

PNG = b"\x89PNG\r\n"
RECIPE = """
task = "toy"
[data]
source = ["/home/somebody/secret/a.txt"]
[model]
hidden = 4
[training]
steps = 20
[target]
metric = "{metric}"
value = {value}
better = "{better}"
split = "{split}"
"""


def recipe(folder, metric="error", value=9.0, better="lower", split="test"):
    path = folder / "toy.toml"
    path.write_text(RECIPE.format(metric=metric, value=value, better=better, split=split))
    return path


@pytest.fixture
def no_drawing(monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: PNG)


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize(
    ("value", "better", "split", "metric", "reached"),
    [
        (9.0, "lower", "test", "error", True),
        (0.0, "lower", "test", "error", False),
        (9.0, "higher", "validation", "root", False),
        (0.0, "higher", "training", "smoothed_loss", True),
    ],
)
def test_a_target_is_compared(value, better, split, metric, reached, tmp_path):
    path = recipe(tmp_path, metric, value, better, split)
    trained = train(path, out=tmp_path / "run")
    target = trained.metrics["target"]
    assert target["reached"] is reached
    assert target["value"] == trained.metrics[split][metric]
    assert (target["target"], target["better"], target["metric"]) == (value, better, metric)


@pytest.mark.usefixtures("no_drawing")
def test_a_target_nobody_measures_names_those_there_are(tmp_path):
    with pytest.raises(
        InputError, match="'nats' is not a figure of the test split: there is error"
    ):
        train(recipe(tmp_path, "nats"), out=tmp_path / "run")
    path = recipe(tmp_path)
    with pytest.raises(InputError, match="as the test split is empty"):
        train(path, out=tmp_path / "run2", split=(0.9, 0.1, 0))
    # The recipe put right, nothing is trained again.
    assert train(path, out=tmp_path / "run", resume=True).metrics["target"]["reached"]


@pytest.mark.usefixtures("no_drawing")
def test_results_are_listed_once_a_figure(tmp_path):
    path, listed = recipe(tmp_path), tmp_path / "results.json"
    other = {"recipe": "other.toml", "metric": "error", "value": 1.0}
    listed.write_text(json.dumps([other]))
    for seed in (3, 4):
        out = tmp_path / f"run{seed}"
        trained = train(path, out=out, record=listed, seed=seed, unknown=False)
    entries = json.loads(listed.read_text())
    assert len(entries) == 2
    assert other in entries
    (entry,) = [entry for entry in entries if entry != other]
    assert set(entry) == {
        *("recipe", "metric", "value", "target", "better", "spread", "seeds"),
        *("seconds", "command", "date"),
    }
    assert entry["value"] == trained.metrics["test"]["error"]
    assert (entry["recipe"], entry["seeds"], entry["spread"]) == (path.as_posix(), [4], 0)
    assert entry["command"] == f"unrolled train {path} --seed 4 --no-unknown"


@pytest.mark.usefixtures("no_drawing")
def test_several_seeds_give_a_mean_and_a_spread(tmp_path):
    path, listed = recipe(tmp_path), tmp_path / "results.json"
    runs = [train(path, out=tmp_path / str(seed), seed=seed) for seed in (0, 1, 2)]
    results.record(runs, "recipes/toy.toml", "make toy", listed)
    (entry,) = json.loads(listed.read_text())
    values = [run.metrics["test"]["error"] for run in runs]
    assert entry["value"] == pytest.approx(sum(values) / 3)
    assert entry["spread"] == max(values) - min(values) > 0
    assert entry["seeds"] == [0, 1, 2]


@pytest.mark.usefixtures("no_drawing")
def test_what_cannot_be_recorded(tmp_path):
    with pytest.raises(InputError, match="only the result of a recipe"):
        train("toy", "a", out=tmp_path / "run", steps=1, record=tmp_path / "results.json")
    trained = train("toy", "a", out=tmp_path / "run", steps=1)
    with pytest.raises(InputError, match=r"toy.toml has no \[target\]"):
        results.record(trained, "toy.toml", "", tmp_path / "results.json")
    trained = train(recipe(tmp_path), out=tmp_path / "run2")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match=r"results.json is not a list of results"):
        results.record(trained, "toy.toml", "", tmp_path / "results.json")


@pytest.mark.usefixtures("no_drawing")
def test_the_card_says_what_was_trained_and_how_well(tmp_path):
    trained = train(recipe(tmp_path), out=tmp_path / "my-model", seed=11)
    card = (tmp_path / "my-model/README.md").read_text()
    assert card.startswith("# my-model\n")
    assert "`a.txt`" in card
    assert "secret" not in card
    assert str(tmp_path) not in card
    assert f"| this model | {trained.metrics['test']['error']:.4g} |" in card
    assert f"| zero | {trained.metrics['baselines']['zero']['error']:.4g} |" in card
    assert 'ur.load("my-model")' in card
    assert "unrolled predict my-model" in card
    assert "| hidden | 4 |" in card
    assert "Seed 11; unrolled" in card
    assert "Target: error 9.0 on the test split, reached." in card


HISTORY = [
    *({"event": "train", "step": s, "smoothed_loss": 3 / s, "bits": 4 / s} for s in range(1, 9)),
    {"event": "baselines", "step": 4, "baselines": {"a": {"bits": 2.0}, "b": {"bits": 1.0}}},
    *({"event": "validation", "step": s, "bits": 5 / s} for s in (4, 8)),
    {"event": "sample", "step": 8, "text": "x"},
]


def size(png):
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_the_picture_is_a_png_and_grows_a_panel_for_another_unit():
    one = picture.curves(HISTORY, "bits", "lower")
    assert one.startswith(PNG)
    accuracy = [{**line, "accuracy": 0.5} for line in HISTORY if line["event"] == "validation"]
    two = picture.curves(HISTORY[:8] + accuracy, "accuracy", "higher")
    assert size(two)[0] == size(one)[0]
    assert size(two)[1] > size(one)[1]


@pytest.mark.parametrize("history", [[], HISTORY[:8], HISTORY[8:9]])
def test_a_picture_of_part_of_a_run(history):
    assert picture.curves(history, "bits", "lower").startswith(PNG)


def test_drawing_leaves_matplotlibs_state_alone():
    before = "matplotlib.pyplot" in sys.modules
    picture.curves(HISTORY, "bits", "lower")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_a_run_draws_its_picture(tmp_path):
    train("toy", "a", out=tmp_path / "run", steps=2)
    assert (tmp_path / "run/loss.png").read_bytes().startswith(PNG)


@pytest.mark.usefixtures("no_drawing")
def test_tensorboard_files_hold_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    train("toy", "a", out=out, steps=6, evaluate_every=3, callbacks=[TensorBoard()])
    found = EventAccumulator(str(out / "tensorboard"))
    found.Reload()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for tag, event, key in (
        ("training/loss", "train", "loss"),
        ("training/learning_rate", "train", "learning_rate"),
        ("validation/error", "validation", "error"),
    ):
        expected = [(line["step"], line[key]) for line in lines if line["event"] == event]
        points = [(point.step, point.value) for point in found.Scalars(tag)]
        assert points == [(step, pytest.approx(value)) for step, value in expected]


def test_tensorboard_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'unrolled\[tensorboard\]'"):
        TensorBoard()
