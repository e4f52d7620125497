"""What a person sees while it is measured: a live line, or plain ones."""

import math
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn

from unrolled import console


class Watcher:
    """Is told of the progress of a measurement. Its methods do nothing until overridden."""

    def begin(self, total: int) -> None:
        """So many pairs are to be measured."""

    def at(self, workload: str, what: str) -> None:
        """A workload is being set against a peer, or prepared."""

    def advance(self, pairs: int) -> None:
        """So many pairs more are done, measured or not."""

    def row(self, row: dict[str, Any]) -> None:
        """A pair was measured."""

    def left_out(self, entry: dict[str, str]) -> None:
        """A pair is skipped, or its results differ."""

    def close(self) -> None:
        """It is over."""


class PlainDisplay(Watcher):
    """A line for every pair, for files and terminals that cannot redraw."""

    def __init__(self) -> None:
        self.console = console.logs()

    def row(self, row: dict[str, Any]) -> None:
        """Write the pair's line."""
        ours = f"ours {milliseconds(row['ours_ms'])} ms"
        if row["peer"] is None:
            self._say(f"{row['workload']}: {ours}")
            return
        peer = f"{row['peer']} {milliseconds(row['peer_ms'])} ms"
        self._say(f"{row['workload']}: {peer}, {ours}, ratio {row['ratio']:.2f}")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """A line that is redrawn in place; the pairs are written above it."""

    def __init__(self) -> None:
        super().__init__()
        # It redraws only when told to: a thread that draws would be timed as well.
        self._progress = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[what]}"),
            console=self.console,
            auto_refresh=False,
            expand=True,
        )
        self._line = self._progress.add_task("", visible=False, what="")

    def begin(self, total: int) -> None:
        """Open the live line."""
        self._progress.update(self._line, total=total, visible=True)
        self._progress.start()

    def at(self, workload: str, what: str) -> None:
        """Say what is going on."""
        self._progress.update(self._line, what=f"{workload}: {what}", refresh=True)

    def advance(self, pairs: int) -> None:
        """Move the bar."""
        self._progress.update(self._line, advance=pairs, refresh=True)

    def close(self) -> None:
        """Leave the line as it stands and give the terminal back."""
        self._progress.stop()


def milliseconds(value: float) -> str:
    """Write a time with three digits that matter."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"
