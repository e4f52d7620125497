"""Activations: what a unit makes of the sum of its inputs, and the derivative by hand.

:data:`ACTIVATIONS` has every one that works on single numbers, with its formula; maxout works on several.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unrolled.errors import InputError


def leaky_relu(x: Tensor, alpha: float | Tensor = 0.01) -> Tensor:
    """Give max(alpha x, x) (Maas et al. 2013).

    For alpha > 1 this is not torch's, which is x above 0 and alpha x below: the maximum then is alpha x
    above 0 and x below. At 0 the derivative is the mean of both sides.
    """
    return torch.maximum(alpha * x, x)


def radial_basis(x: Tensor, w: float | Tensor = 0.0, s: float | Tensor = 1.0) -> Tensor:
    """Give exp(-(w - x)^2 / s^2): 1 where x is w, falling off over a distance s."""
    return torch.exp(-(((w - x) / s) ** 2))


class LeakyReLU(nn.Module):
    """max(alpha x, x), see :func:`leaky_relu`."""

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Map each number of x."""
        return leaky_relu(x, self.alpha)

    def extra_repr(self) -> str:
        """Say how it is made."""
        return f"alpha={self.alpha}"


class PReLU(nn.Module):
    """max(alpha x, x) with alpha learned (He et al. 2015), see :func:`leaky_relu`.

    Args:
        channels: How many alpha: 1 for all channels together, else one for each channel, which are
            dimension 1 of the input.
        alpha: What they begin with.
    """

    def __init__(self, channels: int = 1, alpha: float = 0.25) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((channels,), alpha))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, ...).

        Raises:
            InputError: If there are several alpha, but not one for each channel.
        """
        channels = len(self.alpha)
        if channels == 1:
            return leaky_relu(x, self.alpha)
        if x.dim() < 2 or x.shape[1] != channels:
            raise InputError(f"{channels} alpha do not fit the channels of {tuple(x.shape)}")
        return leaky_relu(x, self.alpha.view(-1, *[1] * (x.dim() - 2)))


class RadialBasis(nn.Module):
    """Units that respond near a point: exp(-(w_o - x)^2 / s_o^2), squares summed, with w and s learned.

    Args:
        in_features: I.
        out_features: O; each has a point w (I,), at first drawn from a standard normal, and a width s,
            at first sqrt(I).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.width = nn.Parameter(torch.full((out_features,), float(in_features) ** 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., I) -> (..., O)."""
        squares = (self.weight - x.unsqueeze(-2)).square().sum(-1)
        return torch.exp(-squares / self.width**2)


class RadialBasisUnit(nn.Module):
    """exp(-(w - x)^2 / s^2) of single numbers, see :func:`radial_basis`."""

    def __init__(self, w: float = 0.0, s: float = 1.0) -> None:
        super().__init__()
        self.w, self.s = w, s

    def forward(self, x: Tensor) -> Tensor:
        """Map each number of x."""
        return radial_basis(x, self.w, self.s)


class Maxout(nn.Module):
    """The largest of several linear pieces: max_j (x W_oj + b_oj) (Goodfellow et al. 2013, eq. 1).

    Args:
        in_features: I.
        out_features: O.
        pieces: Of each output.
        bias: Whether there are b.
    """

    def __init__(
        self, in_features: int, out_features: int, pieces: int = 2, bias: bool = True
    ) -> None:
        super().__init__()
        if pieces < 1:
            raise InputError(f"pieces must be at least 1, not {pieces}")
        self.pieces = pieces
        self.linear = nn.Linear(in_features, out_features * pieces, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., I) -> (..., O)."""
        return self.linear(x).unflatten(-1, (-1, self.pieces)).max(-1).values


class MaxoutGroups(nn.Module):
    """The largest of each group of neighbouring channels.

    Args:
        group: Channels of a group.
    """

    def __init__(self, group: int = 2) -> None:
        super().__init__()
        if group < 1:
            raise InputError(f"a group must have at least 1 channel, not {group}")
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, ...) -> (B, C / group, ...).

        Raises:
            InputError: If the channels do not come out even.
        """
        if x.shape[1] % self.group:
            raise InputError(f"{x.shape[1]} channels cannot be cut into groups of {self.group}")
        return x.unflatten(1, (-1, self.group)).max(2).values

    def extra_repr(self) -> str:
        """Say how it is made."""
        return f"group={self.group}"


@dataclass(frozen=True)
class Activation:
    """What is known of one.

    Attributes:
        formula: As TeX.
        slope: The derivative, as TeX.
        derivative: The derivative, computed as the formula says.
        module: Gives a new one, with its usual parameters.
    """

    formula: str
    slope: str
    derivative: Callable[[Tensor], Tensor]
    module: Callable[[], nn.Module]


def _step(x: Tensor) -> Tensor:
    return (x > 0).to(x)


def _normal(x: Tensor) -> Tensor:
    """Give the distribution of the standard normal."""
    return (1 + torch.erf(x / 2**0.5)) / 2


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": Activation(
        r"\sigma(x) = 1 / (1 + e^{-x})",
        r"\sigma(x)\,(1 - \sigma(x))",
        lambda x: x.sigmoid() * (1 - x.sigmoid()),
        nn.Sigmoid,
    ),
    "tanh": Activation(r"\tanh x", r"1 - \tanh^2 x", lambda x: 1 - x.tanh() ** 2, nn.Tanh),
    "hard tanh": Activation(
        r"\max(-1, \min(1, x))", r"[-1 < x < 1]", lambda x: (x.abs() < 1).to(x), nn.Hardtanh
    ),
    "relu": Activation(r"\max(0, x)", r"[x > 0]", _step, nn.ReLU),
    "leaky relu": Activation(
        r"\max(\alpha x, x),\ \alpha = 0.01",
        r"1 \text{ if } x > 0 \text{ else } \alpha",
        lambda x: 0.01 + 0.99 * _step(x),
        LeakyReLU,
    ),
    "prelu": Activation(
        r"\max(\alpha x, x),\ \alpha \text{ learned, at first } 0.25",
        r"1 \text{ if } x > 0 \text{ else } \alpha",
        lambda x: 0.25 + 0.75 * _step(x),
        PReLU,
    ),
    "softplus": Activation(r"\log(1 + e^x)", r"\sigma(x)", lambda x: x.sigmoid(), nn.Softplus),
    "radial basis": Activation(
        r"e^{-(w - x)^2 / s^2},\ w = 0, s = 1",
        r"\frac{2 (w - x)}{s^2} e^{-(w - x)^2 / s^2}",
        lambda x: -2 * x * torch.exp(-(x**2)),
        RadialBasisUnit,
    ),
    "elu": Activation(
        r"x \text{ if } x > 0 \text{ else } e^x - 1",
        r"1 \text{ if } x > 0 \text{ else } e^x",
        lambda x: torch.exp(x.clamp(max=0)),
        nn.ELU,
    ),
    "gelu": Activation(
        r"x\,\Phi(x)",
        r"\Phi(x) + x\,\varphi(x)",
        lambda x: _normal(x) + x * torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5,
        nn.GELU,
    ),
}
"""Activations of single numbers by name."""


def make_activation(name: str) -> nn.Module:
    """Make an activation by its name in :data:`ACTIVATIONS`, or ``identity``.

    Raises:
        InputError: If there is none of that name.
    """
    if name == "identity":
        return nn.Identity()
    if name not in ACTIVATIONS:
        raise InputError(
            f"there is no activation {name!r}; take {', '.join(ACTIVATIONS)}, identity"
        )
    return ACTIVATIONS[name].module()
