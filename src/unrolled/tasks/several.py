"""Several: tags of more than one kind for each word, learned together.

T steps, B rows, N tasks.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.conll import NAMED
from unrolled.data.several import Heads, head_names
from unrolled.data.splits import SPLITS, Split
from unrolled.data.tagged import TagBatch, Tagged, Words
from unrolled.data.tagged_files import PYTHON, read_tagged_several
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import tag_baselines, tag_figures
from unrolled.tasks.several_models import SeveralTaggers
from unrolled.tasks.splitting import warn_of_leaks
from unrolled.tasks.tag_figures import Judged
from unrolled.tasks.tag_sources import fit_words, texts
from unrolled.tasks.tag_splits import ROWS_AT_ONCE, BySplit, split_sequences
from unrolled.tasks.taggers import tensors
from unrolled.tasks.task import Artefacts, Carry, Criterion, Task, seeded

SHOWN_WORDS = 12
MOST_DRAWN = 60
"""Tags of a task of which a confusion matrix is drawn."""
Fitted = Mapping[str, Mapping[str, np.ndarray]]
"""Name of a task -> the arrays of its baselines."""


class Several(Task):
    """Give each word its tags of several kinds, by encoders that share what they learn.

    Args:
        settings: Of the run.
        words: What steps are.
        heads: What is told of them.
        fitted: Arrays of the baselines of each task.
        splits: The sequences; ``None`` if restored.
    """

    name = "several"
    summary = "several tags for each word at once, learned together"
    criterion = Criterion("accuracy", "higher")
    headline = "accuracy"
    losses = ("cross-entropy", "hinge", "squared-hinge")
    examples = ("'words of yours'", "more.conllu")
    defaults: ClassVar = {
        "data": {"source": (PYTHON,), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64, "bidirectional": True},
        "training": {"steps": 400, "lr": 0.005, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        words: Words,
        heads: Heads,
        fitted: Fitted,
        splits: Mapping[Split, Sequence[Tagged]] | None = None,
    ) -> None:
        self.settings, self.words, self.heads, self.fitted = settings, words, heads, fitted
        self.sequences = BySplit(settings, words, heads, splits)

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the sequences; fit what encodes them, and the baselines, on the training split.

        Raises:
            InputError: If the data is missing or damaged, has one column of tags, or too few sequences to
                split.
        """
        data = settings.data
        found = read_tagged_several(data.source, data)
        splits = split_sequences(
            found, settings, lambda sources: read_tagged_several(sources, data)
        )
        warn_of_leaks(splits, "sequences")
        usual = ("upos", "xpos") if NAMED.search(found[0].file) else ()
        if data.source == (PYTHON,):
            usual = ("kind", "brackets")
        names = head_names(data.columns, len(found[0].tags[0]), usual=usual)
        heads = Heads.fit(names, (one for part in splits.values() for one in part))
        own = cls(settings, fit_words(splits["training"], settings), heads, {}, splits)
        batches = [*own.sequences.held_out("training")]
        own.fitted = {
            name: tag_baselines.fit([_of_head(b, n) for b in batches], own.words, heads.labels[n])
            for n, name in enumerate(names)
        }
        return own

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its words, tags and baselines."""
        table = artefacts.vocabulary
        try:
            words, heads = Words.restore(table["words"]), Heads.restore(table["heads"])
            fitted = {
                name: {"counts": artefacts.baseline[f"counts.{n}"]}
                for n, name in enumerate(heads.names)
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"vocabulary.json is of no several taggers ({error!r})") from None
        return cls(settings, words, heads, fitted)

    def artefacts(self) -> Artefacts:
        """Give the words, the tags of each task, and the baselines."""
        table = {"words": self.words.to_json(), "heads": self.heads.to_json()}
        arrays = {f"counts.{n}": self.fitted[name]["counts"] for n, name in self._heads}
        return Artefacts(table, arrays)

    @property
    def _heads(self) -> list[tuple[int, str]]:
        return [*enumerate(self.heads.names)]

    def build(self) -> SeveralTaggers:
        """Build the model, its initial weights drawn from the run's seed."""
        with seeded(self.settings.training.seed):
            return SeveralTaggers(self.words, self.heads, self.settings)

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps(self.artefacts().vocabulary, sort_keys=True).encode())
        for split in SPLITS:
            rows = [(one.steps, one.tags) for one in (self.sequences.splits or {}).get(split, ())]
            digest.update(json.dumps([split, rows]).encode())
        return digest.hexdigest()

    @property
    def data_digest(self) -> str:
        """A hash of the data."""
        return self._digest

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training sequence comes once."""
        return math.ceil(len(self.sequences.part("training")) / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all tags seem alike."""
        weights = self.settings.several.loss_weights
        given = weights if weights and weights != "learned" else [1.0] * len(self.heads.names)
        each = (math.log(labels.size) for labels in self.heads.labels)
        return sum(w * nats for w, nats in zip(given, each, strict=True))

    def batch(self, step: int, rows: slice) -> TagBatch:
        """Sequences shuffled anew in every epoch, those of like length mostly together; tags (T, B, N)."""
        return self.sequences.batch(step, rows)

    def loss(self, model: nn.Module, batch: TagBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Sum of the tasks' losses in nats a step, each times its weight. Nothing is carried on."""
        return model(*tensors(model, batch)), {}

    @torch.no_grad()
    def _judge(self, model: nn.Module, batches: Sequence[TagBatch]) -> list[list[Judged]]:
        """Give what is told of each batch, task by task."""
        assert isinstance(model, SeveralTaggers)
        found: list[list[Judged]] = [[] for _ in self.heads.names]
        for batch in batches:
            inputs, lengths, tags = tensors(model, batch)
            states = model.states(inputs, lengths)
            nats = model.losses(states, lengths, tags).tolist()
            told = model.tell(states, lengths).cpu().numpy()
            steps = int(batch.lengths.sum())
            for n, judged in enumerate(found):
                one = Judged(batch.tags[..., n], told[..., n], batch.lengths, nats[n] * steps)
                judged.append(one)
        return found

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge a split: see :meth:`_figures`."""
        return self._figures(self._judge(model, [*self.sequences.held_out(split)]))

    def _figures(self, judged: Sequence[Sequence[Judged]]) -> dict[str, float]:
        """Give the mean accuracy over tasks, nats a step of all together, and the figures of each task."""
        each = [
            tag_figures.figures(one, labels)
            for one, labels in zip(judged, self.heads.labels, strict=True)
        ]
        return {
            "accuracy": sum(one["accuracy"] for one in each) / len(each),
            "nats_per_step": sum(one["nats_per_step"] for one in each),
            **{
                f"{name.replace(' ', '_')}_{metric}": value
                for (_, name), figures in zip(self._heads, each, strict=True)
                for metric, value in figures.items()
            },
        }

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the most frequent tag of each task, and that of each word."""
        return self._baselines([*self.sequences.held_out(split)])

    def _baselines(self, batches: Sequence[TagBatch]) -> dict[str, dict[str, float]]:
        each = [
            [
                tag_baselines.judge(
                    _of_head(batch, n), self.fitted[name], self.words, self.heads.labels[n]
                )
                for batch in batches
            ]
            for n, name in self._heads
        ]
        return {
            name: self._figures([[one[name] for one in task] for task in each])
            for name in each[0][0]
        }

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is."""
        return {"weighted_nats": loss}

    def throughput(self) -> tuple[int, str]:
        """Sequences that one update reads."""
        return self.settings.training.batch_size, "sequences"

    def show(self, model: nn.Module, step: int) -> str:
        """Tag the first words of a validation sequence; what is wrong is followed by what is right."""
        part = self.sequences.part("validation" if self.settings.data.validates else "training")
        one = part[len(part) // 2]
        (found,) = self._told(model, [one.steps])
        lines = [self.words.told] if self.words.told and step == 0 else []
        for n, name in self._heads:
            pairs = zip(one.steps, found[name], one.tags, strict=True)
            shown = (
                f"{word}/{told}" + (f" (not {tags[n]})" if told != tags[n] else "")
                for word, told, tags in islice(pairs, SHOWN_WORDS)
            )
            lines.append(f"{name}: {' '.join(shown)}")
        return "\n".join(lines)

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw what was taken for what, of each task with few tags, on the test or validation split."""
        data = self.settings.data
        if not (data.tests or data.validates):
            return {}
        from unrolled.tasks.label_pictures import confusion_picture

        batches = self.sequences.held_out("test" if data.tests else "validation")
        judged = self._judge(model, [*batches])
        return {
            f"confusion-{name.replace(' ', '-')}.png": confusion_picture(
                self.heads.labels[n].names, *tag_figures.together(judged[n])
            )
            for n, name in self._heads
            if self.heads.labels[n].size <= MOST_DRAWN
        }

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other sequences, and the baselines beside it.

        Returns:
            The figures of :meth:`validate`, ``steps``, ``unknown_tokens``, ``baselines``, and ``tasks``: of
            each its figures, and what its loss was multiplied by.

        Raises:
            InputError: If the data is missing or damaged, or has a tag the model does not know.
        """
        assert isinstance(model, SeveralTaggers)
        found = read_tagged_several(sources, self.settings.data)
        batches = [*self.sequences.batches(found)]
        judged = self._judge(model, batches)
        unknown = (self.words.unknown(b.inputs)[b.inside].sum() for b in batches)
        weights = model.weights.tolist()
        return {
            **self._figures(judged),
            "steps": sum(map(len, found)),
            "unknown_tokens": int(sum(unknown)),
            "tasks": {
                name: {
                    **tag_figures.figures(judged[n], self.heads.labels[n]),
                    "weight": weights[n],
                }
                for n, name in self._heads
            },
            "baselines": self._baselines(batches),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give the tags of each word of each text, task by task.

        Words are characters if all words of the training data are, else what stands between spaces.

        Raises:
            InputError: If a text is empty.
        """
        characters = all(len(word) == 1 for word in self.words.words)
        asked = texts(inputs, characters=characters)
        while chunk := [words for _, words in islice(asked, ROWS_AT_ONCE)]:
            for words, told in zip(chunk, self._told(model, chunk), strict=True):
                yield {"tokens": words, **told}

    @torch.no_grad()
    def _told(
        self, model: nn.Module, rows: Sequence[Sequence[str]]
    ) -> Iterator[dict[str, list[str]]]:
        assert isinstance(model, SeveralTaggers)
        device = next(model.parameters()).device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        inputs = tuple(torch.from_numpy(part).to(device) for part in self.words.inputs(rows))
        told = model.tell(model.states(inputs, lengths), lengths).cpu().numpy()
        for row, words in enumerate(rows):
            yield {
                name: self.heads.labels[n].name(told[: len(words), row, n])
                for n, name in self._heads
            }


def _of_head(batch: TagBatch, n: int) -> TagBatch:
    return TagBatch(batch.inputs, batch.tags[..., n], batch.lengths)
