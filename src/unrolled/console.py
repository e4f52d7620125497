"""How every command speaks: results on standard output, logs and errors on standard error."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
"""The flag ``--json`` of a command."""

Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
"""The flag ``--quiet`` of a command."""

NARROW = 80
"""Characters that any terminal has side by side."""


def results() -> Console:
    """Give a console on standard output, for what a command was asked for."""
    return Console(highlight=False, markup=False)


def logs() -> Console:
    """Give a console on standard error, for everything a command says besides its result."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json(value: object) -> None:
    """Print `value` as one line of JSON; a number that is not finite becomes ``null``."""
    line = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    # Not through rich, which would break the line at the width of the terminal.
    print(line, flush=True)


def complain(sentence: str) -> None:
    """Print an error sentence on standard error."""
    console = logs()
    console.print("error: ", style="bold red", end="")
    console.print(sentence, soft_wrap=True)


def comparison(rows: Mapping[str, Mapping[str, float]], bold: str | None = None) -> Table:
    """Set figures under each other, with a column a metric; where they would be too wide, a line each.

    Args:
        rows: Name of a row -> name of a metric -> value; whole numbers are written without a point.
        bold: The row that matters most.
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    wide = max(map(len, rows), default=0) + sum(2 + len(words(name)) for name in columns)
    if wide > NARROW:
        return _turned(rows, columns, bold)
    table = Table("", *(Column(words(name), justify="right") for name in columns), box=None)
    for title, row in rows.items():
        cells = (_written(row.get(name, "")) for name in columns)
        table.add_row(title, *cells, style="bold" if title == bold else None)
    return table


def _turned(
    rows: Mapping[str, Mapping[str, float]], metrics: Iterable[str], bold: str | None
) -> Table:
    table = Table("", box=None)
    for title in rows:
        table.add_column(title, justify="right", style="bold" if title == bold else None)
    for name in metrics:
        table.add_row(words(name), *(_written(row.get(name, "")) for row in rows.values()))
    return table


def _written(value: float | str) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def words(name: str) -> str:
    """Write the name of a metric as people do: ``bits_per_character`` is bits/character."""
    return name.replace("_per_", "/").replace("_", " ")


def visible(text: str) -> str:
    """Make control characters visible, so that what a model writes cannot steer a terminal."""
    return text.translate(_PICTURES)


_PICTURES = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Give `value` with NumPy's scalars as Python's, and ``None`` for what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
