"""What is common to the tables of settings, and how values are read from the text of a flag."""

import tomllib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Group(BaseModel):
    """One table of a recipe and one panel of `unrolled train --help`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=False, allow_inf_nan=False
    )


def _fractions(value: object) -> object:
    """Read "0.9,0.05,0.05" or "90/5/5" as three fractions."""
    if isinstance(value, str):
        parts = value.replace("/", ",").split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            return value
        total = sum(numbers)
        return tuple(n / total for n in numbers) if total > 1.5 else tuple(numbers)
    return value


Split = Annotated[tuple[float, float, float], BeforeValidator(_fractions)]


def _numbers(value: object) -> object:
    """Read "0.05,0.5" or a number alone as several."""
    if isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int | float) else value


Probabilities = Annotated[
    tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(_numbers)
]


def _names(value: object) -> object:
    """Read "OT, HUFL" as two names."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


def _options(value: object) -> object:
    """Read "leak=0.7, distances=[1, 4]" as a table of TOML."""
    if isinstance(value, str):
        try:
            return tomllib.loads(f"options = {{{value}}}")["options"]
        except tomllib.TOMLDecodeError:
            raise ValueError("write name=value, several with commas, as in leak=0.7") from None
    return value


Options = Annotated[dict[str, Any], BeforeValidator(_options)]

Widths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), BeforeValidator(_numbers)
]


def _merged(value: object) -> object:
    """Read "negative=0,1; positive=3,4" as a table: new label -> old ones."""
    if isinstance(value, str):
        pairs = (part.partition("=") for part in value.split(";") if part.strip())
        return {new.strip(): _names(old) for new, _, old in pairs}
    return value


Merged = Annotated[dict[str, Names], BeforeValidator(_merged)]

Dense = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_numbers)]

Readouts = Annotated[
    tuple[Literal["last", "mean", "max", "attention"], ...],
    Field(min_length=1),
    BeforeValidator(_names),
]


def _weights(value: object) -> object:
    """Read "spam=3, ham=0.5" as a table: label -> weight."""
    if isinstance(value, str) and value != "balanced":
        pairs = (part.partition("=") for part in value.split(",") if part.strip())
        return {label.strip(): weight.strip() for label, _, weight in pairs}
    return value


Weights = Annotated[
    Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_weights)
]


def _loss_weights(value: object) -> object:
    return value if value == "learned" else _numbers(value)


LossWeights = Annotated[
    Literal["learned"] | tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_loss_weights)
]
