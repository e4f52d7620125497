"""What a forecaster may learn from, and what goes with each."""

from collections.abc import Sequence

from unrolled.data.adding import Adding
from unrolled.data.frames import Films
from unrolled.data.music import Music
from unrolled.data.sequences import Source
from unrolled.data.series import Series
from unrolled.errors import InputError
from unrolled.settings import Settings

KINDS: dict[str, type[Source]] = {kind.kind: kind for kind in (Series, Adding, Films, Music)}
"""Name -> kind of data."""


def check(settings: Settings, kind: type[Source]) -> None:
    """See that what is asked for goes with the kind of data.

    Raises:
        InputError: If it does not.
    """
    data, own = settings.data, settings.forecast
    if kind is Series:
        if data.recursive and own.head != "point":
            raise InputError(
                f"--recursive forecasts points: an interval of --head {own.head} would be that of one step"
            )
        return
    if settings.model.cell == "esn":
        raise InputError(f"cell esn forecasts series; {kind.kind} needs another cell")
    if data.horizon > 1 or data.recursive:
        raise InputError(f"--horizon and --recursive are for series, not for {kind.kind}")
    if data.targets:
        raise InputError(f"--targets is for series, not for {kind.kind}")
    for name in ("known", "head", "scaling"):
        if getattr(own, name) != type(own).model_fields[name].default:
            raise InputError(f"--{name} is for series, not for {kind.kind}")


def kind_of(sources: Sequence[str]) -> type[Source]:
    """Tell what the data is, by its name."""
    first = sources[0] if sources else ""
    if first in KINDS:
        return KINDS[first]
    return Music if first.removesuffix(".gz").endswith(".json") else Series
