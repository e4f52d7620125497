"""``unrolled train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unrolled import console
from unrolled.options import with_settings_flags

if TYPE_CHECKING:
    from unrolled.train.callbacks import Callback

RUN, OUTPUT = "Run", "Output"


def register(app: typer.Typer) -> None:
    """Add this room's command."""
    app.command("train")(_train)


@with_settings_flags
def _train(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TASK|RECIPE.toml",
            help="A task (generate, classify, tag, forecast) or a recipe.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA",
            help="Files, directories, '-' for standard input, or names from `unrolled data list`; "
            "without any, what is built in.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The model directory.", rich_help_panel=RUN),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint in --out.", rich_help_panel=RUN),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --out.", rich_help_panel=RUN)
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Add the result to a list of results.", rich_help_panel=OUTPUT
        ),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard files too.", rich_help_panel=OUTPUT),
    ] = False,
    json: console.Json = False,
    quiet: console.Quiet = False,
    **flags: Any,  # noqa: ANN401 - the fields of the settings
) -> None:
    """Train a model, and watch it learn.

    A recipe is a TOML file of these same settings; flags override it.
    """
    from unrolled.train.run import train

    train(
        what,
        *(data or ()),
        out=out,
        resume=resume,
        overwrite=overwrite,
        callbacks=_callbacks(json=json, quiet=quiet, tensorboard=tensorboard),
        record=record,
        **flags,
    )


def _callbacks(*, json: bool, quiet: bool, tensorboard: bool) -> "list[Callback]":
    from unrolled.train import display
    from unrolled.train.callbacks import TensorBoard

    chosen: list[Callback] = [TensorBoard()] if tensorboard else []
    if json:
        chosen.append(display.JsonLines())
    elif not quiet:
        terminal = console.logs()
        live = terminal.is_terminal and not terminal.is_dumb_terminal
        chosen.append(display.LiveDisplay() if live else display.PlainDisplay())
    return chosen
