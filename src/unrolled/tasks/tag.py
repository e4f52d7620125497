"""Tag: something to tell of each step of a sequence, a tag or numbers.

T steps, B rows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.splits import Split
from unrolled.data.tagged import Labels, Numbers, TagBatch, Words
from unrolled.settings import Settings
from unrolled.settings.belonging import STEPS, refuse_others
from unrolled.tasks import tag_figures
from unrolled.tasks.tag_copying import COPYING, Copying
from unrolled.tasks.tag_figures import Judged, Tally
from unrolled.tasks.tag_sources import Read, Source
from unrolled.tasks.tag_splits import ROWS_AT_ONCE
from unrolled.tasks.taggers import Tagger, tensors
from unrolled.tasks.task import Artefacts, Carry, Criterion, Task, seeded

SHOWN, SHOWN_STEPS = 3, 40


class Tag(Task):
    """Give each step of a sequence, a word or a vector, one of the tags that were learned, or numbers.

    Where its data comes from, its own :class:`~unrolled.tasks.tag_sources.Source` knows.
    """

    name = "tag"
    summary = "tagger: each word or vector of a sequence -> tag, or numbers"
    losses = ("cross-entropy", "hinge", "squared-hinge", "squared", "absolute", "huber")
    defaults: ClassVar = {
        "data": {"source": ("python-tokens",), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64, "bidirectional": True},
        "training": {"steps": 400, "lr": 0.005, "clip_norm": 1.0},
    }

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings, self.source = settings, source
        metric, more = source.criterion
        self.criterion = Criterion(metric, "higher" if more else "lower")
        self.headline, self.examples = source.headline, source.examples

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the sequences; fit what encodes them, and the baselines, on the training split.

        Raises:
            InputError: If the data is missing or damaged, or has too few sequences to split.
        """
        if settings.data.source == (COPYING,):
            refuse_others(settings, STEPS, COPYING)
            return cls(settings, Copying(settings))
        return cls(settings, Read.prepare(settings))

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its words, tags, scaling and baselines."""
        if settings.data.source == (COPYING,):
            return cls(settings, Copying(settings))
        return cls(settings, Read.restore(settings, artefacts.vocabulary, artefacts.baseline))

    def artefacts(self) -> Artefacts:
        """Give what steps are, what is told of them, and the baselines."""
        source = self.source
        table = {"inputs": source.inputs.to_json(), "outputs": source.outputs.to_json()}
        return Artefacts(table, dict(source.fitted))

    def build(self) -> Tagger:
        """Build the model, its initial weights drawn from the run's seed."""
        with seeded(self.settings.training.seed):
            return Tagger(self.source.inputs, self.source.outputs, self.settings)

    @property
    def data_digest(self) -> str:
        """A hash of the data."""
        return self.source.digest

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training sequence comes once; of copying as many as 100,000 rows make."""
        return math.ceil(self.source.epoch / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all tags seem alike, ln C; of always the mean, where numbers are told."""
        return 1.0 if self._numbers else math.log(self.source.outputs.size)

    @property
    def _numbers(self) -> bool:
        return isinstance(self.source.outputs, Numbers)

    def batch(self, step: int, rows: slice) -> TagBatch:
        """Rows of batch number `step`: sequences shuffled anew in every epoch, or new ones to copy."""
        return replace(self.source.batch(step, rows), forced=self.forced(step))

    def loss(self, model: nn.Module, batch: TagBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Nats a step, or the squared error of scaled numbers, mean over all steps. Nothing is carried on."""
        inputs, lengths, tags = tensors(model, batch)
        return model(inputs, lengths, tags, batch.forced), {}

    @torch.no_grad()
    def _judge(self, model: nn.Module, batch: TagBatch) -> Judged:
        assert isinstance(model, Tagger)
        loss, told = model.judge(*tensors(model, batch))
        return Judged(
            batch.tags, told.cpu().numpy(), batch.lengths, loss.item() * int(batch.lengths.sum())
        )

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge a split: ``accuracy`` and ``nats_per_step``, of spans ``f1``; or ``mse`` and ``r2``."""
        judged = (self._judge(model, batch) for batch in self.source.held_out(split))
        return tag_figures.figures(judged, self.source.outputs)

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge what needs no sequence; of copying, what needs no memory."""
        beside: dict[str, Tally] = {}
        for batch in self.source.held_out(split):
            self._count_baselines(batch, beside)
        return {name: tally.figures() for name, tally in beside.items()}

    def _count_baselines(self, batch: TagBatch, beside: dict[str, Tally]) -> None:
        for name, judged in self.source.baselines(batch).items():
            beside.setdefault(name, Tally(self.source.outputs)).add(judged)

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is."""
        return {"squared_error" if self._numbers else "nats_per_step": loss}

    def throughput(self) -> tuple[int, str]:
        """Sequences that one update reads."""
        return self.settings.training.batch_size, "sequences"

    def show(self, model: nn.Module, step: int) -> str:
        """Tag a few validation sequences; what is wrong is followed by what is right."""
        batch = next(
            self.source.held_out("validation" if self.settings.data.validates else "training")
        )
        judged = self._judge(model, batch)
        chosen = np.linspace(0, len(batch.lengths) - 1, SHOWN).astype(int)
        lines = [self._line(batch, judged, row) for row in dict.fromkeys(chosen)]
        inputs = self.source.inputs
        told = inputs.told if isinstance(inputs, Words) and step == 0 else ""
        return "\n".join([told, *lines] if told else lines)

    def _line(self, batch: TagBatch, judged: Judged, row: int) -> str:
        """Write the end of a row."""
        length, outputs = int(batch.lengths[row]), self.source.outputs
        words = []
        for t in range(max(0, length - SHOWN_STEPS), length):
            told, truth = judged.told[t, row], judged.truth[t, row]
            if isinstance(outputs, Labels):
                wrong = "" if told == truth else f" (not {outputs.names[truth]})"
                words.append(
                    f"{self.source.inputs.written(batch.inputs, t, row)}/{outputs.names[told]}{wrong}"
                )
            else:
                told, truth = (
                    ", ".join(f"{one:.3g}" for one in outputs.unscaled(side))
                    for side in (told, truth)
                )
                words.append(f"{told} (true {truth})")
        return " ".join(words if isinstance(outputs, Labels) else words[-2:])

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw what was taken for what on the test split, or on the validation split without one."""
        data = self.settings.data
        if not (data.tests or data.validates):
            return {}
        batches = self.source.held_out("test" if data.tests else "validation")
        judged = (self._judge(model, batch) for batch in batches)
        outputs = self.source.outputs
        if isinstance(outputs, Numbers):
            from unrolled.tasks.tag_pictures import course

            return {"course.png": course([*judged][-1], outputs)}
        from unrolled.tasks.label_pictures import confusion_picture

        tally = Tally(outputs)
        for one in judged:
            tally.add(one)
        return {"confusion.png": confusion_picture(outputs.names, *tally.pairs())}

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other sequences, and the baselines beside it.

        Returns:
            The figures of :meth:`validate`, ``steps``, and ``baselines``. Of tags also ``unknown_tokens``,
            ``classes`` (of each tag its precision, recall, F1 and how often it is true), ``confusion`` (of
            each true tag what it was taken for), and ``error_by_step`` (the share of wrong tags at the
            first step, the second, ...).

        Raises:
            InputError: If the data is missing or damaged, or has a tag the model does not know.
        """
        source = self.source
        tally, beside, steps, unknown = Tally(source.outputs), dict[str, Tally](), 0, 0
        for batch in source.other(sources):
            self._count_baselines(batch, beside)
            steps += int(batch.lengths.sum())
            unknown += int(source.inputs.unknown(batch.inputs)[batch.inside].sum())
            tally.add(self._judge(model, batch))
        found: dict[str, Any] = {**tally.figures(), "steps": steps}
        if isinstance(source.outputs, Labels):
            from unrolled.tasks.judging import report

            found["unknown_tokens"] = unknown
            found |= report(source.outputs.names, *tally.pairs())
            found["error_by_step"] = tally.error_by_step()
        found["baselines"] = {name: one.figures() for name, one in beside.items()}
        return found

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give the tag of each word of each text, or what is told of each step of each file's sequences.

        Words are characters if all words of the training data are, else what stands between spaces.

        Raises:
            InputError: If a text is empty, or a file cannot be read.
        """
        assert isinstance(model, Tagger)
        source = self.source
        device = next(model.parameters()).device
        asked = source.asked(inputs)
        while chunk := list(islice(asked, ROWS_AT_ONCE)):
            rows = [steps for _, steps in chunk]
            lengths = torch.tensor([len(steps) for steps in rows], device=device)
            arrays = tuple(torch.from_numpy(part).to(device) for part in source.inputs.inputs(rows))
            with torch.no_grad():
                told = model.tell(arrays, lengths).cpu().numpy()
            for row, (name, steps) in enumerate(chunk):
                given = source.outputs.name(told[: len(steps), row])
                if isinstance(steps, list):
                    yield {"tokens": steps, "tags": given}
                else:
                    key = "numbers" if isinstance(source.outputs, Numbers) else "tags"
                    yield {"file": name, key: given}
