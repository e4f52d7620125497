"""What convolutional nets are built of: a stage, an Inception block, a residual block, a temporal block."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from unrolled.errors import InputError
from unrolled.layers.activation import make_activation
from unrolled.layers.convolution import Convolution1d, Convolution2d
from unrolled.layers.pooling import MaxPool


class Stage(nn.Sequential):
    """A filter bank, a non-linearity, pooling and normalisation, one after the other (LeCun et al. 2010).

    Args:
        bank: The filters, a convolution as a rule.
        activation: Its name in :data:`~unrolled.layers.ACTIVATIONS`, or ``identity``.
        pool: Pooling, if any.
        normalisation: Normalisation, if any.
    """

    def __init__(
        self,
        bank: nn.Module,
        activation: str = "relu",
        pool: nn.Module | None = None,
        normalisation: nn.Module | None = None,
    ) -> None:
        parts = {
            "bank": bank,
            "activation": make_activation(activation),
            "pool": pool,
            "normalisation": normalisation,
        }
        super().__init__(OrderedDict((name, part) for name, part in parts.items() if part))


class Inception(nn.Module):
    """Filters of several sizes side by side (Szegedy et al. 2015, figure 2b).

    1 x 1; 1 x 1 then 3 x 3; 1 x 1 then 5 x 5; 3 x 3 max pooling then 1 x 1; joined along the channels.

    Args:
        channels: Of the input.
        ones: Filters of 1 x 1.
        threes: Filters of the 1 x 1 before the 3 x 3, and of the 3 x 3.
        fives: Filters of the 1 x 1 before the 5 x 5, and of the 5 x 5.
        pooled: Filters of the 1 x 1 behind the pooling.
        activation: Behind each bank of filters.
    """

    def __init__(
        self,
        channels: int,
        ones: int,
        threes: tuple[int, int],
        fives: tuple[int, int],
        pooled: int,
        activation: str = "relu",
    ) -> None:
        super().__init__()

        def bank(inputs: int, outputs: int, size: int) -> Stage:
            return Stage(Convolution2d(inputs, outputs, size, padding="same"), activation)

        self.ones = bank(channels, ones, 1)
        self.threes = nn.Sequential(bank(channels, threes[0], 1), bank(*threes, 3))
        self.fives = nn.Sequential(bank(channels, fives[0], 1), bank(*fives, 5))
        self.pooled = nn.Sequential(MaxPool(3, 1, 1), bank(channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) -> (B, ones + threes[1] + fives[1] + pooled, H, W)."""
        return torch.cat([self.ones(x), self.threes(x), self.fives(x), self.pooled(x)], 1)


class Residual(nn.Module):
    """Two convolutions of 3 x 3 that learn what to add to their input (He et al. 2016, figure 2).

    Each is followed by batch normalisation; ReLU stands between them and behind the sum. Where channels
    or stride differ the input comes through a 1 x 1 convolution (option B).

    Args:
        channels: Of the input.
        filters: Of the output; those of the input if left out.
        stride: Of the first convolution.
    """

    def __init__(self, channels: int, filters: int | None = None, stride: int = 1) -> None:
        super().__init__()
        filters = filters or channels
        self.first = Convolution2d(channels, filters, 3, stride, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(filters)
        self.second = Convolution2d(filters, filters, 3, padding=1, bias=False)
        self.norm_second = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or filters != channels:
            self.shortcut = nn.Sequential(
                Convolution2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) -> (B, filters, H / stride, W / stride), rounded up."""
        y = self.relu(self.norm_first(self.first(x)))
        return self.relu(self.norm_second(self.second(y)) + self.shortcut(x))


class TemporalBlock(nn.Module):
    """Two causal, dilated convolutions and a way around them (Bai et al. 2018, figure 1b).

    Args:
        channels: Of the input.
        filters: Of the output.
        kernel_size: Taps k.
        dilation: Steps between taps d; the block sees 1 + 2 (k - 1) d steps.
        dropout: Share of channels dropped behind each convolution.
    """

    def __init__(
        self, channels: int, filters: int, kernel_size: int, dilation: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for inputs in (channels, filters):
            # Padding before the input only: step t sees t and what was earlier.
            before = (kernel_size - 1) * dilation
            bank = Convolution1d(
                inputs, filters, kernel_size, padding=[(before, 0)], dilation=dilation
            )
            nn.init.normal_(bank.weight, std=0.01)
            parts += [parametrizations.weight_norm(bank), nn.ReLU(), nn.Dropout1d(dropout)]
        self.body = nn.Sequential(*parts)
        self.shortcut = (
            nn.Identity() if channels == filters else Convolution1d(channels, filters, 1)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, T) -> (B, filters, T)."""
        return self.relu(self.body(x) + self.shortcut(x))


class TemporalConvolution(nn.Sequential):
    """A TCN: temporal blocks with dilations 1, 2, 4, ... (Bai et al. 2018).

    Args:
        channels: Of the input.
        filters: Of each block.
        kernel_size: Taps k.
        dropout: Share of channels dropped behind each convolution.

    Attributes:
        receptive_field: Steps that an output depends on, itself the last: 1 + 2 (k - 1) (2^n - 1).
    """

    def __init__(
        self, channels: int, filters: list[int], kernel_size: int = 3, dropout: float = 0.0
    ) -> None:
        if not filters:
            raise InputError("a temporal convolution needs at least one block; filters is empty")
        inputs = [channels, *filters]
        super().__init__(
            *(
                TemporalBlock(inputs[n], inputs[n + 1], kernel_size, 2**n, dropout)
                for n in range(len(filters))
            )
        )
        self.receptive_field = 1 + 2 * (kernel_size - 1) * (2 ** len(filters) - 1)
