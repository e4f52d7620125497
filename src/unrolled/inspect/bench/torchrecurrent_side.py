"""The side of torchrecurrent: many cells, each in a Python loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch

from unrolled.inspect.bench.side import Arrays, Case, Skipped, no_lengths
from unrolled.inspect.bench.torch_sides import TorchSide

ROWS = {"weight_ih": ["x.weight"], "weight_hh": ["h.weight"], "bias_ih": ["x.bias"]}


@dataclass(frozen=True)
class Twin:
    """A layer of torchrecurrent that computes what a registered cell does.

    Attributes:
        name: Of its class.
        parts: Its parameter -> ours, one below the other, in which it is.
        options: Given to its cells; mostly that there is one bias, as in ours.
        scale: What the blocks of rows of ours are multiplied by.
        fixed: Its parameters that are not trained, and their value.
    """

    name: str
    parts: Mapping[str, Sequence[str]] = field(default_factory=lambda: ROWS)
    options: Mapping[str, Any] = field(default_factory=lambda: {"recurrent_bias": False})
    scale: tuple[float, ...] = (1.0,)
    fixed: Mapping[str, float] = field(default_factory=dict)


TWINS = {
    # Its forget gate is sigma(beta), beside sigma(alpha): a leak of 1/2 where both are zero.
    "leaky": Twin("FastRNN", fixed={"alpha": 0.0, "beta": 0.0}),
    "indrnn": Twin(
        "IndRNN",
        {"weight_ih": ["x.weight"], "vector_u": ["u"], "bias_ih": ["x.bias"]},
        {"recurrent_bias": False, "nonlinearity": "relu"},
    ),
    # tanh(g) and tanh(c) where ours has 2 tanh(g / 2) and tanh(c / 2): its c is half of ours.
    "lstm-1997": Twin("OriginalLSTM", scale=(1.0, 0.5, 1.0)),
    "lstm-peephole": Twin("PeepholeLSTM", {**ROWS, "weight_ph": ["w_i", "w_f", "w_o"]}),
    "lstm-multiplicative": Twin(
        "MultiplicativeLSTM",
        {
            "weight_ih": ["mx.weight", "x.weight"],
            "weight_hh": ["mh.weight"],
            "weight_mh": ["m.weight"],
            "bias_mh": ["x.bias"],
        },
        {"bias": False, "recurrent_bias": False},
    ),
    "mgu": Twin("MGU"),
}
"""Registered cell -> the layer."""


class TorchRecurrentSide(TorchSide):
    """A layer of torchrecurrent, with our weights.

    Raises:
        Skipped: If none computes the cell.
    """

    def __init__(self, case: Case) -> None:
        no_lengths(case)
        workload = case.workload
        if workload.cell not in TWINS or workload.noise:
            raise Skipped("has no such cell")
        self.twin = twin = TWINS[workload.cell]
        kind = getattr(import_module("torchrecurrent"), twin.name)
        layer = kind(workload.inputs, workload.hidden, **twin.options)
        self.cell = layer.cells[0]
        self.rows = {name: len(weight) for name, weight in case.weights.items()}
        super().__init__(case, layer)

    def load(self, case: Case) -> None:
        """Give it the weights of a case, put together as it has them."""
        with torch.no_grad():
            for name, value in self.twin.fixed.items():
                self.cell.get_parameter(name).requires_grad_(False).fill_(value)
            for name, parts in self.twin.parts.items():
                own = np.concatenate([self._scaled(case.weights[part]) for part in parts])
                self.cell.get_parameter(name).copy_(torch.from_numpy(own))

    def gradients(self) -> Arrays:
        """Give the gradients by our names."""
        found: dict[str, np.ndarray] = {}
        for name, parts in self.twin.parts.items():
            gradient = self.cell.get_parameter(name).grad
            if gradient is not None:
                ends = np.cumsum([self.rows[part] for part in parts])[:-1]
                for part, rows in zip(parts, np.split(gradient.numpy(), ends), strict=True):
                    found[part] = self._scaled(rows)
        return found

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        scale = np.repeat(self.twin.scale, len(rows) // len(self.twin.scale))
        return rows * scale.reshape(-1, *[1] * (rows.ndim - 1)).astype(rows.dtype)
