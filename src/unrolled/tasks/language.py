"""The language model, and the units its figures are given in.

T steps, B rows of a batch, V symbols, H width of a state, L its layers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unrolled.cells.start import normal_start
from unrolled.engine.cell import sample_of
from unrolled.engine.randomness import dropout
from unrolled.errors import InputError
from unrolled.layers import Symbols
from unrolled.layers.build import make_net
from unrolled.layers.losses import AdaptiveSoftmax, SampledSoftmax
from unrolled.settings import ModelSettings
from unrolled.tasks.task import Carry

Readout = nn.Linear | AdaptiveSoftmax


class LanguageModel(nn.Module):
    """Symbols -> recurrent layers -> logits of the next symbol, of texts of all kinds or of a label.

    Dropout is applied to the output of every layer, the last one's too, and never through time
    (Zaremba, Sutskever & Vinyals 2014). A label has a vector that is added to every input, as a bias
    would be, or one for each state, in which the reading begins (as Vinyals et al. 2015 begin with a
    picture).

    Args:
        size: Number of symbols V.
        model: Cell, widths and dropout.
        labels: How many there are; 0 for texts without.
        begins: Whether a label's vectors are where the states begin, not added to inputs.
        readout: Builds what scores the symbols, from its width and V.

    Raises:
        InputError: If weights are to be tied whose shapes differ, or the cell's states are no vectors, in
            which a label could begin.
    """

    def __init__(
        self,
        size: int,
        model: ModelSettings,
        labels: int = 0,
        *,
        begins: bool = False,
        readout: Callable[[int, int], Readout] = nn.Linear,
    ) -> None:
        super().__init__()
        if model.bidirectional:
            raise InputError(
                "--bidirectional would let a language model read what it should foretell"
            )
        self.symbols = Symbols(size, model.embedding)
        self.net = make_net(model, self.symbols.width)
        self.readout = readout(self.net.output_size, size)
        if model.tied:
            table = self.symbols.table
            if isinstance(self.readout, AdaptiveSoftmax):
                raise InputError(
                    "--tied goes with --softmax full or sampled: adaptive has no table"
                )
            if table is None or table.weight.shape != self.readout.weight.shape:
                raise InputError(
                    f"--tied needs an embedding as wide as the top layer: --embedding {self.net.output_size}"
                )
            self.readout.weight = table.weight
        self.label: nn.Embedding | nn.ModuleDict | None = None
        if labels and begins:
            layers, table = self.net.num_layers, nn.ModuleDict()
            for name, width in self.net.cell.state_sizes.items():
                if not isinstance(width, int):
                    raise InputError(
                        f"--condition state: {name} of cell {model.cell} is no vector; take --condition input"
                    )
                table[name] = _small(labels, layers * width)
            self.label = table
        elif labels:
            self.label = _small(labels, self.symbols.width)
        if model.initial_scale:
            normal_start(self, model.initial_scale)
        self.to(getattr(torch, model.dtype))

    def forward(
        self,
        ids: Tensor,
        states: Carry | None = None,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, Carry]:
        """Score what follows: ids (T, B) -> logits (T, B, V), states name -> (L, B, H).

        With targets the read-out, which has a loss of its own, gives -ln p of each in place of logits, (N,).

        Args:
            ids: The symbols.
            states: What the last call gave, to read on.
            lengths: Symbols of each row (B,).
            labels: The label of each row (B,), where there are labels.
            targets: What follows the last n steps, (n, B); negative where nothing does.
        """
        x = self.symbols(ids, sample_of(self).dtype)
        if isinstance(self.label, nn.Embedding):
            x = x + self.label(labels)
        elif self.label is not None and not states:
            layers = self.net.num_layers
            states = {
                name: begin(labels).unflatten(1, (layers, -1)).transpose(0, 1)
                for name, begin in self.label.items()
            }
        y, last = self.net(x, states, lengths=lengths)
        if self.training and self.net.dropout:
            y = dropout(y, self.net.dropout, self.net.num_layers)
        if targets is None:
            return self.scores(y), last
        assert not isinstance(self.readout, nn.Linear) or isinstance(self.readout, SampledSoftmax)
        there = targets >= 0
        return self.readout.loss_of(y[len(y) - len(targets) :][there], targets[there]), last

    def scores(self, y: Tensor) -> Tensor:
        """Read out what the recurrent layers give: (..., H) -> logits (..., V)."""
        return self.readout(y) if isinstance(self.readout, nn.Linear) else self.readout.scores(y)


def _small(labels: int, width: int) -> nn.Embedding:
    table = nn.Embedding(labels, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def units(nats: float, symbols: int, characters: int) -> dict[str, float]:
    """Give a cross-entropy in nats a symbol in the units people read."""
    return {
        "nats_per_symbol": nats,
        "bits_per_character": nats / math.log(2) * symbols / max(characters, 1),
        "perplexity": math.exp(min(nats, 700)),
    }
