"""`unrolled data list` and `unrolled data get`."""

from typing import Annotated

import typer

from unrolled import console


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    data = typer.Typer(
        help="List the data sets there are by name, or get one.", no_args_is_help=True
    )
    data.command("list")(_list)
    data.command("get")(_get)
    app.add_typer(data, name="data")


def _list(json: console.Json = False) -> None:
    """List the data sets: task, size, licence, and where each lies now."""
    from unrolled.data.catalogue import list_entries

    if json:
        rows = [
            {
                "name": entry.name,
                "what": entry.what,
                "task": entry.task,
                "bytes": entry.bytes,
                "licence": entry.licence,
                "page": entry.page,
                "where": entry.where(),
                "files": [vars(file) for file in entry.files],
            }
            for entry in list_entries()
        ]
        console.print_json({"datasets": rows})
        return
    from rich.filesize import decimal
    from rich.table import Column, Table

    name, size = Column("name", no_wrap=True), Column("size", justify="right", no_wrap=True)
    table = Table(name, "task", size, Column("where", no_wrap=True), "licence", box=None)
    for entry in list_entries():
        table.add_row(entry.name, entry.task, decimal(entry.bytes), entry.where(), entry.licence)
    console.results().print(table)


def _get(
    name: Annotated[str, typer.Argument(help="A name from `unrolled data list`, or NAME/FILE.")],
    json: console.Json = False,
) -> None:
    """Download a data set, verified, unless it is here already; print its files."""
    from unrolled.data.catalogue import get

    paths = [str(path) for path in get(name)]
    if json:
        console.print_json({"name": name, "files": paths})
    else:
        print("\n".join(paths) or f"{name} is built in")
