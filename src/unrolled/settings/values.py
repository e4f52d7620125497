"""What is common to the tables of settings, and how values are read from the text of a flag."""

import math
import tomllib
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)


class Group(BaseModel):
    """One table of a recipe and one panel of `unrolled train --help`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=False, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what is no number or truth value but would become one: of flags, they come as such."""
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        if (int in kinds or float in kinds) and bool not in kinds:
            _refuse_truth(value)
            if isinstance(value, str):
                raise ValueError("should be a number; leave out the quotes")
        if kind is bool and not isinstance(value, bool):
            raise ValueError("should be true or false, without quotes")
        return value


def _refuse_truth(value: object) -> None:
    if isinstance(value, bool):
        raise ValueError(f"should be a number, not {str(value).lower()}")


def _fractions(value: object) -> object:
    """Read "0.9,0.05,0.05" or "90/5/5" as three fractions."""
    if isinstance(value, str):
        parts = value.replace("/", ",").split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            raise ValueError(_THREE) from None
        total = sum(numbers)
        value = tuple(n / total for n in numbers) if total > 1.5 else tuple(numbers)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(_THREE)
    for part in value:
        _refuse_truth(part)
    return value


_THREE = "give three fractions, for training, validation and test, as in 0.9,0.05,0.05"

Split = Annotated[tuple[float, float, float], BeforeValidator(_fractions)]


def _numbers(value: object) -> object:
    """Read "0.05,0.5" or a number alone as several."""
    if isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    parts = value if isinstance(value, list | tuple) else (value,)
    for part in parts:
        _refuse_truth(part)
    return (value,) if isinstance(value, int | float) else value


Probabilities = Annotated[
    tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(_numbers)
]


def _names(value: object) -> object:
    """Read "OT, HUFL" as two names."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _source(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f'should be a list, as in ["{value}"]')
    return value


Source = Annotated[tuple[str, ...], BeforeValidator(_source)]

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
    if value == "balanced":
        return value
    if isinstance(value, str) and "=" in value:
        pairs = (part.partition("=") for part in value.split(",") if part.strip())
        value = {label.strip(): weight.strip() for label, _, weight in pairs}
    if not isinstance(value, dict):
        raise ValueError("write balanced, or what an example of a label counts, as in spam=3")
    for label, weight in value.items():
        if _positive(weight) is None:
            raise ValueError(f"what {label} counts must be a number above 0, not {weight}")
    return value


def _positive(value: object) -> float | None:
    """Read a finite number above 0, if it is one."""
    try:
        number = None if isinstance(value, bool) else float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return None
    return number if number and 0 < number < math.inf else None


Weights = Annotated[
    Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_weights)
]


def _loss_weights(value: object) -> object:
    if value == "learned":
        return value
    numbers = _numbers(value)
    if not isinstance(numbers, list | tuple) or any(_positive(n) is None for n in numbers):
        raise ValueError("write learned, or numbers above 0 with commas, as in 1,0.5")
    return numbers


LossWeights = Annotated[
    Literal["learned"] | tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_loss_weights)
]
