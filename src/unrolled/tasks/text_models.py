"""Models that read a text and score the labels: recurrent, convolutional, a bag of symbols.

T is the longest text of a batch, B its rows, V the number of symbols, D the width of a symbol's vector,
C the number of labels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.vectors import check_frozen
from unrolled.errors import InputError
from unrolled.layers import Symbols
from unrolled.layers.convolution import Convolution1d
from unrolled.layers.pooling import k_max_pool
from unrolled.settings import Settings
from unrolled.tasks.read_out import Recurrent, dropped, finished, layered

BUCKETS = 1 << 16
"""Sequences of several symbols share so many vectors by a hash (Joulin et al. 2017, section 2.2)."""
VECTOR = 0.25
"""Word vectors of 300 numbers begin evenly within +- this (Kim 2014, section 3.3)."""


def word_vectors(size: int, settings: Settings) -> Symbols:
    """Build what turns symbols into vectors; learned ones begin about as long as those of Kim 2014."""
    symbols = Symbols(size, settings.model.embedding)
    if symbols.table is not None:
        bound = VECTOR * (300 / symbols.width) ** 0.5
        nn.init.uniform_(symbols.table.weight, -bound, bound)
    return symbols


class TextRNN(Recurrent):
    """Symbols -> :class:`~unrolled.tasks.read_out.Recurrent`.

    Args:
        size: Number of symbols V.
        classes: Number of labels C.
        settings: Cell, widths and dropout.
    """

    def __init__(self, size: int, classes: int, settings: Settings) -> None:
        symbols = word_vectors(size, settings)
        super().__init__(symbols.width, classes, settings)
        self.symbols = symbols

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: ids (T, B), steps of each row (B,) -> logits (B, C)."""
        return self.score(self.symbols(ids, self.readout.weight.dtype), lengths)


class TextCNN(nn.Module):
    """Word vectors -> filters over 2 to 5 words -> the largest answer of each -> logits (Kim 2014).

    A filter of width w over vectors in R^D answers at every w words in a row: it is one filter of D w
    numbers that moves D places at a time over the vectors laid end to end (section 2). Texts shorter than
    the widest filter are filled with zero vectors up to it; with `wide`, filters also reach beyond both ends
    (the wide convolution of Kalchbrenner, Grefenstette & Blunsom 2014, section 2.2). Answers that see
    nothing of a text are set to -inf before the largest is taken, so what stands beside it makes no
    difference.

    With two channels each word has a learned vector and a fixed one, which begin alike; a filter's answers to
    both are added up (section 2.1), which is its answer to the sum of the two.

    Args:
        size: Number of symbols V.
        classes: Number of labels C.
        settings: `embedding` is D; `filters`, `filter_widths`, `wide`, `pooling`, `k`, `channels` and
            `dense` are those of the settings, `dropout` that of what pooling gives.
    """

    fixed: Tensor | None

    def __init__(self, size: int, classes: int, settings: Settings) -> None:
        super().__init__()
        model, own = settings.model, settings.classifier
        self.own, self.dropout = own, model.dropout
        self.symbols = word_vectors(size, settings)
        table = self.symbols.table
        if own.channels == 2 and table is None:
            raise InputError("--channels 2 takes vectors that are learned: --embedding 128")
        self.register_buffer(
            "fixed", None if table is None or own.channels == 1 else table.weight.detach().clone()
        )
        padding = "full" if own.wide else "valid"
        self.banks = nn.ModuleList(
            Convolution1d(self.symbols.width, own.filters, width, padding=padding)
            for width in own.filter_widths
        )
        answers = own.k if own.pooling == "k-max" else 1
        self.readout = layered(
            own.filters * len(self.banks) * answers, own.dense, classes, own.dense_activation
        )

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: ids (T, B), steps of each row (B,) -> logits (B, C)."""
        return self.read_out(self.answers(ids, lengths), lengths)

    def answers(self, ids: Tensor, lengths: Tensor) -> list[Tensor]:
        """Give for each width what its filters answer: ids (T, B) -> (B, filters, places)."""
        dtype = next(self.readout.parameters()).dtype
        x = self.symbols(ids, dtype)
        if self.fixed is not None:
            x = x + nn.functional.embedding(ids, self.fixed)
        x = self._vectors(x, lengths)
        return [bank(x).relu() for bank in self.banks]

    def read_out(self, answers: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Pool the answers over the places of each row, and score the labels -> (B, C)."""
        pooled = [
            self._pooled(each, places_of(lengths, width, wide=self.own.wide))
            for each, width in zip(answers, self.own.filter_widths, strict=True)
        ]
        seen = torch.cat(pooled, -1)
        return self.readout(dropped(seen, self.dropout, self.training, 0))

    def _vectors(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Turn (T, B, D) into (B, D, T), zero past a row's end, at least as long as a filter is wide."""
        inside = torch.arange(len(x), device=x.device)[:, None] < lengths
        x = (x * inside[..., None]).permute(1, 2, 0)
        lacking = max(self.own.filter_widths) - x.shape[-1]
        return nn.functional.pad(x, (0, lacking)) if lacking > 0 else x

    def _pooled(self, answers: Tensor, places: Tensor) -> Tensor:
        """Pool (B, F, places) -> (B, F), or (B, k F)."""
        inside = torch.arange(answers.shape[-1], device=answers.device) < places[:, None, None]
        if self.own.pooling == "mean":
            return (answers * inside).sum(-1) / places[:, None]
        masked = answers.masked_fill(~inside, -torch.inf)
        if self.own.pooling == "max":
            return masked.amax(-1)
        lacking = self.own.k - masked.shape[-1]
        if lacking > 0:
            masked = nn.functional.pad(masked, (0, lacking), value=-torch.inf)
        # A text with fewer than k places has zeros for what it lacks, as a filter that finds nothing.
        best = k_max_pool(masked, self.own.k)
        return best.masked_fill(best.isneginf(), 0.0).flatten(1)


class TextBag(nn.Module):
    """The mean of the vectors of all symbols -> logits, directly or through hidden layers.

    With `ngrams`, sequences of up to so many symbols have vectors too, the longer ones shared by a hash.
    Without hidden layers and with an embedding of 0 a vector is a score for each label: multinomial
    logistic regression on the share of each symbol in a text (Joulin et al. 2017 give it a narrow
    embedding; with hidden layers it is the deep averaging network of Iyyer et al. 2015).

    Args:
        size: Number of symbols V.
        classes: Number of labels C.
        settings: `embedding`, `ngrams`, `dropout`.
        dense: Widths of the hidden layers.
    """

    def __init__(self, size: int, classes: int, settings: Settings, dense: Sequence[int]) -> None:
        super().__init__()
        self.ngrams, self.size = settings.classifier.ngrams, size
        self.dropout = settings.model.dropout
        width = settings.model.embedding
        if width is None:
            width = 128 if dense else 0
        buckets = BUCKETS if self.ngrams > 1 else 0
        self.table = nn.Embedding(size + buckets, width or classes)
        nn.init.uniform_(self.table.weight, -VECTOR, VECTOR)
        self.readout = (
            layered(width, dense, classes, settings.classifier.dense_activation)
            if width
            else nn.Identity()
        )

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: ids (T, B), steps of each row (B,) -> logits (B, C)."""
        total, count = 0.0, 0
        step = torch.arange(len(ids), device=ids.device)[:, None]
        keys, hashed = ids, ids
        for n in range(1, self.ngrams + 1):
            if n > 1:
                if n > len(ids):
                    break
                hashed = hashed[:-1] * 1_000_003 + ids[n - 1 :]
                keys = self.size + hashed.remainder(BUCKETS)
            inside = step[: len(keys)] + n <= lengths
            total = total + (self.table(keys) * inside[..., None]).sum(0)
            count = count + inside.sum(0)
        assert isinstance(total, Tensor)
        assert isinstance(count, Tensor)
        mean = total / count.clamp(min=1)[:, None]
        return self.readout(dropped(mean, self.dropout, self.training, 0))


def text_model(
    size: int, classes: int, settings: Settings, vectors: np.ndarray | None = None
) -> nn.Module:
    """Build the model of the settings, its weights drawn from torch's generator.

    Args:
        size: Number of symbols V.
        classes: Number of labels C.
        settings: Of the run.
        vectors: What the symbols' vectors begin as (V, embedding); drawn if left out.

    Raises:
        InputError: If weights are to be tied, which takes a read-out over symbols.
    """
    model, own = settings.model, settings.classifier
    if model.tied:
        raise InputError("--tied is for language models: a classifier reads out labels")
    match own.model:
        case "cnn":
            built = TextCNN(size, classes, settings)
        case "bag":
            built = TextBag(size, classes, settings, own.dense)
        case "mlp":
            built = TextBag(size, classes, settings, own.dense or (model.hidden,) * model.layers)
        case _:
            built = TextRNN(size, classes, settings)
    built = finished(built, model)
    check_frozen(model)
    _begin(built, vectors, frozen=model.frozen_vectors)
    return built


@torch.no_grad()
def _begin(built: nn.Module, vectors: np.ndarray | None, *, frozen: bool) -> None:
    """Let the vectors of symbols begin so, and leave them there if they are frozen."""
    if not isinstance(built, TextBag):
        assert isinstance(built, TextRNN | TextCNN)
        table = built.symbols.table
    else:
        table = built.table
    if table is None:
        return
    if vectors is not None:
        table.weight[: len(vectors)] = torch.from_numpy(vectors).to(table.weight.dtype)
        if isinstance(built, TextCNN) and built.fixed is not None:
            built.fixed.copy_(table.weight)
    table.weight.requires_grad_(not frozen)


def places_of(lengths: Tensor, width: int, *, wide: bool) -> Tensor:
    """Give the places at which a filter answers to each row (B,), at least one."""
    return lengths + width - 1 if wide else lengths.clamp(min=width) - width + 1
