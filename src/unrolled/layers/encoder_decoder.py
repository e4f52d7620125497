"""An encoder that reads, and a recurrent decoder that writes and looks at what was read.

S symbols to write, T steps that were read, B rows, V symbols, H the width of the decoder's output.
"""

from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from unrolled.cells import teacher
from unrolled.engine import States
from unrolled.engine.randomness import dropout
from unrolled.errors import InputError
from unrolled.layers.attend import Attend, Memory, Score
from unrolled.layers.build import make_net
from unrolled.layers.symbols import Symbols
from unrolled.settings import DecoderSettings, ModelSettings

OWN_STREAMS = 2**9
"""First of the streams of random numbers of a net that its encoder or decoder draws from itself."""
VALUES, KEYS, INSIDE, FEED = "read.values", "read.keys", "read.inside", "feed"
"""Names, among a decoder's states, of what it looks at and of what it saw at the last step."""


class Reading(NamedTuple):
    """What an encoder gives."""

    summary: Tensor
    """What the decoder begins with, (B, F)."""
    y: Tensor
    """What it looks at, (T, B, width)."""
    lengths: Tensor | None
    """Steps of each row of y, (B,)."""


class Writing(NamedTuple):
    """What a decoder gives."""

    logits: Tensor
    """Of each next symbol, (S, B, V)."""
    states: States
    """With which it goes on; rows along dimension 1."""
    weights: Tensor | None
    """What it looked at, (S, B, T)."""


class Encoder(nn.Module):
    """Symbols -> recurrent layers; what is handed on is every output, and the last states.

    Args:
        size: V, of the side that is read.
        model: Cell, widths and noise; with ``bidirectional`` each direction has half of ``hidden``.

    Raises:
        InputError: If half of ``hidden`` is no whole number, or the cell cannot be built.
    """

    def __init__(self, size: int, model: ModelSettings) -> None:
        super().__init__()
        if model.bidirectional:
            if model.hidden % 2:
                raise InputError(f"--hidden {model.hidden} must be even, half for each direction")
            model = model.model_copy(update={"hidden": model.hidden // 2})
        self.symbols = _symbols(size, model)
        self.net = make_net(model, self.symbols.width)
        self.width = self.net.output_size
        places = self.net.num_layers * self.net.num_directions
        self.summary_size = places * sum(_widths(self.net.cell.state_sizes, model).values())

    def forward(self, ids: Tensor, lengths: Tensor) -> Reading:
        """Read ids (T, B) of rows of so many symbols (B,)."""
        own = next(self.net.parameters())
        x = _dropped(self.symbols(ids, own.dtype), self, OWN_STREAMS)
        y, states = self.net(x, lengths=lengths)
        last = [states[name].transpose(0, 1).flatten(1) for name in self.net.cell.state_names]
        return Reading(torch.cat(last, -1), y, lengths)


class Decoder(nn.Module):
    """s_i = f(y_{i-1}, s_{i-1}), o_i = tanh(W [c_i; s_i]), p(y_i) = softmax(V o_i), c_i what attention sees.

    (Luong, Pham & Manning 2015, eqs. 5 and 6.) All S symbols are read at once, and attention is two products
    over all pairs of steps, unless the decoder reads o_{i-1} too (``input_feeding``, section 3.3) or symbols
    it chose itself (scheduled sampling; Bengio, Vinyals, Jaitly & Shazeer 2015): then it goes step by step,
    and dropout drops the same at all of them. It begins with W summary + b for each of its states,
    the summary normalised (Ba, Kiros & Hinton 2016).

    Args:
        size: V.
        model: Cell, widths and noise; ``tied`` shares the read-out's weights with the embedding.
        own: Attention, input feeding, and the cell if it is another.
        summary: Width F of what it begins with.
        width: Of a step that attention looks at.

    Raises:
        InputError: If the cell cannot be built or has states that are no vectors, or what is asked for does
            not go together.
    """

    def __init__(
        self, size: int, model: ModelSettings, own: DecoderSettings, summary: int, width: int
    ) -> None:
        super().__init__()
        plain = {"bidirectional": False, "learned_states": False}
        if own.decoder_cell and own.decoder_cell != model.cell:
            if ":" in own.decoder_cell:
                raise InputError("--decoder-cell takes a registered name; give your own as --cell")
            plain |= {"cell": own.decoder_cell, "cell_options": {}}
        model = model.model_copy(update=plain)
        self.symbols = _symbols(size, model)
        seen = self.symbols.width if model.tied else model.hidden
        self.feeds = own.input_feeding
        if self.feeds and own.attention == "none":
            raise InputError("--input-feeding feeds what attention saw; give --attention")
        self.net = make_net(model, self.symbols.width + (seen if self.feeds else 0))
        height = self.net.output_size
        self.attend = None if own.attention == "none" else _attend(own, height, width)
        self.join = nn.Linear(height + (width if self.attend else 0), seen)
        self.readout = nn.Linear(seen, size)
        if model.tied:
            if self.symbols.table is None:
                raise InputError(
                    "--tied needs an embedding, whose weights it shares: --embedding 256"
                )
            self.readout.weight = self.symbols.table.weight
        layers = self.net.num_layers
        self.norm = nn.LayerNorm(summary)  # or what all summaries share would be learned first
        self.start = nn.ModuleDict(
            {
                name: nn.Linear(summary, layers * n)
                for name, n in _widths(self.net.cell.state_sizes, model).items()
            }
        )

    def begin(self, read: Reading) -> States:
        """Give the states to write with, rows along dimension 1."""
        layers, summary = self.net.num_layers, self.norm(read.summary)
        states = {
            name: start(summary).unflatten(1, (layers, -1)).transpose(0, 1)
            for name, start in self.start.items()
        }
        if self.attend is not None:
            memory = self.attend.read(read.y, read.lengths)
            states |= {VALUES: memory.values, KEYS: memory.keys}
            states |= {} if memory.inside is None else {INSIDE: memory.inside}
        if self.feeds:
            rows = len(read.summary)
            states[FEED] = read.summary.new_zeros(1, rows, self.join.out_features)
        return states

    def forward(self, ids: Tensor, states: States, told: float = 1.0) -> Writing:
        """Score what follows each of the symbols ids (S, B).

        Args:
            ids: The symbols before those to write; the first is the one every text begins with.
            states: What :meth:`begin` or the last call gave.
            told: Probability that a true symbol is read instead of the likeliest by the model.
        """
        if told == 1 and (not self.feeds or len(ids) == 1):
            return self._read(ids, states)
        forced = teacher(ids[..., None].double(), told, self.net.stream + OWN_STREAMS + 2)["forced"]
        logits, weights = [], []
        for t, true in enumerate(ids):
            if t:
                true = torch.where(forced[t, :, 0] > 0.5, true, logits[-1][0].argmax(-1))
            step = self._read(true[None], states)
            states = step.states
            logits.append(step.logits)
            weights.append(step.weights)
        looked = None if self.attend is None else torch.cat(weights)
        return Writing(torch.cat(logits), states, looked)

    def _read(self, ids: Tensor, states: States) -> Writing:
        """Score what follows the symbols ids (S, B), all of them read at once."""
        x = _dropped(self.symbols(ids, self.join.weight.dtype), self, OWN_STREAMS)
        if self.feeds:
            x = torch.cat([x, states[FEED]], -1)
        kept = {name: states[name] for name in (VALUES, KEYS, INSIDE) if name in states}
        own = {name: state for name, state in states.items() if name not in (*kept, FEED)}
        s, last = self.net(x, own)
        weights = None
        if self.attend is not None:
            memory = Memory(kept[VALUES], kept[KEYS], kept.get(INSIDE))
            context, weights, _ = self.attend.look(s, memory)
            s = torch.cat([context, s], -1)
        o = self.join(s).tanh()
        states = {**last, **kept, **({FEED: o[-1:]} if self.feeds else {})}
        return Writing(self.readout(_dropped(o, self, OWN_STREAMS + 1)), states, weights)


class EncoderDecoder(nn.Module):
    """An encoder and the decoder that begins with its summary (Cho et al. 2014; Sutskever et al. 2014).

    Args:
        encoder: Gives a :class:`Reading`.
        decoder: Writes.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, inputs: tuple[Tensor, ...], ids: Tensor, told: float = 1.0) -> Tensor:
        """Score what follows each of the symbols ids (S, B) after the encoder's inputs -> (S, B, V)."""
        return self.decoder(ids, self.read(inputs), told).logits

    def read(self, inputs: tuple[Tensor, ...]) -> States:
        """Give the states to write with."""
        return self.decoder.begin(self.encoder(*inputs))


def _attend(own: DecoderSettings, query: int, width: int) -> Attend:
    compares = own.attention in get_args(Score)
    score: Any = own.attention if compares else "general"
    choice: Any = "soft" if compares else own.attention
    try:
        return Attend(query, width, score, choice, k=own.attended)
    except ValueError as error:
        raise InputError(f"--attention {own.attention}: {error}") from None


def _symbols(size: int, model: ModelSettings) -> Symbols:
    symbols = Symbols(size, model.embedding)
    if symbols.table is not None:  # so that a read-out that shares it begins with small logits
        nn.init.normal_(symbols.table.weight, std=0.1)
    return symbols


def _widths(sizes: Any, model: ModelSettings) -> dict[str, int]:  # noqa: ANN401 - name -> width
    if not all(isinstance(width, int) for width in sizes.values()):
        raise InputError(f"cell {model.cell} has states on a grid; take one such as lstm or gru")
    return dict(sizes)


def _dropped(x: Tensor, of: Encoder | Decoder, stream: int) -> Tensor:
    p = of.net.dropout if of.training else 0.0
    return dropout(x, p, of.net.stream + stream) if p else x
