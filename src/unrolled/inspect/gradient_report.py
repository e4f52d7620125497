"""What a check of gradients found."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CHECKS = {
    "differences": "Gradients against central differences",
    "steps": "Gradients of one step of each cell against central differences",
    "engines": "Native engine against reference engine",
    "rows": "A row alone against the row in the batch",
}
HEADS = {
    "differences": ("analytic", "numeric"),
    "steps": ("analytic", "numeric"),
    "engines": ("native", "reference"),
    "rows": ("alone", "in batch"),
}
Entry = tuple[tuple[int, ...], float, float]
"""Index, value, and what it is compared with."""


@dataclass(frozen=True)
class Row:
    """The worst number of one tensor.

    Attributes:
        check: ``differences``, ``steps`` (of a trained model), ``engines`` or ``rows``.
        name: Of the parameter, input, state or result.
        entries: How many of its numbers were compared.
        size: How many it has.
        index: Where the worst one is.
        analytic: Its gradient; its value in the native engine; its value in the row alone.
        numeric: The difference; the value in the reference engine; the value in the batch.
        error: Relative error: of larger numbers to themselves, of small ones to the tensor's largest.
        ok: Whether the error is within the tolerance.
    """

    check: str
    name: str
    entries: int
    size: int
    index: tuple[int, ...]
    analytic: float
    numeric: float
    error: float
    ok: bool


@dataclass
class GradientReport:
    """What a check of gradients found. ``str()`` is a table.

    Attributes:
        subject: Class of what was checked.
        engine: The engine asked for, or ``None`` for the one a run would take.
        tolerance: Largest relative error of a gradient against differences.
        exact: Largest relative error between engines and between rows.
        rows: The worst number of each tensor.
        notes: What was not checked, and why.
    """

    subject: str
    engine: str | None
    tolerance: float
    exact: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all that was checked is right."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> Row:
        """The row whose error is the largest part of its tolerance."""
        return max(self.rows, key=lambda row: row.error / self._tolerance(row.check))

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return asdict(self) | {"ok": self.ok}

    def _tolerance(self, check: str) -> float:
        return self.tolerance if check in ("differences", "steps") else self.exact

    def __str__(self) -> str:
        """Give a table for each check."""
        asked = "" if self.engine is None else f", {self.engine} engine"
        verdict = "all right" if self.ok else f"WRONG: {sum(not r.ok for r in self.rows)} of them"
        lines = [f"Gradients of {self.subject}{asked}: {verdict}"]
        for check, title in CHECKS.items():
            rows = [row for row in self.rows if row.check == check]
            if rows:
                lines += ["", f"{title} (relative error at most {self._tolerance(check):g})"]
                lines += _table(rows, *HEADS[check])
        lines += ["", *(f"Note: {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines)


def worst_of(
    check: str,
    name: str,
    size: int,
    found: Sequence[Entry],
    floor: float,
    tolerance: float,
    *,
    all_of_it: bool = False,
) -> Row:
    """Make the row of a tensor from its entries; errors are relative to no less than `floor`."""

    def error(entry: Entry) -> float:
        _, a, b = entry
        relative = abs(a - b) / max(abs(a), abs(b), floor)
        return relative if math.isfinite(relative) else math.inf

    worst = max(found, key=error)
    count = size if all_of_it else len(found)
    return Row(check, name, count, size, *worst, error(worst), error(worst) <= tolerance)


def _table(rows: Sequence[Row], first: str, second: str) -> list[str]:
    cells = [("", "worst at", first, second, "error", "compared", "")]
    for row in rows:
        at = ", ".join(map(str, row.index))
        compared = (
            f"{row.entries:,}" if row.entries == row.size else f"{row.entries:,} of {row.size:,}"
        )
        values = (f"{row.analytic:.6g}", f"{row.numeric:.6g}", f"{row.error:.1e}")
        cells.append((row.name, f"[{at}]", *values, compared, "" if row.ok else "WRONG"))
    widths = [max(len(line[column]) for line in cells) for column in range(7)]
    lines = []
    for name, *rest, verdict in cells:
        told = (cell.rjust(width) for cell, width in zip(rest, widths[1:-1], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *told, verdict]).rstrip())
    return lines
