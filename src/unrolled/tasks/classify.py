"""Classify: one label for each text or picture."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data.images import is_images
from unrolled.data.splits import in_batch
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks.bag import Baseline
from unrolled.tasks.examples import (
    Examples,
    Found,
    Pictures,
    Texts,
    read_labelled_pictures,
    read_texts,
    tensors,
)
from unrolled.tasks.splitting import shuffled, split_rows
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, Task

ROWS_AT_ONCE = 256
"""Examples that are judged side by side."""
_ZERO: Any = 0  # what a fraction of nothing counts; scikit-learn's annotations know strings only


@dataclass(frozen=True)
class Rows:
    """Labelled examples of a split."""

    items: Any
    """Texts, or pictures (n, C, H, W)."""
    inputs: Any
    """What the model reads of each."""
    labels: np.ndarray
    """Number of each label, (n,) int64."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Batch:
    """Examples side by side."""

    inputs: tuple[np.ndarray, ...]
    """What the model is called with: ids (T, B) and lengths (B,), or pictures (B, C, H, W)."""
    labels: np.ndarray
    """(B,) int64."""


class Classify(Task):
    """Give each text or picture one of the labels it was trained with.

    Different texts are shuffled by the seed and then split; rows with the same text, as tables of
    names have them, all go to the same split, so that none is judged on what it has learned from.
    `validation` and `test` name data of their own for these splits; with `folds`, the test split is
    one of so many equal parts. Pictures of files that begin with ``t10k`` or ``test`` are the test
    split if there are others.
    """

    name = "classify"
    summary = "classifier: text or picture -> label"
    criterion = Criterion("accuracy", "higher")
    headline = "accuracy"
    defaults: ClassVar = {
        "data": {"source": ("digits",), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64},
        "training": {"steps": 1500, "lr": 0.005, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        kind: Examples,
        labels: Sequence[str],
        baseline: Baseline,
        splits: dict[Split, Rows] | None = None,
    ) -> None:
        self.settings = settings
        self.kind = kind
        if isinstance(kind, Pictures):
            self.examples = ("a-picture.png", "more-pictures/")
        self.labels = list(labels)
        self.baseline = baseline
        self._splits = splits

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Take a cnn for pictures and an rnn for texts; of texts, words for all but an rnn."""
        tables = {name: dict(fields) for name, fields in cls.defaults.items()}
        pictures = is_images(settings.data.source or tables["data"]["source"])
        tables["classifier"] = {"model": "cnn" if pictures else "rnn"}
        if pictures:
            tables["training"] |= {"lr": 0.002, "batch_size": 64}
        elif settings.classifier.model in ("cnn", "bag", "mlp"):
            tables["data"]["symbols"] = "word"
            tables["training"]["lr"] = 0.002
        return tables

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the data; fit what encodes it, and the baselines, on the training split.

        Raises:
            InputError: If the data is missing or damaged, has too few rows to split, or its
                training split has fewer than two labels.
        """
        data = settings.data
        pictures = is_images(data.source)
        if pictures and (data.phrases or data.merge):
            raise InputError("--phrases and --merge are for texts, and these are pictures")
        given: dict[Split, tuple[str, ...]] = {"validation": data.validation, "test": data.test}
        found = _read(data.source, settings, pictures=pictures)
        parts: dict[Split, tuple[Found, np.ndarray]]
        parts = {split: (found, rows) for split, rows in split_rows(found, settings).items()}
        for split, sources in given.items():
            if sources:
                other = _read(sources, settings, pictures=pictures)
                parts[split] = other, np.arange(len(other.labels))
        chosen: dict[Split, tuple[Any, list[str]]] = {
            split: (part.of(rows), [part.labels[i] for i in rows])
            for split, (part, rows) in parts.items()
        }
        if data.phrases:
            chosen["training"] = _phrases(*parts["training"])
        labels = sorted({label for _, names in chosen.values() for label in names})
        number = {label: i for i, label in enumerate(labels)}
        items, names = chosen["training"]
        if len(set(names)) < 2:
            raise InputError(
                f"all {len(names)} {'pictures' if pictures else 'texts'} to train on have the same "
                "label; a classifier needs two labels or more"
            )
        made: Any = Pictures if pictures else Texts
        kind: Examples = made.fit(settings, len(labels), items)
        splits: dict[Split, Rows] = {
            split: Rows(of, kind.inputs(of), np.array([number[label] for label in its], np.int64))
            for split, (of, its) in chosen.items()
        }
        baseline = kind.baseline(items, splits["training"].labels)
        return cls(settings, kind, labels, baseline, splits)

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from what encodes examples, labels and baselines."""
        table = artefacts.vocabulary
        made = Pictures if "pictures" in table else Texts
        try:
            labels = table["labels"]
            kind, baseline = made.restore(settings, len(labels), table, artefacts.baseline)
        except KeyError as error:
            raise InputError(f"vocabulary.json has no {error}; it is of no classifier") from None
        return cls(settings, kind, labels, baseline)

    def artefacts(self) -> Artefacts:
        """Give what encodes examples, the labels, and the baselines."""
        return Artefacts({"labels": self.labels, **self.kind.saved()}, self.baseline.to_arrays())

    def build(self) -> nn.Module:
        """Build the model, its initial weights drawn from the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.training.seed)
            return self.kind.model()

    def rows(self, split: Split) -> Rows:
        """The examples of a split.

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
        """A hash of the examples, their labels, how they are split, and how they are encoded."""
        digest = hashlib.sha256(json.dumps([self.kind.saved(), self.labels]).encode())
        for split, rows in (self._splits or {}).items():
            digest.update(f"{split} {rows.labels.tolist()}".encode())
            texts = isinstance(rows.items, list)
            digest.update(json.dumps(rows.items).encode() if texts else rows.items.tobytes())
        return digest.hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training example comes once; the last may begin the next epoch."""
        return math.ceil(len(self.rows("training")) / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all labels seem alike: ln C."""
        return math.log(len(self.labels))

    def batch(self, step: int, rows: slice) -> Batch:
        """Rows of batch number `step`: the training examples, shuffled anew in every epoch.

        Batches are cut from the epochs laid end to end, so that all are full. Texts of like length
        mostly come together.
        """
        size = self.settings.training.batch_size
        training = self.rows("training")
        chosen = in_batch(len(training), size, step, rows, self._order)
        inputs = self.kind.batch(_pick(training.inputs, chosen), (step, rows.start or 0))
        return Batch(inputs, training.labels[chosen])

    def _order(self, epoch: int) -> np.ndarray:
        training, settings = self.rows("training"), self.settings.training
        return shuffled(
            len(training), settings.seed, epoch, settings.batch_size, self._training_lengths
        )

    @property
    def _training_lengths(self) -> bytes:
        """Steps of each training example, as something that can be a key."""
        if not hasattr(self, "_lengths"):
            self._lengths = self.kind.lengths(self.rows("training").inputs).tobytes()
        return self._lengths

    def loss(self, model: nn.Module, batch: Batch, carry: Carry) -> tuple[Tensor, Carry]:
        """Cross-entropy of the labels in nats, mean over rows. Nothing is carried on."""
        device = next(model.parameters()).device
        logits = model(*tensors(batch.inputs, device))
        labels = torch.from_numpy(batch.labels).to(device)
        return functional.cross_entropy(logits, labels), {}

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Accuracy and macro F1, the mean over labels of F1, on a split."""
        rows = self.rows(split)
        return _metrics(rows.labels, self._probabilities(model, rows.inputs).argmax(axis=1))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the simple models on a split."""
        rows = self.rows(split)
        return self._baselines(rows.items, rows.labels)

    def _baselines(self, items: Any, labels: np.ndarray) -> dict[str, dict[str, float]]:  # noqa: ANN401
        return {
            name: _metrics(labels, predicted)
            for name, predicted in self.baseline.predict(items).items()
        }

    @torch.no_grad()
    def _probabilities(self, model: nn.Module, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """Probability of each label (n, C) for encoded examples, those of like length side by side."""
        device = next(model.parameters()).device
        probabilities = np.empty((len(inputs), len(self.labels)))
        by_length = np.argsort(self.kind.lengths(inputs), kind="stable")
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            rows = by_length[start : start + ROWS_AT_ONCE]
            batch = self.kind.batch(_pick(inputs, rows), None)
            logits = model(*tensors(batch, device))
            probabilities[rows] = logits.double().softmax(-1).cpu().numpy()
        return probabilities

    def progress(self, loss: float) -> dict[str, float]:
        """Give a training loss as it is, in nats an example."""
        return {"loss": loss}

    def throughput(self) -> tuple[int, str]:
        """Examples that one update reads."""
        return self.settings.training.batch_size, self.kind.unit

    def show(self, model: nn.Module, step: int) -> str:
        """Label a few validation examples, the same at every step."""
        rows = self.rows("validation" if self.settings.data.validates else "training")
        random = np.random.default_rng([self.settings.training.seed, 6])
        chosen = random.permutation(len(rows))[: self.kind.shown]
        predicted = self._probabilities(model, _pick(rows.inputs, chosen)).argmax(axis=1)
        verdicts = [
            f"{self.labels[label]} ({'right' if label == truth else f'wrong: {self.labels[truth]}'})"
            for label, truth in zip(predicted, rows.labels[chosen], strict=True)
        ]
        return self.kind.drawn(_pick(rows.items, chosen), verdicts)

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other labelled examples, and the baselines beside it.

        Returns:
            ``accuracy``, ``f1_macro``, ``examples``; of texts ``unknown_symbols``, of pictures
            ``skipped``, files that are none; ``classes``, for each label its ``precision``,
            ``recall``, ``f1`` and ``examples``; ``confusion``, for each true label how many examples
            were given each label; and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged, or has a label the model does not know.
        """
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        self.kind.settings = self.settings  # whose encoding the caller may have changed
        found = self.kind.read(sources)
        number = {label: i for i, label in enumerate(self.labels)}
        for label, where in zip(found.labels, found.where, strict=True):
            if label not in number:
                raise InputError(
                    f"{where}: the model does not know the label {label!r}; "
                    f"it was trained on {', '.join(self.labels)}"
                )
        truth = np.array([number[label] for label in found.labels])
        inputs = self.kind.inputs(found.items)
        predicted = self._probabilities(model, inputs).argmax(axis=1)
        every = range(len(self.labels))
        columns: Any = precision_recall_fscore_support(
            truth, predicted, labels=every, zero_division=_ZERO
        )
        by_label = zip(*(column.tolist() for column in columns), strict=True)
        names = ("precision", "recall", "f1", "examples")
        counts = confusion_matrix(truth, predicted, labels=every).tolist()
        return {
            **_metrics(truth, predicted),
            "examples": len(truth),
            **self._lost(found, inputs),
            "classes": _named(self.labels, (_named(names, row) for row in by_label)),
            "confusion": _named(self.labels, (_named(self.labels, row) for row in counts)),
            "baselines": self._baselines(found.items, truth),
        }

    def _lost(self, found: Found, inputs: Any) -> Mapping[str, int]:  # noqa: ANN401
        """Count what the model could not see of the data."""
        if not isinstance(self.kind, Texts):
            return {"skipped": len(found.skipped)}
        unknown = self.kind.vocabulary.unknown
        return {"unknown_symbols": sum(int(np.sum(text == unknown)) for text in inputs)}

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give the label and the probability of every label for each text, or file of pictures.

        Raises:
            InputError: If a text is empty, or a file is no picture of the model's size.
        """
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            items, names = self.kind.wanted(inputs[start : start + ROWS_AT_ONCE])
            found = self._probabilities(model, self.kind.inputs(items))
            for name, p in zip(names, found, strict=True):
                yield {
                    self.kind.word: name,
                    "label": self.labels[int(p.argmax())],
                    "probabilities": _named(self.labels, p.tolist()),
                }


def _read(sources: Sequence[str], settings: Settings, *, pictures: bool) -> Found:
    if pictures:
        return read_labelled_pictures(sources, settings)
    return read_texts(sources, settings.data)


def _phrases(found: Found, rows: np.ndarray) -> tuple[list[str], list[str]]:
    """Give all different phrases of trees, with their labels."""
    pairs = dict.fromkeys(pair for row in rows for pair in found.phrases[row])
    pairs |= dict.fromkeys(found.others)
    if not pairs:
        raise InputError(
            "--phrases takes trees, lines as (3 (2 It) (4 shines)); this data has none"
        )
    return [text for text, _ in pairs], [label for _, label in pairs]


def _pick(values: Any, rows: Iterable[int] | np.ndarray) -> Any:  # noqa: ANN401 - texts or arrays
    return [values[i] for i in rows] if isinstance(values, list) else values[rows]


def _named(names: Sequence[str], values: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


def _metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and the F1 of each label that occurs or was predicted, averaged."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "f1_macro": float(f1_score(truth, predicted, average="macro", zero_division=_ZERO)),
    }
