"""``unrolled explain``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unrolled import console
from unrolled.errors import InputError
from unrolled.settings import ModelSettings


def explain(
    cell: Annotated[
        str,
        typer.Argument(
            metavar="CELL|MODEL",
            help="rnn, lstm, gru, your own as module:Class or path.py:Class, or a model directory.",
        ),
    ],
    input_size: Annotated[int, typer.Option(min=1, help="Width of the input.")] = 128,
    hidden_size: Annotated[int, typer.Option(min=1, help="Width of the hidden state.")] = 128,
    dtype: Annotated[
        Literal["float32", "float64", "bfloat16"], typer.Option(help="Number format.")
    ] = "float32",
    nonlinearity: Annotated[
        Literal["tanh", "relu", "sigmoid"], typer.Option(help="Activation of the rnn cell.")
    ] = "tanh",
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WIDTH", help="Width of a further input of the cell; 1 if left out."
        ),
    ] = None,
    own: Annotated[
        str | None,
        typer.Option(
            "--cell", metavar="CELL", help="The cell of a model that has one of your own."
        ),
    ] = None,
    json: console.Json = False,
) -> None:
    """Show what leaves a cell's time loop, what stays in it, which engine runs it, and why.

    Of a model it is told of each of its cells, and how a training step is made.
    """
    if Path(cell).is_dir():
        _explain_model(cell, own, json=json)
        return
    widths = dict(map(_width, extra or []))

    import torch

    from unrolled.cells import make_cell
    from unrolled.inspect import cells

    model = ModelSettings(cell=cell, hidden=hidden_size, nonlinearity=nonlinearity)
    built = make_cell(model, input_size)
    found = cells.explain(built, dtype=getattr(torch, dtype), extras=widths)
    if json:
        console.print_json(found.to_dict())
    else:
        print(found)


def _explain_model(directory: str, own: str | None, *, json: bool) -> None:
    from unrolled.checkpoint.load import load
    from unrolled.inspect import cells
    from unrolled.train.whole import through_torch

    trained = load(directory, cell=own)
    found = cells.explain(trained.model)
    reason = through_torch(trained.task, trained.model, trained.settings.training)
    if json:
        steps: dict[str, Any] = {"whole": reason is None, "reason": reason}
        console.print_json({**found.to_dict(), "training_steps": steps})
        return
    print(found)
    said = f"through torch, since {reason}" if reason else "whole in the native core"
    print(f"\nTraining steps of this model are made {said}.")


def _width(text: str) -> tuple[str, int]:
    """Read NAME=WIDTH."""
    name, _, width = text.partition("=")
    if not (name.isidentifier() and width.isdecimal() and int(width)):
        raise InputError(f"--extra {text} must be NAME=WIDTH, the width a whole number above 0")
    return name, int(width)
