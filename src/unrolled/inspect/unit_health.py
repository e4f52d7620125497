"""Units of recurrent nets that are of no use: dead, saturated, duplicate, deaf to the input.

T steps, B rows, H units of a state.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.inspect.calls import noting_calls
from unrolled.inspect.flow import unroll
from unrolled.inspect.units import ALIKE, MOSTLY, NEAR, evaluating
from unrolled.tasks.task import Task

DEAF = 1e-3
"""Share of a unit's variance that must lie between rows, at the same step."""


@dataclass(frozen=True)
class UnitHealth:
    """Of one layer and direction, the states side by side."""

    layer: str
    units: int
    dead: list[int]
    """Always the same number."""
    saturated: list[int]
    """Nearly always within a hundredth of -1 or 1."""
    duplicates: list[tuple[int, int, float]]
    """Pairs that say the same, or the opposite, with their correlation."""
    deaf: list[int]
    """Units that change in time, but alike in all rows, whatever these read."""

    def __str__(self) -> str:
        """Give one line."""
        told = [
            f"{len(found)} {what} ({', '.join(map(str, found[:10]))}{', ...' if found[10:] else ''})"
            for what, found in (
                ("dead", self.dead),
                ("saturated", self.saturated),
                ("deaf to the input", self.deaf),
                ("pairs of duplicates", [f"{i} and {j}" for i, j, _ in self.duplicates]),
            )
            if found
        ]
        return f"{self.layer}: {self.units} units, {'; '.join(told) or 'all of use'}"

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        return asdict(self)


def health_of(layer: str, values: np.ndarray) -> UnitHealth:
    """Judge the units of a state over steps and rows, values (T, B, H)."""
    flat = values.reshape(-1, values.shape[2]).astype(float)
    still = np.ptp(flat, axis=0) < 1e-6 * np.maximum(np.abs(flat).max(0), 1)
    bounded = np.abs(flat).max(initial=0) <= 1
    edge = (np.abs(flat) > 1 - 2 * NEAR).mean(0) > MOSTLY
    saturated = edge & bounded
    spread = np.where(still, np.inf, flat.std(0))
    z = (flat - flat.mean(0)) / spread
    alike = np.triu(np.abs(z.T @ z) / len(z), 1) > ALIKE
    pairs = [(int(i), int(j), float(z[:, i] @ z[:, j] / len(z))) for i, j in np.argwhere(alike)]
    between = values.var(1).mean(0) if values.shape[1] > 1 else np.full(values.shape[2], np.inf)
    deaf = (between < DEAF * spread**2) & ~still
    return UnitHealth(
        layer,
        values.shape[2],
        np.flatnonzero(still & ~saturated).tolist(),
        np.flatnonzero(saturated).tolist(),
        pairs,
        np.flatnonzero(deaf).tolist(),
    )


def unit_health(task: Task, model: nn.Module, rows: int = 16) -> list[UnitHealth]:
    """Judge the units of all recurrent nets of a model on the first batch of a prepared task."""
    with torch.no_grad(), evaluating(model), noting_calls(model) as calls:
        task.loss(model, task.batch(0, task.few(rows)), {})
    found = []
    for call in {call.name: call for call in calls}.values():
        with torch.no_grad():
            layers = unroll(call, [None], rows=rows).layers
        for layer in layers:
            for name in layer.cell.state_names:
                states: list[Tensor] = [one[name].flatten(1) for one in layer.states[1:]]
                values = torch.stack(states).detach().float().cpu().numpy()
                title = f"{call.name}: {layer.name}, {name}".removeprefix(": ")
                found.append(health_of(title, values))
    return found
