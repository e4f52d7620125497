"""What each layer of a model gives, sees and costs."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unrolled.errors import InputError
from unrolled.inspect.fields import Field, Fields, Known
from unrolled.layers import LocallyConnected
from unrolled.layers.convolution_plan import each


@dataclass(frozen=True)
class Layer:
    """One layer, for one row of the batch.

    Attributes:
        name: Its path in the model.
        kind: Name of its class.
        output: Size of its output, without the batch.
        receptive_field: Places of the input that one place of the output sees, in each dimension; "all";
            or ``None`` where it is not known.
        stride: Between what neighbours see on the input, in each dimension; ``None`` likewise.
        parameters: How many it has that are learned or could be.
        multiply_adds: Of its convolutions and matrix products, directly computed.
        bytes: Of its output.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    receptive_field: tuple[int, ...] | str | None
    stride: tuple[float, ...] | None
    parameters: int
    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class Description:
    """A model, layer by layer. ``str()`` is a table to read.

    Attributes:
        model: Name of its class.
        input: Size of its input, without the batch.
        layers: In the order in which they ran; one that ran twice stands there twice.
        parameters: Of the model, each counted once.
        parameter_bytes: What they take.
        multiply_adds: Of all layers, and of what lies between them.
        bytes: Of the outputs of all layers.
    """

    model: str
    input: tuple[int, ...]
    layers: tuple[Layer, ...]
    parameters: int
    parameter_bytes: int
    multiply_adds: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Give the table."""
        head = ("layer", "kind", "output", "sees", "stride", "parameters", "multiply-adds", "bytes")
        rows = [
            (
                layer.name,
                layer.kind,
                _size(layer.output),
                _sees(layer.receptive_field),
                _size(layer.stride) if layer.stride else "",
                f"{layer.parameters:,}",
                f"{layer.multiply_adds:,}",
                f"{layer.bytes:,}",
            )
            for layer in self.layers
        ]
        end = f"{self.parameters:,}", f"{self.multiply_adds:,}", f"{self.bytes:,}"
        first = ("input", "", _size(self.input), "", "", "", "", "")
        table = [head, first, *rows, ("all", self.model, "", "", "", *end)]
        lines = _aligned(table, left=5)
        return "\n".join([*lines, f"parameters take {self.parameter_bytes:,} bytes"])


def describe(model: nn.Module, input_shape: Sequence[int] | Tensor) -> Description:
    """Say for every layer what size its output has, what it sees of the input, and what it costs.

    The model is run once in evaluation mode on one row. Receptive fields are followed through every
    function it calls: branches that join see what the widest of them sees.

    Args:
        model: Any module that takes one tensor (B, ...).
        input_shape: Size of one row, (C, ...) as a rule; or an input itself, (1, ...), for a model that
            takes no floating-point numbers. Multiply-adds and bytes are those of this input.

    Returns:
        A description: ``print`` shows a table, ``layers`` has the rows, ``to_dict`` gives plain values.

    Raises:
        InputError: If the model does not take such an input; the sentence names the layer.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    x = (
        input_shape
        if isinstance(input_shape, Tensor)
        else torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)
    )
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        rows, multiply_adds = _run(model, x)
    finally:
        for module in training:
            module.training = True
    parameters = [*model.parameters()]
    return Description(
        type(model).__name__,
        tuple(x.shape[1:]),
        tuple(rows),
        sum(p.numel() for p in parameters),
        sum(p.numel() * p.element_size() for p in parameters),
        multiply_adds,
        sum(row.bytes for row in rows),
    )


def _run(model: nn.Module, x: Tensor) -> tuple[list[Layer], int]:
    """Run a model; give its layers and all multiply-adds."""
    rows: list[Layer] = []
    running: list[tuple[str, int]] = []
    fields, counter = Fields(x), FlopCounterMode(display=False)

    def before(name: str) -> Any:  # noqa: ANN401 - a hook
        def hook(module: nn.Module, args: Any) -> None:  # noqa: ANN401
            running.append((name, counter.get_total_flops()))

        return hook

    def behind(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ANN401
        name, begun = running.pop()
        y = next(iter(_outputs(output)), None)
        if y is None:
            return
        if isinstance(module, LocallyConnected) and isinstance(seen := fields.of(args[0]), Field):
            ones = (1,) * len(module.size)
            fields.set(y, seen.windows(module.kernel_size, module.stride, ones))
        reach, stride = _told(fields.of(y))
        own = sum(parameter.numel() for parameter in module.parameters())
        spent = (counter.get_total_flops() - begun) // 2
        size = sum(part.numel() * part.element_size() for part in _outputs(output))
        kind = type(module).__name__.removeprefix("Parametrized")
        rows.append(Layer(name, kind, tuple(y.shape[1:]), reach, stride, own, spent, size))

    with ExitStack() as stack:
        for name, module in layers_of(model):
            for hook in (
                module.register_forward_pre_hook(before(name)),
                module.register_forward_hook(behind),
            ):
                stack.callback(hook.remove)
        for context in (torch.no_grad(), counter, fields):
            stack.enter_context(context)
        try:
            model(x)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise InputError(_refusal(model, x, running, error)) from error
    return rows, counter.get_total_flops() // 2


def layers_of(model: nn.Module, path: str = "") -> list[tuple[str, nn.Module]]:
    """Give the modules that are one layer: without parts, or parametrised, or with weights of their own."""
    parts = [*model.named_children()]
    own = next(iter(model.parameters(recurse=False)), None) is not None
    if not parts or own or "parametrizations" in dict(parts):
        return [(path or type(model).__name__, model)]
    found: list[tuple[str, nn.Module]] = []
    for name, part in parts:
        found += layers_of(part, f"{path}.{name}" if path else name)
    return found


def _refusal(model: nn.Module, x: Tensor, running: list[tuple[str, int]], error: Exception) -> str:
    kind, size = type(model).__name__, tuple(x.shape[1:])
    if not running:
        return f"{kind} does not take {size}: {error}"
    name = running[-1][0]
    layer = dict(layers_of(model))[name]
    cure = (
        f"; a {type(layer).__name__} layer has a fixed size: pool to one first with AdaptivePool"
        if isinstance(layer, nn.Linear)
        else ""
    )
    return f"{kind} does not take {size}: layer {name} says: {error}{cure}"


def _outputs(output: Any) -> list[Tensor]:  # noqa: ANN401 - whatever a layer gives
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    if not isinstance(output, (tuple, list, dict)):
        return []
    return [tensor for part in parts for tensor in _outputs(part)]


def _told(known: Known) -> tuple[tuple[int, ...] | str | None, tuple[float, ...] | None]:
    if not isinstance(known, Field):
        return known, None
    stride = tuple(int(s) if s.denominator == 1 else float(s) for s in known.stride)
    return known.reach, stride


@dataclass(frozen=True)
class Connection:
    """A layer that connects its units in one way.

    Attributes:
        kind: ``fully``, ``locally`` or ``shared`` (a convolution).
        weights: How many, biases aside.
        multiply_adds: For one row.
        bytes: Of the weights in float32.
    """

    kind: str
    weights: int
    multiply_adds: int
    bytes: int


def connections(
    input_shape: Sequence[int], kernel_size: int | Sequence[int], units: int, filters: int = 1
) -> tuple[Connection, Connection, Connection]:
    """Compare one layer fully connected, locally connected, and with shared weights (a convolution).

    Args:
        input_shape: (C, ...).
        kernel_size: What a unit sees when it does not see everything; one number, or one a dimension.
        units: All units, over all places and filters.
        filters: Different units at each place.

    Returns:
        ``fully``, ``locally``, ``shared``: of 1,000 units on a picture of 100 x 100 that see 10 x 10,
        10^7, 10^5 and 100 weights.

    Raises:
        InputError: If the kernel is larger than the input, or the units do not come out even.
    """
    channels, *size = input_shape
    kernel = each(kernel_size, len(size), "kernel_size")
    if any(k > n for k, n in zip(kernel, size, strict=True)):
        raise InputError(f"the kernel {kernel} is larger than the input {tuple(size)}")
    if filters < 1 or units < 1 or units % filters:
        raise InputError(f"{units} units cannot be shared out among {filters} filters")
    seen = channels * math.prod(kernel)
    everything = units * channels * math.prod(size)
    amounts = {
        "fully": (everything, everything),
        "locally": (units * seen, units * seen),
        "shared": (filters * seen, units * seen),
    }
    fully, locally, shared = (
        Connection(kind, weights, work, 4 * weights) for kind, (weights, work) in amounts.items()
    )
    return fully, locally, shared


def _size(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)


def _sees(reach: tuple[int, ...] | str | None) -> str:
    return "?" if reach is None else reach if isinstance(reach, str) else _size(reach)


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Write rows under each other, the first columns from the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
