"""`unrolled bench`: what it compares, counts, refuses and tells. No test asserts a time."""

import json
import re
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture

import unrolled
from unrolled.cells import CELLS
from unrolled.engine import Declined
from unrolled.errors import InputError, RunError
from unrolled.inspect.bench import array_sides, measure, peers, report, torch_sides, workloads
from unrolled.inspect.bench.display import LiveDisplay, milliseconds
from unrolled.inspect.bench.side import Results
from unrolled.inspect.bench.workloads import GATES, NAMED, Workload

TINY = Workload("tiny", "lstm", 5, 7, 1, 6, 3)


@pytest.fixture(autouse=True)
def _briefly(monkeypatch):
    """Measure the peak in no time, and one call a timing."""
    monkeypatch.setattr(measure, "PEAK_SIZES", (32,))
    monkeypatch.setattr(measure, "PEAK_SECONDS", 0.001)
    monkeypatch.setattr(measure, "SHORTEST", 1e-6)


@pytest.fixture
def tiny(monkeypatch):
    """Three small workloads in place of the named ones."""
    small = {
        "L": replace(TINY, name="L"),
        "U": replace(TINY, name="U", cell="leaky"),
        "V": replace(TINY, name="V", steps=10, packed=True, mode="infer"),
        "I": replace(TINY, name="I", cell="rnn", mode="infer"),
    }
    monkeypatch.setattr(workloads, "NAMED", small)
    return small


# ---------------------------------------------------------------- what is refused


def spoilt(change):
    """NumPy's side, with its results changed."""

    class Spoilt(array_sides.NumpySide):
        def results(self):
            right = super().results()
            return change(right)

    return Spoilt


def with_first(results, value):
    tensors = {**results.tensors}
    tensors["weight_hh_l0"] = tensors["weight_hh_l0"].copy()
    tensors["weight_hh_l0"][0, 0] = value
    return replace(results, tensors=tensors)


WRONG = {
    "outputs": lambda r: replace(r, outputs=r.outputs + 1e-3),
    "nan": lambda r: replace(r, outputs=r.outputs * np.nan),
    "shape": lambda r: replace(r, outputs=r.outputs[1:]),
    "gradient": lambda r: with_first(r, 1e3),
    "nan gradient": lambda r: with_first(r, np.nan),
    "missing gradient": lambda r: Results(r.outputs, {}),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_peer_with_wrong_results_is_refused(cli, monkeypatch, tiny, tmp_path, change):  # noqa: F811
    wrong = replace(peers.PEERS["numpy"], layer=spoilt(WRONG[change]))
    monkeypatch.setitem(peers.PEERS, "numpy", wrong)
    out = tmp_path / "found.json"
    done = cli(
        *("bench", "L", "--seconds", "0.001", "--peers", "torch,numpy", "--out", out, "--quiet")
    )
    assert done.code == 1
    assert done.out == ""
    assert re.search(r"L: (outputs|gradients) of numpy .* no figure", done.sentence)
    found = json.loads(out.read_text("utf-8"))
    assert [(row["workload"], row["peer"]) for row in found["rows"]] == [("L", "torch")]
    assert [(e["workload"], e["peer"]) for e in found["differing"]] == [("L", "numpy")]


def test_ours_with_wrong_results_is_refused(monkeypatch, tiny, tmp_path):
    real = torch_sides.ours

    def ours(case):
        weights = {**case.weights, "bias_hh_l0": case.weights["bias_hh_l0"] + 0.1}
        return real(replace(case, weights=weights))

    monkeypatch.setattr(torch_sides, "ours", ours)
    with pytest.raises(RunError, match="L: outputs of unrolled differ"):
        unrolled.bench("L", seconds=0.001, peers=["torch"], out=tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text("utf-8"))["rows"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("Z", ("no workload 'Z'", "A, A2, B")),
        ("A --grid", ("no workload 'A'", "rnn-32-25-1-infer-float32", "more")),
        ("A --peers torch,keras", ("no peer 'keras'", "torch, padded, loop")),
        ("A --seconds 0", ("--seconds", "above 0")),
        ("A --seconds nan", ("--seconds", "nan")),
        ("A --threads 0", ("--threads", "1 or more")),
        ("A --out nowhere/x.json", ("nowhere", "x.json")),
        ("A --picture nowhere/x.png", ("nowhere", "x.png")),
    ],
)
def test_bad_input_is_one_sentence(cli, arguments, words):  # noqa: F811
    done = cli("bench", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert all(word in done.sentence for word in words)


def test_a_wrong_name_of_an_engine(monkeypatch, tiny):
    monkeypatch.setenv("UNROLLED_ENGINE", "steam")
    with pytest.raises(InputError, match="no engine 'steam'"):
        unrolled.bench("L", seconds=0.001)


# ---------------------------------------------------------------- what is told


def test_the_shape_of_the_result(cli, tiny, tmp_path):  # noqa: F811
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    done = cli(
        *("bench", "--seconds", "0.001", "--peers", "torch,loop,numpy,padded", "--threads", "1"),
        *("--json", "--out", out, "--picture", picture),
    )
    assert done.code == 0, done.err
    assert done.err == ""
    found = json.loads(done.out)
    assert found == json.loads(out.read_text("utf-8"))
    assert set(found) == {
        *("format_version", "date", "unrolled", "machine", "threads", "seconds", "peaks"),
        *("workloads", "rows", "skipped", "differing"),
    }
    assert found["threads"] == 1
    assert set(found["machine"]) == {
        *("processor", "processors", "instruction_set", "platform", "versions"),
    }
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert found["peaks"].keys() == {"float32"}
    described = [(w["name"], w["engine"]) for w in found["workloads"]]
    assert described == [(name, "native") for name in tiny]
    measured = [(row["workload"], row["peer"]) for row in found["rows"]]
    assert measured == [
        *(("L", "torch"), ("L", "loop"), ("L", "numpy"), ("U", "loop")),
        *(("V", "torch"), ("V", "padded"), ("I", "torch"), ("I", "loop"), ("I", "numpy")),
    ]
    assert {(e["workload"], e["peer"]) for e in found["skipped"]} == {
        *(("L", "padded"), ("U", "torch"), ("U", "numpy"), ("U", "padded")),
        *(("V", "loop"), ("V", "numpy"), ("I", "padded")),
    }
    for row in found["rows"]:
        assert row["timings"] >= measure.FEWEST
        assert 0 < row["ratio_quartiles"][0] <= row["ratio"] <= row["ratio_quartiles"][1]
        assert row["gflops"] / found["peaks"]["float32"] == pytest.approx(row["of_peak"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_person_sees_rows_and_reasons(cli, tiny, monkeypatch):  # noqa: F811
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(peers, "find_spec", lambda _: None)
    names = "torch,jax,onnxruntime"
    done = cli("bench", "L", "U", "--seconds", "0.001", "--peers", names)
    assert done.code == 0, done.err
    first, ours, torchs, *_ = done.out.splitlines()
    assert first.split()[:2] == ["workload", "peer"]
    assert ours.split()[:2] == ["L", "torch"]
    assert torchs.split()[0] == "U"
    assert "torch has no such cell (U)" in done.err
    assert "jax is not installed (L, U)" in done.err
    assert "onnxruntime is not installed (L, U)" in done.err
    assert re.search(r"^L: torch \S+ ms, ours \S+ ms, ratio \S+$", done.err, re.MULTILINE)
    assert re.search(r"^U: ours \S+ ms$", done.err, re.MULTILINE)


def test_workloads_have_peers_of_their_own(monkeypatch):
    small = {"inputs": 4, "hidden": 6, "steps": 5, "batch": 2}
    for home in ("cells", "wirings"):
        known = getattr(workloads, home)()
        shrunk = {name: replace(workload, **small) for name, workload in known.items()}
        monkeypatch.setattr(workloads, home, partial(dict, shrunk))
    found = unrolled.bench("cell:mgu-64", "wiring:zoneout-c", seconds=0.001)
    pairs = [(row["workload"], row["peer"]) for row in found["rows"]]
    assert ("cell:mgu-64", "loop") in pairs
    assert pairs[-1] == ("wiring:zoneout-c", "plain")
    asked = {(e["workload"], e["peer"]) for e in found["skipped"]} | {*pairs}
    assert ("cell:mgu-64", "torchrecurrent") in asked
    assert len(asked) == 3


def test_a_peer_that_fails_says_how(monkeypatch, tiny):
    def fails(_case):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setitem(peers.PEERS, "loop", replace(peers.PEERS["loop"], layer=fails))
    found = unrolled.bench("L", seconds=0.001, peers=["loop"])
    assert [e["reason"] for e in found["skipped"]] == ["failed: ZeroDivisionError: by"]
    assert [row["peer"] for row in found["rows"]] == [None]


def test_the_reference_engine_is_named(monkeypatch, tiny):
    monkeypatch.setenv("UNROLLED_ENGINE", "reference")
    found = unrolled.bench("L", seconds=0.001, peers=["torch"])
    assert [w["engine"] for w in found["workloads"]] == ["reference"]
    assert any("UNROLLED_ENGINE asks for it (L)" in line for line in report.omissions(found))


def test_why_the_native_engine_declined_is_told(monkeypatch, tiny):
    monkeypatch.setattr("unrolled.engine.native.available", lambda: False)
    found = unrolled.bench("L", seconds=0.001, peers=["torch"])
    (workload,) = found["workloads"]
    assert workload["engine"] == "reference"
    assert workload["engine_reason"] == "the native core is not installed"


def test_a_training_loop_without_whole_steps_is_told(monkeypatch):
    def whole_step(*_):
        raise Declined("it is Sunday")

    monkeypatch.setattr(sys.modules["unrolled.train.loop"], "whole_step", whole_step)
    workload = Workload("tiny step", "rnn", 9, 8, 1, 5, 1, mode="step")
    ours, engine, reason = measure.Bench(workload).ours()
    assert ours.side is not None, ours.reason
    assert (engine, reason) == ("native", "no whole steps: it is Sunday")


def test_the_live_display_ends_whatever_happens(monkeypatch, tiny):
    shown = LiveDisplay()
    unrolled.bench("L", seconds=0.001, peers=["torch", "padded"], watcher=shown)
    (task,) = shown._progress.tasks
    assert (task.completed, task.total) == (2, 2)
    assert shown._progress.live.is_started is False


def test_torch_is_left_as_it_was(tiny):
    torch.set_float32_matmul_precision("high")
    try:
        unrolled.bench("L", seconds=0.001, peers=["torch"], threads=1)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    state = torch.get_rng_state()
    unrolled.bench("L", seconds=0.001, peers=["torch"])
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------- what is counted


def test_figures_by_hand():
    workload = Workload("w", "rnn", 10, 10, 1, 1, 1, mode="infer")  # 200 multiply-adds
    row = measure.figures(workload, [1e-6, 2e-6, 4e-6], [2e-6, 2e-6, 2e-6], 0.4)
    assert row["ours_ms"] == pytest.approx(2e-3)
    assert row["ours_ms_quartiles"] == pytest.approx([1.5e-3, 3e-3])
    assert row["peer_ms"] == pytest.approx(2e-3)
    assert row["ratio"] == pytest.approx(1)
    assert row["ratio_quartiles"] == pytest.approx([0.75, 1.5])
    assert row["gflops"] == pytest.approx(0.2)
    assert row["of_peak"] == pytest.approx(0.5)


def test_sides_take_turns_rest_between_and_repeat_short_calls(monkeypatch):
    now, order, rests = [0.0], [], []
    monkeypatch.setattr(measure.time, "sleep", rests.append)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure, "SHORTEST", 0.02)

    class Fake:
        def __init__(self, seconds, spins):
            self.seconds, self.spins = seconds, spins

        def once(self):
            self.repeat(1)

        def repeat(self, times):
            now[0] += times * self.seconds
            order.append((self.seconds, times))

    ours, theirs = measure.alternate(Fake(0.001, 0.05), Fake(0.5, 0.15), 2.0)
    assert ours == pytest.approx([0.001] * len(ours))
    assert theirs == pytest.approx([0.5] * len(theirs))
    assert len(ours) == len(theirs) == 4
    assert order[-6:] == [(0.001, 1), (0.001, 20), (0.5, 1)] * 2
    assert rests == [0.15] * 8


def test_names_and_patterns():
    assert [w.name for w in workloads.choose(["U1*"])] == [
        *("U1", "U1 leaky", "U1 peephole", "U1 gru"),
        *("U1infer", "U1infer leaky", "U1infer peephole", "U1infer gru"),
    ]
    assert [w.name for w in workloads.choose(["C", "A", "C"])] == ["C", "A"]
    assert workloads.choose([]) == [*NAMED.values()]
    assert [w.name for w in workloads.choose(["cell:mgu*", "wiring:zoneout-?"])] == [
        *("cell:mgu-256", "cell:mgu-64", "wiring:zoneout-h", "wiring:zoneout-c"),
    ]


def test_the_peers_of_workloads_are_known():
    every = NAMED | workloads.grid() | workloads.cells() | workloads.wirings()
    assert {peer for workload in every.values() for peer in workload.peers} == {
        *peers.PEERS.keys() - {"compile"}
    }


def test_every_registered_cell_is_measured_in_two_sizes():
    points = workloads.cells().values()
    assert {p.cell for p in points} == set(CELLS) - {"lstm-batchnorm"}
    sizes = {(p.hidden, p.inputs, p.steps, p.batch) for p in points}
    assert sizes == {(256, 256, 100, 32), (64, 64, 1000, 1)}
    assert len(points) == len(sizes) * (len(CELLS) - 1)
    for cell in {p.cell for p in points if p.mode == "infer"}:
        assert not [*CELLS[cell](2, 2).parameters()]


def test_the_grid_spans_what_it_says():
    points = workloads.grid().values()
    assert {p.cell for p in points} == set(GATES)
    for field, ends in (("hidden", (32, 1024)), ("steps", (25, 1000)), ("batch", (1, 128))):
        values = {getattr(p, field) for p in points}
        assert (min(values), max(values)) == ends
    assert {p.precision for p in points} == {"float32", "bfloat16"}
    assert {p.mode for p in points} == {"train", "infer"}
    assert max(p.multiply_adds for p in points) <= workloads.GRID_LIMIT


# ---------------------------------------------------------------- the report


def made_up(count):
    return {
        "workloads": [{"name": f"w{k}", "gflop": 0.1 * k + 0.1} for k in range(count)],
        "rows": [
            {
                "workload": f"w{k}",
                "peer": "torch",
                "ratio": 0.5 + 0.1 * k,
                "ratio_quartiles": [0.4 + 0.1 * k, 0.6 + 0.1 * k],
            }
            for k in range(count)
        ],
    }


@pytest.mark.parametrize("count", [0, 3, 150])
def test_pictures_of_few_and_of_many(count):
    assert report.picture(made_up(count)).startswith(b"\x89PNG")


def test_what_is_slower_is_found():
    found = made_up(10)
    unlike = [{"workload": "w0", "peer": "plain", "ratio": 0.9}, {"workload": "w1", "peer": None}]
    found["rows"] = [*unlike, *reversed(found["rows"])]
    assert [row["workload"] for row in report.slower(found)] == ["w0", "w1", "w2", "w3", "w4"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1, "1.00"), (23.45, "23.4"), (104.4, "104"), (1234.5, "1234")],
)
def test_times_have_three_digits(value, text):
    assert milliseconds(value) == text
