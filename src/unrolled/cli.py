"""The command line: joins the commands of the rooms; every error becomes one sentence and an exit code."""

import sys
from typing import Annotated

import typer

import unrolled.checkpoint.command
import unrolled.data.command
import unrolled.inspect.command
import unrolled.train.command
from unrolled import __version__
from unrolled.console import complain, logs
from unrolled.errors import UnrolledError

app = typer.Typer(
    name="unrolled",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unrolled {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Recurrent sequence models that you train with one command and can see inside."""


for _room in (unrolled.train, unrolled.checkpoint, unrolled.data, unrolled.inspect):
    _room.command.register(app)
unrolled.train.command.INSPECTORS["doctor"] = unrolled.inspect.command.doctor_of_run
unrolled.train.command.INSPECTORS["gradients"] = unrolled.inspect.command.gradients_of_run


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Exit codes: 0 done, 1 failed, 2 usage or bad input, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # A sample may hold characters that the terminal's encoding lacks.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        # typer itself sees to Ctrl-C (130) and to a reader that closed the pipe (quietly, 1).
        return app(arguments, standalone_mode=False) or 0
    except UnrolledError as error:
        complain(str(error))
        return error.exit_code
    except typer.TyperException as error:  # a usage error
        if message := error.format_message():
            complain(message.replace("Value error, ", ""))
            if context := getattr(error, "ctx", None):
                logs().print(f"Try `{context.command_path} --help`.", style="dim")
        return error.exit_code
