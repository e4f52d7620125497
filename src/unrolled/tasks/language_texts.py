"""What a language model learns from: one running text, as a rule.

T is the window, B the rows of a batch, V the number of symbols.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data import Corpus, Part, Vocabulary, Window, Windows, encode_sources, prepare_corpus
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.language import units
from unrolled.tasks.ngram import NGram
from unrolled.tasks.task import Artefacts, Carry, Split, held

VALIDATION_LIMIT = 200_000
"""Symbols of the validation split read at each evaluation; the test split is read whole."""
STRETCH = 1 << 16
"""Symbols that one row reads, from a zero state, when a text is scored."""
SHORT_STRETCH = 512
"""The same while training: more rows side by side are faster, and lose a little of the context."""
AT_ONCE = 1 << 24
"""Scores computed at once, which bounds the memory of a large vocabulary."""
Figures = dict[str, dict[str, float]]
"""Name of a baseline -> its figures."""


class Texts(ABC):
    """One kind of text, with its splits or, restored, only with what it needs to read more of it."""

    settings: Settings
    vocabulary: Vocabulary
    labels: Sequence[str] = ()
    """What the model is told of a text; none if nothing."""
    symbols_in_loss: int = 1
    """What nats a symbol are multiplied by to be the loss."""

    @property
    def end(self) -> int | None:
        """The symbol before and after each text, if there is one; the vocabulary has it not."""
        return None

    @property
    def size(self) -> int:
        """V."""
        return len(self.vocabulary) + (self.end is not None)

    @abstractmethod
    def artefacts(self) -> Artefacts:
        """Give what the text needs to be restored."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """A hash of the text and how it is split and encoded."""

    @property
    @abstractmethod
    def per_epoch(self) -> int:
        """Updates in one pass over the training split."""

    @property
    @abstractmethod
    def per_update(self) -> tuple[int, str]:
        """How many units an update reads, and their name."""

    @property
    @abstractmethod
    def characters_per_symbol(self) -> float:
        """Of the training text."""

    @abstractmethod
    def batch(self, step: int, rows: slice) -> Any:  # noqa: ANN401 - of its own kind
        """Rows of batch number `step`."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, carry: Carry) -> tuple[Tensor, Carry]:  # noqa: ANN401
        """Compute the loss, and what the next batch goes on from."""

    @abstractmethod
    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge the model on a split."""

    @abstractmethod
    def baselines(self, split: Split) -> Figures:
        """Judge n-grams on a split."""

    @abstractmethod
    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other texts, n-grams beside it."""

    def unknown(self, ids: np.ndarray) -> int:
        """Count the unknown symbols."""
        if self.vocabulary.unknown is None:
            return 0
        return int(np.count_nonzero(np.asarray(ids) == self.vocabulary.unknown))


class Running(Texts):
    """One long text.

    Args:
        settings: Of the run.
        vocabulary: The symbols.
        ngram: Fitted on the training split.
        corpus: The encoded text; ``None`` if restored.
    """

    def __init__(
        self,
        settings: Settings,
        vocabulary: Vocabulary,
        ngram: NGram,
        corpus: Corpus | None = None,
    ) -> None:
        self.settings, self.vocabulary, self.ngram = settings, vocabulary, ngram
        self._corpus = corpus
        training = settings.training
        if training.reduction == "sum":
            self.symbols_in_loss = training.stride or training.window

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and encode the text; fit the vocabulary and n-grams on its training split."""
        corpus, vocabulary = prepare_corpus(settings.data)
        ngram = NGram.fit(corpus.training.ids, len(vocabulary))
        text = cls(settings, vocabulary, ngram, corpus)
        _ = text.windows  # a text that is too short is found before anything is written
        return text

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild from the vocabulary and counts."""
        vocabulary = Vocabulary.from_json(artefacts.vocabulary, "vocabulary.json")
        return cls(settings, vocabulary, NGram.from_arrays(artefacts.baseline))

    def artefacts(self) -> Artefacts:
        """Give the vocabulary and the n-gram counts."""
        return Artefacts(self.vocabulary.to_json(), self.ngram.to_arrays())

    @property
    def corpus(self) -> Corpus:
        """The encoded text; only one that was prepared has it."""
        return held(self._corpus)

    @cached_property
    def windows(self) -> Windows:
        """The training text, cut into windows."""
        training = self.settings.training
        return Windows(
            self.corpus.training.ids, training.batch_size, training.window, training.stride
        )

    @property
    def digest(self) -> str:
        """A hash of the text and how it is split and encoded."""
        return self.corpus.digest

    @property
    def per_epoch(self) -> int:
        """Windows in each row's stretch of the training text."""
        return self.windows.per_epoch

    @property
    def per_update(self) -> tuple[int, str]:
        """Symbols that one update reads."""
        training = self.settings.training
        stride = training.stride or training.window
        return training.batch_size * stride, f"{self.settings.data.symbols}s"

    @property
    def characters_per_symbol(self) -> float:
        """Of the training text."""
        part = self.corpus.training
        return part.characters / len(part)

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
        full = self.settings.generator.softmax == "full"
        first = max(0, batch.carried - (len(inputs) - len(targets)))
        pieces, passed = [], []
        for piece, following in zip(
            inputs.tensor_split([batch.carried]), targets.tensor_split([first]), strict=True
        ):
            if len(piece):
                told, states = model(piece, states, targets=None if full else following)
                pieces.append(told)
            passed.append(states)
        told = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        if full:
            smoothing = self.settings.training.label_smoothing
            nats = functional.cross_entropy(
                told[-len(targets) :].flatten(0, 1), targets.flatten(), label_smoothing=smoothing
            )
        else:
            nats = told.mean()
        kept = {name: state.detach() for name, state in passed[0].items()}
        return nats * self.symbols_in_loss, kept

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge the model on a split, or the first part of a long validation split."""
        part = self._part(split)
        stretch = SHORT_STRETCH if split == "validation" else STRETCH
        return units(self.nats(model, part.ids, stretch), len(part), part.characters)

    def baselines(self, split: Split) -> Figures:
        """Score the split by n-grams of orders 1 to 7."""
        return self._ngrams(self._part(split))

    def _ngrams(self, part: Part) -> Figures:
        nats = self.ngram.cross_entropy(part.ids)
        return {f"{n}-gram": units(nat, len(part), part.characters) for n, nat in nats.items()}

    def _part(self, split: Split) -> Part:
        part: Part = getattr(self.corpus, split)
        if split == "validation" and len(part) > VALIDATION_LIMIT:
            share = VALIDATION_LIMIT / len(part)
            return Part(part.ids[:VALIDATION_LIMIT], round(part.characters * share))
        return part

    @torch.no_grad()
    def nats(self, model: nn.Module, ids: np.ndarray, stretch: int = STRETCH) -> float:
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
        steps = max(1, min(256, AT_ONCE // (rows * self.size)))
        for t in range(0, stretch, steps):
            places = starts + np.arange(t, min(t + steps, stretch))[:, None]
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

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Score other text."""
        part = encode_sources(sources, self.vocabulary, self.settings.data.encoding)
        return {
            **units(self.nats(model, part.ids), len(part), part.characters),
            "symbols": len(part),
            "unknown_symbols": self.unknown(part.ids),
            "baselines": self._ngrams(part),
        }
