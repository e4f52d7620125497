"""Settings of series of numbers and of what is told of their future."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group, Names, Probabilities


class ForecastSettings(Group):
    """Forecast: what is forecast, from what, and how sure it is."""

    rows: bool = Field(
        default=False,
        description="forecast: each row of DATA stands alone; tell its --targets from its other columns.",
    )
    known: Names = Field(
        default=(), description="Columns whose future is known, as a price list or a calendar."
    )
    time: str | None = Field(
        default=None, description="Column of the time (default: the first that holds dates)."
    )
    scaling: Literal["standard", "none", "window"] = Field(
        default="standard",
        description="By the training part; window: then each window less its last value, too.",
    )
    order: int = Field(
        default=32, ge=1, description="ar, mlp and the linear baseline: steps back they look at."
    )
    season: int | None = Field(
        default=None,
        ge=1,
        description="Steps of the seasonal naive baseline (default: by the time column's step).",
    )
    quarter: int | None = Field(
        default=None,
        ge=1,
        description="music: steps of a quarter note (default: 4 of MIDI files, 1 of JSON).",
    )
    head: Literal["point", "quantile", "gaussian", "direction"] = Field(
        default="point",
        description="What is told: a value, quantiles, mean and deviation, or whether it will be higher.",
    )
    quantiles: Probabilities = Field(
        default=(0.1, 0.5, 0.9), description="quantile: which, in rising order, e.g. 0.1,0.5,0.9."
    )
    interval: float = Field(
        default=0.8, gt=0, lt=1, description="gaussian: probability of the intervals that are told."
    )
