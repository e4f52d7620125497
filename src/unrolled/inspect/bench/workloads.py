"""What is measured: the named workloads, every registered cell, noise in the loop, and the grid.

I inputs, H hidden units, L layers, T steps, B rows, V symbols. Nothing here imports torch before it
is asked about the registered cells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np

from unrolled.errors import InputError

Mode = Literal["train", "infer", "step"]
Precision = Literal["float32", "high", "bfloat16"]

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
"""The cells of torch.nn, and how many products each makes of its input."""
FIXED = ("esn",)
"""Registered cells that have nothing to train."""
NOISES = ("dropout", "dropout-per-step", "zoneout-h", "zoneout-c", "weight-dropout")
"""Noise in the time loop, measured against the same without it."""
USUAL = "torch", "padded", "loop", "jax", "numpy", "onnxruntime", "torchrecurrent"
"""Peers of the named workloads; ``compile`` takes a minute to compile, and has to be asked for."""
KINDS = {"train": "forward and backward", "infer": "forward", "step": "whole training step"}

GRID_HIDDEN = 32, 64, 128, 256, 512, 1024
GRID_STEPS = 25, 100, 1000
GRID_BATCH = 1, 8, 32, 128
GRID_MODES: tuple[Mode, ...] = "infer", "train"
GRID_PRECISIONS: tuple[Precision, ...] = "float32", "bfloat16"
GRID_LIMIT = 5e11
"""Multiply-adds of the largest point of the grid: a few seconds on two cores."""


@dataclass(frozen=True)
class Workload:
    """A net, its input, and what is computed.

    Attributes:
        cell: One of torch.nn's by its name there in small letters, or a registered one of ours.
        mode: ``train`` is forward and backward of a layer inside a torch loop, ``infer`` is forward
            only, ``step`` is a whole update of a model over V = I symbols: lookup, layer, read-out,
            cross-entropy, backward, clipping, Adagrad.
        precision: ``high`` is float32 under ``torch.set_float32_matmul_precision("high")``,
            ``bfloat16`` is under ``torch.autocast``.
    """

    name: str
    cell: str
    inputs: int
    hidden: int
    layers: int
    steps: int
    batch: int
    projection: int = 0
    packed: bool = False
    """Whether rows have unequal lengths."""
    precision: Precision = "float32"
    mode: Mode = "train"
    own: bool = False
    """Whether the cell is this package's where torch.nn has one of that name."""
    noise: str = ""
    """One of :data:`NOISES`, or none."""
    peers: tuple[str, ...] = USUAL
    """Who is set against it unless others are asked for."""

    @property
    def standard(self) -> bool:
        """Whether the cell is torch.nn's."""
        return self.cell in GATES and not self.own

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """Steps of each row (B,), from a fifth of T to T; ``None`` where all have T."""
        if not self.packed:
            return None
        lengths = np.random.default_rng(1).integers(self.steps // 5, self.steps + 1, self.batch)
        lengths[0] = self.steps
        return lengths

    @property
    def what(self) -> str:
        """The workload in words."""
        parts = [
            f"{self.cell.upper() if self.standard else self.cell} {self.layers} x {self.hidden}",
            f"{self.inputs} {'symbols' if self.mode == 'step' else 'inputs'}",
            f"T {self.steps}",
            f"B {self.batch}",
            *([f"projected to {self.projection}"] if self.projection else []),
            *(["unequal lengths"] if self.packed else []),
            *([self.noise] if self.noise else []),
            {"float32": "float32", "high": "float32 as bfloat16 x 3"}.get(
                self.precision, self.precision
            ),
            KINDS[self.mode],
        ]
        return ", ".join(parts)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all matrix products, padding and looked-up symbols not counted.

        A backward pass makes two products for each of the forward pass, but one where no gradient of
        the input is wanted: below the first layer.
        """
        rows = self.steps * self.batch if self.lengths is None else int(self.lengths.sum())
        if not self.standard:
            from unrolled.inspect.bench.loops import multiply_adds

            forward, both = multiply_adds(self.cell, self.inputs, self.hidden)
            return rows * (forward if self.mode == "infer" else both)
        gates, width = GATES[self.cell], self.projection or self.hidden
        passes = 1 if self.mode == "infer" else 3
        total = 0
        for layer in range(self.layers):
            recurrent = width * gates * self.hidden + self.hidden * self.projection
            if layer:
                total += passes * width * gates * self.hidden
            elif self.mode != "step":
                total += min(passes, 2) * self.inputs * gates * self.hidden
            total += passes * recurrent
        if self.mode == "step":
            total += passes * self.hidden * self.inputs
        return rows * total


def _named() -> list[Workload]:
    small = Workload("A", "rnn", 65, 100, 1, 25, 1)
    b = Workload("B", "lstm", 256, 256, 2, 100, 32)
    c = Workload("C", "lstm", 512, 512, 1, 100, 64)
    g = Workload("G", "gru", 256, 256, 1, 100, 32)
    p = Workload("P", "lstm", 128, 128, 1, 128, 32, projection=64)
    gp = Workload("GP", "gru", 128, 128, 1, 128, 32)
    v = Workload("V", "lstm", 128, 128, 1, 128, 32, packed=True)
    layers = [small, replace(small, name="A2", cell="lstm"), b, c, g, p, gp, v]
    own = {
        "": "lstm-layernorm",
        " leaky": "leaky",
        " peephole": "lstm-peephole",
        " gru": "gru-before",
    }
    for suffix, cell in own.items():
        layers.append(Workload(f"U{suffix}", cell, 256, 256, 1, 100, 32))
    for suffix, cell in own.items():
        layers.append(Workload(f"U1{suffix}", cell, 64, 64, 1, 1000, 1))
    return [
        *layers,
        *(replace(w, name=f"{w.name} step", mode="step") for w in layers[:2]),
        *(replace(w, name=f"{w.name}high", precision="high") for w in (b, c)),
        *(replace(w, name=f"{w.name}bf16", precision="bfloat16") for w in (b, c)),
        *(replace(w, name=_infer(w.name), mode="infer") for w in layers),
        Workload("S", "lstm", 100, 100, 1, 1, 1, mode="infer"),
    ]


def _infer(name: str) -> str:
    first, *rest = name.split()
    return " ".join([f"{first}infer", *rest])


NAMED: dict[str, Workload] = {workload.name: workload for workload in _named()}
"""The named workloads, in the order in which they are measured."""


def grid() -> dict[str, Workload]:
    """Give the grid: cell x H x T x B x forward and training x float32 and bfloat16, one layer, I = H.

    A point is called ``lstm-256-100-32-train-float32``. Points of more than :data:`GRID_LIMIT`
    multiply-adds are left out.
    """
    points = [
        Workload(
            f"{cell}-{hidden}-{steps}-{batch}-{mode}-{precision}",
            *(cell, hidden, hidden, 1, steps, batch),
            mode=mode,
            precision=precision,
            peers=("torch",),
        )
        for cell, hidden, steps, batch, mode, precision in product(
            GATES, GRID_HIDDEN, GRID_STEPS, GRID_BATCH, GRID_MODES, GRID_PRECISIONS
        )
    ]
    return {p.name: p for p in points if p.multiply_adds <= GRID_LIMIT}


def cells() -> dict[str, Workload]:
    """Give every cell that compiles in two sizes: ``cell:mgu-256`` is T 100, B 32; ``-64`` is T 1000, B 1."""
    from unrolled.cells import CELLS

    apart = [name for name, cell in CELLS.items() if cell.rows_apart]
    points = [
        Workload(
            f"cell:{cell}-{hidden}",
            *(cell, hidden, hidden, 1, steps, batch),
            mode="infer" if cell in FIXED else "train",
            own=True,
            peers=("loop", "torchrecurrent"),
        )
        for cell, (hidden, steps, batch) in product(apart, ((256, 100, 32), (64, 1000, 1)))
    ]
    return {p.name: p for p in points}


def wirings() -> dict[str, Workload]:
    """Give an LSTM with every noise in its loop: ``wiring:dropout`` and so on."""
    lstm = Workload("", "lstm", 256, 256, 1, 100, 32, own=True, peers=("plain",))
    points = [replace(lstm, name=f"wiring:{noise}", noise=noise) for noise in NOISES]
    return {p.name: p for p in points}


def choose(names: Sequence[str], *, from_grid: bool = False) -> list[Workload]:
    """Find workloads by name or pattern (``U*``, ``cell:*``).

    Args:
        names: Names and patterns; without any, all named workloads, or the whole grid.
        from_grid: Whether names are those of the grid.

    Raises:
        InputError: If nothing has such a name.
    """
    among = grid() if from_grid else NAMED | (cells() | wirings() if names else {})
    chosen: dict[str, Workload] = {}
    for name in names or ("*",):
        found = {key: w for key, w in among.items() if key == name or fnmatchcase(key, name)}
        if not found:
            listed = among if from_grid else [*NAMED, "cell:*", "wiring:*"]
            raise InputError(f"no workload {name!r}; there are {_shortened(listed)}")
        chosen |= found
    return list(chosen.values())


def _shortened(names: Iterable[str], most: int = 60) -> str:
    listed = list(names)
    rest = f" and {len(listed) - 3} more" if len(listed) > most else ""
    return ", ".join(listed[:3] if rest else listed) + rest
