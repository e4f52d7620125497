"""What the units of every layer do on data: how strongly, how differently, which do nothing of their own.

n pictures; a layer gives (n, O) or maps (n, O, H, W) of O units.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.errors import InputError
from unrolled.inspect.describe import layers_of
from unrolled.layers import ACTIVATIONS, LeakyReLU, PReLU

BATCH = 256
"""Pictures that are looked at side by side."""
NEAR = 0.01
"""How near to its bound, as a share of its range, an output counts as saturated."""
MOSTLY = 0.95
"""Share of outputs from which on a unit is saturated."""
ALIKE = 0.99
"""Correlation from which on two units are duplicates."""
BOUNDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
}
"""Activations that saturate, and where."""
_POINTWISE = (*(type(a.module()) for a in ACTIVATIONS.values()), LeakyReLU, PReLU)


@dataclass(frozen=True)
class Watched:
    """A layer with weights, seen behind the activation that follows it."""

    name: str
    kind: str
    weighted: nn.Module
    """Has the weights."""
    seen: nn.Module
    """Gives what counts: the activation, or the layer itself."""
    shape: tuple[int, ...]
    """(O,) or (O, H, W)."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Where its outputs saturate."""
        return BOUNDS.get(type(self.seen))


@dataclass(frozen=True)
class Units:
    """What the units of a layer did."""

    layer: Watched
    mean: np.ndarray
    """(O,)."""
    variance: np.ndarray
    """(O,)."""
    correlation: np.ndarray
    """Between units, over pictures and places (O, O); 0 where one does not vary."""
    peaks: np.ndarray
    """Largest output of each unit on each picture (n, O)."""
    places: np.ndarray
    """Where on the map it was, flattened (n, O)."""
    dead: tuple[int, ...]
    """Units that give always the same number."""
    saturated: tuple[int, ...]
    """Units that are nearly always at a bound of their activation."""
    duplicates: tuple[tuple[int, int, float], ...]
    """Pairs of units that say the same, or the opposite, with their correlation."""

    def to_dict(self) -> dict[str, Any]:
        """Give all but the tables as plain values, for JSON."""
        return {
            "layer": self.layer.name,
            "kind": self.layer.kind,
            "output": list(self.layer.shape),
            "units": len(self.mean),
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "dead": list(self.dead),
            "saturated": list(self.saturated),
            "duplicates": [
                {"units": [i, j], "correlation": value} for i, j, value in self.duplicates
            ],
        }

    def strongest(self, unit: int, count: int) -> np.ndarray:
        """Give the pictures that excite a unit most, the first first."""
        return np.argsort(-self.peaks[:, unit], kind="stable")[:count]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Use a model in evaluation mode meanwhile."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def listening(module: nn.Module, hear: Callable[[Tensor], None]) -> Iterator[None]:
    """Be told what a module gives."""

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:  # noqa: ANN401
        hear(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def watched_layers(model: nn.Module, x: Tensor) -> list[Watched]:
    """Find the layers with weights in the order in which they run on x (B, C, H, W).

    A layer that runs more than once is left out.

    Raises:
        InputError: If none gives (B, O) or (B, O, H, W).
    """
    ran: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:  # noqa: ANN401
            if isinstance(output, Tensor) and output.dim() in (2, 4) and len(output) == len(x):
                ran.append((name, module, tuple(output.shape[1:])))

        return hook

    handles = [m.register_forward_hook(note(n, m)) for n, m in layers_of(model)]
    try:
        with evaluating(model), torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    runs = Counter(module for _, module, _ in ran)
    found: list[Watched] = []
    for place, (name, module, shape) in enumerate(ran):
        weighted = any(p.dim() > 1 for p in module.parameters()) and not isinstance(module, _NORMS)
        if not weighted or runs[module] > 1:
            continue
        follower = ran[place + 1] if place + 1 < len(ran) else None
        seen = module
        if follower and isinstance(follower[1], _POINTWISE) and follower[2] == shape:
            seen = follower[1] if runs[follower[1]] == 1 else module
        kind = type(module).__name__.removeprefix("Parametrized")
        found.append(Watched(name, kind, module, seen, shape))
    if not found:
        raise InputError(
            f"{type(model).__name__} has no layer whose units look at pictures, (B, O) or (B, O, H, W)"
        )
    return found


_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)


@torch.no_grad()
def study(model: nn.Module, pictures: Tensor, layers: list[Watched]) -> list[Units]:
    """Run pictures (n, C, H, W) and say what the units of each layer did."""
    tallies = [_Tally(layer) for layer in layers]
    handles = [tally.layer.seen.register_forward_hook(tally.hear) for tally in tallies]
    try:
        with evaluating(model):
            for start in range(0, len(pictures), BATCH):
                model(pictures[start : start + BATCH])
    finally:
        for handle in handles:
            handle.remove()
    return [tally.units() for tally in tallies]


class _Tally:
    """Sums over pictures and places."""

    def __init__(self, layer: Watched) -> None:
        self.layer, units = layer, layer.shape[0]
        self.count, self.at_bound = 0, torch.zeros(units)
        self.shift: Tensor | None = None  # near the mean, so that little is lost in the squares
        self.sum = torch.zeros(units, dtype=torch.float64)
        self.products = torch.zeros(units, units, dtype=torch.float64)
        self.low, self.high = torch.full((units,), torch.inf), torch.full((units,), -torch.inf)
        self.peaks: list[Tensor] = []
        self.places: list[Tensor] = []

    def hear(self, _module: nn.Module, _args: object, y: Tensor) -> None:
        """Add what the layer gives for a batch, (B, O) or (B, O, H, W)."""
        maps = y.float().cpu().flatten(2) if y.dim() == 4 else y.float().cpu().unsqueeze(2)
        peak, place = maps.max(2)
        self.peaks.append(peak)
        self.places.append(place)
        every = maps.transpose(1, 2).flatten(0, 1)  # (n places, O)
        self.low = torch.minimum(self.low, every.min(0).values)
        self.high = torch.maximum(self.high, every.max(0).values)
        if bounds := self.layer.bounds:
            margin = NEAR * (bounds[1] - bounds[0])
            self.at_bound += ((every < bounds[0] + margin) | (every > bounds[1] - margin)).sum(0)
        if self.shift is None:
            self.shift = every.mean(0).double()
        centred = every.double() - self.shift
        self.count += len(centred)
        self.sum += centred.sum(0)
        self.products += centred.T @ centred

    def units(self) -> Units:
        """Sum up."""
        assert self.shift is not None
        mean = self.sum / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        variance = covariance.diagonal().clamp(min=0)
        size = torch.maximum(self.low.abs(), self.high.abs()).clamp(min=1.0)
        varies = self.high - self.low > 1e-6 * size
        scale = torch.where(varies, variance.sqrt(), torch.inf)
        correlation = (covariance / torch.outer(scale, scale)).nan_to_num(0).clamp(-1, 1)
        saturated = self.at_bound / self.count > MOSTLY
        pairs = (correlation.abs().triu(1) > ALIKE).nonzero().tolist()
        return Units(
            self.layer,
            (mean + self.shift).numpy(),
            variance.numpy(),
            correlation.numpy(),
            torch.cat(self.peaks).numpy(),
            torch.cat(self.places).numpy(),
            tuple((~varies & ~saturated).nonzero()[:, 0].tolist()),
            tuple(saturated.nonzero()[:, 0].tolist()),
            tuple((i, j, float(correlation[i, j])) for i, j in pairs),
        )
