"""Fill the generated parts of the pages from the program itself: ``python docs/tables.py``.

A generated part stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is a key of
:data:`TABLES`. The tests fail when a part is not what this script would write.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measured import (
    convolutions,
    every_cell,
    few_labels,
    hessian_free,
    measured,
    noise,
    reached,
    slower,
    table,
)
from rich.filesize import decimal
from typer.main import get_command

from unrolled import cells, cli, explain
from unrolled.data import list_entries
from unrolled.inspect.bench import workloads
from unrolled.layers import ACTIVATIONS
from unrolled.settings import GROUPS, flag
from unrolled.tasks.task import TASKS, task_class
from unrolled.train.optimisers import DEFAULT_RATES
from unrolled.train.plan import FREE

DOCS = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> Iterator[str]:
    """List all settings, table by table of a recipe."""
    for group, model in GROUPS.items():
        yield f"### `[{group}]`\n"
        fields = model.model_json_schema()["properties"]
        yield from table(
            ("setting", "default", "allowed", "meaning"),
            (
                (f"`{name}`", _value(field["default"]), _allowed(field), field["description"])
                for name, field in fields.items()
            ),
        )


def defaults() -> Iterator[str]:
    """List what each task sets where nobody else does."""
    yield from table(
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
    yield from table(
        ("optimizer", "`lr`"), ((f"`{name}`", f"{rate:g}") for name, rate in DEFAULT_RATES.items())
    )


def free() -> Iterator[str]:
    """List the settings that may change when a run is resumed."""
    yield ", ".join(f"`{flag(name)}`" for name in sorted(FREE - {"source"})) + "\n"


def datasets() -> Iterator[str]:
    """List the catalogue; of what is built in, the size depends on Python's version."""
    yield from table(
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
    yield from table(("argument or flag", "meaning"), rows)
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


def named() -> Iterator[str]:
    """List the named workloads."""
    yield from table(
        ("workload", "what", "GFLOP"),
        (
            (f"`{name}`", workload.what, f"{2 * workload.multiply_adds / 1e9:.3g}")
            for name, workload in workloads.NAMED.items()
        ),
    )


def activations() -> Iterator[str]:
    """List the activations of single numbers."""
    yield from table(
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
    "hessian_free": hessian_free,
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
