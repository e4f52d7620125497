"""How every command speaks: results on standard output, logs and errors on standard error."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
"""The flag ``--json`` of a command."""

Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
"""The flag ``--quiet`` of a command."""


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
