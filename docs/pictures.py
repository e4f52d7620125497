"""Make the pictures of the README from a real run of ``make demo``.

Run it from the repository's root: ``python docs/pictures.py``. It trains as ``make demo`` does, but for
every other sample, which the picture has no room for, and writes ``docs/_static/run.svg``, what the
terminal showed, and ``docs/_static/loss.png``.
"""

import io
import re
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from unrolled import cli, console

WIDTH = 96
"""Columns of the terminal in the picture."""

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "docs" / "_static"


def demo() -> list[str]:
    """Give the arguments with which the Makefile calls ``unrolled`` for the demo."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (flags,) = re.findall(r"^DEMO := (.*)$", makefile, re.MULTILINE)
    fewer = ["--sample-every", "300"]
    return ["train", "generate", *shlex.split(flags), *fewer, "--out", "runs/demo", "--overwrite"]


def main() -> None:
    """Train, and draw what was shown."""
    terminal = Console(file=io.StringIO(), record=True, width=WIDTH, highlight=False, markup=False)
    terminal.print("$ make demo", style="bold")
    console.logs = console.results = lambda: terminal
    try:
        cli.main(demo())
    except SystemExit as exit_:
        if exit_.code:
            sys.exit(terminal.export_text())
    STATIC.mkdir(exist_ok=True)
    picture = terminal.export_svg(title="unrolled", theme=DIMMED_MONOKAI, unique_id="run")
    (STATIC / "run.svg").write_text(picture, "utf-8")
    shutil.copy("runs/demo/loss.png", STATIC / "loss.png")


if __name__ == "__main__":
    main()
