"""The sides of `unrolled bench`: each agrees with torch, and their work is counted."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unrolled.inspect.bench import array_sides, measure, peers, torch_sides, workloads
from unrolled.inspect.bench.equations import EQUATIONS
from unrolled.inspect.bench.loops import NOISE, loop_of
from unrolled.inspect.bench.torchrecurrent_side import TWINS
from unrolled.inspect.bench.workloads import GATES, NAMED, NOISES, Workload

TINY = Workload("tiny", "lstm", 5, 7, 1, 6, 3)
CELLS = [*EQUATIONS]
SMALL = [
    replace(w, inputs=5, hidden=8, steps=9, batch=3)
    for w in workloads.cells().values()
    if w.steps == 1000
]
"""Every registered cell."""


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["numpy", "loop", "torch", "jax", "onnxruntime"])
def test_peers_agree_with_torch(name, cell, mode):
    layers = 2 if cell in GATES else 1
    bench = measure.Bench(replace(TINY, cell=cell, mode=mode, layers=layers))
    found = bench.peer(name)
    assert not found.differs, found.reason
    if found.side is None:
        if not all(map(find_spec, peers.PEERS[name].needs)):
            pytest.skip(found.reason)
        own = cell not in GATES
        expected = {
            "torch": own,
            "numpy": own and mode == "train",
            "onnxruntime": own or mode == "train",
        }
        assert expected.get(name), found.reason


@pytest.mark.parametrize("cell", ["gru", "leaky"])
def test_the_compiled_loop_agrees(monkeypatch, cell):
    quick = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", quick)
    found = measure.Bench(replace(TINY, cell=cell)).peer("compile")
    assert found.side is not None, found.reason


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("precision", ["float32", "high", "bfloat16"])
def test_ours_agrees_with_torch(cell, mode, precision):
    workload = replace(TINY, cell=cell, mode=mode, precision=precision)
    with torch_sides.precision_of(workload):
        ours, engine, reason = measure.Bench(workload).ours()
    assert ours.side is not None, ours.reason
    assert (engine == "native") == (not reason)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("name", ["torch", "numpy", "jax"])
def test_whole_training_steps_agree(name, cell):
    workload = Workload("tiny step", cell, 9, 8, 1, 5, 1, mode="step")
    bench = measure.Bench(workload)
    ours, _, _ = bench.ours()
    assert ours.side is not None, ours.reason
    found = bench.peer(name)
    if found.side is None and not all(map(find_spec, peers.PEERS[name].needs)):
        pytest.skip(found.reason)
    assert found.side is not None, found.reason
    weights = bench.case.weights
    assert all((bench.expected.tensors[key] != weights[key]).any() for key in weights)


@pytest.mark.parametrize("name", ["torch", "padded", "onnxruntime"])
def test_unequal_lengths_agree(name):
    for mode in ("train", "infer"):
        bench = measure.Bench(replace(TINY, steps=12, packed=True, mode=mode))
        ours, _, _ = bench.ours()
        assert ours.side is not None, ours.reason
        past = np.arange(12)[:, None] >= bench.case.workload.lengths
        assert past.any()
        assert not bench.expected.outputs[past].any()
        found = bench.peer(name)
        assert not found.differs, found.reason
        assert found.side is not None or name == "onnxruntime"


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projection_agrees():
    bench = measure.Bench(replace(TINY, hidden=8, projection=4))
    assert bench.ours()[0].side is not None
    assert bench.peer("torch").side is not None
    assert "projection" in bench.peer("loop").reason
    inference = measure.Bench(replace(TINY, hidden=8, projection=4, mode="infer"))
    assert inference.peer("numpy").side is not None


def test_the_derivative_by_hand_starts_where_it_is_told():
    rng = np.random.default_rng(0)
    x, start = rng.standard_normal((4, 2, 3)), rng.standard_normal((2, 5))
    layer = torch.nn.GRU(3, 5)
    w = {n.removesuffix("_l0"): p.detach().numpy() for n, p in layer.named_parameters()}
    named = {**w, "x.weight": w["weight_ih"], "x.bias": w["bias_ih"]}
    x, start = x.astype(np.float32), start.astype(np.float32)
    y, _, pull = array_sides.forward("gru", named, x @ w["weight_ih"].T + w["bias_ih"], [start])
    expected, _ = layer(torch.from_numpy(x), torch.from_numpy(start)[None])
    (expected**2).sum().backward()
    np.testing.assert_allclose(y, expected.detach().numpy(), atol=1e-6)
    gradients, _ = pull(2 * y, x)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, getattr(layer, f"{name}_l0").grad, atol=1e-5)


@pytest.mark.parametrize("workload", SMALL, ids=lambda w: w.cell)
def test_every_registered_cell_agrees_with_its_loop(workload):
    bench = measure.Bench(workload)
    ours, engine, reason = bench.ours()
    assert ours.side is not None, ours.reason
    assert (engine, reason) == ("native", "")
    assert bench.peer("loop").side is not None
    assert bench.expected.tensors.keys() == (
        set() if workload.mode == "infer" else bench.case.weights.keys()
    )


@pytest.mark.parametrize("cell", TWINS)
def test_torchrecurrent_agrees(cell):
    pytest.importorskip("torchrecurrent")
    bench = measure.Bench(Workload("tiny", cell, 5, 8, 1, 9, 3))
    found = bench.peer("torchrecurrent")
    assert found.side is not None, found.reason
    spoilt = {name: weight + 0.1 for name, weight in bench.case.weights.items()}
    bench.short = bench.case = replace(bench.case, weights=spoilt)
    assert bench.peer("torchrecurrent").differs


def test_torchrecurrent_lacks_cells():
    reason = measure.Bench(replace(TINY, own=True)).peer("torchrecurrent").reason
    expected = "has no such cell" if find_spec("torchrecurrent") else "is not installed"
    assert reason == expected


@pytest.mark.parametrize("noise", NOISES)
def test_noise_agrees_with_the_reference_engine(noise):
    workload = replace(TINY, own=True, noise=noise)
    bench = measure.Bench(workload)
    ours, engine, reason = bench.ours()
    assert ours.side is not None, ours.reason
    assert (engine, reason) == ("native", "")
    assert bench.peer("plain").side is not None
    plain = measure.Bench(replace(workload, noise="")).expected
    assert np.abs(bench.expected.outputs - plain.outputs).max() > 1e-3
    assert bench.peer("loop").reason == "draws no noise"
    assert measure.Bench(TINY).peer("plain").reason == "is for noise in the loop"


def test_every_noise_is_built():
    assert set(NOISES) == NOISE.keys()


def counted(workload):
    """What torch counts in one step more of the loop: no step has a first one's zero states."""
    totals = []
    for steps in (8, 9):
        net = loop_of(replace(workload, steps=steps))
        with FlopCounterMode(display=False) as counter:
            y, _ = net(torch.randn(steps, workload.batch, workload.inputs))
            if workload.mode == "train":
                (y**2).sum().backward()
        totals.append(counter.get_total_flops())
    return totals[1] - totals[0]


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("cell", GATES)
def test_multiply_adds_are_those_torch_counts(cell, mode):
    workload = replace(TINY, cell=cell, mode=mode, steps=1, layers=2)
    assert counted(workload) == 2 * workload.multiply_adds


@pytest.mark.parametrize("workload", SMALL, ids=lambda w: w.cell)
def test_multiply_adds_of_registered_cells_are_those_torch_counts(workload):
    workload = replace(workload, steps=1)
    extra = 0
    if workload.cell == "topdown":  # torch differentiates x along with the state that is beside it
        extra = workload.batch * workload.inputs * workload.hidden
    assert counted(workload) == 2 * (workload.multiply_adds + extra)


def test_multiply_adds_of_the_others():
    assert NAMED["B"].multiply_adds * 2 == pytest.approx(20e9, rel=0.1)  # as the design counts
    assert NAMED["P"].multiply_adds == 128 * 32 * (2 * 128 * 512 + 3 * (64 * 512 + 128 * 64))
    assert NAMED["A step"].multiply_adds == 25 * 3 * (100 * 100 + 100 * 65)
    tokens = int(NAMED["V"].lengths.sum())
    assert NAMED["V"].multiply_adds == tokens * 512 * 128 * 5
    assert 0.5 < tokens / (128 * 32) < 0.7
