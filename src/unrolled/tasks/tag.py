"""Tag: one label for each token of a sequence.

T steps, B rows, V tokens, C tags.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells.start import normal_start
from unrolled.data.made import COPIED, SYMBOLS, copying
from unrolled.data.splits import SPLITS, drawn
from unrolled.data.tagged import PADDING, Lexicon, TagBatch, Tagged, read_tagged
from unrolled.errors import InputError, RunError
from unrolled.layers import Symbols
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, Task

COPYING = "copying"
COPIES_HELD = 1000
"""Rows of the copying problem in the validation and in the test split."""
ROWS_AT_ONCE = 250
SHOWN, SHOWN_STEPS = 3, 40


class Tagger(nn.Module):
    """Tokens -> recurrent layers -> logits of the tags at every step.

    Args:
        size: V, the unknown token included.
        tags: C.
        model: Cell, widths and noise.

    Raises:
        InputError: If weights are to be tied, which takes a read-out over symbols.
    """

    def __init__(self, size: int, tags: int, model: ModelSettings) -> None:
        super().__init__()
        if model.tied:
            raise InputError("--tied is for language models: a tagger reads out tags")
        self.symbols = Symbols(size, model.embedding)
        self.net = make_net(model, self.symbols.width)
        self.readout = nn.Linear(self.net.output_size, tags)
        if model.initial_scale:
            normal_start(self, model.initial_scale)
        self.to(getattr(torch, model.dtype))

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score the tags: ids (T, B), steps of each row (B,) -> logits (T, B, C)."""
        y, _ = self.net(self.symbols(ids, self.readout.weight.dtype), lengths=lengths)
        return self.readout(y)


class Tag(Task):
    """Give each token of a sequence one of the tags it was trained with.

    Sequences are shuffled by the seed and then split. Those of ``copying`` are drawn as they are needed.
    """

    name = "tag"
    summary = "tagger: token -> tag, in sequence"
    criterion = Criterion("nats_per_step")
    headline = "accuracy"
    defaults: ClassVar = {
        "data": {"source": ("python-tokens",), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64, "bidirectional": True},
        "training": {"steps": 400, "lr": 0.005, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        lexicon: Lexicon,
        counts: np.ndarray,
        splits: Mapping[Split, list[Tagged]] | None = None,
    ) -> None:
        self.settings, self.lexicon = settings, lexicon
        self.counts = counts
        """(V, C): how often each token had each tag in training."""
        self._splits = splits
        self._copies = settings.data.source == (COPYING,)
        self.examples = ("'tokens of yours'", COPYING if self._copies else "more-data.tsv")

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the sequences; count tokens and tags of the training split.

        Raises:
            InputError: If the data is missing or damaged, or has too few sequences to split.
        """
        data = settings.data
        if data.source == (COPYING,):
            return cls(settings, _copied_symbols(), np.zeros((0, 0)))
        sequences = read_tagged(data.source, data.encoding)
        order = np.random.default_rng([settings.training.seed]).permutation(len(sequences))
        ends = np.rint(np.cumsum((0, *data.split)) * len(sequences)).astype(int)
        splits: dict[Split, list[Tagged]] = {}
        for number, split in enumerate(SPLITS):
            part = order[ends[number] : ends[number + 1]]
            if data.split[number] and not len(part):
                raise InputError(
                    f"{len(sequences)} sequences are too few to split: none is left for {split}"
                )
            splits[split] = [sequences[i] for i in part]
        lexicon = Lexicon.fit(splits["training"], data.vocabulary_size)
        # Tags that only held-out sequences have are known, too, though never right.
        tags = sorted({tag for one in sequences for tag in one.tags})
        lexicon = Lexicon(lexicon.tokens, tags)
        counts = np.zeros((len(lexicon.tokens) + 1, len(tags)))
        for one in splits["training"]:
            np.add.at(counts, (lexicon.ids(one.tokens), lexicon.numbers(one.tags)), 1)
        return cls(settings, lexicon, counts, splits)

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its tokens, tags and counts."""
        table = artefacts.vocabulary
        if not isinstance(table.get("tokens"), list) or not isinstance(table.get("tags"), list):
            raise InputError("vocabulary.json has no tokens and tags; it is of no tagger")
        lexicon = Lexicon(table["tokens"], table["tags"])
        shape = (len(lexicon.tokens) + 1, len(lexicon.tags))
        counts = artefacts.baseline.get("counts", np.zeros((0, 0)))
        if settings.data.source != (COPYING,) and counts.shape != shape:
            raise InputError(f"the baselines are damaged: counts is {counts.shape}, not {shape}")
        return cls(settings, lexicon, counts)

    def artefacts(self) -> Artefacts:
        """Give the tokens, the tags, and how often they stand together."""
        table = {"tokens": self.lexicon.tokens, "tags": self.lexicon.tags}
        return Artefacts(table, {"counts": self.counts} if self.counts.size else {})

    def build(self) -> Tagger:
        """Build the model, its initial weights drawn from the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            size, tags = len(self.lexicon.tokens) + 1, len(self.lexicon.tags)
            return Tagger(size, tags, self.settings.model)

    def _sequences(self, split: Split) -> list[Tagged]:
        if self._splits is None:
            raise RunError("this task was restored from a model directory and has no training data")
        if not self._splits[split]:
            raise InputError(f"the {split} split is empty; give it a part of the data with --split")
        return self._splits[split]

    @property
    def data_digest(self) -> str:
        """A hash of the sequences, how they are split, and the numbers of tokens and tags."""
        digest = hashlib.sha256(json.dumps([self.lexicon.tokens, self.lexicon.tags]).encode())
        digest.update(str(self._pause if self._copies else "").encode())
        for split, sequences in (self._splits or {}).items():
            digest.update(json.dumps([split, [vars(one) for one in sequences]]).encode())
        return digest.hexdigest()

    @property
    def _pause(self) -> int:
        """T of the copying problem."""
        return self.settings.data.length or 100

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training sequence comes once; of copying as many as 100,000 rows make."""
        rows = 100_000 if self._copies else len(self._sequences("training"))
        return math.ceil(rows / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all tags seem alike: ln C."""
        return math.log(len(self.lexicon.tags))

    def batch(self, step: int, rows: slice) -> TagBatch:
        """Rows of batch number `step`: sequences shuffled anew in every epoch, or new ones to copy."""
        training = self.settings.training
        if self._copies:
            batch = self._draw(training.batch_size, [training.seed, 0, step])
            return TagBatch(batch.ids[:, rows], batch.tags[:, rows], batch.lengths[rows])
        sequences = self._sequences("training")
        chosen = drawn(len(sequences), training.seed, training.batch_size, step, rows)
        return self.lexicon.batch([sequences[i] for i in chosen])

    def _draw(self, rows: int, seed: Sequence[int]) -> TagBatch:
        x, y = copying(self._pause, rows, np.random.default_rng(seed))
        return TagBatch(x, y, np.full(rows, len(x), np.int64))

    def _held_out(self, split: Split) -> Iterator[TagBatch]:
        if self._copies:
            for start in range(0, COPIES_HELD, ROWS_AT_ONCE):
                yield self._draw(ROWS_AT_ONCE, [SPLITS.index(split), start, 1])
            return
        yield from self._by_length(self._sequences(split))

    def _by_length(self, sequences: Sequence[Tagged]) -> Iterator[TagBatch]:
        """Batches of sequences of like length."""
        ordered = sorted(sequences, key=lambda one: len(one.tokens))
        for start in range(0, len(ordered), ROWS_AT_ONCE):
            yield self.lexicon.batch(ordered[start : start + ROWS_AT_ONCE])

    def loss(self, model: nn.Module, batch: TagBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Cross-entropy of the tags in nats, mean over all steps of all rows. Nothing is carried on."""
        logits = self._logits(model, batch)
        tags = torch.from_numpy(batch.tags).to(logits.device)
        loss = functional.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=PADDING)
        return loss, {}

    @staticmethod
    def _logits(model: nn.Module, batch: TagBatch) -> Tensor:
        device = next(model.parameters()).device
        full = (batch.lengths == len(batch.ids)).all()
        lengths = None if full else torch.from_numpy(batch.lengths).to(device)
        return model(torch.from_numpy(batch.ids).to(device), lengths)

    @torch.no_grad()
    def _probabilities(self, model: nn.Module, batch: TagBatch) -> np.ndarray:
        """(T, B, C)."""
        return self._logits(model, batch).double().softmax(-1).cpu().numpy()

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """``accuracy`` and ``nats_per_step``, over all steps of all sequences of a split."""
        return _figures((b.tags, self._probabilities(model, b)) for b in self._held_out(split))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the frequency of tags, and of each token's tags; of copying, what needs no memory."""
        return self._baselines(list(self._held_out(split)))

    def _baselines(self, batches: Sequence[TagBatch]) -> dict[str, dict[str, float]]:
        def judge(table: np.ndarray) -> dict[str, float]:
            return _figures((batch.tags, table[batch.ids]) for batch in batches)

        if self._copies:
            return {"memoryless": _figures((b.tags, _memoryless(b)) for b in batches)}
        tags = self.counts.sum(0) + 1
        frequency = tags / tags.sum()
        known = self.counts + frequency  # one more of each token, its tag by the frequency of all
        return {
            "most_frequent_tag": judge(np.broadcast_to(frequency, self.counts.shape)),
            "most_frequent_per_token": judge(known / known.sum(1, keepdims=True)),
        }

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is, in nats a step."""
        return {"nats_per_step": loss}

    def throughput(self) -> tuple[int, str]:
        """Sequences that one update reads."""
        return self.settings.training.batch_size, "sequences"

    def show(self, model: nn.Module, step: int) -> str:
        """Tag the ends of a few validation sequences; wrong tags are followed by the right ones."""
        if self._copies:
            batch = self._draw(SHOWN, [1, 0, 1])
        else:
            batch = self.lexicon.batch(self._sequences("validation")[:SHOWN])
        told = self._probabilities(model, batch).argmax(-1)
        tags, tokens = self.lexicon.tags, [*self.lexicon.tokens, "?"]
        lines = []
        for row, length in enumerate(batch.lengths):
            steps = range(max(0, length - SHOWN_STEPS), length)
            words = []
            for t in steps:
                given, right = tags[told[t, row]], tags[batch.tags[t, row]]
                wrong = "" if given == right else f" (not {right})"
                words.append(f"{tokens[batch.ids[t, row]]}/{given}{wrong}")
            lines.append(" ".join(words))
        return "\n".join(lines)

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other tagged sequences, and the baselines beside it.

        Returns:
            ``accuracy``, ``nats_per_step``, ``steps``, ``unknown_tokens``, ``error_by_step`` (the share
            of wrong tags at the first step, the second, ...), and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged, or has a tag the model does not know.
        """
        if self._copies:
            if list(sources) != [COPYING]:
                raise InputError(
                    f"{', '.join(sources)}: this model learned copying, which is made, not read; "
                    "evaluate it on copying"
                )
            batches = list(self._held_out("test"))
        else:
            batches = list(self._by_length(read_tagged(sources, self.settings.data.encoding)))
        told = [self._probabilities(model, batch) for batch in batches]
        wrong = np.zeros(max(len(batch.ids) for batch in batches))
        count = np.zeros_like(wrong)
        for batch, p in zip(batches, told, strict=True):
            there = batch.tags != PADDING
            wrong[: len(there)] += (there & (p.argmax(-1) != batch.tags)).sum(1)
            count[: len(there)] += there.sum(1)
        unknown = sum(
            int(((b.ids == len(self.lexicon.tokens)) & (b.tags != PADDING)).sum()) for b in batches
        )
        return {
            **_figures((b.tags, p) for b, p in zip(batches, told, strict=True)),
            "steps": int(count.sum()),
            "unknown_tokens": unknown,
            "error_by_step": (wrong / count).tolist(),
            "baselines": self._baselines(batches),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give the tag of each token of each text.

        Tokens are characters if all tokens of the training data are, else what stands between spaces.

        Raises:
            InputError: If a text is empty.
        """
        characters = not self._copies and all(len(token) == 1 for token in self.lexicon.tokens)
        for place, text in enumerate(inputs, 1):
            tokens = list(text) if characters else text.split()
            if not tokens:
                raise InputError(f"text {place} to tag is empty")
            ids = self.lexicon.ids(tokens)[:, None]
            batch = TagBatch(ids, np.zeros_like(ids), np.array([len(ids)]))
            told = self._probabilities(model, batch)[:, 0].argmax(-1)
            yield {"tokens": tokens, "tags": [self.lexicon.tags[tag] for tag in told]}


def _copied_symbols() -> Lexicon:
    return Lexicon([str(n) for n in range(SYMBOLS + 2)], [str(n) for n in range(SYMBOLS + 1)])


def _memoryless(batch: TagBatch) -> np.ndarray:
    """Blanks until the answer is due, then any symbol (T + 20, B, 9)."""
    p = np.zeros((*batch.ids.shape, SYMBOLS + 1))
    p[:-COPIED, :, SYMBOLS] = 1
    p[-COPIED:, :, :SYMBOLS] = 1 / SYMBOLS
    return p


def _figures(judged: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Accuracy and nats a step of pairs: tags (T, B), probabilities (T, B, C)."""
    right = nats = steps = 0.0
    for tags, p in judged:
        there = tags != PADDING
        truth, p = tags[there], p[there]
        right += (p.argmax(-1) == truth).sum()
        nats -= np.log(np.maximum(p[np.arange(len(truth)), truth], 1e-300)).sum()
        steps += len(truth)
    return {"accuracy": float(right / steps), "nats_per_step": float(nats / steps)}
