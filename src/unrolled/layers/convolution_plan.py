"""How a convolution of certain shapes is done: what is padded, and which way it goes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from torch import Tensor
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.convolution_cost import Work, best_tiles, transform_pays
from unrolled.layers.fourier import Tiles

Mode: TypeAlias = Literal["full", "same", "valid"]
Method: TypeAlias = Literal["auto", "direct", "fft"]
Sides: TypeAlias = int | tuple[int, int]
"""Padding of one dimension: the same before and behind, or each on its own."""
Padding: TypeAlias = Mode | int | Sequence[Sides]

_DIRECT = (functional.conv1d, functional.conv2d, functional.conv3d)


@dataclass(frozen=True)
class Plan:
    """How a convolution of certain shapes is done.

    Attributes:
        dimensions: Of the kernel in the weight.
        stride: For each dimension, as is `dilation`.
        dilation: As above.
        pad: What torch's pad is to put around the input first, if anything.
        direct: torch's convolution.
        arguments: What it takes besides tensors; nothing where all are as usual, which is quicker.
        tiles: How the input is cut for the transform, if it is to go through it.
    """

    dimensions: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad: list[int] | None
    direct: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    tiles: Tiles | None


# Planned once for the same shapes: a small convolution takes no longer than the planning.
@lru_cache(maxsize=4096)
def plan_for(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: int | tuple[int, ...],
    padding: Mode | int | tuple[Sides, ...],
    dilation: int | tuple[int, ...],
    groups: int,
    method: Method,
    training: bool,
) -> Plan:
    """Plan a convolution by the shapes of input and weight, and what :func:`filter_bank` is given.

    Raises:
        InputError: If channels disagree, the kernel is larger than the padded input, or an argument is
            out of range.
    """
    d = len(weight) - 2
    if not 1 <= d <= 3:
        raise InputError(
            f"the weight must be (O, C / groups, K...) with 1 to 3 K, not {(*weight,)}"
        )
    if method not in ("auto", "direct", "fft"):
        raise InputError(f"method must be auto, direct or fft, not {method!r}")
    strides, gaps = each(stride, d, "stride"), each(dilation, d, "dilation")
    sides = padding_sides(padding, weight[2:], gaps)
    _check(x, weight, groups, sides, gaps)
    size = tuple(n + sum(side) for n, side in zip(x[2:], sides, strict=True))
    out, inputs, *kernel = weight
    work = Work(x[0], groups, inputs, out // groups, size, tuple(kernel), gaps, strides)
    tiles = None
    if method == "fft" or (method == "auto" and transform_pays(work, training=training)):
        tiles = best_tiles(work, training=training)
    apart = tiles is not None or any(before != behind for before, behind in sides)
    before = (0,) * d if apart else tuple(before for before, _ in sides)
    usual = {*strides, *gaps, groups} == {1} and not any(before)
    return Plan(
        dimensions=tuple(range(2, d + 2)),
        stride=strides,
        dilation=gaps,
        # torch's pad takes the last dimension first.
        pad=[n for side in reversed(sides) for n in side]
        if apart and any(map(sum, sides))
        else None,
        direct=_DIRECT[d - 1],
        arguments=() if usual else (strides, before, gaps, groups),
        tiles=tiles,
    )


def frozen(value: Any) -> Any:  # noqa: ANN401 - a number, a name, or a sequence of either or of pairs
    """Give lists as tuples, which can be looked up."""
    if isinstance(value, (int, str)):
        return value
    return tuple(item if isinstance(item, int) else tuple(item) for item in value)


def each(value: int | Sequence[int], d: int, name: str) -> tuple[int, ...]:
    """Give a number for each of d dimensions.

    Raises:
        InputError: If there are not d of them, or one is below 1.
    """
    values = (value,) * d if isinstance(value, int) else tuple(value)
    if len(values) != d or min(values) < 1:
        raise InputError(f"{name} must be one number of at least 1, or {d} of them, not {value}")
    return values


def padding_sides(
    padding: Padding, kernel: Sequence[int], gaps: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Give the zeros before and behind the input in each dimension.

    Raises:
        InputError: If it is no mode, negative, or not as many as dimensions.
    """
    d, spans = len(kernel), [(k - 1) * gap + 1 for k, gap in zip(kernel, gaps, strict=True)]
    if isinstance(padding, str):
        around = {
            "valid": lambda k: (0, 0),
            "same": lambda k: (k // 2, (k - 1) // 2),
            "full": lambda k: (k - 1, k - 1),
        }
        if padding not in around:
            raise InputError(f"the mode must be full, same or valid, not {padding!r}")
        return tuple(around[padding](k) for k in spans)
    given = [padding] * d if isinstance(padding, int) else [*padding]
    sides = [(side, side) if isinstance(side, int) else tuple(side) for side in given]
    if len(sides) != d or any(len(side) != 2 or min(side) < 0 for side in sides):
        raise InputError(
            f"padding must be a mode, a number of at least 0, or {d} numbers or pairs (before, behind), "
            f"not {padding}"
        )
    return tuple((side[0], side[-1]) for side in sides)


def _check(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    groups: int,
    sides: Sequence[tuple[int, int]],
    gaps: Sequence[int],
) -> None:
    out, inputs, *kernel = weight
    d = len(kernel)
    if len(x) != d + 2:
        raise InputError(
            f"the input must be (B, C, ...) with {d} sizes, as the weight {(*weight,)} has; "
            f"it is {(*x,)}"
        )
    if groups < 1 or out % groups:
        raise InputError(f"{out} filters cannot be shared out among {groups} groups")
    if x[1] != inputs * groups:
        among = f" in each of {groups} groups, {inputs * groups} in all" if groups > 1 else ""
        raise InputError(
            f"the filters take {inputs} channels{among}, but the input {(*x,)} has {x[1]}"
        )
    padded = tuple(n + sum(side) for n, side in zip(x[2:], sides, strict=True))
    span = tuple((k - 1) * gap + 1 for k, gap in zip(kernel, gaps, strict=True))
    if any(k > n for n, k in zip(padded, span, strict=True)):
        raise InputError(
            f"the kernel {span} is larger than the padded input {padded}: pad more, or take a smaller "
            "kernel or dilation"
        )
