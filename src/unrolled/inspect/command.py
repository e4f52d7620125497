"""The commands of this room: ``inspect``, ``doctor``, ``explain``, ``bench``, ``filter``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unrolled import console
from unrolled.checkpoint.command import OwnCell
from unrolled.data.advice import advising
from unrolled.errors import InputError
from unrolled.inspect.bench import SECONDS, bench
from unrolled.inspect.doctor import doctor
from unrolled.inspect.explain_command import explain
from unrolled.inspect.filter_command import filter_
from unrolled.inspect.inspect_command import ADVICE, inspect_

if TYPE_CHECKING:
    from unrolled.inspect.bench.display import Watcher
    from unrolled.train.callbacks import Callback


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("inspect")(inspect_)
    app.command("doctor")(_doctor)
    app.command("explain")(explain)
    app.command("bench")(_bench)
    app.command("filter")(filter_)


def _doctor(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A model directory; without it, the installation."),
    ] = None,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="The data the model was trained on.")
    ] = None,
    steps: Annotated[
        int, typer.Option(metavar="N", min=10, help="Most updates of a trial training.")
    ] = 200,
    cell: OwnCell = None,
    json: console.Json = False,
) -> None:
    """Say why a model does not learn; without one, what this installation is and can do.

    Of a model: data, inputs, units, states and gradients are looked at, and short trainings tell whether it
    learns a few examples, at what rate, and whether what people read follows the loss. Of the installation:
    versions, threads, instruction sets, GPU, cache and engines.
    """
    if model is not None:
        _examine(model, data, steps, cell, json=json)
        return
    found = doctor()
    if json:
        console.print_json(found)
    else:
        _print_table(found)


def _examine(model: Path, data: str | None, steps: int, cell: str | None, *, json: bool) -> None:
    from unrolled.checkpoint.load import load
    from unrolled.inspect.examine import examine
    from unrolled.inspect.model_data import with_data

    if data is None:
        raise InputError(
            f"give the data that {model} was trained on too: unrolled doctor MODEL DATA"
        )
    trained = load(model, cell)
    with advising(ADVICE):
        task = with_data(trained, data)
    found = examine(task, trained.model, steps=steps)
    if json:
        console.print_json(found.to_dict())
    else:
        console.results().print(str(found), soft_wrap=True, markup=False, highlight=False)


def doctor_of_run(json: bool) -> "Callback":
    """Give who examines a run before it begins."""
    from unrolled.inspect.attend_run import Doctor

    return Doctor(json=json)


def gradients_of_run(json: bool) -> "Callback":
    """Give who watches the gradients of a run."""
    from unrolled.inspect.watch_gradients import GradientWatch

    return GradientWatch(json=json)


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


def _bench(
    workloads: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORKLOAD",
            help="Names or patterns, as B or 'U*'; all named ones if left out. 'cell:*' is every "
            "registered cell, 'wiring:*' noise in the loop.",
        ),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Measure the grid of cells and sizes instead.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(metavar="N", help="For each workload, shared out among its peers.")
    ] = SECONDS,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Threads of everyone; torch's if left out.")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Of torch, padded, loop, compile, jax, numpy, onnxruntime, torchrecurrent, plain, with "
            "commas; what suits the workload if left out.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ratios as a PNG.")
    ] = None,
    json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Time this package against torch and others on the same work, side by side.

    Results are compared before anything is timed. A ratio is the peer's time over ours.
    """
    names = None if peers is None else [name.strip() for name in peers.split(",") if name.strip()]
    found = bench(
        *(workloads or ()),
        grid=grid,
        seconds=seconds,
        threads=threads,
        peers=names,
        out=out,
        picture=picture,
        watcher=None if json or quiet else _watcher(),
    )
    if json:
        console.print_json(found)
    elif not quiet:
        _print_bench(found)


def _watcher() -> "Watcher":
    from unrolled.inspect.bench.display import LiveDisplay, PlainDisplay

    terminal = console.logs()
    live = terminal.is_terminal and not terminal.is_dumb_terminal
    return LiveDisplay() if live else PlainDisplay()


def _print_bench(found: dict[str, Any]) -> None:
    from rich.table import Column, Table

    from unrolled.inspect.bench import report

    left = report.COLUMNS[:2]
    columns = (
        Column(name, justify="left" if name in left else "right", no_wrap=True)
        for name in report.COLUMNS
    )
    table = Table(*columns, box=None, pad_edge=False, collapse_padding=True)
    for row in report.table(found):
        table.add_row(*row)
    output = console.results()
    if not output.is_terminal:
        output.width = 160  # into a file goes every figure
    output.print(table)
    output.print(report.machine(found), soft_wrap=True)
    for line in report.omissions(found):
        console.logs().print(line, soft_wrap=True)
