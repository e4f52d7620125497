"""Of a sequence one vector, from which labels are read out.

T steps, B rows, I numbers a step, H of an output, C labels; row b has n_b of the T steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.cells.start import normal_start
from unrolled.engine.randomness import dropout
from unrolled.layers.activation import make_activation
from unrolled.layers.attention import (
    AdditiveAttention,
    last_over_time,
    max_over_time,
    mean_over_time,
)
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings


class Summary(nn.Module):
    """The last step, the mean of all, the largest of each number, additive attention: side by side.

    Args:
        names: Which, of ``last``, ``mean``, ``max`` and ``attention``.
        width: H.
        directions: With 2, the second half of each step was computed backwards, and ends at the first step.
    """

    def __init__(self, names: Sequence[str], width: int, directions: int = 1) -> None:
        super().__init__()
        self.names, self.directions = tuple(names), directions
        self.width = len(self.names) * width
        if "attention" in self.names:
            self.attention = AdditiveAttention(width)

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sum up y (T, B, H), steps of each row (B,) -> (B, width)."""
        return torch.cat([self._part(name, y, lengths) for name in self.names], -1)

    def _part(self, name: str, y: Tensor, lengths: Tensor | None) -> Tensor:
        match name:
            case "mean":
                return mean_over_time(y, lengths)
            case "max":
                return max_over_time(y, lengths)
            case "attention":
                return self.attention(y, lengths)
        last = last_over_time(y, lengths)
        if self.directions == 2:
            last = torch.cat([last.chunk(2, -1)[0], y[0].chunk(2, -1)[1]], -1)
        return last


class Recurrent(nn.Module):
    """Recurrent layers -> what is read out over time -> logits of the labels.

    The last output serves short sequences best, where order matters; the mean serves long ones, whose
    beginning the last has forgotten; the largest finds what stands anywhere. All three side by side are
    Howard & Ruder's 2018 (section 3.3).

    Args:
        width: Width I of a step.
        classes: Number of labels C.
        settings: Cell, widths and dropout; ``over_time``.
    """

    def __init__(self, width: int, classes: int, settings: Settings) -> None:
        super().__init__()
        self.net = make_net(settings.model, width)
        names = settings.classifier.over_time
        self.summary = Summary(names, self.net.output_size, self.net.num_directions)
        self.readout = nn.Linear(self.summary.width, classes)

    def score(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score the labels: x (T, B, I), steps of each row (B,) -> logits (B, C)."""
        y, _ = self.net(x, lengths=lengths)
        seen = self.summary(y, lengths)
        return self.readout(dropped(seen, self.net.dropout, self.training, self.net.num_layers))


def finished(built: nn.Module, model: ModelSettings) -> nn.Module:
    """Draw weights anew if the settings say how, and give all their number format."""
    if model.initial_scale:
        normal_start(built, model.initial_scale)
    return built.to(getattr(torch, model.dtype))


def layered(
    width: int, dense: Sequence[int], classes: int, activation: str = "relu"
) -> nn.Sequential:
    """Build hidden layers of units with an activation, and a linear read-out."""
    layers: list[nn.Module] = []
    for units in dense:
        layers += [nn.Linear(width, units), make_activation(activation)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))


def dropped(x: Tensor, p: float, training: bool, layer: int) -> Tensor:
    """Apply dropout to x (B, n) while training."""
    return dropout(x[None], p, layer)[0] if training and p else x
