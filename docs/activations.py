"""Draw every activation with its derivative: ``python docs/activations.py``.

Writes ``docs/_static/activations.png`` from :data:`unrolled.layers.ACTIVATIONS`, and maxout as two lines
make it.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unrolled.layers import ACTIVATIONS, Maxout

PICTURE = Path(__file__).resolve().parent / "_static" / "activations.png"
INK, BLUE, ORANGE = "#222222", "#1f6fb4", "#d9590b"


def maxout() -> Maxout:
    """Make one of two pieces, -x / 2 and x."""
    layer = Maxout(1, 1, 2, bias=False)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[-0.5], [1.0]]))
    return layer


def draw(panel: Axes, title: str, x: torch.Tensor, y: torch.Tensor, slope: torch.Tensor) -> None:
    panel.plot(x, y, color=BLUE, label="value")
    panel.plot(x, slope, color=ORANGE, linestyle="--", label="derivative")
    panel.axhline(0, color=INK, linewidth=0.5)
    panel.axvline(0, color=INK, linewidth=0.5)
    panel.set_title(title, color=INK, fontsize=10)
    panel.set_ylim(-1.3, 2.2)
    panel.spines[["top", "right"]].set_visible(False)


def main() -> None:
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(3, 4, sharex=True, sharey=True).flat
    x = torch.linspace(-3, 3, 601)
    for panel, (name, activation) in zip(panels, ACTIVATIONS.items(), strict=False):
        y = activation.module()(x).detach()
        draw(panel, name, x, y, activation.derivative(x))
    panel = next(last := iter(figure.axes[len(ACTIVATIONS) :]))
    pieces = x[:, None].clone().requires_grad_()
    y = maxout()(pieces)
    (slope,) = torch.autograd.grad(y.sum(), pieces)
    draw(panel, "maxout of -x/2 and x", x, y.detach()[:, 0], slope[:, 0])
    next(last).axis("off")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=90)


if __name__ == "__main__":
    main()
