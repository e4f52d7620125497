"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, section II.B), and as it is made today."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.blocks import Stage
from unrolled.layers.convolution import Convolution2d, filter_bank
from unrolled.layers.pooling import MaxPool, average_pool

SEEN_BY = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)
"""Which maps of S2 each map of C3 sees (table I)."""

DIGITS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ....##. #...... .#..... ......# #.....# #.....#
#.....# .#.#... ......# ......# ...#.#. #...... #...... ......# #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. ......# .#...#. ######. #...... .....#. #.....# #.....#
#.....# ...#... ....#.. ..####. #....#. ......# ######. ....#.. .#####. .######
#.....# ...#... ...#... ......# ####### ......# #.....# ....#.. #.....# ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... #...... ......# .....#. ......# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. #.....# #.....# ..#.... #.....# .....#.
..###.. .#####. ####### .#####. .....#. .#####. .#####. ..#.... .#####. .####..
"""
"""The code of each class is a picture of the digit, 7 x 12, as in figure 3."""


class LeNet5(nn.Sequential):
    """Convolution, subsampling, convolution, subsampling, convolution, 84 units, a score for each class.

    As in the paper: 6, 16 and 120 maps of 5 x 5 filters, those of C3 connected as in table I; 2 x 2
    subsampling with a learned factor and bias for each map; 1.7159 tanh(2 x / 3) throughout; scores are
    minus the squared distance of the 84 units to each class's fixed code of +-1. 60,000 parameters are
    learned.

    Args:
        classes: Of the output. The codes are pictures of the digits for 10, random otherwise.
        channels: Of the pictures.
        modern: ReLU, max pooling, all maps connected, and a last linear layer: 61,706 parameters for 10
            classes.
    """

    def __init__(self, classes: int = 10, channels: int = 1, *, modern: bool = False) -> None:
        if modern:
            super().__init__(
                _Pictures(channels),
                Stage(Convolution2d(channels, 6, 5), "relu", MaxPool(2)),
                Stage(Convolution2d(6, 16, 5), "relu", MaxPool(2)),
                Stage(Convolution2d(16, 120, 5), "relu"),
                nn.Flatten(),
                nn.Linear(120, 84),
                nn.ReLU(),
                nn.Linear(84, classes),
            )
            return
        super().__init__(
            _Pictures(channels),
            *(Convolution2d(channels, 6, 5), ScaledTanh(), Subsampling(6), ScaledTanh()),
            *(PartlyConnected(SEEN_BY, 5), ScaledTanh(), Subsampling(16), ScaledTanh()),
            *(Convolution2d(16, 120, 5), ScaledTanh(), nn.Flatten()),
            *(nn.Linear(120, 84), ScaledTanh(), Codes(_codes(classes))),
        )
        for module in self:
            if isinstance(module, (Convolution2d, nn.Linear)):
                _draw(module.weight, module.bias, module.weight[0].numel())


class _Pictures(nn.Module):
    """Take 32 x 32 as it is, and 28 x 28 with a border of 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, C, 32, 32)."""
        if x.shape[1:] not in {(self.channels, n, n) for n in (28, 32)}:
            raise InputError(
                f"LeNet-5 takes pictures of {self.channels} channels, 28 x 28 or 32 x 32, not "
                f"{tuple(x.shape[1:])}: pool other sizes to 32 x 32 with AdaptivePool(32, 'average')"
            )
        return functional.pad(x, [2] * 4) if x.shape[-1] == 28 else x


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3): close to 1 at 1, with its bend of second order largest there."""

    def forward(self, x: Tensor) -> Tensor:
        """Map each number of x."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of each 2 x 2, times a factor, plus a bias, both learned for each map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))
        _draw(self.weight, self.bias, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return 4 * average_pool(x, 2) * self.weight + self.bias


class PartlyConnected(nn.Module):
    """A convolution each map of which sees some of the input's channels only.

    Args:
        seen: For each map, the channels it sees.
        kernel_size: K.
    """

    outputs: Tensor
    inputs: Tensor

    def __init__(self, seen: tuple[tuple[int, ...], ...], kernel_size: int) -> None:
        super().__init__()
        pairs = torch.tensor([(o, i) for o, channels in enumerate(seen) for i in channels])
        self.register_buffer("outputs", pairs[:, 0], persistent=False)
        self.register_buffer("inputs", pairs[:, 1], persistent=False)
        self.channels = 1 + max(map(max, seen))
        self.weight = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(seen)))
        squares = kernel_size**2
        for n, output in enumerate(self.outputs.tolist()):
            _draw(self.weight[n], self.bias[output], squares * len(seen[output]))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) -> (B, maps, H - K + 1, W - K + 1)."""
        kernels = self.weight.new_zeros(len(self.bias), self.channels, *self.weight.shape[1:])
        kernels = kernels.index_put((self.outputs, self.inputs), self.weight)
        return filter_bank(x, kernels, self.bias)


class Codes(nn.Module):
    """Minus the squared distance to the code of each class.

    Args:
        codes: (classes, features); they are not learned.
    """

    codes: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, features) -> (B, classes)."""
        return -(x[:, None] - self.codes).square().sum(-1)


def _codes(classes: int) -> Tensor:
    """Give a code of 84 times +-1 for each class."""
    if classes != 10:
        generator = torch.Generator().manual_seed(0)
        return 2.0 * torch.randint(2, (classes, 84), generator=generator) - 1
    rows = [line.split() for line in DIGITS.split("\n") if line]
    digits = ("".join(parts) for parts in zip(*rows, strict=True))
    return torch.tensor([[1.0 if dot == "#" else -1.0 for dot in digit] for digit in digits])


def _draw(weight: Tensor, bias: Tensor | None, inputs: int) -> None:
    """Draw evenly from +-2.4 / inputs (appendix A)."""
    with torch.no_grad():
        for tensor in (weight, bias):
            if tensor is not None:
                tensor.uniform_(-2.4 / inputs, 2.4 / inputs)
