"""``unrolled explain``: what becomes of a cell, or of every cell in a net."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unrolled.engine import Cell
from unrolled.engine.cell import bind
from unrolled.engine.explain import NOTATION, Explanation, Part, explain_cell
from unrolled.errors import InputError
from unrolled.layers import Recurrent
from unrolled.layers.standard import StandardLayers


@dataclass(frozen=True)
class NetExplanation:
    """What becomes of the cells of a net. ``str()`` is a page to read.

    Attributes:
        net: Name of its class.
        places: Where cells run, as `rnn: layer 1, backwards` -> which of `cells` runs there.
        cells: What becomes of each distinct cell.
    """

    net: str
    places: dict[str, int]
    cells: tuple[Explanation, ...]

    @property
    def engine(self) -> str:
        """``native`` or ``reference``, or ``mixed`` where some cells run in one and some in the other."""
        engines = {cell.engine for cell in self.cells}
        return engines.pop() if len(engines) == 1 else "mixed"

    @property
    def reason(self) -> str | None:
        """Why the native engine does not run the first cell that it does not run."""
        return next((cell.reason for cell in self.cells if cell.reason), None)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the programs of all distinct cells."""
        return tuple(part for cell in self.cells for part in cell.parts)

    @property
    def multiply_adds(self) -> int | None:
        """Of all layers and directions, for one row at one step, with the backward pass.

        ``None`` where a step cannot be compiled.
        """
        return self._sum("multiply_adds")

    @property
    def bytes(self) -> int | None:
        """Moved by all layers and directions for one row at one step, weights aside."""
        return self._sum("bytes")

    @property
    def kept_bytes(self) -> int | None:
        """Kept by all layers and directions for the backward pass for one row at one step."""
        return self._sum("kept_bytes")

    def _sum(self, what: str) -> int | None:
        found = [getattr(self.cells[cell], what) for cell in self.places.values()]
        return None if None in found else sum(found)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        names = ("engine", "reason", "multiply_adds", "bytes", "kept_bytes")
        return {
            "net": self.net,
            "places": self.places,
            **{name: getattr(self, name) for name in names},
            "cells": [cell.to_dict() for cell in self.cells],
        }

    def __str__(self) -> str:
        """Give the page."""
        return "\n".join(self._body())

    def _body(self) -> Iterator[str]:
        yield f"{self.net}: {len(self.places)} cells, {len(self.cells)} distinct"
        if self.multiply_adds is not None:
            yield (
                f"All of it, a row and step, with the backward pass: {self.multiply_adds:,} "
                f"multiply-adds, {self.bytes:,} bytes moved, {self.kept_bytes:,} bytes kept"
            )
        for number, cell in enumerate(self.cells):
            where = [place for place, found in self.places.items() if found == number]
            yield from ("", f"--- {'; '.join(where)} ---", *cell.body())
        if self.parts:
            yield from ("", NOTATION)


def explain(
    what: nn.Module,
    *,
    dtype: torch.dtype | None = None,
    extras: Mapping[str, int] | None = None,
) -> Explanation | NetExplanation:
    """Say what becomes of a cell: what leaves the time loop, what stays in it, where it runs, and why.

    Nothing is run. What would run depends on the dtype, the device, ``with unrolled.engine(...)``,
    ``UNROLLED_ENGINE`` and ``UNROLLED_ISA``, as it does in a run at the same place.

    Args:
        what: A :class:`Cell`, a :class:`Recurrent`, an :class:`RNN`, :class:`LSTM` or :class:`GRU` or
            one of their cells, or any module that has such inside.
        dtype: Explain it in this dtype; that of the parameters if left out.
        extras: Width of each further input that the cell declares; 1 if left out.

    Returns:
        For a cell an explanation, for everything else one of each distinct cell and where it runs.
        ``print`` shows a page, ``to_dict`` gives plain values.

    Raises:
        InputError: If there is no cell inside, `extras` names an input that no cell declares, or an
            environment variable names an unknown engine or instruction set.
    """
    if isinstance(what, Cell):
        return explain_cell(what, dtype=dtype, extras=extras)
    if not isinstance(what, nn.Module):
        raise InputError(
            f"there is nothing to explain in {what!r}; give a Cell or a module that has one inside"
        )
    found = cells_of(what)
    if not found:
        raise InputError(
            f"{type(what).__name__} has no cell inside; unrolled.convert replaces torch.nn's layers"
        )
    unknown = set(extras or {}) - {name for _, cell in found for name in cell.extra_names}
    if unknown:
        raise InputError(f"no cell of {type(what).__name__} takes a further input {min(unknown)!r}")
    places: dict[str, int] = {}
    cells: list[Explanation] = []
    for place, cell in found:
        own = {name: width for name, width in (extras or {}).items() if name in cell.extra_names}
        explanation = explain_cell(cell, dtype=dtype, extras=own)
        if explanation not in cells:
            cells.append(explanation)
        places[place] = cells.index(explanation)
    return NetExplanation(type(what).__name__, places, tuple(cells))


def cells_of(module: nn.Module) -> list[tuple[str, Cell]]:
    """Give each cell of a module, with the weights it runs with, and where it is."""
    return [*_cells(module, "")]


def _cells(module: nn.Module, path: str) -> Iterator[tuple[str, Cell]]:
    """Give each cell of a module and where it is."""
    if isinstance(module, Cell):
        yield path, module
    elif isinstance(module, Recurrent):
        cells: list[Any] = [*module.cells]
        yield from _layers(path, cells, module.num_directions)
    elif isinstance(module, StandardLayers):
        weights = (
            {name.partition("_l")[0]: getattr(module, name) for name in names}
            for names in module._all_weights
        )
        cells = [bind(cell, own) for cell, own in zip(module._cells, weights, strict=True)]
        yield from _layers(path, cells, 2 if module.bidirectional else 1)
    else:
        for name, child in module.named_children():
            yield from _cells(child, f"{path}.{name}" if path else name)


def _layers(path: str, cells: list[Any], directions: int) -> Iterator[tuple[str, Cell]]:
    for place, cell in enumerate(cells):
        layer, direction = divmod(place, directions)
        ways = ("", ", backwards") if directions == 1 else (", forwards", ", backwards")
        yield f"{path}{': ' * bool(path)}layer {layer}{ways[direction]}", cell
