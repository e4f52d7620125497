"""Running the command line inside a test."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from unrolled.cli import main

TEXT = "the quick brown fox jumps over the lazy dog; " * 60
TINY = (
    *("--hidden", "12", "--steps", "6", "--batch-size", "4"),
    *("--evaluate-every", "3", "--sample-length", "10"),
)
"""Settings with which `unrolled train` takes about a second."""


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def sentence(self):
        """The one sentence of an error; what typer says of usage may have a hint below it."""
        first, *hint = self.err.strip().splitlines()
        assert first.startswith("error: ")
        assert all(line.startswith("Try `") for line in hint), self.err
        return first.removeprefix("error: ")


@pytest.fixture
def cli(capsys):
    """Run a command in this process."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return run


def python(*arguments, **options):
    """Run Python in a process of its own."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    return Result(done.returncode, done.stdout, done.stderr)
