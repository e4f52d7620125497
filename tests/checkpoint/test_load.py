"""Loading a trained model: what fits, what does not, and whose code runs."""

import shutil

import pytest
import torch
from torch import nn
from toy_task import Toy

from unrolled.checkpoint import files
from unrolled.checkpoint import load as loading
from unrolled.checkpoint.directory import ModelDirectory
from unrolled.checkpoint.load import load
from unrolled.checkpoint.weights import load_weights, weights
from unrolled.errors import InputError
from unrolled.settings import Settings

CELL = """
from unrolled.engine import Cell
print("loaded")

class Mine(Cell):
    state_names = ("h",)

    def step(self, x, h):
        return x{change} + h
"""


@pytest.fixture
def model(tmp_path):
    """A model directory of the toy, written without the training room."""

    def write(name="model", cell="lstm", note=None):
        settings = Settings.from_flags("toy", {"source": ("a",), "hidden": 3, "cell": cell})
        task = Toy(settings)
        home = ModelDirectory(tmp_path / name)
        home.begin(settings, task.artefacts())
        about = {"step": 1, "baseline": True, "cell": note}
        data = files.pack(weights(task.build()), about)
        files.write(home.path / "model.safetensors", data)
        return home.path

    return write


def test_a_loaded_model_is_the_one_that_was_saved(model):
    path = model()
    trained = load(str(path))
    expected = Toy(trained.settings).build().state_dict()
    assert all(torch.equal(expected[k], v) for k, v in trained.model.state_dict().items())
    assert not trained.model.training
    assert trained.directory == path
    assert trained.metrics == {}
    assert list(trained.predict("abc")) == [{"input": "abc", "output": 3}]
    assert [p["output"] for p in trained.predict(["a", "bb"])] == [1, 2]
    assert trained.evaluate("x")["sources"] == ["x"]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_not_used(model, number):
    path = model()
    file = path / "model.safetensors"
    tensors, about = files.unpack(file.read_bytes(), file)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = number
    files.write(file, files.pack(tensors, about))
    trained = load(path)
    for use in (trained.predict, trained.evaluate):
        with pytest.raises(InputError, match=f"1 of the .* of {name} are nan or infinite"):
            use("abc")


def test_a_task_without_samples_says_so(model):
    trained = load(model())
    for write in (trained.sample, trained.beam):
        with pytest.raises(InputError, match="a toy model writes no samples"):
            write("once")


def test_a_task_with_samples_is_given_the_options(model, monkeypatch):
    monkeypatch.setattr(
        Toy, "sample", lambda self, net, prompt, *, length: [prompt] * length, raising=False
    )
    assert load(model()).sample("a", length=2) == ["a", "a"]


def test_shapes_that_disagree_with_the_config(model):
    path = model()
    config = path / "config.json"
    config.write_text(config.read_text().replace('"hidden": 3', '"hidden": 5'))
    with pytest.raises(InputError) as error:
        load(path)
    assert str(error.value) == (
        f"{path / 'model.safetensors'} holds 'inner.weight' of shape (3, 5), "
        "but the model of its config needs (5, 7)"
    )


def test_another_number_format_than_the_config(model):
    path = model()
    config = path / "config.json"
    config.write_text(config.read_text().replace("float32", "float64"))
    with pytest.raises(InputError, match=r"'inner.weight' as torch.float32, .* torch.float64"):
        load(path)


def test_the_last_results_come_along_only_if_the_run_ended(model):
    path = model()
    (path / "metrics.jsonl").write_text('{"event": "end", "step": 2, "test": {"error": 1.0}}\n')
    assert load(path).metrics == {"step": 2, "test": {"error": 1.0}}
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "step": 3}\n')
    assert load(path).metrics == {}


@pytest.fixture
def cell(tmp_path):
    def write(name, change=""):
        path = tmp_path / name
        path.write_text(CELL.format(change=change))
        return f"{path}:Mine"

    return write


def test_a_cell_of_ones_own_must_be_given_again(model, cell, tmp_path, capsys):
    mine = cell("mine.py")
    settings = Settings.from_flags("toy", {"cell": mine})
    path = model(cell=mine, note=loading.cell_hash(settings))
    capsys.readouterr()
    with pytest.raises(InputError, match=r"has a cell of your own, .*mine.py:Mine; give it again"):
        load(path)
    assert capsys.readouterr().out == "", "code named by a model directory was run"
    trained = load(path, cell=mine)
    assert trained.settings.model.cell == mine
    # The same source elsewhere will do, and only the given one runs.
    (tmp_path / "mine.py").unlink()
    elsewhere = cell("moved.py", "  ")
    assert load(path, cell=elsewhere).settings.model.cell == elsewhere


def test_another_cell_is_refused(model, cell):
    mine = cell("mine.py")
    path = model(cell=mine, note=loading.cell_hash(Settings.from_flags("toy", {"cell": mine})))
    with pytest.raises(InputError, match="is not what the model was trained with"):
        load(path, cell=cell("other.py", " * 2"))
    with pytest.raises(InputError, match=r"no file .*gone.py"):
        load(path, cell="gone.py:Mine")


def test_a_cell_for_a_model_that_has_none(model, cell):
    path = model()
    with pytest.raises(InputError, match="was trained with the cell lstm, not"):
        load(path, cell=cell("mine.py"))
    assert load(path, cell="lstm").settings.model.cell == "lstm"


def test_a_directory_may_be_moved_and_read_only(model, tmp_path):
    path = model()
    moved = tmp_path / "elsewhere"
    shutil.move(path, moved)
    before = {p: p.stat().st_mtime_ns for p in [moved, *moved.iterdir()]}
    load(moved)
    assert {p: p.stat().st_mtime_ns for p in [moved, *moved.iterdir()]} == before


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 3)
        self.readout = nn.Linear(3, 4, bias=False)
        self.readout.weight = self.table.weight
        self.register_buffer("count", torch.zeros(2))


def test_shared_weights_are_stored_once_and_stay_shared():
    one, two = Tied(), Tied()
    assert set(weights(one)) == {"table.weight", "count"}
    load_weights(two, weights(one), "x")
    assert torch.equal(two.readout.weight, one.table.weight)
    assert two.readout.weight is two.table.weight


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("count"), "x lacks 'count', which the model of its config needs"),
        (
            lambda t: t.update(more=t["count"]),
            "x holds 'more', which the model of its config lacks",
        ),
        (lambda t: t.update(count=torch.zeros(3)), r"x holds 'count' of shape \(3,\)"),
    ],
)
def test_weights_that_do_not_fit(change, sentence):
    tensors = dict(weights(Tied()))
    change(tensors)
    with pytest.raises(InputError, match=sentence):
        load_weights(Tied(), tensors, "x")
