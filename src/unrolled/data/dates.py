"""Dates in many written forms, and the same in ISO 8601."""

import datetime

import numpy as np

COUNT = 12_000
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
"""So that two digits of a year tell which century it is of."""
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FORMS = (
    "{day} {month} {year}",
    "{day} {short} {year}",
    "{day:02} {short} '{brief}",
    "{month} {day}, {year}",
    "{short} {day}, {year}",
    "{short}. {day}{th} {year}",
    "{month} {day}{th}, {year}",
    "the {day}{th} of {month} {year}",
    "{day}{th} of {short} {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday} {day}{th} {month} {year}",
    "{weekday:.3}, {day:02} {short} {year}",
    "{weekday:.3} {month} {day} {year}",
    "{day}.{number}.{year}",
    "{day:02}.{number:02}.{brief}",
    "{number}/{day}/{year}",
    "{number:02}/{day:02}/{brief}",
    "{year}/{number:02}/{day:02}",
    "{year}{number:02}{day:02}",
    "{year}-{number:02}-{day:02}",
    "{day}-{short}-{brief}",
    "{year}, {month} {day}",
)
"""With points the day comes first, with slashes the month does, unless the year is in front."""


def written_dates(seed: int = 0, count: int = COUNT) -> list[tuple[str, str]]:
    """Write days of 1950 to 2049 in one of :data:`FORMS` each, some all in capitals or small letters.

    Args:
        seed: Of what is drawn.
        count: Most pairs; the same writing never comes twice.

    Returns:
        Pairs of a writing and its ISO date, as ``("the 3rd of May 1998", "1998-05-03")``.
    """
    random = np.random.default_rng([seed])
    days = (LAST - FIRST).days + 1
    found: dict[str, str] = {}
    for number, form, case in zip(
        random.integers(0, days, count),
        random.integers(0, len(FORMS), count),
        random.integers(0, 6, count),
        strict=True,
    ):
        day = FIRST + datetime.timedelta(days=int(number))
        text = _written(day, FORMS[form])
        found[text.upper() if case == 0 else text.lower() if case == 1 else text] = day.isoformat()
    return list(found.items())


def _written(day: datetime.date, form: str) -> str:
    month = MONTHS[day.month - 1]
    ending = (
        "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    )
    return form.format(
        day=day.day,
        th=ending,
        number=day.month,
        month=month,
        short=month[:3],
        year=day.year,
        brief=f"{day.year % 100:02}",
        weekday=DAYS[day.weekday()],
    )
