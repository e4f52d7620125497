"""``unrolled train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unrolled import console
from unrolled.errors import InputError
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
            help="A task (generate, classify, tag, translate, caption, forecast, embed, reconstruct, "
            "few-labels) or a recipe.",
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
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Train with each of these seeds.", rich_help_panel=RUN
        ),
    ] = None,
    all_folds: Annotated[
        bool,
        typer.Option("--all-folds", help="Train on every one of --folds.", rich_help_panel=RUN),
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

    def callbacks() -> "list[Callback]":
        return _callbacks(json=json, quiet=quiet, tensorboard=tensorboard)

    common = {"resume": resume, "overwrite": overwrite, "record": record, **flags}
    if seeds is None and not all_folds:
        train(what, *(data or ()), out=out, callbacks=callbacks(), **common)
        return
    from unrolled.train.several import mean_figures, train_several

    if out is None:
        raise InputError("--seeds and --all-folds need --out, where the runs go")
    numbers = _numbers(seeds or "")
    runs = train_several(
        *(what, *(data or ())),
        out=out,
        seeds=numbers,
        all_folds=all_folds,
        callbacks=callbacks,
        **common,
    )
    figures = mean_figures(runs)
    if json:
        console.print_json({"event": "several", "runs": len(runs), "figures": figures})
    elif not quiet:
        console.results().print(f"\nOver {len(runs)} runs:")
        console.results().print(console.comparison(figures, bold="mean"))


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--seeds {text!r}: give whole numbers with commas, as in 0,1,2") from None


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
