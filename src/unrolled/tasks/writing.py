"""What the tasks have in common that write a text about what they read.

S symbols written, T steps read, B rows, V symbols of the vocabulary; one symbol more, the last, begins and
ends every text.
"""

import math
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells.start import normal_start
from unrolled.data.side import Side
from unrolled.data.splits import in_batch
from unrolled.errors import InputError
from unrolled.layers.encoder_decoder import Decoder, Encoder, EncoderDecoder
from unrolled.settings import Settings
from unrolled.tasks.decoding import Drawing, Sampler, States, beam_search, sample_sequences
from unrolled.tasks.examples import picked, tensors
from unrolled.tasks.scoring import References, scores, signature
from unrolled.tasks.splitting import shuffled
from unrolled.tasks.task import Carry, Split, Task, in_split, seeded
from unrolled.tasks.written import PADDING, Batch, Items, Manner, Rows

ROWS_AT_ONCE = 128
"""Rows that are read and written side by side."""
VALIDATION_LIMIT = 1000
"""Rows of the validation split that are written at each evaluation."""
SHOWN = 5


class Writer(Task):
    """A task whose model, an :class:`EncoderDecoder`, reads something and writes a text about it."""

    chooses = True
    wrote: Side
    """What is written, as symbols."""
    longest: int
    """Most symbols that are written."""
    spelt: ClassVar[Collection[str]] = ()
    """Data of which texts are written letter by letter where nobody says otherwise."""
    splits: dict[Split, Rows] | None
    unit: str
    """What rows are called."""

    # ------------------------------------------------------------ what a task of this kind says itself

    @abstractmethod
    def encoder(self) -> Any:  # noqa: ANN401 - a module with `summary_size` and `width`
        """Build what reads, its weights drawn from torch's generator: it gives a `Reading`.

        Raises:
            InputError: If settings do not go together.
        """

    @abstractmethod
    def laid(self, inputs: Items) -> tuple[np.ndarray, ...]:
        """Lay inputs side by side, as the encoder takes them."""

    @abstractmethod
    def lengths(self, inputs: Items) -> np.ndarray:
        """Give the steps of each input, (n,); those of like length are best read together."""

    @abstractmethod
    def guesses(self, items: Items) -> dict[str, list[str]]:
        """Name of a simple method -> what it writes about each item."""

    @abstractmethod
    def shown(self, item: Items) -> str:
        """Show what is read to a person."""

    def finished(
        self, model: nn.Module, items: Items, inputs: Items, ids: list[list[int]]
    ) -> list[str]:
        """Give the texts of what was written about items."""
        return [self.wrote.text(self.open(one)) for one in ids]

    # ------------------------------------------------------------ settings and model

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Take characters for what is spelt, and for all else the symbols of ``defaults``."""
        tables = {name: dict(fields) for name, fields in cls.defaults.items()}
        if (settings.data.source or tables["data"]["source"])[0] in cls.spelt:
            tables["data"]["symbols"] = "character"
        return tables

    def build(self) -> EncoderDecoder:
        """Build the model, its initial weights drawn from the run's seed."""
        model, own = self.settings.model, self.settings.decoder
        with seeded(self.settings.training.seed):
            encoder = self.encoder()
            decoder = Decoder(self.end + 1, model, own, encoder.summary_size, encoder.width)
            if isinstance(encoder, Encoder) and own.shared_vocabulary:
                encoder.symbols = decoder.symbols
            built = EncoderDecoder(encoder, decoder)
            if model.initial_scale:
                normal_start(built, model.initial_scale)
            return built.to(getattr(torch, model.dtype))

    # ------------------------------------------------------------ texts and ids

    @property
    def end(self) -> int:
        """The symbol that begins and ends every text."""
        return len(self.wrote.vocabulary)

    def open(self, ids: Sequence[int]) -> list[int]:
        """Give the ids of a text without its end."""
        return [i for i in ids if i != self.end]

    def pairs_of(self, references: References) -> list[tuple[int, np.ndarray]]:
        """Encode all references."""
        return [(i, self.wrote.ids(text)) for i, texts in enumerate(references) for text in texts]

    # ------------------------------------------------------------ training

    def rows(self, split: Split) -> Rows:
        """The rows of a split.

        Raises:
            InputError: If the split is empty.
            RunError: If the task was restored and has no data.
        """
        return in_split(self.splits, split)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training pair comes once."""
        return math.ceil(len(self.rows("training").pairs) / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all symbols seem alike."""
        return math.log(self.end + 1)

    def batch(self, step: int, rows: slice) -> Batch:
        """Rows of batch number `step`: training pairs of like length, shuffled anew in every epoch."""
        training, settings = self.rows("training"), self.settings.training
        size = settings.batch_size

        def order(epoch: int) -> np.ndarray:
            return shuffled(len(training.pairs), settings.seed, epoch, size, self._lengths)

        chosen = [training.pairs[i] for i in in_batch(len(training.pairs), size, step, rows, order)]
        inputs = picked(training.inputs, [place for place, _ in chosen])
        return Batch(self.laid(inputs), *self._sides([ids for _, ids in chosen]), self.forced(step))

    @property
    def _lengths(self) -> bytes:
        """Of each training pair what it is sorted by: what is written, then what is read, if that has steps.

        Captions are few and alike: batches of one length would each teach that length.
        """
        if not hasattr(self, "_sorted_by"):
            training = self.rows("training")
            read = np.minimum(self.lengths(training.inputs), 9999)
            found = [read[i] and 10_000 * len(ids) + read[i] for i, ids in training.pairs]
            self._sorted_by = np.array(found, np.int64).tobytes()
        return self._sorted_by

    def _sides(self, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Give what stands before and what comes after each symbol of texts, end included: (S, B)."""
        steps = max(len(ids) for ids in texts) + 1
        before = np.full((steps, len(texts)), self.end, np.int64)
        after = np.full_like(before, PADDING)
        for row, ids in enumerate(texts):
            before[1 : len(ids) + 1, row] = ids
            after[: len(ids), row] = ids
            after[len(ids), row] = self.end
        return before, after

    def loss(self, model: nn.Module, batch: Batch, carry: Carry) -> tuple[Tensor, Carry]:
        """Cross-entropy of what is to be written in nats, mean over symbols. Nothing is carried on.

        With ``label_smoothing`` a part of the truth is shared out among all symbols (Szegedy et al. 2016,
        section 7).
        """
        device = next(model.parameters()).device
        before, after = tensors((batch.before, batch.after), device)
        logits = model(tuple(tensors(batch.inputs, device)), before, batch.told)
        smoothing = self.settings.training.label_smoothing if model.training else 0.0
        flat = logits.flatten(0, 1), after.flatten()
        return functional.cross_entropy(*flat, ignore_index=PADDING, label_smoothing=smoothing), {}

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is, in nats a symbol."""
        return {"nats_per_symbol": loss}

    def throughput(self) -> tuple[int, str]:
        """Rows that one update reads."""
        return self.settings.training.batch_size, self.unit

    # ------------------------------------------------------------ judging

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Nats a symbol, and :func:`~unrolled.tasks.scoring.scores` of what is written.

        The validation split is judged by its first `VALIDATION_LIMIT` rows, written greedily; the test split
        whole, by beam search.
        """
        rows, own = self.rows(split), self.settings.decoder
        if split == "test":
            return self._judged(model, rows, Manner(own.beam, own.length_penalty))
        return self._judged(model, self._first(rows), Manner())

    @staticmethod
    def _first(rows: Rows) -> Rows:
        some = rows.some(range(min(len(rows), VALIDATION_LIMIT)))
        return Rows(*some, [pair for pair in rows.pairs if pair[0] < VALIDATION_LIMIT])

    def _judged(self, model: nn.Module, rows: Rows, manner: Manner) -> dict[str, float]:
        written = self.written(model, rows.items, rows.inputs, manner)
        nats = {"nats_per_symbol": self._nats(model, rows)}
        return nats | scores(written, rows.references)

    @torch.no_grad()
    def _nats(self, model: nn.Module, rows: Rows) -> float:
        total, symbols = 0.0, 0
        by_length = sorted(rows.pairs, key=lambda pair: len(pair[1]))
        for start in range(0, len(by_length), ROWS_AT_ONCE):
            some = by_length[start : start + ROWS_AT_ONCE]
            inputs = self.laid(picked(rows.inputs, [place for place, _ in some]))
            batch = Batch(inputs, *self._sides([ids for _, ids in some]))
            count = int((batch.after != PADDING).sum())
            total += float(self.loss(model, batch, {})[0]) * count
            symbols += count
        return total / symbols

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge simple methods on a split, its first rows as :meth:`validate` takes them."""
        rows = self.rows(split)
        return self._baselines(rows if split == "test" else self._first(rows))

    def _baselines(self, rows: Rows) -> dict[str, dict[str, float]]:
        return {
            name: scores(texts, rows.references) for name, texts in self.guesses(rows.items).items()
        }

    @property
    def note(self) -> str:
        """How BLEU is computed."""
        return f"BLEU: {signature(self.rows('training').references[:100])}"

    def judged(self, model: nn.Module, rows: Rows) -> dict[str, Any]:
        """Judge the model on other data, and the baselines beside it, as ``evaluate`` gives it."""
        own = self.settings.decoder
        return {
            **self._judged(model, rows, Manner(own.beam, own.length_penalty)),
            self.unit: len(rows),
            "signature": signature(rows.references),
            "baselines": self._baselines(rows),
        }

    def show(self, model: nn.Module, step: int) -> str:
        """Write about a few validation rows, the same at every step, greedily."""
        rows = self.rows("validation" if self.settings.data.validates else "training")
        chosen = np.random.default_rng([self.settings.training.seed, 6]).permutation(len(rows))
        items, inputs, references = rows.some(chosen[:SHOWN])
        texts = self.written(model, items, inputs, Manner())
        return "\n\n".join(
            f"{self.shown(item)}\n  {text}\n  " + ("(right)" if text in right else f"({right[0]})")
            for item, text, right in zip(items, texts, references, strict=True)
        )

    # ------------------------------------------------------------ writing

    def manner(
        self,
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Manner:
        """Say how to write: by beam search, as the settings have it, or drawn if it is said how.

        Raises:
            InputError: If a value is out of range, or both are asked for.
        """
        chosen = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        drawing = {name: value for name, value in chosen.items() if value is not None}
        if drawing and (beam, length_penalty) != (None, None):
            raise InputError(
                "--beam and --length-penalty search; leave --temperature, --top-k and --top-p out"
            )
        given = {"beam": beam, "length_penalty": length_penalty}
        own = Settings.from_flags(self.name, given, self.settings).decoder
        drawn: Any = Drawing(**drawing) if drawing else None
        return Manner(own.beam, own.length_penalty, drawn, seed)

    def written(self, model: nn.Module, items: Items, inputs: Items, manner: Manner) -> list[str]:
        """Write a text about each item."""
        return self.finished(model, items, inputs, self.found(model, inputs, manner))

    def found(self, model: nn.Module, inputs: Items, manner: Manner) -> list[list[int]]:
        """Write ids about each of the inputs; those of like length are read side by side."""
        ids: list[list[int]] = [[]] * len(inputs)
        for rows, states in self._reading(model, inputs):
            for row, one in zip(rows, self._found(model, states, rows, manner), strict=True):
                ids[row] = one
        return ids

    @torch.no_grad()
    def _reading(self, model: nn.Module, inputs: Items) -> Iterator[tuple[np.ndarray, States]]:
        """Read inputs, those of like length side by side; give their places and the states."""
        assert isinstance(model, EncoderDecoder)
        device = next(model.parameters()).device
        by_length = np.argsort(self.lengths(inputs), kind="stable")
        for start in range(0, len(by_length), ROWS_AT_ONCE):
            rows = by_length[start : start + ROWS_AT_ONCE]
            yield rows, model.read(tuple(tensors(self.laid(picked(inputs, rows)), device)))

    @torch.no_grad()
    def _found(
        self, model: nn.Module, states: States, rows: np.ndarray, manner: Manner
    ) -> list[list[int]]:
        assert isinstance(model, EncoderDecoder)
        device = next(model.parameters()).device

        def step(ids: Tensor, states: States) -> tuple[Tensor, States]:
            said = model.decoder(ids.to(device)[None], states)
            return self.allowed(said.logits[0]), said.states

        def ended(ids: Sequence[int]) -> bool:
            return ids[-1] == self.end

        first = step(torch.full((len(rows),), self.end), states)
        if manner.drawing:
            samplers = [Sampler(manner.drawing, manner.seed, int(row)) for row in rows]
            return sample_sequences(step, *first, samplers, length=self.longest, ended=ended)
        search = {"width": manner.beam, "penalty": manner.length_penalty}
        return beam_search(step, *first, length=self.longest, ended=ended, **search)

    def allowed(self, logits: Tensor) -> Tensor:
        """Never write the unknown symbol: logits (N, V)."""
        if (unknown := self.wrote.vocabulary.unknown) is not None:
            logits[:, unknown] = -math.inf
        return logits

    @torch.no_grad()
    def looked(
        self,
        model: nn.Module,
        inputs: Items,
        texts: Sequence[Sequence[int]],
    ) -> list[np.ndarray] | None:
        """Give what attention saw for each symbol of texts and their ends, (S, T); ``None`` without it."""
        assert isinstance(model, EncoderDecoder)
        device = next(model.parameters()).device
        written = [np.array(self.open(ids), int) for ids in texts]
        before, _ = self._sides(written)
        states = model.read(tuple(tensors(self.laid(inputs), device)))
        weights = model.decoder(torch.from_numpy(before).to(device), states).weights
        if weights is None:
            return None
        seen = weights.transpose(0, 1).cpu().numpy()  # (B, S, T)
        steps = [n or None for n in self.lengths(inputs)]
        return [one[: len(ids) + 1, :n] for one, ids, n in zip(seen, written, steps, strict=True)]


def check_settings(settings: Settings) -> None:
    """Refuse what goes together with no writer.

    Raises:
        InputError: If it does not.
    """
    own, data = settings.decoder, settings.data
    if own.copy_unknown and (data.symbols != "word" or own.attention == "none"):
        raise InputError(
            "--copy-unknown copies a word looked at: it needs --symbols word and --attention"
        )
