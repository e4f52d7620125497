"""Draw the way of every optimiser down one bowl: ``python docs/optimisers.py``.

Writes ``docs/_static/optimisers.png``. The bowl is E = (x^2 + 50 y^2) / 2, shallow along x and steep along
y; each optimiser has the rate at which it is lowest after 40 updates, of those that keep it on the map. AdamW
without decay is Adam.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from unrolled.settings import TrainingSettings
from unrolled.train.optimisers import make_optimizer

PICTURE = Path(__file__).resolve().parent / "_static" / "optimisers.png"
NAMES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam")
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
STEPS = 40
MAP = (4.6, 1.4)
INK, BLUE, ORANGE = "#222222", "#1f6fb4", "#d9590b"


def bowl(w: Tensor) -> Tensor:
    """E = (x^2 + 50 y^2) / 2."""
    return (w[0] ** 2 + 50 * w[1] ** 2) / 2


def path(name: str, rate: float) -> np.ndarray:
    """Follow an optimiser from (-4, 1): (STEPS + 1, 2)."""
    w = nn.Parameter(torch.tensor([-4.0, 1.0], dtype=torch.float64))
    optimizer = make_optimizer([w], TrainingSettings(optimizer=name, lr=rate))  # type: ignore[arg-type]
    places = [w.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        bowl(w).backward()
        optimizer.step()
        places.append(w.detach().clone())
    return torch.stack(places).numpy()


def best(name: str) -> tuple[float, np.ndarray]:
    """Give the rate at which an optimiser ends lowest and never leaves the map, and its path."""
    paths = {rate: path(name, rate) for rate in RATES}
    kept = {rate: ways for rate, ways in paths.items() if (abs(ways) <= MAP).all()}
    return min(kept.items(), key=lambda item: energy(item[1])[-1])


def energy(places: np.ndarray) -> np.ndarray:
    """Give E along a path."""
    return (places**2 @ np.array([1, 50])) / 2


def draw(panel: Axes, name: str, rate: float, places: np.ndarray) -> None:
    x, y = np.meshgrid(np.linspace(-4.6, 2.6, 120), np.linspace(-MAP[1], MAP[1], 120))
    levels = np.geomspace(0.05, 45, 12)
    panel.contour(x, y, (x**2 + 50 * y**2) / 2, levels, colors=INK, linewidths=0.4, alpha=0.5)
    panel.plot(*places.T, color=BLUE, marker=".", markersize=4, linewidth=1)
    panel.plot(*places[-1], color=ORANGE, marker="o", markersize=5)
    panel.set(xlim=(-4.6, 2.6), ylim=(-MAP[1], MAP[1]))
    panel.set_title(f"{name}, rate {rate:g}: E = {energy(places)[-1]:.1g}", size=9)


def main() -> None:
    """Draw all."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    *panels, last = figure.subplots(2, 4).flat
    for panel, name in zip(panels, NAMES, strict=True):
        rate, places = best(name)
        draw(panel, name, rate, places)
        last.semilogy(energy(places).clip(1e-9), label=name)
    last.set_title("E after so many updates", size=9)
    last.legend(fontsize=7)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
