"""Generate: a language model over characters, bytes, words or subwords.

T is the window, B the rows of a batch, V the number of symbols.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells.start import normal_start
from unrolled.data import Corpus, Part, Vocabulary, Window, Windows, encode_sources, prepare_corpus
from unrolled.engine import Cell, Chain, Declined
from unrolled.engine.randomness import dropout
from unrolled.errors import InputError, RunError
from unrolled.layers import Symbols
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings
from unrolled.tasks.decoding import Drawing, Sampler, beam_search
from unrolled.tasks.ngram import NGram
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, Task

VALIDATION_LIMIT = 200_000
"""Symbols of the validation split read at each evaluation; the test split is read whole."""
STRETCH = 4096
"""Symbols that one row reads, from a zero state, when a text is scored."""
SHORT_STRETCH = 512
"""The same while training: more rows side by side are faster, and lose a little of the context."""


class LanguageModel(nn.Module):
    """Symbols -> recurrent layers -> logits of the next symbol.

    Dropout is applied to the output of every layer, the last one's too, and never through time
    (Zaremba, Sutskever & Vinyals 2014).

    Args:
        size: Number of symbols V.
        model: Cell, widths and dropout.

    Raises:
        InputError: If weights are to be tied whose shapes differ.
    """

    def __init__(self, size: int, model: ModelSettings) -> None:
        super().__init__()
        if model.bidirectional:
            raise InputError(
                "--bidirectional would let a language model read what it should foretell"
            )
        self.symbols = Symbols(size, model.embedding)
        self.net = make_net(model, self.symbols.width)
        self.readout = nn.Linear(self.net.output_size, size)
        if model.tied:
            table = self.symbols.table
            if table is None or table.weight.shape != self.readout.weight.shape:
                raise InputError(
                    f"--tied needs an embedding as wide as the top layer: --embedding {self.net.output_size}"
                )
            self.readout.weight = table.weight
        if model.initial_scale:
            normal_start(self, model.initial_scale)
        self.to(getattr(torch, model.dtype))

    def forward(
        self, ids: Tensor, states: Carry | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Carry]:
        """Score what follows: ids (T, B) -> logits (T, B, V), states name -> (L, B, H)."""
        x = self.symbols(ids, self.readout.weight.dtype)
        y, last = self.net(x, states, lengths=lengths)
        if self.training and self.net.dropout:
            y = dropout(y, self.net.dropout, self.net.num_layers)
        return self.readout(y), last


class Generate(Task):
    """Predict the next symbol, from all before it."""

    name = "generate"
    summary = "language model: text -> more text"
    criterion = Criterion("nats_per_symbol", "lower")
    headline = "bits_per_character"
    defaults: ClassVar = {
        "data": {"source": ("english",)},
        "training": {"steps": 3000, "lr": 0.003, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        vocabulary: Vocabulary,
        ngram: NGram,
        corpus: Corpus | None = None,
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.ngram = ngram
        self._corpus = corpus

    @property
    def corpus(self) -> Corpus:
        """The encoded text; only a task that was prepared has it."""
        if self._corpus is None:
            raise RunError("this task was restored from a model directory and has no training data")
        return self._corpus

    @cached_property
    def windows(self) -> Windows:
        """The training text, cut into windows."""
        training = self.settings.training
        return Windows(
            self.corpus.training.ids, training.batch_size, training.window, training.stride
        )

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and encode the text; fit the vocabulary and n-grams on its training split.

        Raises:
            InputError: If the text is missing, unreadable or shorter than one window.
        """
        corpus, vocabulary = prepare_corpus(settings.data)
        ngram = NGram.fit(corpus.training.ids, len(vocabulary))
        task = cls(settings, vocabulary, ngram, corpus)
        _ = task.windows  # a text that is too short is found before anything is written
        return task

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its vocabulary and counts."""
        vocabulary = Vocabulary.from_json(artefacts.vocabulary, "vocabulary.json")
        return cls(settings, vocabulary, NGram.from_arrays(artefacts.baseline))

    def artefacts(self) -> Artefacts:
        """Give the vocabulary and the n-gram counts."""
        return Artefacts(self.vocabulary.to_json(), self.ngram.to_arrays())

    def build(self) -> LanguageModel:
        """Build the model, its initial weights drawn from the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            return LanguageModel(len(self.vocabulary), self.settings.model)

    @property
    def data_digest(self) -> str:
        """A hash of the text and how it is split and encoded."""
        return self.corpus.digest

    @property
    def steps_per_epoch(self) -> int:
        """Windows in each row's stretch of the training text."""
        return self.windows.per_epoch

    @property
    def initial_loss(self) -> float:
        """The loss when all symbols seem alike: ln V a symbol."""
        return math.log(len(self.vocabulary)) * self._symbols_in_loss

    @property
    def _symbols_in_loss(self) -> int:
        training = self.settings.training
        return (training.stride or training.window) if training.loss == "sum" else 1

    def batch(self, step: int, rows: slice) -> Window:
        """Window number `step` of the rows' own stretches of text: inputs and targets (T, B)."""
        return self.windows(step, rows)

    def loss(self, model: nn.Module, batch: Window, carry: Carry) -> tuple[Tensor, Carry]:
        """Cross-entropy of the next symbols in nats: mean over rows, mean or sum over the steps.

        The carried state is dropped where the text starts again.
        """
        device = next(model.parameters()).device
        inputs = torch.from_numpy(batch.inputs).to(device)
        targets = torch.from_numpy(batch.targets).to(device)
        states: Carry = {} if batch.fresh else carry
        pieces, passed = [], []
        for piece in inputs.tensor_split([batch.carried]):
            if len(piece):
                logits, states = model(piece, states)
                pieces.append(logits)
            passed.append(states)
        logits = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        told = logits[-len(targets) :]
        nats = functional.cross_entropy(told.flatten(0, 1), targets.flatten())
        kept = {name: state.detach() for name, state in passed[0].items()}
        return nats * self._symbols_in_loss, kept

    def chain(self, model: nn.Module) -> Chain:
        """Give the parts of a language model that is cells one upon another."""
        assert isinstance(model, LanguageModel)
        if self.settings.training.stride not in (None, self.settings.training.window):
            raise Declined("windows overlap")
        if model.net.additions:
            raise Declined(model.net.additions)
        table = model.symbols.table
        cells: list[Cell] = [*model.net.cells]  # pyright: ignore[reportAssignmentType]
        return Chain(
            model.symbols.size, None if table is None else table.weight, cells, model.readout
        )

    def symbols(self, batch: Window, carry: Carry) -> tuple[Tensor, Tensor, Carry, float]:
        """Give a window's symbols; the carried state is dropped where the text starts again."""
        inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        return inputs, targets, {} if batch.fresh else carry, float(self._symbols_in_loss)

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Cross-entropy on a split, as nats a symbol, bits a character, and perplexity."""
        part = self._part(split)
        stretch = SHORT_STRETCH if split == "validation" else STRETCH
        return _units(self._nats(model, part.ids, stretch), part)

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Score the split by n-grams of orders 1 to 7."""
        return self._ngrams(self._part(split))

    def _ngrams(self, part: Part) -> dict[str, dict[str, float]]:
        nats = self.ngram.cross_entropy(part.ids)
        return {f"{order}-gram": _units(value, part) for order, value in nats.items()}

    def _part(self, split: Split) -> Part:
        part: Part = getattr(self.corpus, split)
        if split == "validation" and len(part) > VALIDATION_LIMIT:
            share = VALIDATION_LIMIT / len(part)
            return Part(part.ids[:VALIDATION_LIMIT], round(part.characters * share))
        return part

    @torch.no_grad()
    def _nats(self, model: nn.Module, ids: np.ndarray, stretch: int = STRETCH) -> float:
        """Mean of -ln p over all symbols but the first.

        The text is cut into rows read side by side; each starts from a zero state, and has the
        last symbol of the row before as its first input, so that every symbol is scored once.
        """
        if len(ids) < 2:
            raise InputError("a text of fewer than two symbols cannot be scored")
        device = next(model.parameters()).device
        rows = min(max((len(ids) - 1) // stretch, 1), 64)
        stretch = -(-(len(ids) - 1) // rows)
        starts = np.arange(rows) * stretch
        total, states = 0.0, None
        for t in range(0, stretch, 256):
            places = starts + np.arange(t, min(t + 256, stretch))[:, None]
            real = places < len(ids) - 1
            places = np.where(real, places, 0)
            inputs, targets = (
                torch.from_numpy(ids[p].astype(np.int64)).to(device) for p in (places, places + 1)
            )
            logits, states = model(inputs, states)
            nats = functional.cross_entropy(
                logits.flatten(0, 1).double(), targets.flatten(), reduction="none"
            )
            total += float(nats[torch.from_numpy(real).flatten().to(device)].sum())
        return total / (len(ids) - 1)

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as bits a character."""
        part = self.corpus.training
        nats = loss / self._symbols_in_loss
        return {"bits_per_character": _units(nats, part)["bits_per_character"]}

    def throughput(self) -> tuple[int, str]:
        """Symbols that one update reads."""
        training = self.settings.training
        return training.batch_size * (
            training.stride or training.window
        ), f"{self.settings.data.symbols}s"

    def show(self, model: nn.Module, step: int) -> str:
        """Write a sample, a new one at every step."""
        training = self.settings.training
        seed = training.seed + step
        return "".join(self.sample(model, length=training.sample_length, seed=seed))

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Score other text: nats a symbol, bits a character, perplexity, and the n-grams beside them."""
        part = encode_sources(sources, self.vocabulary, self.settings.data.encoding)
        unknown = 0
        if self.vocabulary.unknown is not None:
            unknown = int(np.count_nonzero(np.asarray(part.ids) == self.vocabulary.unknown))
        return {
            **_units(self._nats(model, part.ids), part),
            "symbols": len(part),
            "unknown_symbols": unknown,
            "baselines": self._ngrams(part),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Continue each input, always by the likeliest symbol."""
        length = self.settings.training.sample_length
        for prompt in inputs:
            text = "".join(self.sample(model, prompt, length=length, temperature=0))
            yield {"prompt": prompt, "text": text}

    def sample(
        self,
        model: nn.Module,
        prompt: str = "",
        *,
        length: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | None = None,
        seed: int = 0,
        sample: int = 0,
        unknown: Literal["error", "skip"] = "error",
    ) -> Iterator[str]:
        """Write on after a prompt, piece by piece as it is drawn.

        Args:
            model: The model.
            prompt: What the text begins with; not repeated in what is given.
            length: Symbols to draw.
            temperature: 0 takes the likeliest symbol each time; higher is wilder.
            top_k: Draw among the k likeliest only.
            top_p: Draw among the likeliest that together hold this probability.
            stop: End before this text.
            seed: The same seed gives the same text.
            sample: Which of several samples of this seed.
            unknown: Whether symbols of the prompt that the model never saw are an error or skipped.

        Raises:
            InputError: If an argument is out of range or the prompt holds an unknown symbol.
        """
        sampler = Sampler(Drawing(temperature, top_k, top_p), seed, sample)
        _check_length(length)
        return self._write(model, self._read(prompt, unknown), length, sampler, stop)

    def _write(
        self, model: nn.Module, ids: np.ndarray, length: int, sampler: Sampler, stop: str | None
    ) -> Iterator[str]:
        stream, held = self.vocabulary.stream(), ""
        logits, states = self._listen(model, ids)
        for _ in range(length):
            chosen = sampler.draw(logits)
            held += stream.push(chosen)
            if stop and stop in held:
                yield held[: held.index(stop)]
                return
            settled = len(held) - _overlap(held, stop) if stop else len(held)
            if settled:
                yield held[:settled]
            held = held[settled:]
            logits, states = self._listen(model, np.array([chosen]), states)
        yield held + stream.flush()

    def beam(
        self,
        model: nn.Module,
        prompt: str = "",
        *,
        length: int = 200,
        width: int = 8,
        stop: str | None = None,
        unknown: Literal["error", "skip"] = "error",
    ) -> str:
        """Find a likely continuation of a prompt by beam search of `width` hypotheses.

        Raises:
            InputError: If an argument is out of range or the prompt holds an unknown symbol.
        """
        _check_length(length)
        ids = self._read(prompt, unknown)

        @torch.no_grad()
        def step(ids: Tensor, states: Carry) -> tuple[Tensor, Carry]:
            logits, states = model(ids.to(next(model.parameters()).device).unsqueeze(0), states)
            return self._mask(logits[0]), states

        def ended(ids: Sequence[int]) -> bool:
            return bool(stop) and stop in self.vocabulary.decode(ids)

        logits, states = self._listen(model, ids)
        (chosen,) = beam_search(
            step, logits[None], states, width=width, length=length, ended=ended
        )
        text = self.vocabulary.decode(chosen)
        return text[: text.index(stop)] if stop and stop in text else text

    def _read(self, prompt: str, unknown: Literal["error", "skip"]) -> np.ndarray:
        """Ids of a prompt; of a line's start, or the first symbol, where it is empty."""
        missing = self.vocabulary.missing(prompt)
        if missing and unknown == "error":
            names = ", ".join(map(repr, missing[:5]))
            raise InputError(
                f"the prompt holds {names}, which the model never saw; leave it out or give --unknown skip"
            )
        ids = self.vocabulary.encode(prompt) if prompt else np.empty(0, np.int64)
        if missing:
            ids = ids[ids != self.vocabulary.unknown]
        if not len(ids):
            ids = self.vocabulary.encode("\n") if not self.vocabulary.missing("\n") else np.zeros(1)
        return ids.astype(np.int64)

    @torch.no_grad()
    def _listen(
        self, model: nn.Module, ids: np.ndarray, states: Carry | None = None
    ) -> tuple[Tensor, Carry]:
        """Read ids (T,) -> logits (V,) of what follows, and the states."""
        device = next(model.parameters()).device
        logits, last = model(torch.from_numpy(ids).to(device).unsqueeze(1), states)
        return self._mask(logits[-1, 0]), last

    def _mask(self, logits: Tensor) -> Tensor:
        """Never write the unknown symbol."""
        if self.vocabulary.unknown is not None:
            logits[..., self.vocabulary.unknown] = -math.inf
        return logits


def _units(nats: float, part: Part) -> dict[str, float]:
    """Cross-entropy in nats a symbol, in the units people read."""
    return {
        "nats_per_symbol": nats,
        "bits_per_character": nats / math.log(2) * len(part) / max(part.characters, 1),
        "perplexity": math.exp(min(nats, 700)),
    }


def _check_length(length: int) -> None:
    if length < 0:
        raise InputError(f"--length must be 0 or more, not {length}")


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of the stop text."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
