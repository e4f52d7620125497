"""What is told of the states at each step: each by itself, of several states, or knowing the tags before.

T steps, B rows, H width of the states, C tags or numbers to tell.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells import Jordan
from unrolled.cells.feedback import teacher
from unrolled.data.tagged import PADDING, Labels, Numbers
from unrolled.errors import InputError
from unrolled.layers import CRF, Recurrent, WindowReadout
from unrolled.layers.losses import (
    CLASS_LOSSES,
    NUMBER_LOSSES,
    Loss,
    cross_entropy,
    squared_error,
)
from unrolled.settings import Settings

LEAST = 1e-30
"""The smallest probability whose logarithm is taken."""


class Readout(nn.Module, ABC):
    """Tells a tag of each step, or numbers.

    Args:
        numbers: Whether numbers are told.
    """

    def __init__(self, *, numbers: bool) -> None:
        super().__init__()
        self.numbers = numbers
        self.measure: Loss = squared_error if numbers else cross_entropy
        self.smoothing = 0.0

    @abstractmethod
    def loss(self, h: Tensor, lengths: Tensor, tags: Tensor, forced: float) -> Tensor:
        """Compute nats a step, or the squared error: states (T, B, H), steps (B,), what is true -> scalar."""

    @abstractmethod
    def tell(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Tell tags (T, B), or numbers (T, B, C)."""

    def error(self, scores: Tensor, tags: Tensor) -> Tensor:
        """Compare logits, or numbers (T, B, C), with what is true, mean over the steps there are."""
        if self.numbers:
            there = ~tags.isnan()
            return self.measure(scores[there], tags[there].to(scores.dtype)).mean()
        if self.measure is cross_entropy:
            smoothing = self.smoothing if self.training else 0.0
            return functional.cross_entropy(
                scores.flatten(0, 1),
                tags.flatten(),
                ignore_index=PADDING,
                label_smoothing=smoothing,
            )
        there = tags != PADDING
        return self.measure(scores[there], tags[there]).mean()

    def best(self, scores: Tensor) -> Tensor:
        """Give the likeliest tags, or the numbers themselves."""
        return scores if self.numbers else scores.argmax(-1)


class Softmax(Readout):
    """Each step by itself: softmax(V h_t + b), or V h_t + b."""

    def __init__(self, width: int, outputs: int, *, numbers: bool) -> None:
        super().__init__(numbers=numbers)
        self.v = nn.Linear(width, outputs)

    def scores(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Score (T, B, H) -> (T, B, C)."""
        return self.v(h)

    def loss(self, h: Tensor, lengths: Tensor, tags: Tensor, forced: float) -> Tensor:
        """Compute the mean loss."""
        return self.error(self.scores(h, lengths), tags)

    def tell(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Tell the likeliest tag of each step."""
        return self.best(self.scores(h, lengths))


class Window(Softmax):
    """The states of the last few steps: :class:`~unrolled.layers.WindowReadout`, and a bias."""

    def __init__(self, width: int, outputs: int, lags: int, *, numbers: bool) -> None:
        Readout.__init__(self, numbers=numbers)
        self.v = Recurrent(WindowReadout(width, outputs, lags, softmax=False))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def scores(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Score (T, B, H) -> (T, B, C)."""
        return self.v(h, lengths=lengths)[0] + self.bias


class Chained(Readout):
    """Tags that depend on each other: :class:`~unrolled.layers.CRF` over V h_t + b; the best by Viterbi."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(numbers=False)
        self.v = nn.Linear(width, outputs)
        self.crf = CRF(outputs)

    def loss(self, h: Tensor, lengths: Tensor, tags: Tensor, forced: float) -> Tensor:
        """Compute -log p of all tags of a row together, a step."""
        return self.crf(self.v(h), tags, lengths, "sum") / lengths.sum()

    def tell(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Tell the likeliest sequence of tags."""
        return self.crf.decode(self.v(h), lengths)[0]


class Previous(Readout):
    """A recurrent layer that reads what was told last: :class:`~unrolled.cells.Jordan`.

    In training it is the truth (teacher forcing), in use the model's own: probabilities, or numbers.
    """

    def __init__(self, width: int, hidden: int, outputs: int, *, numbers: bool) -> None:
        super().__init__(numbers=numbers)
        self.outputs = outputs
        output = "identity" if numbers else _softmax
        self.net = Recurrent(Jordan(width, hidden, outputs, output=output, teacher=True))

    def loss(self, h: Tensor, lengths: Tensor, tags: Tensor, forced: float) -> Tensor:
        """Compute the mean loss, fed the truth with probability `forced` a step."""
        if self.numbers:
            target = tags.nan_to_num().to(h.dtype)
        else:
            target = functional.one_hot(tags.clamp(min=0), self.outputs).to(h.dtype)
        y, _ = self.net(h, lengths=lengths, extras=teacher(target, forced, self.net.stream))
        return self.error(y if self.numbers else y.clamp(min=LEAST).log(), tags)

    def tell(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Tell, fed what was told."""
        nothing = h.new_zeros(*h.shape[:2], self.outputs)
        extras = {"target": nothing, "forced": nothing[..., :1]}
        return self.best(self.net(h, lengths=lengths, extras=extras)[0])


def _softmax(a: Tensor) -> Tensor:
    return a.softmax(-1)


class Linear(Readout):
    """y_t = W x_t + A_1 y_{t-1} + ... + A_k y_{t-k} + b; of tags, y_{t-i} is one-hot and this scores y_t.

    In training the earlier y are true, so that all steps are one product; in use they are what was told,
    step by step (greedy). Before the first step they are zero.

    Args:
        width: Of x.
        outputs: C.
        lags: k.
        numbers: Whether y are numbers.
    """

    def __init__(self, width: int, outputs: int, lags: int, *, numbers: bool) -> None:
        super().__init__(numbers=numbers)
        self.outputs, self.lags = outputs, lags
        self.w = nn.Linear(width, outputs)
        self.a = nn.Parameter(torch.zeros(lags, outputs, outputs))

    def loss(self, h: Tensor, lengths: Tensor, tags: Tensor, forced: float) -> Tensor:
        """Compute the mean loss, fed the truth."""
        if self.numbers:
            told = tags.nan_to_num().to(h.dtype)
        else:
            told = functional.one_hot(tags.clamp(min=0), self.outputs).to(h.dtype)
        before = functional.pad(told, (0, 0, 0, 0, self.lags, 0))
        steps = len(h)
        scores = self.w(h)
        for lag in range(1, self.lags + 1):
            start = self.lags - lag
            scores = scores + before[start : start + steps] @ self.a[lag - 1].T
        return self.error(scores, tags)

    def tell(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Tell one step after the other."""
        scores, told = self.w(h), []
        for t, score in enumerate(scores):
            for lag in range(1, min(self.lags, t) + 1):
                past = told[t - lag]
                # One-hot times a matrix is one of its columns.
                score = score + (
                    past @ self.a[lag - 1].T if self.numbers else self.a[lag - 1].T[past]
                )
            told.append(self.best(score))
        return torch.stack(told)


def make_readout(width: int, outputs: Labels | Numbers, settings: Settings) -> Readout:
    """Build the read-out of the settings, and choose its loss.

    Raises:
        InputError: If it cannot tell numbers, or does not go with the net or the loss.
    """
    readout, training = _readout(width, outputs, settings), settings.training
    numbers = isinstance(outputs, Numbers)
    if training.loss is not None:
        known = NUMBER_LOSSES if numbers else CLASS_LOSSES
        if training.loss not in known:
            what = "numbers" if numbers else "tags"
            raise InputError(f"--loss {training.loss} is not for {what}; take {', '.join(known)}")
        readout.measure = known[training.loss]
    readout.smoothing = training.label_smoothing
    own = training.label_smoothing or readout.measure not in (cross_entropy, squared_error)
    if isinstance(readout, Chained) and own:
        raise InputError("--readout crf has a loss of its own; leave out what says another")
    return readout


def _readout(width: int, outputs: Labels | Numbers, settings: Settings) -> Readout:
    kind, lags = settings.tagger.readout, settings.tagger.lags
    numbers, size = isinstance(outputs, Numbers), outputs.size
    if settings.tagger.net == "linear":
        if kind != "softmax":
            raise InputError(f"--net linear reads out by itself; leave --readout {kind} out")
        return Linear(width, size, lags, numbers=numbers)
    match kind:
        case "window":
            return Window(width, size, lags, numbers=numbers)
        case "previous":
            return Previous(width, settings.model.hidden, size, numbers=numbers)
        case "crf" if numbers:
            raise InputError("--readout crf tells tags, and these targets are numbers")
        case "crf":
            return Chained(width, size)
    return Softmax(width, size, numbers=numbers)
