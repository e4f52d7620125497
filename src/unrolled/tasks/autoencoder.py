"""Models that give back what they are given, through a code.

B rows, I numbers of a row, O units of a layer, K numbers of the code; T rows of a picture of W numbers each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.engine.randomness import keep, uniform
from unrolled.errors import InputError
from unrolled.layers import make_activation
from unrolled.layers.build import make_net
from unrolled.settings import AutoencoderSettings, ModelSettings


@dataclass(frozen=True)
class Passed:
    """What an autoencoder was asked for, and what it made of it."""

    wanted: Tensor
    """(B, I)."""
    scores: Tensor
    """The reconstruction before the sigmoid, if there is one (B, I)."""
    sigmoid: bool
    """Whether there is one."""
    penalty: Tensor
    """What sparseness and contraction add to a row's loss, ()."""

    @property
    def reconstruction(self) -> Tensor:
        """What came out (B, I)."""
        return self.scores.sigmoid() if self.sigmoid else self.scores

    def squared_error(self) -> Tensor:
        """Sum over the numbers of each row (B,)."""
        return (self.reconstruction - self.wanted).square().sum(1)

    def cross_entropy(self) -> Tensor:
        """Sum over the numbers of each row, each the probability of a one, in nats (B,)."""
        nats = functional.binary_cross_entropy_with_logits(
            self.scores, self.wanted, reduction="none"
        )
        return nats.sum(1)


class Pair(nn.Module):
    """A layer and its way back: h = f(W x + b), and V h + c before what is put behind it.

    Args:
        inputs: I.
        units: O.
        activation: Name of f.
        tied: Whether V is W transposed.
    """

    def __init__(self, inputs: int, units: int, activation: str, *, tied: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, inputs))
        self.bias = nn.Parameter(torch.zeros(units))
        self.back_bias = nn.Parameter(torch.zeros(inputs))
        self.activation = make_activation(activation)
        self.back = None if tied else nn.Parameter(torch.empty(inputs, units))
        gain = 4.0 if activation == "sigmoid" else 1.0  # Glorot & Bengio 2010, section 4.2.1
        for weight in self.weights:
            nn.init.xavier_uniform_(weight, gain)

    @property
    def weights(self) -> list[Tensor]:
        """W, and V where it is another."""
        return [self.weight] if self.back is None else [self.weight, self.back]

    def sums(self, x: Tensor) -> Tensor:
        """W x + b: (B, I) -> (B, O)."""
        return functional.linear(x, self.weight, self.bias)

    def decode(self, h: Tensor) -> Tensor:
        """V h + c: (B, O) -> (B, I)."""
        back = self.weight.T if self.back is None else self.back
        return functional.linear(h, back, self.back_bias)

    def contraction(self, sums: Tensor) -> Tensor:
        """The sum of the squared derivatives of all units by all inputs, mean over rows.

        Rifai et al. 2011, eq. 5: sum_j (f'(a_j))^2 sum_i W_ji^2.
        """
        (slope,) = torch.autograd.grad(self.activation(sums).sum(), sums, create_graph=True)
        return (slope.square() @ self.weight.square().sum(1)).mean()


class Autoencoder(nn.Module):
    """Layers to a code, and as many back (Hinton & Salakhutdinov 2006).

    Args:
        inputs: I.
        settings: Widths, activations, penalties and noise.

    Raises:
        InputError: If an activation is unknown, or settings contradict each other.
    """

    def __init__(self, inputs: int, settings: AutoencoderSettings) -> None:
        super().__init__()
        _check(settings)
        self.settings = settings
        names = [*[settings.activation] * (len(settings.widths) - 1), settings.code]
        widths = (inputs, *settings.widths)
        self.pairs = nn.ModuleList(
            Pair(below, units, name, tied=settings.tied_decoder)
            for below, units, name in zip(widths, settings.widths, names, strict=False)
        )
        self.output = _output(settings)

    def forward(self, x: Tensor, alone: int | None = None) -> Passed:
        """Reconstruct x (B, I), corrupted first while training.

        Args:
            x: (B, I).
            alone: Only this layer, from what those below make of x, which they do not learn from.
        """
        pairs: Sequence[Pair] = [*self.pairs]  # pyright: ignore[reportAssignmentType]
        behind = self.output
        if alone is not None:
            with torch.no_grad():
                x = self.encode(x, alone)
            if alone:  # it gives back what came out of the layer below
                behind = pairs[alone - 1].activation
            pairs = pairs[alone : alone + 1]
        h = corrupted(x, self.settings) if self.training else x
        penalty = x.new_zeros(())
        for pair in pairs:
            sums = pair.sums(h)
            h = pair.activation(sums)
            if self.training:
                penalty = penalty + self._penalty(pair, sums, h)
        scores, sigmoid = _back(pairs, h), isinstance(behind, nn.Sigmoid)
        return Passed(x, scores if sigmoid else behind(scores), sigmoid, penalty)

    def encode(self, x: Tensor, depth: int | None = None) -> Tensor:
        """Give the code, or what comes out of the first `depth` layers: (B, I) -> (B, K)."""
        for pair in self.pairs[:depth]:
            x = pair.activation(pair.sums(x))  # pyright: ignore[reportCallIssue]
        return x

    def decode(self, code: Tensor) -> Tensor:
        """Give what a code (B, K) stands for (B, I)."""
        return self.output(_back([*self.pairs], code))  # pyright: ignore[reportArgumentType]

    def _penalty(self, pair: Pair, sums: Tensor, h: Tensor) -> Tensor:
        settings, penalty = self.settings, sums.new_zeros(())
        if settings.sparse_units:
            penalty = penalty + settings.sparse_units * h.abs().sum(1).mean()
        if settings.sparse_weights:
            size = torch.stack([weight.abs().sum() for weight in pair.weights]).sum()
            penalty = penalty + settings.sparse_weights * size
        if settings.kl:
            penalty = penalty + settings.kl * divergence(h.mean(0), settings.kl_target)
        if settings.contraction:
            penalty = penalty + settings.contraction * pair.contraction(sums)
        return penalty


def _back(pairs: Sequence[Pair], h: Tensor) -> Tensor:
    """Back through layers; between two of them comes the activation of the one below."""
    for place in range(len(pairs) - 1, -1, -1):
        h = pairs[place].decode(h)
        if place:
            h = pairs[place - 1].activation(h)
    return h


def divergence(active: Tensor, target: float) -> Tensor:
    """Sum over units of KL(target || active), both chances of being on: (O,) -> ().

    Ng 2011, "Sparse autoencoder", section 3.
    """
    active = active.clamp(1e-6, 1 - 1e-6)
    on, off = target / active, (1 - target) / (1 - active)
    return (target * on.log() + (1 - target) * off.log()).sum()


class SequenceAutoencoder(nn.Module):
    """Recurrent layers read a sequence, its last output becomes a code, and others write it from that.

    As the encoder-decoder of Cho et al. 2014, with the code as the input of every step.

    Args:
        steps: T.
        width: W.
        settings: The last of the widths is K; output, and noise.
        model: Cell, widths and connections.

    Raises:
        InputError: If a setting is for fully connected layers only.
    """

    def __init__(
        self, steps: int, width: int, settings: AutoencoderSettings, model: ModelSettings
    ) -> None:
        super().__init__()
        _check(settings)
        for name in (
            "layer_steps",
            "tied_decoder",
            "sparse_units",
            "sparse_weights",
            "kl",
            "contraction",
        ):
            if getattr(settings, name):
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag} is for fully connected layers; leave out --row-by-row")
        self.settings, self.steps, self.width = settings, steps, width
        code = settings.widths[-1]
        self.reader = make_net(model, width)
        self.code = nn.Linear(self.reader.output_size, code)
        self.writer = make_net(model, code)
        self.readout = nn.Linear(self.writer.output_size, width)
        self.output = _output(settings)

    def forward(self, x: Tensor, alone: None = None) -> Passed:
        """Reconstruct x (B, T W), corrupted first while training."""
        h = corrupted(x, self.settings) if self.training else x
        scores = self._scores(self.encode(h))
        return Passed(x, scores, self.settings.output == "sigmoid", x.new_zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Give the code: (B, T W) -> (B, K)."""
        y, _ = self.reader(x.view(len(x), self.steps, self.width).transpose(0, 1))
        if self.reader.num_directions == 2:  # the second direction ends at the first step
            return self.code(torch.cat([y[-1].chunk(2, -1)[0], y[0].chunk(2, -1)[1]], -1))
        return self.code(y[-1])

    def decode(self, code: Tensor) -> Tensor:
        """Give what a code (B, K) stands for (B, T W)."""
        return self.output(self._scores(code))

    def _scores(self, code: Tensor) -> Tensor:
        y, _ = self.writer(code.expand(self.steps, *code.shape))
        return self.readout(y).transpose(0, 1).flatten(1)


def _output(settings: AutoencoderSettings) -> nn.Module:
    return nn.Sigmoid() if settings.output == "sigmoid" else nn.Identity()


def corrupted(x: Tensor, settings: AutoencoderSettings) -> Tensor:
    """Corrupt rows (B, I) by what is set of masking, salt-and-pepper and Gaussian noise, in this order.

    Vincent et al. 2010, section 3.3. Numbers are drawn as :mod:`unrolled.engine.randomness` says.
    """
    shape = (1, *x.shape)
    if settings.mask_noise:
        x = x * keep(shape, settings.mask_noise, MASK, x)[0]
    if settings.salt_noise:
        kept = keep(shape, settings.salt_noise, SALT, x)[0]
        x = torch.where(kept > 0, x, keep(shape, 0.5, SALT + 1, x)[0])
    if settings.gaussian_noise:
        even = uniform(shape, GAUSSIAN, x)[0].clamp(1e-7, 1 - 1e-7)
        x = x + settings.gaussian_noise * torch.special.ndtri(even)
    return x


MASK, SALT, GAUSSIAN = 1000, 1001, 1003
"""Streams of random numbers, beyond those of layers."""


def _check(settings: AutoencoderSettings) -> None:
    """Find contradictions.

    Raises:
        InputError: If there is one.
    """
    if settings.error == "cross-entropy" and settings.output != "sigmoid":
        raise InputError("--error cross-entropy compares probabilities; it needs --output sigmoid")
    units = {settings.activation, settings.code} if settings.widths[1:] else {settings.code}
    if settings.kl and units != {"sigmoid"}:
        raise InputError("--kl needs units between 0 and 1: --activation sigmoid --code sigmoid")
