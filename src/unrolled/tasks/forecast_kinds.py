"""What a forecaster may learn from, and what goes with each."""

from unrolled.data.adding import Adding
from unrolled.data.frames import Films
from unrolled.data.midi import midi_files
from unrolled.data.music import Music
from unrolled.data.row_targets import RowTargets
from unrolled.data.sequences import Source
from unrolled.data.series import Series
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.settings.belonging import NUMBERS, refuse_others

KINDS: dict[str, type[Source]] = {
    kind.kind: kind for kind in (Series, Adding, Films, Music, RowTargets)
}
"""Name -> kind of data."""


def check(settings: Settings, kind: type[Source]) -> None:
    """See that what is asked for goes with the kind of data.

    Raises:
        InputError: If it does not.
    """
    data, own = settings.data, settings.forecast
    refuse_others(settings, NUMBERS, kind.kind)
    for name, head in (("quantiles", "quantile"), ("interval", "gaussian")):
        if own.head != head and getattr(own, name) != type(own).model_fields[name].default:
            raise InputError(f"--{name} goes with --head {head}, not with {own.head}")
    if kind is Series:
        if data.recursive and own.head != "point":
            raise InputError(
                f"--recursive forecasts points: an interval of --head {own.head} would be that of one step"
            )
        return
    if settings.model.cell == "esn":
        raise InputError(f"cell esn forecasts series; {kind.kind} needs another cell")
    if kind is RowTargets:
        if settings.classifier.model != "mlp":
            raise InputError(
                f"--model {settings.classifier.model}: of rows that stand alone an mlp tells their targets"
            )
        if own.head == "direction":
            raise InputError("--head direction is for series: rows have no value before")
        if own.scaling == "window":
            raise InputError("--scaling window is for series: rows have no value before")


def kind_of(settings: Settings) -> type[Source]:
    """Tell what the data is, by its name."""
    sources = settings.data.source
    if settings.forecast.rows or (sources and sources[0] in RowTargets.built_in):
        return RowTargets
    first = sources[0] if sources else ""
    if first in KINDS:
        return KINDS[first]
    music = first.removesuffix(".gz").endswith(".json") or midi_files(sources)
    return Music if music else Series
