"""All workloads, one after the other."""

import datetime
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unrolled import __version__
from unrolled.checkpoint import files
from unrolled.engine import engine, native
from unrolled.errors import InputError, RunError
from unrolled.inspect.bench import measure, peers, report, workloads
from unrolled.inspect.bench.display import Watcher
from unrolled.inspect.bench.torch_sides import precision_of
from unrolled.inspect.bench.workloads import Precision, Workload
from unrolled.inspect.doctor import usable_processors, version_of

FORMAT_VERSION = 1
LIBRARIES = "torch", "numpy", "jax", "onnxruntime", "torchrecurrent"


def run(
    names: Sequence[str],
    grid: bool,
    seconds: float,
    threads: int | None,
    asked: Sequence[str] | None,
    out: str | Path | None,
    picture: str | Path | None,
    watcher: Watcher | None,
) -> dict[str, Any]:
    """Measure: see :func:`unrolled.inspect.bench.bench`."""
    chosen = workloads.choose(names, from_grid=grid)
    if asked is not None:
        chosen = [replace(workload, peers=peers.choose(asked)) for workload in chosen]
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"--seconds must be above 0, not {seconds:g}")
    if threads is not None and threads < 1:
        raise InputError(f"--threads must be 1 or more, not {threads}")
    for path in (out, picture):
        if path is not None and not Path(path).parent.is_dir():
            raise InputError(f"no directory {Path(path).parent} to write {Path(path).name} into")
    watcher = watcher or Watcher()
    try:
        asked_engine = os.environ.get("UNROLLED_ENGINE") or "native"
        with engine(asked_engine), measure.surroundings(threads) as number:
            result = _header(seconds, number)
            watcher.begin(sum(max(1, len(workload.peers)) for workload in chosen))
            for workload in chosen:
                _measure(workload, result, watcher)
                if out is not None:
                    content = files.to_json(result, indent=2).encode() + b"\n"
                    files.write(Path(out), content, durable=False)
    finally:
        watcher.close()
    if picture is not None:
        files.write(Path(picture), report.picture(result), durable=False)
    if found := [entry["reason"] for entry in result["differing"]]:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise RunError(f"{found[0]}{more}; there is no figure for it")
    return result


def _header(seconds: float, threads: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "unrolled": __version__,
        "machine": {
            "processor": _processor(),
            "processors": usable_processors(),
            "instruction_set": native.instruction_set(),
            "platform": platform.platform(),
            "versions": {
                "python": platform.python_version(),
                **{name: version_of(name) for name in LIBRARIES},
            },
        },
        "threads": threads,
        "seconds": seconds,
        "peaks": {},
        "workloads": [],
        "rows": [],
        "skipped": [],
        "differing": [],
    }


def _measure(workload: Workload, result: dict[str, Any], watcher: Watcher) -> None:
    """Measure one workload and put what was found into the result."""

    def note(kind: str, name: str, reason: str) -> None:
        entry = {"workload": workload.name, "peer": name, "reason": reason}
        result[kind].append(entry)
        watcher.left_out(entry)

    watcher.at(workload.name, "compared with torch")
    peak = _peak(workload.precision, result, watcher)
    with precision_of(workload):
        bench = measure.Bench(workload)
        ours, engine, reason = bench.ours()
        if ours.side is None:
            note("differing", "unrolled", ours.reason)
            watcher.advance(max(1, len(workload.peers)))
            return
        result["workloads"].append(
            {
                "name": workload.name,
                "what": workload.what,
                "gflop": 2 * workload.multiply_adds / 1e9,
                "engine": engine,
                **({"engine_reason": reason} if reason else {}),
            }
        )
        share = result["seconds"] / max(1, len(workload.peers))
        rows = 0
        for name in workload.peers:
            watcher.at(workload.name, name)
            found = bench.peer(name)
            if found.side is None:
                note("differing" if found.differs else "skipped", name, found.reason)
            else:
                mine, theirs = measure.alternate(ours.side, found.side, share)
                row = {"workload": workload.name, "peer": name}
                row |= measure.figures(workload, mine, theirs, peak)
                result["rows"].append(row)
                watcher.row(row)
                rows += 1
            watcher.advance(1)
        if not rows:
            mine, _ = measure.alternate(ours.side, None, share)
            row = {"workload": workload.name, "peer": None}
            row |= measure.figures(workload, mine, [], peak)
            result["rows"].append(row)
            watcher.row(row)


def _peak(precision: Precision, result: dict[str, Any], watcher: Watcher) -> float:
    peaks = result["peaks"]
    if precision not in peaks:
        watcher.at("peak", precision)
        peaks[precision] = measure.peak_gflops(precision)
    return peaks[precision]


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Give the processor's name where the system tells it, else its architecture."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
