"""What benchmarks and recipes reached, as tables of the pages: see ``tables.py``."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unrolled.inspect.bench import report
from unrolled.settings import Settings
from unrolled.tasks.task import TASKS

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"


def results(name: str) -> dict[str, Any] | None:
    """Read what a benchmark wrote, if it did."""
    path = RESULTS / name
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write a table of Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "| --- " * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def measured() -> Iterator[str]:
    """Tell the results of ``make bench``."""
    if (found := results("workloads.json")) is None:
        yield "Not measured yet: `make bench` does it.\n"
        return
    yield from table(report.COLUMNS, report.table(found))
    yield report.machine(found) + "\n"
    yield from (f"- {line}" for line in report.omissions(found))
    yield ""


def slower() -> Iterator[str]:
    """List where a peer is faster than ours, in the workloads and in the grid."""
    measured_by = {
        "workloads": ("the named workloads", "make bench"),
        "cells": ("the registered cells", "make bench-cells"),
        "grid": ("the grid", "make bench-grid"),
    }
    for name, (where, command) in measured_by.items():
        if (found := results(f"{name}.json")) is None:
            yield f"In {where}: not measured yet; `{command}` does it.\n"
            continue
        rows = report.slower(found)
        pairs = sum(row["peer"] not in (None, "plain") for row in found["rows"])
        yield f"In {where}, the peer is faster in {len(rows)} of {pairs} pairs.\n"
        if name == "grid":
            parts = [workload["name"].split("-") for workload in found["workloads"]]
            steps = ", ".join(map(str, sorted({int(part[2]) for part in parts})))
            formats = ", ".join(sorted({part[5] for part in parts}))
            yield f"Of the grid these are the points at T {steps} in {formats}.\n"
            yield "![The ratio at each point of the grid, by its work](_static/grid.png)\n"
            yield report.machine(found) + "\n"
        if rows:
            words = {workload["name"]: workload["what"] for workload in found["workloads"]}
            yield from table(
                ("workload", "what", "peer", "ratio"),
                (
                    (r["workload"], words[r["workload"]], r["peer"], report.times(r["ratio"]))
                    for r in rows
                ),
            )


def every_cell() -> Iterator[str]:
    """Tell the ratios of all registered cells in both sizes, and where they miss what they aim at."""
    if (found := results("cells.json")) is None:
        yield "Not measured yet: `make bench-cells` does it.\n"
        return
    ratios = {(row["workload"], row["peer"]): row["ratio"] for row in found["rows"] if row["peer"]}
    engines = {workload["name"]: workload["engine"] for workload in found["workloads"]}
    names = [name.removesuffix("-256") for name in engines if re.match("cell:.*-256$", name)]
    columns = [(size, peer) for size in (256, 64) for peer in ("loop", "torchrecurrent")]
    yield from table(
        ("cell", "engine", *(f"{peer}, H {size}" for size, peer in columns)),
        (
            (
                f"`{name.removeprefix('cell:')}`",
                engines[f"{name}-256"],
                *(
                    report.times(ratios[pair])
                    if (pair := (f"{name}-{size}", peer)) in ratios
                    else ""
                    for size, peer in columns
                ),
            )
            for name in names
        ),
    )
    for size, aim in ((256, 3), (64, 20)):
        mine = [r for (name, _), r in ratios.items() if re.match(f"cell:.*-{size}$", name)]
        below = sum(ratio < aim for ratio in mine)
        yield f"At H {size} we aim at {aim} times as fast: {below} of {len(mine)} pairs are below.\n"
    yield report.machine(found) + "\n"


def noise() -> Iterator[str]:
    """Tell what noise in the loop costs."""
    if (found := results("cells.json")) is None:
        yield "Not measured yet: `make bench-cells` does it.\n"
        return
    yield from table(
        ("noise", "with it (ms)", "without (ms)", "with it / without"),
        (
            (
                f"`{row['workload'].removeprefix('wiring:')}`",
                *(f"{row[key]:.2f}" for key in ("ours_ms", "peer_ms")),
                f"{1 / row['ratio']:.2f}",
            )
            for row in found["rows"]
            if row["peer"] == "plain"
        ),
    )


def convolutions() -> Iterator[str]:
    """Tell the results of ``benchmarks/convolution.py``."""
    if (found := results("convolution.json")) is None:
        yield "Not measured yet: `benchmarks/convolution.py` does it.\n"
        return
    long = (
        (
            f"1,024 taps on 65,536 samples: B {r['B']}, {r['C']} to {r['O']} channels"
            + f", {r['groups']} groups" * (r["groups"] > 1),
            r,
        )
        for r in found["long"]
    )
    yield from table(
        ("convolution", "ours (ms)", "torch (ms)", "ratio"),
        (
            (what, f"{r['ours_ms']:,.2f}", f"{r['torch_ms']:,.2f}", f"{r['ratio']:.2f}")
            for what, r in (*long, *((r["what"], r) for r in found["usual"]))
        ),
    )


def few_labels() -> Iterator[str]:
    """Tell the results of ``benchmarks/few_labels.py``."""
    for name in ("digits-few-labels", "mnist-few-labels"):
        command = f"`benchmarks/few_labels.py recipes/{name}.toml`"
        if (found := results(f"{name}.json")) is None:
            yield f"`{name}` is not measured yet: {command} does it.\n"
            continue
        yield f"`{name}`, accuracy on the test split, mean of {found['seeds']} seeds (smallest to largest):\n"
        rows: dict[int, dict[str, str]] = {}
        for row in found["rows"]:
            values = row["accuracies"]
            told = f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            given = sum(row["baselines"]) / len(row["baselines"])
            rows.setdefault(row["labels"], {"logistic regression": f"{given:.3f}"})[row["way"]] = (
                told
            )
        ways = [*next(iter(rows.values()))]
        ways = [*ways[1:], ways[0]]
        yield from table(
            ("labels", *ways),
            ((f"{labels:,}", *(told[way] for way in ways)) for labels, told in rows.items()),
        )
        yield f"![Accuracy by the number of labels](_static/{name}.png)\n"


def reached() -> Iterator[str]:
    """Tell what every recipe reached, task by task."""
    recipes = DOCS.parent / "recipes"
    found = {
        row["recipe"]: row for row in json.loads((recipes / "results.json").read_text("utf-8"))
    }
    by_task: dict[str, list[tuple[str, ...]]] = {}
    for path in sorted(recipes.glob("*.toml")):
        task, row = Settings.from_toml(path).task, found.get(f"recipes/{path.name}")
        told = (f"`{path.stem}`", "not measured yet", "", "", "", "")
        if row is not None:
            lower, value, wanted = row["better"] == "lower", row["value"], row["target"]
            seeds = len(row["seeds"])
            told = (
                f"`{path.stem}`",
                f"`{row['metric']}`",
                f"{value:.4g}" + f" ± {row['spread'] / 2:.2g}" * (seeds > 1),
                f"{'≤' if lower else '≥'} {wanted:.4g}"
                + " (missed)" * (value > wanted if lower else value < wanted),
                str(seeds),
                f"{row['seconds'] / 60:.2g}"
                if row["seconds"] < 600
                else f"{row['seconds'] / 60:.0f}",
            )
        by_task.setdefault(task, []).append(told)
    for task in TASKS:
        if task in by_task:
            yield f"## `{task}`\n"
            yield from table(
                ("recipe", "metric", "reached", "wanted", "runs", "minutes"), by_task[task]
            )


def hessian_free() -> Iterator[str]:
    """Tell the results of the benchmarks of Hessian-free optimisation."""
    problems = {
        "hessian-free": (
            "hessian_free.py",
            "The adding problem over {steps} steps by a plain tanh RNN of {hidden} units, mean square error "
            "on held-out sequences (0.167 is a guess of the mean):",
        ),
        "hessian-free-autoencoder": (
            "hessian_free_autoencoder.py",
            "MNIST's deep autoencoder of logistic units, squared error of a training picture:",
        ),
    }
    for name, (script, words) in problems.items():
        if (found := results(f"{name}.json")) is None:
            yield f"`benchmarks/{script}` is not run yet.\n"
            continue
        yield words.format(**found) + "\n"
        yield from table(
            ("side", "lowest", "seconds"),
            (
                (side, f"{min(error for _, error in curve):.4g}", f"{curve[-1][0]:.0f}")
                for side, curve in found["curves"].items()
            ),
        )
        yield f"![The error by the seconds](_static/{name}.png)\n"
