"""Taggers of several tags, that share an encoder or are drawn to each other.

T steps, B rows, N tasks.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from unrolled.cells.start import normal_start
from unrolled.data.several import Heads
from unrolled.data.tagged import Words
from unrolled.errors import InputError
from unrolled.layers.stack import part_streams
from unrolled.settings import Settings
from unrolled.tasks.tag_readouts import make_readout
from unrolled.tasks.taggers import Reader


class SeveralTaggers(nn.Module):
    """L = w_1 l_1 + ... + w_N l_N, l_n the loss of read-out n.

    Hard sharing: all read-outs read the states of one encoder (Caruana 1997). Soft sharing: each has its own,
    all begin alike, and a multiple of the squared distance between the weights of each two is added to the
    loss (Duong et al. 2015). Learned weights: w_n = exp(-s_n), and s_n / 2 is added for each, s_n the
    logarithm of a variance, 0 at the start (Kendall, Gal & Cipolla 2018, eq. 10).

    Args:
        words: What the steps are.
        heads: The tags of each task.
        settings: ``model``, ``tagger`` and ``several``.

    Raises:
        InputError: If settings do not go together, or there are not as many weights as tasks.
    """

    def __init__(self, words: Words, heads: Heads, settings: Settings) -> None:
        super().__init__()
        own, count = settings.several, len(heads.names)
        weights = () if own.loss_weights == "learned" else own.loss_weights
        if weights and len(weights) != count:
            raise InputError(
                f"--loss-weights gives {len(weights)} numbers; the tasks are {', '.join(heads.names)}"
            )
        if settings.tagger.net == "linear":
            raise InputError(
                "--net linear reads out by itself; several tasks share an rnn or a cnn"
            )
        self.distance = own.distance
        first = Reader(words, settings)
        others = count - 1 if own.sharing == "soft" else 0
        self.readers = nn.ModuleList([first])
        self.readouts = nn.ModuleList(
            [make_readout(first.width, labels, settings) for labels in heads.labels]
        )
        if settings.model.initial_scale:
            normal_start(self, settings.model.initial_scale)
        first.begin(words, settings.model)
        self.readers.extend([deepcopy(first) for _ in range(others)])
        self.fixed: Tensor
        self.register_buffer("fixed", torch.tensor(weights or [1.0] * count), persistent=False)
        self.log_variances = None
        if own.loss_weights == "learned":
            self.log_variances = nn.Parameter(torch.zeros(count))
        self.to(first.dtype)
        part_streams(self)

    @property
    def weights(self) -> Tensor:
        """What the loss of each task is multiplied by (N,)."""
        return self.fixed if self.log_variances is None else (-self.log_variances).exp()

    def forward(
        self, inputs: tuple[Tensor, ...], lengths: Tensor, tags: Tensor, forced: float = 1.0
    ) -> Tensor:
        """Compute the loss.

        Args:
            inputs: Of a :class:`~unrolled.data.tagged.TagBatch`.
            lengths: Steps of each row (B,).
            tags: (T, B, N).
            forced: How often a read-out is fed the true tag, not its own.
        """
        loss = (
            self.weights * self.losses(self.states(inputs, lengths), lengths, tags, forced)
        ).sum()
        if self.log_variances is not None:
            loss = loss + self.log_variances.sum() / 2
        if len(self.readers) > 1 and self.distance:
            loss = loss + self.distance * self.apart()
        return loss

    def states(self, inputs: tuple[Tensor, ...], lengths: Tensor) -> list[Tensor]:
        """Give what each read-out reads: states (T, B, H)."""
        found = [reader.states(inputs, lengths) for reader in self.readers]  # pyright: ignore[reportCallIssue]
        return found if len(found) > 1 else found * len(self.readouts)

    def losses(
        self, states: list[Tensor], lengths: Tensor, tags: Tensor, forced: float = 1.0
    ) -> Tensor:
        """Give the loss of each task, in nats a step (N,)."""
        return torch.stack(
            [
                readout.loss(h, lengths, tags[..., n], forced)  # pyright: ignore[reportCallIssue]
                for n, (readout, h) in enumerate(zip(self.readouts, states, strict=True))
            ]
        )

    def tell(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Tell the tags (T, B, N); past a row's end anything."""
        told = [
            readout.tell(h, lengths)  # pyright: ignore[reportCallIssue]
            for readout, h in zip(self.readouts, states, strict=True)
        ]
        return torch.stack(told, -1)

    def apart(self) -> Tensor:
        """Sum up, over all pairs of encoders, the squares of the differences of their weights."""
        # Of n numbers, the squares of all differences sum to n times those from the mean.
        alike = zip(*(reader.parameters() for reader in self.readers), strict=True)
        return len(self.readers) * sum(
            ((stacked := torch.stack(each)) - stacked.mean(0)).square().sum() for each in alike
        )  # pyright: ignore[reportReturnType]
