"""What part of the input each place of a layer sees, followed through the functions that a model calls.

A field is, for each dimension, how many places of the input one place sees (its receptive field), and how
far apart on the input neighbours look (its stride): a window of k places, s apart, d between its taps makes
r + (k - 1) d j of r, and j s of a stride j (Dumoulin & Visin 2016).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, Literal, TypeAlias

from torch import Tensor
from torch.overrides import TorchFunctionMode

from unrolled.layers import filter_bank


@dataclass(frozen=True)
class Field:
    """What places see.

    Attributes:
        reach: Places of the input, in each dimension.
        stride: Between what neighbours see; below 1 where a layer spreads its input out.
    """

    reach: tuple[int, ...]
    stride: tuple[Fraction, ...]

    def windows(
        self, kernel: Iterable[int], stride: Iterable[int], dilation: Iterable[int]
    ) -> "Field":
        """Give the field behind windows over this one."""
        taps = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        return Field(
            tuple(ceil(r + t * j) for r, t, j in zip(self.reach, taps, self.stride, strict=True)),
            tuple(j * s for j, s in zip(self.stride, stride, strict=True)),
        )


WHOLE = {"group_norm", "instance_norm", "layer_norm", "scaled_dot_product_attention"}
"""Functions whose every result depends on all places."""
MIXING = {"linear", "matmul", "bmm", "einsum", "softmax", "log_softmax", "cumsum", "sort", "flip"}
"""Functions that may mix places though their result looks like their input."""

Known: TypeAlias = "Field | Literal['all'] | None"
"""A field; all of the input; or not known."""


class Fields(TorchFunctionMode):
    """Follows what every tensor sees of `x` (1, C, *size), while it is entered.

    Convolutions are done directly, so that a count of multiply-adds is that of the layer, not of the way.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        # Tensors are kept, so that no other gets the same id.
        self._known: dict[int, tuple[Tensor, Known]] = {}
        d = x.dim() - 2
        if d > 0 and x.is_floating_point():
            self.set(x, Field((1,) * d, (Fraction(1),) * d))

    def of(self, tensor: Tensor) -> Known:
        """Give what a tensor sees."""
        return self._known.get(id(tensor), (tensor, None))[1]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Call a function and note what its results see."""
        kwargs = dict(kwargs or {})
        if func is filter_bank:
            kwargs["method"] = "direct"
        result = func(*args, **kwargs)
        sources = [t for t in _tensors((args, kwargs)) if id(t) in self._known]
        if sources:
            for tensor in _tensors(result):
                if tensor.dim():
                    self.set(tensor, self._seen(func, sources, tensor, args, kwargs))
        return result

    def set(self, tensor: Tensor, known: Known) -> None:
        """Say what a tensor sees."""
        self._known[id(tensor)] = (tensor, known)

    def _seen(
        self,
        func: Callable[..., Any],
        sources: list[Tensor],
        result: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Known:
        known = [self.of(source) for source in sources]
        fields = [field for field in known if isinstance(field, Field)]
        if "all" in known or not fields:
            return "all" if "all" in known else None
        d, name = len(fields[0].reach), func.__name__
        if any(len(field.reach) != d for field in fields):
            return None
        field = Field(
            tuple(max(reach) for reach in zip(*(f.reach for f in fields), strict=True)),
            tuple(max(stride) for stride in zip(*(f.stride for f in fields), strict=True)),
        )
        if name in ("__getitem__", "select", "pad") or sources[0].dim() <= 2:
            return field  # one place of many, or rows that are past having places
        if name in WHOLE or name in MIXING:
            return "all" if name in WHOLE else None
        pooled = name in ("mean", "sum", "amax") or name.startswith("adaptive_")
        if result.dim() <= 2 or (pooled and set(result.shape[2:]) == {1}):
            return "all"  # no places are left
        if window := _window(name, sources[0], result, args, kwargs):
            return field.windows(*(_each(value, d) for value in window))
        if name == "unfold" and isinstance(args[1], int) and 2 <= args[1] % args[0].dim() < 2 + d:
            axis = args[1] % args[0].dim() - 2
            one = [1] * d
            kernel, step = list(one), list(one)
            kernel[axis], step[axis] = args[2], args[3]
            return field.windows(kernel, step, one)
        return field if result.shape[2 : 2 + d] == sources[0].shape[2 : 2 + d] else None


def _window(
    name: str, source: Tensor, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any, Any] | None:
    """Give kernel, stride and dilation of a function that moves a window, else ``None``."""

    def given(place: int, key: str, default: object) -> Any:  # noqa: ANN401
        value = args[place] if len(args) > place else kwargs.get(key)
        return default if value is None or value == [] else value

    if name == filter_bank.__name__ or name in ("conv1d", "conv2d", "conv3d"):
        kernel = given(1, "weight", None).shape[2:]
        return kernel, given(3, "stride", 1), given(5, "dilation", 1)
    if name.startswith("conv_transpose"):
        stride = _each(given(3, "stride", 1), result.dim() - 2)
        kernel = given(1, "weight", None).shape[2:]
        # Each output is reached by every s-th tap.
        taps = [ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
        return taps, [Fraction(1, s) for s in stride], given(7, "dilation", 1)
    if name.startswith(("max_pool", "avg_pool", "lp_pool")):
        shift = name.startswith("lp_pool")  # its norm comes first
        kernel = given(1 + shift, "kernel_size", None)
        dilation = given(4, "dilation", 1) if name.startswith("max_pool") else 1
        return kernel, given(2 + shift, "stride", kernel), dilation
    if name.startswith("adaptive_"):
        sizes = [*zip(source.shape[2:], result.shape[2:], strict=True)]
        return [ceil(n / m) for n, m in sizes], [Fraction(n, m) for n, m in sizes], 1
    return None


def _each(value: Any, d: int) -> list[Any]:  # noqa: ANN401 - a number or several
    return [value] * d if isinstance(value, int) else [*value] * (d if len(value) == 1 < d else 1)


def _tensors(value: Any) -> Iterable[Tensor]:  # noqa: ANN401 - arguments or results
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors([*value.values()])
