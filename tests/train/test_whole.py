"""Whole steps in the core, against the same run made of torch's operations."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import unrolled as ur
from unrolled.engine import native
from unrolled.train.callbacks import Callback

pytestmark = pytest.mark.skipif(not native.available(), reason="the core is not built")

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. " * 20


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


class Path(Callback):
    """Which path a run takes, and its losses."""

    def __init__(self):
        self.losses, self.norms = [], []

    def on_start(self, event):
        self.whole = event.whole

    def on_step(self, event):
        self.losses.append(event.loss)
        self.norms.append(event.gradient_norm)


def run(text, out, *, engine="native", **flags):
    settings = {
        **{"hidden": 11, "steps": 100, "batch_size": 3, "window": 9, "sample_length": 0},
        **{"dtype": "float64", "evaluate_every": 50, **flags},
    }
    seen = Path()
    with ur.engine(engine):
        trained = ur.train("generate", text, out=out, callbacks=[seen], **settings)
    return trained.model.state_dict(), seen


OPTIMIZERS = [
    {"optimizer": "sgd", "lr": 0.5},
    {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.01},
    {"optimizer": "momentum", "lr": 0.05, "momentum": 0.8},
    {"optimizer": "nesterov", "lr": 0.05, "momentum": 0.8, "weight_decay": 0.01},
    {"optimizer": "adagrad", "lr": 0.05},
    {"optimizer": "adagrad", "lr": 0.05, "epsilon": 1e-8, "epsilon_inside": True},
    {"optimizer": "rmsprop", "lr": 0.003},
    {"optimizer": "adam", "lr": 0.005, "weight_decay": 0.01},
    {"optimizer": "adamw", "lr": 0.005, "weight_decay": 0.1},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_optimiser_gives_torchs_weights(text, tmp_path, optimizer):
    same(text, tmp_path, cell="lstm", **optimizer)


@pytest.mark.parametrize(
    "model",
    [
        {"cell": "rnn", "clip_value": 0.1, "clip_norm": 0.0, "reduction": "sum", "lr": 0.01},
        {"cell": "gru", "layers": 2, "embedding": 11, "tied": True},
        {"cell": "lstm", "layers": 3, "embedding": 5, "clip_value": 0.01, "clip_norm": 0.02},
        {"cell": "rnn", "nonlinearity": "relu", "schedule": "cosine", "warmup": 10},
    ],
    ids=lambda m: "-".join(map(str, m.values())),
)
def test_every_model_gives_torchs_weights(text, tmp_path, model):
    same(text, tmp_path, **model)


GATES = """
import torch, unrolled as ur
from torch import nn
class Gates(ur.Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        both = input_size + hidden_size
        self.z, self.n = nn.Linear(both, hidden_size), nn.Linear(both, hidden_size)
    def step(self, x, h):
        both = torch.cat([x, h], -1)
        z = self.z(both).sigmoid()
        return (1 - z) * self.n(both).tanh() + z * h
"""


def test_a_users_cell_with_a_matrix_for_each_gate(text, tmp_path):
    path = tmp_path / "gates.py"
    path.write_text(GATES)
    same(text, tmp_path, cell=f"{path}:Gates")


def same(text, tmp_path, **flags):
    whole, seen = run(text, tmp_path / "whole", **flags)
    parts, told = run(text, tmp_path / "parts", engine="reference", **flags)
    assert seen.whole is None
    assert "reference" in told.whole
    np.testing.assert_allclose(seen.losses, told.losses, rtol=1e-8)
    if flags.get("clip_norm") != 0:
        np.testing.assert_allclose(seen.norms, told.norms, rtol=1e-7)
    for name, weight in parts.items():
        torch.testing.assert_close(whole[name], weight, rtol=1e-8, atol=1e-9)


def test_float32_stays_close(text, tmp_path):
    flags = {"dtype": "float32", "cell": "lstm", "optimizer": "sgd", "lr": 0.5}
    whole, seen = run(text, tmp_path / "whole", **flags)
    parts, told = run(text, tmp_path / "parts", engine="reference", **flags)
    assert (seen.whole is None) != (told.whole is None)
    for name, weight in parts.items():
        torch.testing.assert_close(whole[name], weight, rtol=1e-4, atol=1e-5)


def test_threads_change_nothing(text, tmp_path):
    flags = {"dtype": "float32", "batch_size": 13, "hidden": 40, "steps": 10}
    one, _ = run(text, tmp_path / "one", threads=1, **flags)
    two, _ = run(text, tmp_path / "two", threads=2, **flags)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "adagrad"])
def test_a_resumed_run_has_the_same_bits(text, tmp_path, optimizer):
    flags = {"optimizer": optimizer, "checkpoint_every": 7, "dtype": "float32"}
    whole, _ = run(text, tmp_path / "whole", steps=40, **flags)
    run(text, tmp_path / "parts", steps=20, **flags)
    parts, seen = run(text, tmp_path / "parts", steps=40, resume=True, **flags)
    assert seen.whole is None
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    stored = load_file(tmp_path / "parts" / "training.safetensors")
    if optimizer == "adam":
        assert {float(v) for k, v in stored.items() if k.endswith(".step")} == {40.0}


def test_a_run_goes_on_in_the_other_path(text, tmp_path):
    run(text, tmp_path / "both", steps=20, optimizer="adam")
    both, seen = run(
        text, tmp_path / "both", steps=40, optimizer="adam", resume=True, engine="reference"
    )
    whole, _ = run(text, tmp_path / "whole", steps=40, optimizer="adam")
    assert seen.whole is not None
    for name, weight in both.items():
        torch.testing.assert_close(whole[name], weight, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"dropout": 0.5, "layers": 2}, "dropout"),
        ({"optimizer": "adadelta"}, "adadelta"),
    ],
)
def test_what_the_core_lacks_goes_through_torch_and_is_said(text, tmp_path, flags, reason):
    _, seen = run(text, tmp_path / "run", steps=2, **flags)
    assert reason in seen.whole


def test_a_task_without_a_chain_says_so(tmp_path):
    path = tmp_path / "lines.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{c}{n}a\t{c}\n" for c in "xyz" for n in range(20)))
    seen = Path()
    ur.train("classify", str(path), out=tmp_path / "run", steps=2, callbacks=[seen])
    assert "classify" in seen.whole
