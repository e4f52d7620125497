"""The time column of a series: moments, the step between them, and what follows the last."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from unrolled.data.advice import Advised
from unrolled.errors import InputError

DAY = 86_400_000
"""Milliseconds."""
SEASONS = {DAY: 7, 7 * DAY: 52}
"""Steps of a season, of series that go by days or weeks."""


@dataclass(frozen=True)
class Clock:
    """Where a series ends in time, and how it goes on."""

    last: np.datetime64
    """In milliseconds."""
    step: int
    """Milliseconds, or months."""
    months: bool

    def after(self, count: int, since: int = 0) -> list[str]:
        """Write the moments of so many steps, as ISO 8601 has them, from `since` steps after the end on."""
        steps = (since + np.arange(1, count + 1)) * self.step
        if self.months:
            month = self.last.astype("datetime64[M]")
            moments = (month + steps).astype("datetime64[ms]") + (self.last - month)
        else:
            moments = self.last + steps.astype("timedelta64[ms]")
        texts = [str(moment).removesuffix(".000").replace("T", " ") for moment in moments]
        whole = all(text.endswith("00:00:00") for text in texts)
        return [text.removesuffix(" 00:00:00") for text in texts] if whole else texts

    @property
    def season(self) -> int | None:
        """Steps of a year of months, of a day of hours, of a week of days; ``None`` if unclear."""
        if self.months:
            return 12 // self.step if 12 % self.step == 0 else None
        if self.step < DAY and DAY % self.step == 0:
            return DAY // self.step
        return SEASONS.get(self.step)


def moment(cell: object) -> np.datetime64 | None:
    """Read a moment, to the millisecond and in UTC; ``None`` if it is none of ISO 8601."""
    text = str(cell).strip()
    if re.fullmatch(r"\d{4}(-\d{2})?", text):
        return np.datetime64(text, "ms")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo:
        found = found.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(found, "ms")


def read_times(
    cells: Sequence[Any], column: str, where: Callable[[int], str], *, gaps: bool
) -> tuple[Clock | None, np.ndarray]:
    """See that a column of time goes on in even steps.

    Args:
        cells: The column.
        column: Its name.
        where: Row -> where it stands.
        gaps: Whether whole steps may be missing.

    Returns:
        The clock, ``None`` of a single row; and the place (N,) of each row in a series without gaps.

    Raises:
        InputError: If a cell is no moment, or a step is uneven; the sentence says at which row.
    """
    moments = np.empty(len(cells), "datetime64[ms]")
    for row, cell in enumerate(cells):
        found = moment(cell)
        if found is None:
            raise InputError(
                f"{where(row)}: {str(cell)[:40]!r} in {column} is no time; write it as 2016-07-01 13:00"
            )
        moments[row] = found
    if len(cells) < 2:
        return None, np.arange(len(cells))
    months = moments.astype("datetime64[M]")
    if (moments - months == moments[0] - months[0]).all() and (
        np.diff(months).astype(int) > 0
    ).all():
        count, by_month = months.astype(int), True
    else:
        count, by_month = moments.astype(int), False
    gaps_between = np.diff(count)
    sizes, often = np.unique(gaps_between, return_counts=True)
    step = int(sizes[often.argmax()])
    if step < 0:
        row = int((gaps_between < 0).argmax()) + 1
        raise InputError(
            f"{where(row)}: time runs backwards in {column}, from {cells[row - 1]} to {cells[row]}; sort "
            "the rows"
        )
    uneven = gaps_between % step != 0 if gaps and step > 0 else gaps_between != step
    wrong = np.flatnonzero(uneven | (gaps_between <= 0))
    if len(wrong):
        row = int(wrong[0]) + 1
        # Between two rows of one moment nothing is lacking that could be filled.
        if twice := np.flatnonzero(gaps_between == 0).tolist():
            row = twice[0] + 1
            raise InputError(
                f"{where(row)}: {cells[row]} in {column} comes twice; keep one row of each moment, or "
                "make a file of each series"
            )
        what = (
            f"{where(row)}: {cells[row]} in {column} follows {cells[row - 1]}, but most steps are "
            f"{_named(step, months=by_month)}"
        )
        # A step back, or a part of a step, is no gap.
        if gaps or (gaps_between[gaps_between % step != 0].size or (gaps_between < 0).any()):
            raise InputError(f"{what}; make them even")
        raise Advised(
            "missing", what, "make them even, or fill gaps with --missing forward or interpolate"
        )
    return Clock(moments[-1], step, by_month), (count - count[0]) // step


def _named(step: int, *, months: bool) -> str:
    if months:
        return f"{step} month{'s' * (step > 1)}"
    return str(np.timedelta64(step, "ms").astype("timedelta64[s]"))
