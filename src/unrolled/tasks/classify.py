"""Classify: one label for each line of text.

T is the longest text of a batch, B its rows, V the number of symbols, C the number of labels.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.cells.start import normal_start
from unrolled.data import Vocabulary, fit_vocabulary, read_table
from unrolled.engine.randomness import dropout
from unrolled.errors import InputError, RunError
from unrolled.layers import Symbols
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings
from unrolled.tasks.bag import Bag
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, Task

SPLITS: tuple[Split, ...] = ("training", "validation", "test")
ROWS_AT_ONCE = 256
"""Texts that are judged side by side."""
SHOWN = 6
"""Texts that :meth:`Classify.show` shows."""
_ZERO: Any = 0  # what a fraction of nothing counts; scikit-learn's annotations know strings only


class Classifier(nn.Module):
    """Symbols -> recurrent layers -> their last output and their mean -> logits of the labels.

    The last output serves short texts best, where order matters; the mean serves long ones, whose
    beginning the last has forgotten.

    Args:
        size: Number of symbols V.
        classes: Number of labels C.
        model: Cell, widths and dropout.

    Raises:
        InputError: If weights are to be tied, which takes a read-out over symbols.
    """

    def __init__(self, size: int, classes: int, model: ModelSettings) -> None:
        super().__init__()
        if model.tied:
            raise InputError("--tied is for language models: a classifier reads out labels")
        self.symbols = Symbols(size, model.embedding)
        self.net = make_net(model, self.symbols.width)
        self.readout = nn.Linear(2 * self.net.output_size, classes)
        if model.initial_scale:
            normal_start(self, model.initial_scale)
        self.to(getattr(torch, model.dtype))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Score the labels: ids (T, B), steps of each row (B,) -> logits (B, C)."""
        x = self.symbols(ids, self.readout.weight.dtype)
        y, _ = self.net(x, lengths=lengths)  # (T, B, H), zero past a row's end
        steps = lengths.clamp(min=1)
        last = y[steps - 1, torch.arange(len(steps), device=y.device)]
        if self.net.num_directions == 2:  # the second direction ends at the first step
            last = torch.cat([last.chunk(2, -1)[0], y[0].chunk(2, -1)[1]], -1)
        seen = torch.cat([last, y.sum(0) / steps[:, None]], -1)  # (B, 2 H)
        if self.training and self.net.dropout:
            seen = dropout(seen[None], self.net.dropout, self.net.num_layers)[0]
        return self.readout(seen)


@dataclass(frozen=True)
class Rows:
    """Labelled texts."""

    texts: list[str]
    ids: list[np.ndarray]
    """The symbols of each text."""
    labels: np.ndarray
    """Number of each text's label, (n,) int64."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TextBatch:
    """Texts side by side."""

    ids: np.ndarray
    """(T, B) int64, zero past a text's end."""
    lengths: np.ndarray
    """(B,) int64."""
    labels: np.ndarray
    """(B,) int64."""


class Classify(Task):
    """Give each text one of the labels it was trained with.

    Different texts are shuffled by the seed and then split; rows with the same text, as tables of
    names have them, all go to the same split, so that none is judged on what it has learned from.
    """

    name = "classify"
    summary = "classifier: line of text -> label"
    criterion = Criterion("accuracy", "higher")
    headline = "accuracy"
    defaults: ClassVar = {
        "data": {"split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64},
        "training": {"steps": 1500, "lr": 0.005, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        vocabulary: Vocabulary,
        labels: Sequence[str],
        bag: Bag,
        splits: dict[Split, Rows] | None = None,
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.labels = list(labels)
        self.bag = bag
        self._splits = splits

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the table; fit the vocabulary and the baselines on the training split.

        Raises:
            InputError: If the table is missing or damaged, has too few rows to split, or its
                training split has fewer than two labels.
        """
        table = read_table(settings.data.source, settings.data.encoding)
        labels, numbers = np.unique(np.array(table.labels, object), return_inverse=True)
        parts = _split(table.texts, settings)
        texts = {split: [table.texts[i] for i in rows] for split, rows in parts.items()}
        if len(np.unique(numbers[parts["training"]])) < 2:
            raise InputError(
                f"all {len(texts['training'])} texts to train on have the same label; "
                "a classifier needs two labels or more"
            )
        # a line end after each, so that no word runs on into the next text
        vocabulary = fit_vocabulary((f"{text}\n" for text in texts["training"]), settings.data)
        splits: dict[Split, Rows] = {
            split: Rows(
                texts[split], [vocabulary.encode(text) for text in texts[split]], numbers[rows]
            )
            for split, rows in parts.items()
        }
        bag = Bag.fit(texts["training"], splits["training"].labels, len(labels))
        return cls(settings, vocabulary, labels.tolist(), bag, splits)

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from its vocabulary, labels and baselines."""
        try:
            symbols, labels, characters = (
                artefacts.vocabulary[key] for key in ("symbols", "labels", "characters")
            )
        except KeyError as error:
            raise InputError(f"vocabulary.json has no {error}; it is of no classifier") from None
        return cls(
            settings,
            Vocabulary.from_json(symbols, "vocabulary.json"),
            labels,
            Bag.from_arrays(characters, len(labels), artefacts.baseline),
        )

    def artefacts(self) -> Artefacts:
        """Give the symbols, the labels, and the two baselines."""
        return Artefacts(
            {
                "symbols": self.vocabulary.to_json(),
                "labels": self.labels,
                "characters": self.bag.characters,
            },
            self.bag.to_arrays(),
        )

    def build(self) -> Classifier:
        """Build the model, its initial weights drawn from the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            return Classifier(len(self.vocabulary), len(self.labels), self.settings.model)

    def rows(self, split: Split) -> Rows:
        """The texts of a split.

        Raises:
            InputError: If the split is empty.
            RunError: If the task was restored and has no data.
        """
        if self._splits is None:
            raise RunError("this task was restored from a model directory and has no training data")
        if not len(self._splits[split]):
            raise InputError(f"the {split} split is empty; give it a part of the rows with --split")
        return self._splits[split]

    @property
    def data_digest(self) -> str:
        """A hash of the texts, their labels, how they are split, and the vocabulary."""
        digest = hashlib.sha256(json.dumps([self.vocabulary.to_json(), self.labels]).encode())
        for split, rows in (self._splits or {}).items():
            digest.update(json.dumps([split, rows.texts, rows.labels.tolist()]).encode())
        return digest.hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training text comes once; the last may begin the next epoch."""
        return math.ceil(len(self.rows("training")) / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all labels seem alike: ln C."""
        return math.log(len(self.labels))

    def batch(self, step: int, rows: slice) -> TextBatch:
        """Rows of batch number `step`: the training texts, shuffled anew in every epoch.

        Batches are cut from the epochs laid end to end, so that all are full.
        """
        size, seed = self.settings.training.batch_size, self.settings.training.seed
        training = self.rows("training")
        places = np.arange(step * size, (step + 1) * size)[rows]
        epochs, within = np.divmod(places, len(training))
        chosen = [
            int(_shuffled(len(training), seed, int(epoch))[place])
            for epoch, place in zip(epochs, within, strict=True)
        ]
        ids, lengths = _side_by_side([training.ids[row] for row in chosen])
        return TextBatch(ids, lengths, training.labels[chosen])

    def loss(self, model: nn.Module, batch: TextBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Cross-entropy of the labels in nats, mean over rows. Nothing is carried on."""
        device = next(model.parameters()).device
        logits = model(*(torch.from_numpy(part).to(device) for part in (batch.ids, batch.lengths)))
        labels = torch.from_numpy(batch.labels).to(device)
        return functional.cross_entropy(logits, labels), {}

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Accuracy and macro F1, the mean over labels of F1, on a split."""
        rows = self.rows(split)
        return _metrics(rows.labels, self._probabilities(model, rows.ids).argmax(axis=1))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the most frequent label and the bag of characters on a split."""
        rows = self.rows(split)
        return self._baselines(rows.texts, rows.labels)

    def _baselines(self, texts: Sequence[str], labels: np.ndarray) -> dict[str, dict[str, float]]:
        return {
            name: _metrics(labels, predicted) for name, predicted in self.bag.predict(texts).items()
        }

    @torch.no_grad()
    def _probabilities(self, model: nn.Module, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Probability of each label (n, C) for encoded texts, texts of like length side by side."""
        device = next(model.parameters()).device
        probabilities = np.empty((len(ids), len(self.labels)))
        by_length = np.argsort([len(text) for text in ids], kind="stable")
        for start in range(0, len(ids), ROWS_AT_ONCE):
            rows = by_length[start : start + ROWS_AT_ONCE]
            batch = _side_by_side([ids[row] for row in rows])
            logits = model(*(torch.from_numpy(part).to(device) for part in batch))
            probabilities[rows] = logits.double().softmax(-1).cpu().numpy()
        return probabilities

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is, in nats a text."""
        return {"loss": loss}

    def throughput(self) -> tuple[int, str]:
        """Texts that one update reads."""
        return self.settings.training.batch_size, "texts"

    def show(self, model: nn.Module, step: int) -> str:
        """Label a few validation texts, the same at every step."""
        rows = self.rows("validation")
        random = np.random.default_rng([self.settings.training.seed, SHOWN])
        chosen = random.permutation(len(rows))[:SHOWN]
        predicted = self._probabilities(model, [rows.ids[i] for i in chosen]).argmax(axis=1)
        lines = []
        for row, label in zip(chosen, predicted, strict=True):
            text, truth = rows.texts[row], int(rows.labels[row])
            text = text if len(text) <= 50 else f"{text[:49]}…"
            verdict = "right" if label == truth else f"wrong: {self.labels[truth]}"
            lines.append(f"{text} -> {self.labels[label]} ({verdict})")
        return "\n".join(lines)

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other labelled texts, and the baselines beside it.

        Returns:
            ``accuracy``, ``macro_f1``, ``texts``, ``unknown_symbols``; ``classes``, for each label
            its ``precision``, ``recall``, ``f1`` and ``texts``; ``confusion``, for each true label
            how many texts were given each label; and ``baselines``.

        Raises:
            InputError: If the table is missing or damaged, or has a label the model does not know.
        """
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        table = read_table(sources, self.settings.data.encoding)
        number = {label: i for i, label in enumerate(self.labels)}
        for label, where in zip(table.labels, table.where, strict=True):
            if label not in number:
                raise InputError(
                    f"{where}: the model does not know the label {label!r}; "
                    f"it was trained on {', '.join(self.labels)}"
                )
        truth = np.array([number[label] for label in table.labels])
        ids = [self.vocabulary.encode(text) for text in table.texts]
        predicted = self._probabilities(model, ids).argmax(axis=1)
        every = range(len(self.labels))
        columns: Any = precision_recall_fscore_support(
            truth, predicted, labels=every, zero_division=_ZERO
        )
        by_label = zip(*(column.tolist() for column in columns), strict=True)
        names = ("precision", "recall", "f1", "texts")
        counts = confusion_matrix(truth, predicted, labels=every).tolist()
        return {
            **_metrics(truth, predicted),
            "texts": len(truth),
            "unknown_symbols": sum(int(np.sum(text == self.vocabulary.unknown)) for text in ids),
            "classes": _named(self.labels, (_named(names, row) for row in by_label)),
            "confusion": _named(self.labels, (_named(self.labels, row) for row in counts)),
            "baselines": self._baselines(table.texts, truth),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give each text's label and the probability of every label.

        Raises:
            InputError: If a text is empty.
        """
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            texts = inputs[start : start + ROWS_AT_ONCE]
            for place, text in enumerate(texts, start + 1):
                if not text.strip():
                    raise InputError(f"text {place} to label is empty")
            ids = [self.vocabulary.encode(text) for text in texts]
            for text, p in zip(texts, self._probabilities(model, ids), strict=True):
                yield {
                    "text": text,
                    "label": self.labels[int(p.argmax())],
                    "probabilities": _named(self.labels, p.tolist()),
                }


def _split(texts: Sequence[str], settings: Settings) -> dict[Split, np.ndarray]:
    """Rows of each split, such that all rows with the same text are in one."""
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    fractions, count = settings.data.split, len(distinct)
    ends = np.rint(np.cumsum(fractions) * count)
    for split, fraction, size in zip(SPLITS, fractions, np.diff(ends, prepend=0), strict=True):
        if fraction and not size:
            raise InputError(
                f"{count} different texts are too few to split: none is left for {split}"
            )
    shuffled = np.random.default_rng([settings.training.seed]).permutation(count)
    part = np.searchsorted(ends, shuffled, side="right")  # of each distinct text
    of_row = part[[distinct[text] for text in texts]]
    return {split: np.flatnonzero(of_row == i) for i, split in enumerate(SPLITS)}


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` training rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _side_by_side(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pad encoded texts to ids (T, B), at least one step, and lengths (B,); both int64."""
    lengths = np.array([len(text) for text in texts], np.int64)
    ids = np.zeros((max(1, lengths.max()), len(texts)), np.int64)
    for row, text in enumerate(texts):
        ids[: len(text), row] = text
    return ids, lengths


def _named(names: Sequence[str], values: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


def _metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and the F1 of each label that occurs or was predicted, averaged."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=_ZERO)),
    }
