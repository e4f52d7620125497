"""Models that tell something at each step: of words or vectors, by recurrent layers, filters, or neither.

T steps, B rows, V words, I inputs, H width of what is read out, C tags or numbers to tell.
"""

import torch
from torch import Tensor, nn

from unrolled.cells import LSTM
from unrolled.cells.start import normal_start
from unrolled.data.tagged import Labels, Numbers, TagBatch, Vectors, Words
from unrolled.data.vectors import check_frozen
from unrolled.engine.randomness import dropout
from unrolled.errors import InputError
from unrolled.layers import Convolution1d, Mixed, Recurrent, Symbols
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings, TaggerSettings
from unrolled.tasks.tag_readouts import Readout, make_readout

TAPS = 3
"""Characters that a filter spans."""


class Spelling(nn.Module):
    """A word's vector from its characters: states at both ends of an LSTM, or the largest answer of filters.

    Ling et al. 2015 read them by an LSTM in both directions; dos Santos & Zadrozny 2014 by filters.

    Args:
        characters: Their number, the unknown one included.
        tagger: ``characters``, ``character_embedding``, ``character_units``.
    """

    def __init__(self, characters: int, tagger: TaggerSettings) -> None:
        super().__init__()
        width, units = tagger.character_embedding, tagger.character_units
        self.table = nn.Embedding(characters, width)
        self.net: Recurrent | Convolution1d
        if tagger.characters == "cnn":
            self.net = Convolution1d(width, units, TAPS, padding=[(TAPS - 1, TAPS - 1)])
            self.width = units
        else:
            self.net, self.width = Recurrent(LSTM(width, units), bidirectional=True), 2 * units

    def forward(self, spelling: Tensor, lengths: Tensor) -> Tensor:
        """Read words: characters (L, U), how many (U,) -> (U, width)."""
        x = self.table(spelling)
        if isinstance(self.net, Recurrent):
            _, states = self.net(x, lengths=lengths)
            return torch.cat([*states["h"]], -1)
        inside = torch.arange(len(x), device=x.device)[:, None] < lengths
        y = self.net((x * inside[..., None]).permute(1, 2, 0))  # (U, units, L + TAPS - 1)
        # A filter answers wherever it overlaps the word, as if blanks stood around it.
        reached = torch.arange(y.shape[2], device=y.device) < lengths[:, None] + TAPS - 1
        return y.relu().masked_fill(~reached[:, None], 0.0).amax(-1)


class WordVectors(nn.Module):
    """Words as vectors: learned ones, and what :class:`Spelling` reads, side by side.

    Args:
        words: Which there are.
        settings: ``embedding`` and those of characters.
    """

    def __init__(self, words: Words, settings: Settings) -> None:
        super().__init__()
        check_frozen(settings.model)
        self.symbols = Symbols(words.size, words.width or settings.model.embedding)
        self.width = self.symbols.width
        self.spelling = None
        if words.characters:
            self.spelling = Spelling(len(words.characters) + 1, settings.tagger)
            self.width += self.spelling.width

    def forward(self, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
        """Turn what :meth:`Words.inputs` gives into (T, B, width)."""
        x = self.symbols(inputs[0], dtype)
        if self.spelling is None:
            return x
        _, spelling, lengths, which = inputs
        return torch.cat([x, self.spelling(spelling, lengths)[which]], -1)

    @torch.no_grad()
    def begin(self, words: Words, *, frozen: bool) -> None:
        """Let words begin as the vectors that were read for them, and leave these so if they are frozen."""
        table = self.symbols.table
        if table is None or words.width is None:
            return
        if words.vectors is not None:
            table.weight.copy_(torch.from_numpy(words.vectors))
        table.weight.requires_grad_(not frozen)


class Numeric(nn.Module):
    """Vectors as they are.

    Args:
        width: I.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
        """Give (T, B, I) in `dtype`."""
        return inputs[0].to(dtype)


class Reader(nn.Module):
    """Words or vectors -> layers -> what may be read out at every step.

    Dropout acts on what the layers read, between them, and on what they give.

    Args:
        inputs: What the steps are.
        settings: ``model`` and ``tagger``.

    Raises:
        InputError: If settings do not go together.
    """

    stream: int = 0
    """First of the streams of random numbers that dropout draws from."""

    def __init__(self, inputs: Words | Vectors, settings: Settings) -> None:
        super().__init__()
        model, tagger = settings.model, settings.tagger
        if model.tied:
            raise InputError("--tied is for language models: a tagger reads out tags")
        self.dropout, self.fixed = model.dropout, model.fixed_dropout
        self.front = (
            WordVectors(inputs, settings) if isinstance(inputs, Words) else Numeric(inputs.size)
        )
        width = self.front.width
        self.net: Recurrent | Mixed | None = None
        if tagger.net == "rnn":
            self.net = make_net(model, width)
            width = self.net.output_size
        elif tagger.net == "cnn":
            self.net = _filters(width, settings)
            width = model.hidden
        self.width = width
        self.dtype: torch.dtype = getattr(torch, model.dtype)
        """Of the states."""

    def begin(self, inputs: Words | Vectors, model: ModelSettings) -> None:
        """Let words begin as the vectors that were read for them, after all weights were drawn."""
        if isinstance(self.front, WordVectors) and isinstance(inputs, Words):
            self.front.begin(inputs, frozen=model.frozen_vectors)

    def states(self, inputs: tuple[Tensor, ...], lengths: Tensor) -> Tensor:
        """Give what is read out (T, B, H)."""
        x = self._dropped(self.front(inputs, self.dtype), 0)
        if self.net is None:
            return x
        full = bool((lengths == len(x)).all())
        return self._dropped(self.net(x, lengths=None if full else lengths)[0], 1)

    def _dropped(self, x: Tensor, place: int) -> Tensor:
        if not (self.training and self.dropout):
            return x
        return dropout(x, self.dropout, self.stream + place, fixed=self.fixed)


class Tagger(Reader):
    """A reader, and a read-out.

    Args:
        inputs: What the steps are.
        outputs: What is told of them.
        settings: ``model`` and ``tagger``.

    Raises:
        InputError: If settings do not go together.
    """

    def __init__(
        self, inputs: Words | Vectors, outputs: Labels | Numbers, settings: Settings
    ) -> None:
        super().__init__(inputs, settings)
        model = settings.model
        self.readout: Readout = make_readout(self.width, outputs, settings)
        if model.initial_scale:
            normal_start(self, model.initial_scale)
        self.begin(inputs, model)
        self.to(self.dtype)

    def forward(
        self, inputs: tuple[Tensor, ...], lengths: Tensor, tags: Tensor, forced: float = 1.0
    ) -> Tensor:
        """Compute the loss, mean over all steps.

        Args:
            inputs: Of a :class:`~unrolled.data.tagged.TagBatch`.
            lengths: Steps of each row (B,).
            tags: (T, B), or numbers (T, B, O).
            forced: How often a read-out is fed the true tag, not its own.
        """
        return self.readout.loss(self.states(inputs, lengths), lengths, tags, forced)

    def judge(
        self, inputs: tuple[Tensor, ...], lengths: Tensor, tags: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give the loss, fed true tags, and what :meth:`tell` gives."""
        h = self.states(inputs, lengths)
        return self.readout.loss(h, lengths, tags, 1.0), self.readout.tell(h, lengths)

    def tell(self, inputs: tuple[Tensor, ...], lengths: Tensor) -> Tensor:
        """Tell the tags (T, B), or numbers (T, B, O); past a row's end anything."""
        return self.readout.tell(self.states(inputs, lengths), lengths)


def _filters(width: int, settings: Settings) -> Mixed:
    """Layers of filters over steps, each row by itself (Collobert et al. 2011, section 3.3.1)."""
    model, members = settings.model, []
    for layer in range(model.layers):
        reads = model.hidden if layer else width
        members += [
            Convolution1d(reads, model.hidden, settings.tagger.span, padding="same"),
            nn.ReLU(),
        ]
        if model.dropout and layer < model.layers - 1:
            members.append(nn.Dropout(model.dropout))
    return Mixed(*members)


def tensors(model: nn.Module, batch: TagBatch) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Put a batch where a model's weights are: inputs, lengths (B,), and what is to be told."""
    device = next(model.parameters()).device
    inputs = tuple(torch.from_numpy(part).to(device) for part in batch.inputs)
    lengths, tags = (torch.from_numpy(part).to(device) for part in (batch.lengths, batch.tags))
    return inputs, lengths, tags
