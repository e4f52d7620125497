"""Losses, each with its formula and range: one number a prediction, and how they become one in all.

A loss compares scores (..., C) with classes (...), or what is told (...) with what came (...). It gives
(...), which :func:`reduced` sums or averages over the steps there are. What torch has is torch's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.engine.randomness import uniform

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def cross_entropy(scores: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute -ln p_y with p = softmax(s), in nats: 0 or more, ln C where all scores are alike.

    Args:
        scores: s, (..., C).
        y: Classes (...).
        smoothing: Of the truth, share out so much among all classes (Szegedy et al. 2016, eq. 10):
            -(1 - a) ln p_y - (a / C) sum_j ln p_j.

    Returns:
        (...).
    """
    flat = functional.cross_entropy(
        scores.reshape(-1, scores.shape[-1]),
        y.reshape(-1),
        reduction="none",
        label_smoothing=smoothing,
    )
    return flat.view(y.shape)


def hinge(scores: Tensor, y: Tensor, margin: float = 1.0) -> Tensor:
    """Compute sum over j != y of max(0, s_j - s_y + margin): 0 or more; 0 if s_y leads by the margin.

    (Weston & Watkins 1999. ``nn.MultiMarginLoss`` is this divided by C.)

    Args:
        scores: s, (..., C).
        y: Classes (...).
        margin: How far the true class is to lead.

    Returns:
        (...).
    """
    return _over(scores, y, margin).sum(-1)


def squared_hinge(scores: Tensor, y: Tensor, margin: float = 1.0) -> Tensor:
    """Compute sum over j != y of max(0, s_j - s_y + margin)^2: 0 or more; see :func:`hinge`."""
    return _over(scores, y, margin).square().sum(-1)


def _over(scores: Tensor, y: Tensor, margin: float) -> Tensor:
    own = scores.gather(-1, y.unsqueeze(-1))
    over = (scores - own + margin).clamp(min=0)
    return over.scatter(-1, y.unsqueeze(-1), 0.0)


def squared_error(told: Tensor, y: Tensor) -> Tensor:
    """Compute (u - y)^2: 0 or more; the mean makes it least. Both (...), as the result."""
    return functional.mse_loss(told, y, reduction="none")


def absolute_error(told: Tensor, y: Tensor) -> Tensor:
    """Compute ``|u - y|``: 0 or more; the median makes it least. Both (...), as the result."""
    return functional.l1_loss(told, y, reduction="none")


def bias(told: Tensor, y: Tensor) -> Tensor:
    """Compute u - y: any number. Its mean, the mean bias, shows errors to one side."""
    return told - y


def huber(told: Tensor, y: Tensor, delta: float = 1.0) -> Tensor:
    """Compute (u - y)^2 / 2, or ``delta (|u - y| - delta / 2)`` beyond delta: 0 or more (Huber 1964).

    Both (...), as the result.
    """
    return functional.huber_loss(told, y, reduction="none", delta=delta)


def ctc(
    log_p: Tensor, y: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int = 0
) -> Tensor:
    """Compute -ln of the sum of the probabilities of all ways to spell y: 0 or more.

    Connectionist temporal classification (Graves et al. 2006, eq. 8): a way gives each step a symbol or
    the blank; runs of a symbol are one, and blanks go. What cannot be spelled in the steps there are
    costs 0 and has no gradient.

    Args:
        log_p: Log probabilities (T, B, C).
        y: Symbols (B, L), padded.
        lengths: Steps of each row (B,).
        target_lengths: Symbols of each row (B,).
        blank: The class that stands for none.

    Returns:
        (B,).
    """
    return functional.ctc_loss(
        log_p, y, lengths, target_lengths, blank, reduction="none", zero_infinity=True
    )


class AdaptiveSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """Cross-entropy over a large vocabulary whose rare symbols have fewer weights and are seldom computed.

    (Grave et al. 2017, "Efficient softmax approximation for GPUs".) Symbols must be numbered by falling
    frequency. Torch's, for any number of dimensions.

    Args:
        width: Numbers H that scores are made of.
        classes: Symbols C.
        cutoffs: Where the clusters begin, rising (default: C / 20 and C / 4).
        shrink: Each cluster reads so many times fewer numbers than the one before.
        common: So many of the last symbols, as that of all unknown words, count as the most frequent.

    Raises:
        ValueError: If `width` is too small to shrink, or cutoffs do not rise or leave no symbol to the last.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        cutoffs: Sequence[int] = (),
        shrink: float = 4.0,
        common: int = 0,
    ) -> None:
        cutoffs = cutoffs or sorted({max(1, classes // 20), max(2, classes // 4)})
        if width < shrink ** len(cutoffs):
            raise ValueError(
                f"a width of {width} cannot be made {shrink:g} times smaller {len(cutoffs)} times; "
                "take a wider net or fewer cutoffs"
            )
        if [*cutoffs] != sorted({*cutoffs}) or cutoffs[-1] >= classes:
            raise ValueError(f"cutoffs must rise below {classes}, not {tuple(cutoffs)}")
        super().__init__(width, classes, [*cutoffs], div_value=shrink)
        self.common = common

    def loss_of(self, h: Tensor, y: Tensor) -> Tensor:
        """Compute -ln p_y, in nats: (..., H) and (...) -> (...)."""
        rank = (y + self.common) % self.n_classes
        return -self(h.reshape(-1, h.shape[-1]), rank.reshape(-1)).output.view(y.shape)

    def scores(self, h: Tensor) -> Tensor:
        """Give ln p of all symbols: (..., H) -> (..., C)."""
        ranked = self.log_prob(h.reshape(-1, h.shape[-1])).roll(-self.common, 1)
        return ranked.view(*h.shape[:-1], self.n_classes)


class SampledSoftmax(nn.Linear):
    """Cross-entropy over a large vocabulary, estimated from some symbols that are drawn.

    -ln p_y = -s_y + ln(e^s_y + sum over j != y of e^s_j), whose sum is estimated from S draws k of a
    distribution Q as the sum over k != y of e^s_k / (S Q_k), right on average (importance sampling: Bengio &
    Senecal 2008, section III). Q_k is proportional to ln((k + 2) / (k + 1)), as frequencies of words are
    after Zipf; so symbols must be numbered by falling frequency. All predictions of an update share the
    draws. Called as a layer it gives all scores.

    Args:
        width: Numbers H that scores are made of.
        classes: Symbols C.
        samples: Draws S.
        common: So many of the last symbols, as that of all unknown words, count as the most frequent.
    """

    stream = 1 << 20
    """Names the stream of random numbers."""

    def __init__(self, width: int, classes: int, samples: int = 1024, common: int = 0) -> None:
        super().__init__(width, classes)
        self.samples, self.common = samples, common

    def loss_of(self, h: Tensor, y: Tensor) -> Tensor:
        """Estimate -ln p_y, in nats: (..., H) and (...) -> (...)."""
        classes = self.out_features
        even = uniform((1, 1, self.samples), self.stream, h, shared=True).flatten().double()
        rank = (even * math.log(classes + 1)).exp().long().clamp(1, classes) - 1
        k = (rank - self.common) % classes
        q = (1 / (rank.double() + 1)).log1p() / math.log(classes + 1)
        own = (h * self.weight[y]).sum(-1, keepdim=True) + self.bias[y, None]
        others = functional.linear(h, self.weight[k], self.bias[k] - (self.samples * q).log().to(h))
        others = others.masked_fill(k == y[..., None], -torch.inf)
        return torch.cat([own, others], -1).logsumexp(-1) - own[..., 0]


def gaussian_nll(mean: Tensor, log_deviation: Tensor, y: Tensor) -> Tensor:
    """Compute -ln N(y; m, s^2) = ln s + ((y - m) / s)^2 / 2 + ln(2 pi) / 2, in nats.

    The deviation comes as its logarithm, so that any number will do. (Nix & Weigend 1994, eq. 5, with
    the constant.)

    Args:
        mean: m, of any shape.
        log_deviation: ln s, shaped alike.
        y: What came, shaped alike.

    Returns:
        A tensor of the same shape.
    """
    return log_deviation + 0.5 * ((y - mean) * (-log_deviation).exp()).square() + HALF_LOG_2_PI


def quantile_loss(told: Tensor, y: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Compute the pinball loss max(q (y - u), (q - 1) (y - u)), whose least mean the q-quantile u has.

    (Koenker & Bassett 1978.)

    Args:
        told: Forecasts u of each quantile, (..., Q).
        y: What came, (...).
        quantiles: The Q numbers q, each between 0 and 1.

    Returns:
        (..., Q).

    Raises:
        ValueError: If `told` has another number of quantiles, or one is not between 0 and 1.
    """
    if told.shape[-1] != len(quantiles):
        raise ValueError(f"{told.shape[-1]} forecasts a number, but {len(quantiles)} quantiles")
    if not all(0 < q < 1 for q in quantiles):
        raise ValueError(f"quantiles must be between 0 and 1, not {tuple(quantiles)}")
    q = torch.tensor(quantiles, dtype=told.dtype, device=told.device)
    over = y[..., None] - told
    return torch.maximum(q * over, (q - 1) * over)


def reduced(
    losses: Tensor,
    lengths: Tensor | None = None,
    weights: Tensor | None = None,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Make one number of many losses.

    Args:
        losses: (T, B), of each step and row, or (B,).
        lengths: Steps there are of each row (B,); what comes later does not count.
        weights: What each loss counts, of a shape that fits the losses, as (B,) or (T, B).
        reduction: `mean` divides by the weights of all steps there are (their number, without weights);
            `sum` adds up the steps and takes the mean over rows.

    Returns:
        A scalar; 0 if nothing counts.
    """
    counts = torch.ones_like(losses) if weights is None else weights.to(losses).expand_as(losses)
    if lengths is not None:
        steps = torch.arange(len(losses), device=losses.device)[:, None]
        there = steps < lengths.to(losses.device)
        # What is padding may be infinite, and zero times infinite is no number.
        losses, counts = losses.where(there, 0), counts.where(there, 0)
    total = (losses * counts).sum()
    if reduction == "sum":
        return total / losses.shape[-1]
    whole = counts.sum()
    return total / whole.where(whole > 0, 1)


Loss = Callable[[Tensor, Tensor], Tensor]

CLASS_LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "hinge": hinge,
    "squared-hinge": squared_hinge,
}
"""Losses of classes by name: scores (..., C) and classes (...) -> (...)."""

NUMBER_LOSSES: dict[str, Loss] = {
    "squared": squared_error,
    "absolute": absolute_error,
    "huber": huber,
}
"""Losses of numbers by name: told (...) and what came (...) -> (...)."""
