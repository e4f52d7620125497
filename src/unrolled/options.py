"""The flags of `unrolled train`, made from the fields of the settings: one source for both."""

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from unrolled.settings import GROUPS, flag

POSITIONAL = ("source",)
"""Fields that are arguments of the command rather than flags."""


def with_settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes ``**flags`` one flag for every field of the settings.

    A flag that is not given arrives as ``None``: only the settings know defaults and ranges.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [p for p in own if p.kind is not p.VAR_KEYWORD]
    parameters += [
        _parameter(name, field, panel=group.capitalize())
        for group, model in GROUPS.items()
        for name, field in model.model_fields.items()
        if name not in POSITIONAL
    ]
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    kind = _plain_type(field.annotation)
    names = [f"{flag(name)}/--no-{flag(name)[2:]}"] if kind is bool else [flag(name)]
    choice = get_origin(kind) is Literal
    notes = [" | ".join(get_args(kind))] if choice else _bounds(field)
    if field.default not in (None, ()):
        notes.append(f"default {_shown(field.default)}")
    option = typer.Option(
        *names,
        metavar="NAME" if choice else None,
        help=f"{field.description} \\[{', '.join(notes)}]" if notes else field.description,
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _plain_type(annotation: Any) -> Any:  # noqa: ANN401 - a type or a Literal
    """Give the type of a flag's text; what the settings read from text themselves stays text."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        annotation = kinds[0] if len(kinds) == 1 else str
    if get_origin(annotation) is Literal or annotation in (bool, int, float):
        return annotation
    return str


def _bounds(field: FieldInfo) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [
        f"{sign} {limit:g}"
        for bound in field.metadata
        for name, sign in signs.items()
        if (limit := getattr(bound, name, None)) is not None
    ]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
