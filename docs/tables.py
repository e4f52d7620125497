"""Fill the generated parts of the pages from the program itself: ``python docs/tables.py``.

A generated part stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is a key of
:data:`TABLES`. The tests fail when a part is not what this script would write.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from typer.main import get_command

from unrolled import cells, cli, explain
from unrolled.data import list_entries
from unrolled.inspect.bench import report, workloads
from unrolled.layers import ACTIVATIONS
from unrolled.settings import GROUPS, flag
from unrolled.tasks.task import TASKS, task_class
from unrolled.train.optimisers import DEFAULT_RATES
from unrolled.train.plan import FREE

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PART = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> Iterator[str]:
    """List all settings, table by table of a recipe."""
    for group, model in GROUPS.items():
        yield f"### `[{group}]`\n"
        fields = model.model_json_schema()["properties"]
        yield from _table(
            ("setting", "default", "allowed", "meaning"),
            (
                (f"`{name}`", _value(field["default"]), _allowed(field), field["description"])
                for name, field in fields.items()
            ),
        )


def defaults() -> Iterator[str]:
    """List what each task sets where nobody else does."""
    yield from _table(
        ("task", "settings"),
        (
            (
                f"`{name}`",
                ", ".join(
                    f"`{field}` {_value(value)}"
                    for fields in task_class(name).defaults.values()
                    for field, value in fields.items()
                ),
            )
            for name, home in TASKS.items()
            if home.startswith("unrolled.")
        ),
    )


def rates() -> Iterator[str]:
    """List the learning rate of each optimiser where none is given."""
    yield from _table(
        ("optimizer", "`lr`"), ((f"`{name}`", f"{rate:g}") for name, rate in DEFAULT_RATES.items())
    )


def free() -> Iterator[str]:
    """List the settings that may change when a run is resumed."""
    yield ", ".join(f"`{flag(name)}`" for name in sorted(FREE - {"source"})) + "\n"


def datasets() -> Iterator[str]:
    """List the catalogue; of what is built in, the size depends on Python's version."""
    yield from _table(
        ("name", "what", "size", "licence"),
        (
            (
                f"`{entry.name}`",
                f"[{entry.what}]({entry.page})",
                decimal(entry.bytes) if entry.files else "built in",
                entry.licence,
            )
            for entry in list_entries()
        ),
    )


def commands() -> Iterator[str]:
    """Describe every verb of the command line by its own help."""
    yield from _commands("unrolled", get_command(cli.app))


def explained() -> Iterator[str]:
    """Show what `unrolled explain` prints on a machine with AVX-512."""
    head, _, page = str(explain(cells.LSTM(65, 256))).partition("\n\n")
    yield f"```text\n{head.splitlines()[0]}\nEngine: native (avx512)\n\n{page}\n```\n"


def _commands(name: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for verb, below in command.commands.items():
            yield from _commands(f"{name} {verb}", below)
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    own = [p for p in options if (p.rich_help_panel or "").lower() not in GROUPS]
    usage = " ".join([name, "[OPTIONS]", *(map(_usage, arguments))])
    yield f"### `{name}`\n\n```text\n{usage}\n```\n\n{_help(command.help)}\n"
    rows = [(f"`{p.metavar or p.name.upper()}`", _help(p.help)) for p in arguments]
    rows += [(_names(p), _help(p.help) + _default(p)) for p in own]
    yield from _table(("argument or flag", "meaning"), rows)
    if len(own) < len(options):
        yield "Besides these, every [setting](settings.md) is a flag.\n"


def _usage(argument: Any) -> str:
    text = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    shown = not option.is_flag and not option.required and option.default not in (None, "")
    return f" [default {option.default}]" if shown else ""


def _help(text: str | None) -> str:
    """Give a help text without the escapes that rich's markup asks for."""
    return (text or "").replace("\\[", "[").strip()


def _allowed(field: dict[str, Any]) -> str:
    """Write the range of a field of a JSON schema."""
    kind = next((k for k in field.get("anyOf", ()) if k.get("type") != "null"), field)
    if "enum" in kind:
        return ", ".join(f"`{name}`" for name in kind["enum"])
    names = {"boolean": "on, off", "integer": "whole number", "number": "number", "string": "text"}
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_limit(kind[key])}" for key, sign in signs.items() if key in kind]
    name = names.get(kind["type"], "list")
    return f"{name} {', '.join(bounds)}" if bounds else name


def _limit(value: float) -> str:
    power = int(value).bit_length() - 1
    return f"2^{power}" if value > 1e6 and value == 2**power else f"{value:g}"


def _value(value: object) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- " * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def measured() -> Iterator[str]:
    """Tell the results of ``make bench``."""
    if (found := _results("workloads.json")) is None:
        yield "Not measured yet: `make bench` does it.\n"
        return
    yield from _table(report.COLUMNS, report.table(found))
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
        if (found := _results(f"{name}.json")) is None:
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
            yield from _table(
                ("workload", "what", "peer", "ratio"),
                (
                    (r["workload"], words[r["workload"]], r["peer"], report.times(r["ratio"]))
                    for r in rows
                ),
            )


def every_cell() -> Iterator[str]:
    """Tell the ratios of all registered cells in both sizes, and where they miss what they aim at."""
    if (found := _results("cells.json")) is None:
        yield "Not measured yet: `make bench-cells` does it.\n"
        return
    ratios = {(row["workload"], row["peer"]): row["ratio"] for row in found["rows"] if row["peer"]}
    engines = {workload["name"]: workload["engine"] for workload in found["workloads"]}
    names = [name.removesuffix("-256") for name in engines if re.match("cell:.*-256$", name)]
    columns = [(size, peer) for size in (256, 64) for peer in ("loop", "torchrecurrent")]
    yield from _table(
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
    if (found := _results("cells.json")) is None:
        yield "Not measured yet: `make bench-cells` does it.\n"
        return
    yield from _table(
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


def _results(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def named() -> Iterator[str]:
    """List the named workloads."""
    yield from _table(
        ("workload", "what", "GFLOP"),
        (
            (f"`{name}`", workload.what, f"{2 * workload.multiply_adds / 1e9:.3g}")
            for name, workload in workloads.NAMED.items()
        ),
    )


def convolutions() -> Iterator[str]:
    """Tell the results of ``benchmarks/convolution.py``."""
    if (found := _results("convolution.json")) is None:
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
    yield from _table(
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
        if (found := _results(f"{name}.json")) is None:
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
        yield from _table(
            ("labels", *ways),
            ((f"{labels:,}", *(told[way] for way in ways)) for labels, told in rows.items()),
        )
        yield f"![Accuracy by the number of labels](_static/{name}.png)\n"


def reached() -> Iterator[str]:
    """Tell what every recipe reached, task by task."""
    from unrolled.settings import Settings

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
            yield from _table(
                ("recipe", "metric", "reached", "wanted", "runs", "minutes"), by_task[task]
            )


def activations() -> Iterator[str]:
    """List the activations of single numbers."""
    yield from _table(
        ("name", "value", "derivative"),
        ((f"`{name}`", f"${a.formula}$", f"${a.slope}$") for name, a in ACTIVATIONS.items()),
    )


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "reached": reached,
    "settings": settings,
    "defaults": defaults,
    "rates": rates,
    "free": free,
    "datasets": datasets,
    "commands": commands,
    "explained": explained,
    "named": named,
    "measured": measured,
    "cells": every_cell,
    "noise": noise,
    "slower": slower,
    "convolutions": convolutions,
    "activations": activations,
    "few_labels": few_labels,
}


def filled(text: str) -> str:
    """Give a page with its generated parts as they should be."""

    def fill(part: re.Match[str]) -> str:
        begin, name, end = part.groups()
        return f"{begin}\n" + "\n".join(TABLES[name]()) + f"\n{end}"

    return PART.sub(fill, text)


def main() -> None:
    """Rewrite the pages whose generated parts are stale; say which."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text("utf-8")
        if (fresh := filled(text)) != text:
            page.write_text(fresh, "utf-8")
            sys.stdout.write(f"{page.name}\n")


if __name__ == "__main__":
    main()
