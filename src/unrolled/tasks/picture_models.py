"""Models that look at a picture and score the labels: LeNet-5, a multilayer perceptron, a recurrent net.

B pictures, C channels, H x W pixels.
"""

from torch import Tensor, nn

from unrolled.errors import InputError
from unrolled.layers.lenet import LeNet5
from unrolled.layers.pooling import AdaptivePool
from unrolled.settings import Settings
from unrolled.tasks.read_out import Recurrent, dropped, finished, layered

Shape = tuple[int, int, int]
"""Channels, height, width."""


class PictureCNN(nn.Module):
    """LeNet-5 with ReLU and max pooling, for pictures of any size.

    28 x 28 and 32 x 32 are taken as they are. Smaller pictures are first pooled to 32 x 32, which repeats
    pixels; of larger ones the second stage's maps are pooled to 5 x 5, which the head expects.

    Args:
        shape: Of the pictures.
        classes: Number of labels.
        settings: `dropout` is that of the 84 units before the read-out.
    """

    def __init__(self, shape: Shape, classes: int, settings: Settings) -> None:
        super().__init__()
        channels, *sides = shape
        net = LeNet5(classes, channels, modern=True)
        *layers, readout = net
        if sides not in ([28, 28], [32, 32]):
            if min(sides) < 28:
                layers.insert(0, AdaptivePool(32, "average"))
            else:
                layers = [*layers[1:3], AdaptivePool(5), *layers[3:]]
        self.layers, self.readout = nn.Sequential(*layers), readout
        self.dropout = settings.model.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Score the labels: x (B, C, H, W) -> logits (B, classes)."""
        return self.readout(dropped(self.layers(x), self.dropout, self.training, 0))


class PictureMLP(nn.Module):
    """All pixels -> hidden layers -> logits.

    Args:
        shape: Of the pictures.
        classes: Number of labels.
        settings: `dense`, else `layers` of `hidden` units; `dense_activation`; `dropout` of the pixels.
    """

    def __init__(self, shape: Shape, classes: int, settings: Settings) -> None:
        super().__init__()
        model = settings.model
        dense = settings.classifier.dense or (model.hidden,) * model.layers
        self.dropout = model.dropout
        self.readout = layered(
            shape[0] * shape[1] * shape[2], dense, classes, settings.classifier.dense_activation
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score the labels: x (B, C, H, W) -> logits (B, classes)."""
        return self.readout(dropped(x.flatten(1), self.dropout, self.training, 0))


class PictureRNN(Recurrent):
    """A picture read row by row, or pixel by pixel, as in Le, Jaitly & Hinton 2015, section 4.2.

    Args:
        shape: Of the pictures.
        classes: Number of labels.
        settings: Cell, widths and dropout; ``scan`` is ``rows``: H steps of W C numbers, or
            ``pixels``: H W steps of C.
    """

    def __init__(self, shape: Shape, classes: int, settings: Settings) -> None:
        channels, _, width = shape
        self.by_pixel = settings.classifier.scan == "pixels"
        super().__init__(channels if self.by_pixel else channels * width, classes, settings)

    def steps(self, x: Tensor) -> Tensor:
        """Lay pictures out in time: (B, C, H, W) -> (H, B, W C) or (H W, B, C)."""
        if self.by_pixel:
            return x.flatten(2).permute(2, 0, 1)
        return x.permute(2, 0, 3, 1).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """Score the labels: x (B, C, H, W) -> logits (B, classes)."""
        return self.score(self.steps(x).contiguous())


def picture_model(shape: Shape, classes: int, settings: Settings) -> nn.Module:
    """Build the model of the settings, its weights drawn from torch's generator.

    Raises:
        InputError: If the settings ask for what only texts have.
    """
    model, own = settings.model, settings.classifier
    if model.tied:
        raise InputError("--tied is for language models: a classifier reads out labels")
    match own.model:
        case "bag":
            raise InputError(
                "--model bag counts symbols of a text; for pictures give cnn, mlp or rnn"
            )
        case "mlp":
            built = PictureMLP(shape, classes, settings)
        case "rnn":
            built = PictureRNN(shape, classes, settings)
        case _:
            built = PictureCNN(shape, classes, settings)
    return finished(built, model)
