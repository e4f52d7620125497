"""How a cell, a layer or any module is called, so that its gradients can be checked."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import Cell, run
from unrolled.engine.cell import sample_of
from unrolled.engine.check import PAST, shape_of
from unrolled.errors import InputError
from unrolled.layers import Recurrent
from unrolled.layers.standard import StandardLayers


@dataclass
class Subject:
    """A module and what it is called with.

    Attributes:
        module: The module, in float64.
        inputs: Tensors whose gradients are checked, by name.
        run: Calls the module: results by name.
        batch: B.
        alone: Calls it with one row; ``None`` where it is not known which dimension the rows are.
        dimensions: Which dimension of a result the rows are; 0 if left out.
        widths: Width of each further input.
        whole: What `alone` is compared with, where that is not what `run` gives.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    run: Callable[[], dict[str, Tensor]]
    batch: int = 0
    alone: Callable[[int], dict[str, Tensor]] | None = None
    dimensions: dict[str, int] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    whole: Callable[[], dict[str, Tensor]] | None = None

    def leaves(self) -> dict[str, Tensor]:
        """Give everything whose gradient is checked."""
        parameters = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        return parameters | {
            name if name not in parameters else f"input {name}": tensor
            for name, tensor in self.inputs.items()
        }

    def row_dimension(self, name: str) -> int:
        """Tell which dimension of a result the rows are."""
        return self.dimensions.get(name, 0)


def subject_of(
    module: nn.Module,
    make_input: Callable[[], Any] | None,
    steps: int,
    batch: int,
    extras: Mapping[str, Tensor],
) -> Subject:
    """Find out how a module is called.

    Raises:
        InputError: If that cannot be known without `make_input`.
    """
    if make_input is not None:
        return _any(module, make_input())
    if isinstance(module, Cell):
        return _cell(module, steps, batch, extras)
    if isinstance(module, Recurrent):
        return _recurrent(module, steps, batch, extras)
    if isinstance(module, StandardLayers):
        return _standard(module, steps, batch)
    raise InputError(
        f"how {type(module).__name__} is called is not known; give make_input, a function that gives "
        "its arguments"
    )


def _leaf(module: nn.Module, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).to(sample_of(module).device).requires_grad_()


def _extras(
    cell: Cell, module: nn.Module, steps: int, batch: int, given: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    unknown = set(given) - set(cell.extra_names)
    if unknown:
        raise InputError(f"{type(cell).__name__} takes no further input {min(unknown)!r}")
    random = {n: _leaf(module, steps, batch, 1) for n in cell.extra_names if n not in ("t", *given)}
    own = {name: extra.detach().double().clone().requires_grad_() for name, extra in given.items()}
    return {name: (random | own)[name] for name in cell.extra_names if name in random | own}


def _cut(
    tensors: Mapping[str, Tensor], row: int, dimensions: Mapping[str, int]
) -> dict[str, Tensor]:
    return {name: t.narrow(dimensions[name], row, 1) for name, t in tensors.items()}


def _extra_rows(extras: Mapping[str, Tensor]) -> dict[str, int]:
    """Which dimension of each further input the rows are: (T, B, n) or (B, n)."""
    return {name: extra.dim() - 2 for name, extra in extras.items()}


def _widths(extras: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: extra.shape[-1] for name, extra in extras.items()}


def _cell(cell: Cell, steps: int, batch: int, given: Mapping[str, Tensor]) -> Subject:
    x = _leaf(cell, steps, batch, cell.input_size)
    states = {}
    for name, width in cell.state_sizes.items():
        states[name] = _leaf(cell, batch, *shape_of(width))
        older = max(cell.lags(name)) - 1
        if older:
            states[name + PAST] = _leaf(cell, older, batch, *shape_of(width))
    extras = _extras(cell, cell, steps, batch, given)
    dimensions = {name: int(name.endswith(PAST)) for name in states}

    def call(x: Tensor, states: dict[str, Tensor], extras: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = run(cell, x, states, extras=extras)
        return {"y": outputs.y, **{f"last {name}": s for name, s in outputs.states.items()}}

    def alone(row: int) -> dict[str, Tensor]:
        own = _cut(extras, row, _extra_rows(extras))
        return call(x[:, row : row + 1], _cut(states, row, dimensions), own)

    return Subject(
        cell,
        {"x": x, **{f"initial {name}": s for name, s in states.items()}, **extras},
        lambda: call(x, states, extras),
        batch,
        alone,
        {"y": 1, **{f"last {name}": d for name, d in dimensions.items()}},
        _widths(extras),
    )


def _recurrent(net: Recurrent, steps: int, batch: int, given: Mapping[str, Tensor]) -> Subject:
    cell = net.cell
    rows = 0 if net.batch_first else 1
    shape = (batch, steps) if net.batch_first else (steps, batch)
    x = _leaf(net, *shape, cell.input_size)
    places = net.num_layers * net.num_directions
    states = {
        name: _leaf(net, places, batch, *shape_of(width))
        for name, width in cell.state_sizes.items()
    }
    extras = _extras(cell, net, steps, batch, given)

    def call(x: Tensor, states: dict[str, Tensor], extras: dict[str, Tensor]) -> dict[str, Tensor]:
        y, last, *_ = net(x, states, extras=extras)
        return {"y": y, **{f"last {name}": state for name, state in last.items()}}

    def alone(row: int) -> dict[str, Tensor]:
        own = {name: state[:, row : row + 1] for name, state in states.items()}
        return call(x.narrow(rows, row, 1), own, _cut(extras, row, _extra_rows(extras)))

    past = {f"last {name}{PAST}": 2 for name in cell.delays}
    return Subject(
        net,
        {"x": x, **{f"initial {name}": s for name, s in states.items()}, **extras},
        lambda: call(x, states, extras),
        batch,
        alone,
        {"y": rows, **{f"last {name}": 1 for name in states}, **past},
        _widths(extras),
    )


def _standard(layer: StandardLayers, steps: int, batch: int) -> Subject:
    rows = 0 if layer.batch_first else 1
    shape = (batch, steps) if layer.batch_first else (steps, batch)
    x = _leaf(layer, *shape, layer.input_size)
    cell = layer._cells[0]
    states = {
        name: _leaf(layer, len(layer._cells), batch, *shape_of(width))
        for name, width in cell.state_sizes.items()
    }

    def call(x: Tensor, states: list[Tensor]) -> dict[str, Tensor]:
        y, last = layer(x, tuple(states) if len(states) > 1 else states[0])
        lasts = last if isinstance(last, tuple) else (last,)
        return {"y": y, **{f"last {n}": s for n, s in zip(cell.state_names, lasts, strict=True)}}

    return Subject(
        layer,
        {"x": x, **{f"initial {name}": state for name, state in states.items()}},
        lambda: call(x, [*states.values()]),
        batch,
        lambda row: call(x.narrow(rows, row, 1), [s[:, row : row + 1] for s in states.values()]),
        {"y": rows, **{f"last {name}": 1 for name in states}},
    )


def _any(module: nn.Module, given: object) -> Subject:
    """A module called with whatever `make_input` gave."""
    inputs: dict[str, Tensor] = {}

    def take(name: str, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, PackedSequence):
            return value._replace(data=take(name, value.data))
        if isinstance(value, Tensor) and value.is_floating_point():
            inputs[name] = value.detach().double().clone().requires_grad_()
            return inputs[name]
        if isinstance(value, tuple | list):
            return type(value)(take(f"{name}[{k}]", part) for k, part in enumerate(value))
        if isinstance(value, dict):
            return {key: take(f"{name}[{key!r}]", part) for key, part in value.items()}
        return value

    if isinstance(given, dict):
        positional: list[Any] = []
        named = {name: take(name, value) for name, value in given.items()}
    else:
        several = isinstance(given, tuple) and not isinstance(given, PackedSequence)
        arguments: Any = given if several else (given,)
        positional = [take(f"input {k}", value) for k, value in enumerate(arguments)]
        named = {}

    def call() -> dict[str, Tensor]:
        results = dict(_flatten("result", module(*positional, **named)))
        if not results:
            raise InputError(f"{type(module).__name__} gives no tensor of floating point")
        return results

    return Subject(module, inputs, call)


def _flatten(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors of floating point in a result."""
    if isinstance(value, PackedSequence):
        yield name, value.data
    elif isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flatten(f"{name}[{key!r}]", part)
    elif isinstance(value, tuple | list):
        for place, part in enumerate(value):
            yield from _flatten(f"{name}[{place}]", part)
