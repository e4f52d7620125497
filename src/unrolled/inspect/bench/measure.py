"""How it is measured: results compared, then ours and a peer timed in turns, in one process."""

import math
import os
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from unrolled.errors import RunError
from unrolled.inspect.bench.peers import failure, make, make_case, make_ours, make_reference
from unrolled.inspect.bench.side import Results, Side
from unrolled.inspect.bench.workloads import Precision, Workload

SHORTEST = 0.02
"""Seconds that one timing takes at least: what is faster is repeated."""
FEWEST = 3
"""Pairs of timings, however little time there is."""
BOUND = {"float32": 2e-4, "high": 2e-4, "bfloat16": 5e-2}
"""How far outputs may be from torch's, as a share of the largest where that is above 1."""
BOUND_OF_TENSORS = 5
"""How many times as far gradients may be, as a share of the largest entry of each."""
STEPS_COMPARED = {"lstm-layernorm": 8, "irnn": 8}
"""Steps over which a cell is compared: a layer-norm LSTM is chaotic, and rounding grows to 1e-2 by T 100; an
IRNN begins near zero, where rounding decides which of its units are on."""
PEAK_SIZES = 512, 1024, 2048
PEAK_SECONDS = 0.3


@dataclass(frozen=True)
class Comparison:
    """A workload's side beside ours, made and found to agree, or why not.

    Attributes:
        side: What to time; ``None`` where there is a `reason`.
        reason: Why it is skipped, or how its results differ.
        differs: Whether results differ.
    """

    side: Side | None
    reason: str = ""
    differs: bool = False


class Bench:
    """One workload: our side, the engine that runs it, and peers that agree with torch.

    Args:
        workload: What to compute.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.case = make_case(workload)
        steps = min(STEPS_COMPARED.get(workload.cell, workload.steps), workload.steps)
        self.short = self.case
        if steps < workload.steps:
            self.short = make_case(replace(workload, steps=steps))
        self.expected = make_reference(self.short).results()

    def ours(self) -> tuple[Comparison, str, str]:
        """Make our side; say which engine runs it, and why not the native one."""
        side = make_ours(self.short)
        if reason := difference(self.expected, side.results(), self.workload, "unrolled"):
            return Comparison(None, reason, differs=True), "", ""
        if self.short is not self.case:
            side = make_ours(self.case)
        return Comparison(side), *engine_of(side)

    def peer(self, name: str) -> Comparison:
        """Make a peer's side."""
        expected = self.expected
        try:
            side = make(name, self.short)
            found = side.results()
            if name == "plain":
                expected = make_reference(self.short.plain).results()
            if self.short is not self.case:
                side = make(name, self.case)
                side.once()
        except Exception as error:
            return Comparison(None, failure(error))
        reason = difference(expected, found, self.workload, name)
        return Comparison(None, reason, differs=True) if reason else Comparison(side)


def difference(expected: Results, found: Results, workload: Workload, name: str) -> str:
    """Say how results differ from torch's by more than rounding; empty if they do not."""
    bound = BOUND[workload.precision]
    step = workload.mode == "step"
    gap = _gap(expected.outputs, found.outputs) / max(1.0, float(np.abs(expected.outputs).max()))
    if not gap < bound:
        what = "losses" if step else "outputs"
        return f"{workload.name}: {what} of {name} differ from torch's by {gap:.1e}, more than {bound:g}"
    noun, most = "weights" if step else "gradients", BOUND_OF_TENSORS * bound
    if set(found.tensors) != set(expected.tensors):
        missing = ", ".join(sorted(set(found.tensors) ^ set(expected.tensors)))
        return f"{workload.name}: {noun} of {name} are not those of torch: {missing}"
    for key, tensor in expected.tensors.items():
        gap = _gap(tensor, found.tensors[key]) / (float(np.abs(tensor).max()) + 1e-9)
        if not gap < most:
            return (
                f"{workload.name}: {noun} of {name} differ from torch's: {key} by {gap:.1e} of its "
                f"largest entry, more than {most:g}"
            )
    return ""


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else math.inf


def engine_of(side: Side) -> tuple[str, str]:
    """Tell which engine runs our side, and why ours does not take its fastest way."""
    before = os.environ.get("UNROLLED_STRICT")
    os.environ["UNROLLED_STRICT"] = "1"
    try:
        side.once()
    except RunError as error:
        return "reference", str(error).partition("native engine: ")[2] or str(error)
    finally:
        if before is None:
            del os.environ["UNROLLED_STRICT"]
        else:
            os.environ["UNROLLED_STRICT"] = before
    asked = os.environ.get("UNROLLED_ENGINE") or "native"
    return asked, side.note if asked == "native" else "UNROLLED_ENGINE asks for it"


def alternate(ours: Side, peer: Side | None, seconds: float) -> tuple[list[float], list[float]]:
    """Time ours and a peer in turns.

    Args:
        ours: Our side.
        peer: The peer's; without one, ours is timed alone.
        seconds: How long to go on; at least :data:`FEWEST` pairs are timed.

    Returns:
        Seconds a call of ours and of the peer's, pair by pair.
    """
    sides = [ours] if peer is None else [ours, peer]
    calls = [_calls(side) for side in sides]
    timings: list[list[float]] = [[] for _ in sides]
    rest = max(side.spins for side in sides)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(timings[0]) < FEWEST:
        for side, number, found in zip(sides, calls, timings, strict=True):
            time.sleep(rest)
            if number > 1:
                side.once()  # wakes its threads, and clears the caches of the other
            found.append(_seconds(side, number) / number)
    return timings[0], timings[1] if peer else []


def _seconds(side: Side, times: int) -> float:
    began = time.perf_counter()
    side.repeat(times)
    return time.perf_counter() - began


def _calls(side: Side) -> int:
    """Find how many calls make a timing of :data:`SHORTEST`, the first ones being slow."""
    times = 1
    side.once()
    while (took := _seconds(side, times)) < SHORTEST / 4:
        times *= 4
    return max(1, math.ceil(times * SHORTEST / took))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the quartiles: the median is the second."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def figures(
    workload: Workload, ours: Sequence[float], peer: Sequence[float], peak: float
) -> dict[str, Any]:
    """Sum up the timings of a pair: medians in milliseconds with their quartiles, ratio, GFLOP/s."""
    low, median, high = spread(ours)
    speed = 2 * workload.multiply_adds / median / 1e9
    row: dict[str, Any] = {
        "ours_ms": median * 1e3,
        "ours_ms_quartiles": [low * 1e3, high * 1e3],
        "gflops": speed,
        "of_peak": speed / peak,
        "timings": len(ours),
    }
    if peer:
        low, median, high = spread(peer)
        row |= {"peer_ms": median * 1e3, "peer_ms_quartiles": [low * 1e3, high * 1e3]}
        low, median, high = spread([p / o for o, p in zip(ours, peer, strict=True)])
        row |= {"ratio": median, "ratio_quartiles": [low, high]}
    return row


def peak_gflops(precision: Precision) -> float:
    """Measure what the machine can do: the fastest of a few large products by ``torch.mm``."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "high" else "highest")
    best = 0.0
    try:
        for size in PEAK_SIZES:
            a, b = torch.randn(2, size, size).to(dtype)
            out = torch.mm(a, b)
            end = time.perf_counter() + PEAK_SECONDS
            while time.perf_counter() < end:
                began = time.perf_counter()
                torch.mm(a, b, out=out)
                best = max(best, 2 * size**3 / (time.perf_counter() - began) / 1e9)
    finally:
        torch.set_float32_matmul_precision(before)
    return best


@contextmanager
def surroundings(number: int | None) -> Iterator[int]:
    """Let torch, and NumPy's products, use so many threads meanwhile; give the number.

    Torch's random state is put back afterwards.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    number = number or before
    try:
        torch.set_num_threads(number)
        with (
            threadpool_limits(number, "blas"),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
        ):
            # torch's own remark on its own LSTM
            warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
            yield number
    finally:
        torch.set_num_threads(before)
