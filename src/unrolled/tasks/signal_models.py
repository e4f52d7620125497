"""Models that read a signal or a film and score the labels: recurrent, convolutional, statistics over time.

T steps, B rows, C channels, H x W pixels of a frame.
"""

import torch
from torch import Tensor, nn

from unrolled.errors import InputError
from unrolled.layers.attention import max_over_time, mean_over_time
from unrolled.layers.blocks import TemporalConvolution
from unrolled.settings import Settings
from unrolled.tasks.picture_models import PictureCNN
from unrolled.tasks.read_out import Recurrent, Summary, dropped, finished, layered

FRAME = 64
"""Numbers that a net gives of each frame of a film."""


class Frames(nn.Module):
    """Each frame of a film by itself through LeNet-5 -> as many numbers at each step.

    Args:
        shape: Of a frame, (C, H, W).
        settings: `dropout` is that of the net's last hidden units.
    """

    def __init__(self, shape: tuple[int, ...], settings: Settings) -> None:
        super().__init__()
        channels, height, width = shape
        self.net = PictureCNN((channels, height, width), FRAME, settings)

    def forward(self, x: Tensor) -> Tensor:
        """Look at frames: x (T, B, C, H, W) -> (T, B, 64)."""
        return self.net(x.flatten(0, 1)).relu().unflatten(0, x.shape[:2])


class SignalRNN(Recurrent):
    """A signal, or each frame of a film -> :class:`~unrolled.tasks.read_out.Recurrent`.

    Args:
        shape: Of a step, (C,) or (C, H, W).
        classes: Number of labels.
        settings: Cell, widths and dropout; ``over_time``.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, settings: Settings) -> None:
        film = len(shape) == 3
        super().__init__(FRAME if film else shape[0], classes, settings)
        self.frames = Frames(shape, settings) if film else nn.Identity()

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: x (T, B, C), or of films (T, B, C, H, W), steps of each row (B,) -> logits."""
        return self.score(self.frames(x), lengths)


class SignalCNN(nn.Module):
    """A temporal convolutional net (Bai et al. 2018) -> what is read out over time -> logits.

    It looks back only, so what pads a row is never seen.

    Args:
        shape: Of a step, (C,) or (C, H, W).
        classes: Number of labels.
        settings: `layers` blocks of `filters` filters that span `filter_widths` steps, the first of them;
            `dropout`, ``over_time`` and `dense`.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, settings: Settings) -> None:
        super().__init__()
        model, own = settings.model, settings.classifier
        film = len(shape) == 3
        self.frames = Frames(shape, settings) if film else nn.Identity()
        self.net = TemporalConvolution(
            FRAME if film else shape[0],
            [own.filters] * model.layers,
            own.filter_widths[0],
            model.dropout,
        )
        self.summary = Summary(own.over_time, own.filters)
        self.readout = layered(self.summary.width, own.dense, classes, own.dense_activation)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: x (T, B, C), or of films (T, B, C, H, W), steps of each row (B,) -> logits."""
        y = self.net(self.frames(x).permute(1, 2, 0)).permute(2, 0, 1)
        return self.readout(self.summary(y, lengths))


class SignalStatistics(nn.Module):
    """:func:`statistics` -> logits, directly or through hidden layers.

    Args:
        shape: Of a step, (C,) or (C, H, W).
        classes: Number of labels.
        settings: `dropout` of the statistics.
        dense: Widths of the hidden layers.
    """

    def __init__(
        self, shape: tuple[int, ...], classes: int, settings: Settings, dense: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.dropout = settings.model.dropout
        self.readout = layered(
            statistics(torch.zeros(1, 1, *shape)).shape[1],
            dense,
            classes,
            settings.classifier.dense_activation,
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: x (T, B, C), or of films (T, B, C, H, W), steps of each row (B,) -> logits."""
        return self.readout(dropped(statistics(x, lengths), self.dropout, self.training, 0))


def statistics(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Sum up signals without regard to the order of steps, but for that of neighbours.

    Args:
        x: (T, B, ...), all further dimensions channels.
        lengths: Steps of each row (B,).

    Returns:
        Mean, standard deviation, largest, smallest, and mean absolute change from step to step of each
        channel, and the logarithm of the number of steps, (B, 5 C + 1).
    """
    x = x.flatten(2)
    if lengths is None:
        lengths = torch.full(x.shape[1:2], len(x), device=x.device)
    mean = mean_over_time(x, lengths)
    deviation = mean_over_time((x - mean).square(), lengths).sqrt()
    highest, lowest = max_over_time(x, lengths), -max_over_time(-x, lengths)
    change = mean_over_time(x.diff(dim=0, append=x[-1:]).abs(), (lengths - 1).clamp(0))
    steps = lengths.clamp(min=1).to(x.dtype).log()[:, None]
    return torch.cat([mean, deviation, highest, lowest, change, steps], 1)


def signal_model(shape: tuple[int, ...], classes: int, settings: Settings) -> nn.Module:
    """Build the model of the settings, its weights drawn from torch's generator.

    Raises:
        InputError: If the settings ask for what only texts have.
    """
    model, own = settings.model, settings.classifier
    if model.tied:
        raise InputError("--tied is for language models: a classifier reads out labels")
    match own.model:
        case "cnn":
            built = SignalCNN(shape, classes, settings)
        case "bag":
            built = SignalStatistics(shape, classes, settings, own.dense)
        case "mlp":
            dense = own.dense or (model.hidden,) * model.layers
            built = SignalStatistics(shape, classes, settings, dense)
        case _:
            built = SignalRNN(shape, classes, settings)
    return finished(built, model)
