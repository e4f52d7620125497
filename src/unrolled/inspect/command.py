"""``unrolled doctor``."""

from typing import Any

import typer

from unrolled import console
from unrolled.inspect.doctor import doctor
from unrolled.inspect.explain_command import explain


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("doctor")(_doctor)
    app.command("explain")(explain)


def _doctor(json: console.Json = False) -> None:
    """Show versions, threads, instruction sets, GPU, cache and engines of this installation."""
    found = doctor()
    if json:
        console.print_json(found)
    else:
        _print_table(found)


def _print_table(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for title, value in _rows(found):
        table.add_row(title, value)
    console.results().print(table)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    threads, sets, cache = found["threads"], found["instruction_sets"], found["cache"]
    isa = found["engines"]["native"]
    megabytes = cache["bytes"] / 1e6
    return [
        *((name, value or "not installed") for name, value in found["versions"].items()),
        ("platform", found["platform"]),
        ("processors", f"{threads['usable']} of {threads['processors']} usable"),
        ("torch threads", f"{threads['torch']}, and {threads['torch_interop']} between operations"),
        ("instruction sets", ", ".join(sets["processor"]) or "unknown"),
        ("torch uses", sets["torch"]),
        ("GPU", ", ".join(found["gpu"]) or "none"),
        ("cache", f"{cache['directory']} ({megabytes:.1f} MB)"),
        ("native engine", f"there, for {isa}" if isa else "not installed: no compiler built it"),
        *found["environment"].items(),
    ]
