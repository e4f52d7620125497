"""``unrolled train``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unrolled import console
from unrolled.errors import InputError
from unrolled.options import with_settings_flags
from unrolled.train.signals import before_the_first_step

if TYPE_CHECKING:
    from unrolled.train.callbacks import Callback

RUN, OUTPUT = "Run", "Output"
INSPECTORS: "dict[str, Callable[[bool], Callback]]" = {}
"""Inspectors of a run, by name, given whether to print JSON; the command line puts them here."""


def register(app: typer.Typer) -> None:
    """Add this room's command."""
    app.command("train")(_train)


def _directory(text: str) -> Path:
    # An empty path would be the directory one stands in.
    if not str(text):
        raise typer.BadParameter("it is empty; name a directory, or leave it out")
    return Path(text)


@with_settings_flags
def _train(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TASK|RECIPE.toml",
            help="A task (generate, classify, tag, several, translate, caption, forecast, embed, "
            "reconstruct, few-labels) or a recipe.",
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
        typer.Option(
            metavar="DIR", help="The model directory.", parser=_directory, rich_help_panel=RUN
        ),
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
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr",
            help="Do not train: try rising learning rates, draw the loss, suggest one.",
            rich_help_panel=RUN,
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Add the result to a list of results.", rich_help_panel=OUTPUT
        ),
    ] = None,
    doctor: Annotated[
        bool,
        typer.Option("--doctor", help="First find out what is wrong.", rich_help_panel=OUTPUT),
    ] = False,
    watch: Annotated[
        Literal["gradients"] | None,
        typer.Option(
            metavar="gradients",
            help="Say now and then how far gradients reach back through time.",
            rich_help_panel=OUTPUT,
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
    with before_the_first_step():
        if find_lr:
            _find_rate(what, data or [], out or Path(), json=json, flags=flags)
            return
        from unrolled.train.run import train

    def callbacks() -> "list[Callback]":
        asked = (*["doctor"] * doctor, *([watch] if watch and not quiet else []))
        watchers = [INSPECTORS[name](json) for name in asked]
        return [*watchers, *_callbacks(json=json, quiet=quiet, tensorboard=tensorboard)]

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


def _find_rate(what: str, data: list[str], out: Path, *, json: bool, flags: dict[str, Any]) -> None:
    from unrolled.train.find_rate import PICTURE, find_rate, summary

    steps = {} if flags.get("steps") is None else {"steps": flags["steps"]}
    rest = {name: value for name, value in flags.items() if name not in ("steps", "epochs")}
    found = find_rate(what, *data, picture=out / PICTURE, **rest, **steps)
    if json:
        console.print_json({"event": "rates", "picture": str(out / PICTURE), **found.figures()})
        return
    for name, value in summary(found).items():
        console.results().print(f"{name:14} {value}")
    console.results().print(f"{'drawn in':14} {out / PICTURE}")


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
