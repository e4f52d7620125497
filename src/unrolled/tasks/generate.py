"""Generate: a language model over characters, bytes, words or subwords.

T is the window, B the rows of a batch, V the number of symbols.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data import Vocabulary
from unrolled.engine import Cell, Chain, Declined
from unrolled.errors import InputError
from unrolled.layers.losses import AdaptiveSoftmax, SampledSoftmax
from unrolled.settings import Settings
from unrolled.settings.belonging import TEXTS, refuse_others
from unrolled.tasks.decoding import Drawing, Sampler
from unrolled.tasks.labelled_texts import Labelled
from unrolled.tasks.language import LanguageModel, Readout, units
from unrolled.tasks.language_texts import Running, Texts
from unrolled.tasks.pen import Pen, Unknown
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, Task, seeded

SHOWN = 6
"""Labels of which :meth:`Generate.show` writes a text."""


class Generate(Task):
    """Predict the next symbol, from all before it and, if the texts have labels, from a text's label.

    What is read, its own :class:`~unrolled.tasks.language_texts.Texts` knows.
    """

    name = "generate"
    summary = "language model: text -> more text"
    criterion = Criterion("nats_per_symbol", "lower")
    losses = ("cross-entropy",)
    defaults: ClassVar = {
        "data": {"source": ("english",)},
        "training": {"steps": 3000, "lr": 0.003, "clip_norm": 1.0},
    }

    def __init__(self, settings: Settings, texts: Texts) -> None:
        self.settings, self.texts = settings, texts
        words = settings.data.symbols == "word"
        self.headline = "perplexity" if words else "bits_per_character"

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and encode the text; fit the vocabulary and n-grams on its training split.

        Raises:
            InputError: If the text is missing, unreadable or shorter than one window; or texts with labels
                are, or are too few to split; or the softmax is not for such symbols.
        """
        _check_softmax(settings)
        kind = _kind(settings)
        labelled, running = TEXTS
        refuse_others(settings, TEXTS, labelled if kind is Labelled else running)
        return cls(settings, kind.prepare(settings))

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its vocabulary, labels and counts."""
        return cls(settings, _kind(settings).restore(settings, artefacts))

    def artefacts(self) -> Artefacts:
        """Give the vocabulary, the labels and the n-gram counts."""
        return self.texts.artefacts()

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols."""
        return self.texts.vocabulary

    def build(self) -> LanguageModel:
        """Build the model, its initial weights drawn from the run's seed."""
        texts, own = self.texts, self.settings.generator
        with seeded(self.settings.training.seed):
            return LanguageModel(
                texts.size,
                self.settings.model,
                len(texts.labels),
                begins=own.condition == "state",
                readout=self._readout,
            )

    def _readout(self, width: int, size: int) -> Readout:
        """Build what scores the symbols."""
        own = self.settings.generator
        # Symbols of unknown words and of ends come last, and often.
        common = self.texts.size - len(self.vocabulary) + (self.vocabulary.unknown is not None)
        if own.softmax == "sampled":
            return SampledSoftmax(width, size, own.samples, common)
        if own.softmax == "full":
            return nn.Linear(width, size)
        try:
            return AdaptiveSoftmax(width, size, own.cutoffs, common=common)
        except ValueError as error:
            raise InputError(f"--softmax adaptive: {error}") from None

    @property
    def data_digest(self) -> str:
        """A hash of the text and how it is split and encoded."""
        return self.texts.digest

    @property
    def steps_per_epoch(self) -> int:
        """Windows in each row's stretch of the training text, or batches of all texts with labels."""
        return self.texts.per_epoch

    @property
    def initial_loss(self) -> float:
        """The loss when all symbols seem alike: ln V a symbol."""
        return math.log(self.texts.size) * self.texts.symbols_in_loss

    def batch(self, step: int, rows: slice) -> Any:  # noqa: ANN401 - as the texts have it
        """Rows of batch number `step`."""
        return self.texts.batch(step, rows)

    def loss(self, model: nn.Module, batch: Any, carry: Carry) -> tuple[Tensor, Carry]:  # noqa: ANN401
        """Cross-entropy of the next symbols in nats; of a running text, what its next window goes on from."""
        return self.texts.loss(model, batch, carry)

    def chain(self, model: nn.Module) -> Chain:
        """Give the parts of a language model that is cells one upon another."""
        assert isinstance(model, LanguageModel)
        if not isinstance(self.texts, Running):
            raise Declined("texts end at different steps")
        if self.settings.training.stride not in (None, self.settings.training.window):
            raise Declined("windows overlap")
        if model.net.additions:
            raise Declined(model.net.additions)
        softmax = self.settings.generator.softmax
        if softmax != "full" or not isinstance(model.readout, nn.Linear):
            raise Declined(f"the softmax is {softmax}")
        table = model.symbols.table
        cells: list[Cell] = [*model.net.cells]  # pyright: ignore[reportAssignmentType]
        return Chain(
            model.symbols.size, None if table is None else table.weight, cells, model.readout
        )

    def symbols(self, batch: Any, carry: Carry) -> tuple[Tensor, Tensor, Carry, float]:  # noqa: ANN401
        """Give a window's symbols; the carried state is dropped where the text starts again."""
        inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
        return inputs, targets, {} if batch.fresh else carry, float(self.texts.symbols_in_loss)

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Cross-entropy on a split, as nats a symbol, bits a character, and perplexity, that of a symbol."""
        return self.texts.validate(model, split)

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Score the split by n-grams of orders 1 to 7, of all texts and of those of a label."""
        return self.texts.baselines(split)

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss in the unit of the headline."""
        nats = loss / self.texts.symbols_in_loss
        found = units(nats, 1, 1)
        found["bits_per_character"] /= self.texts.characters_per_symbol
        return {self.headline: found[self.headline]}

    def throughput(self) -> tuple[int, str]:
        """Symbols or texts that one update reads."""
        return self.texts.per_update

    def show(self, model: nn.Module, step: int) -> str:
        """Write a sample, or one of some labels; new ones at every step."""
        training = self.settings.training
        options: dict[str, Any] = {"length": training.sample_length, "seed": training.seed + step}
        labels = self.texts.labels
        if not training.sample_length:
            return ""
        if not labels:
            return "".join(self.sample(model, **options))
        places = np.linspace(0, len(labels) - 1, SHOWN).astype(int)
        shown = (labels[int(i)] for i in dict.fromkeys(places))
        return "\n".join(
            f"{label}: {''.join(self.sample(model, label=label, **options)).strip()}"
            for label in shown
        )

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Score other text: nats a symbol, bits a character, perplexity, and the n-grams beside them.

        Returns:
            The figures of :meth:`validate`, ``symbols``, ``unknown_symbols`` and ``baselines``; of texts with
            labels also ``texts``, and of each label ``labels``.

        Raises:
            InputError: If the text is missing, unreadable or empty, or has a label the model does not know.
        """
        return self.texts.evaluate(model, sources)

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Continue each input, always by the likeliest symbol; if there are labels, as a text of each."""
        options: dict[str, Any] = {"length": self.settings.training.sample_length, "temperature": 0}
        for prompt in inputs:
            found = {
                label: "".join(self.sample(model, prompt, label=label, **options))
                for label in self.texts.labels or (None,)
            }
            yield {
                "prompt": prompt,
                **({"texts": found} if self.texts.labels else {"text": found[None]}),
            }

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
        unknown: Unknown = "error",
        label: str | None = None,
    ) -> Iterator[str]:
        """Write on after a prompt, piece by piece as it is drawn.

        Args:
            model: The model.
            prompt: What the text begins with; not repeated in what is given.
            length: Symbols to draw, at most where texts have labels: these end by themselves.
            temperature: 0 takes the likeliest symbol each time; higher is wilder.
            top_k: Draw among the k likeliest only.
            top_p: Draw among the likeliest that together hold this probability.
            stop: End before this text.
            seed: The same seed gives the same text.
            sample: Which of several samples of this seed.
            unknown: Whether symbols of the prompt that the model never saw are an error or skipped.
            label: What kind of text, for a model that learned labels.

        Raises:
            InputError: If an argument is out of range, the prompt holds an unknown symbol, or the label is
                missing or unknown.
        """
        sampler = Sampler(Drawing(temperature, top_k, top_p), seed, sample)
        _check_length(length)
        return self._pen(model, label).write(prompt, unknown, length, sampler, stop)

    def beam(
        self,
        model: nn.Module,
        prompt: str = "",
        *,
        length: int = 500,
        width: int = 8,
        stop: str | None = None,
        unknown: Unknown = "error",
        label: str | None = None,
    ) -> str:
        """Find a likely continuation of a prompt by beam search of `width` hypotheses.

        Raises:
            InputError: As :meth:`sample`.
        """
        _check_length(length)
        return self._pen(model, label).beam(prompt, unknown, length, width, stop)

    def _pen(self, model: nn.Module, label: str | None) -> Pen:
        texts = self.texts
        if label is None and not texts.labels:
            return Pen(model, texts.vocabulary, texts.end)
        known = ", ".join(texts.labels)
        if not texts.labels:
            raise InputError(f"--label {label}: this model was told no labels; leave it out")
        if label not in texts.labels:
            raise InputError(f"--label {label or 'is missing'}: give one of {known}")
        return Pen(model, texts.vocabulary, texts.end, texts.labels.index(label))


def _kind(settings: Settings) -> type[Running] | type[Labelled]:
    return Running if settings.generator.condition is None else Labelled


def _check_softmax(settings: Settings) -> None:
    softmax = settings.generator.softmax
    if softmax == "full":
        return
    if settings.data.symbols != "word":
        raise InputError(
            f"--softmax {softmax} is for --symbols word, which are numbered by falling frequency"
        )
    if settings.training.label_smoothing:
        raise InputError(f"--label-smoothing goes with --softmax full, not with {softmax}")


def _check_length(length: int) -> None:
    if length < 0:
        raise InputError(f"--length must be 0 or more, not {length}")
