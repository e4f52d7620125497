"""Classify: one label for each text, signal, film or picture."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.splits import in_batch
from unrolled.data.vocabulary import names_of
from unrolled.errors import InputError
from unrolled.layers.constrain import max_norm_
from unrolled.layers.losses import CLASS_LOSSES, Loss, cross_entropy
from unrolled.settings import Settings
from unrolled.settings.belonging import EXAMPLES, NETS, Choice, refuse_others
from unrolled.tasks import judging
from unrolled.tasks.bag import Baseline
from unrolled.tasks.examples import Examples, picked, tensors
from unrolled.tasks.label_pictures import confusion_picture, reliability_picture
from unrolled.tasks.picture_examples import Pictures
from unrolled.tasks.row_examples import NumberRows
from unrolled.tasks.signal_examples import Signals
from unrolled.tasks.splitting import check_labels, read_splits, shuffled, warn_of_leaks
from unrolled.tasks.task import (
    Artefacts,
    Carry,
    Criterion,
    Objective,
    Split,
    Task,
    in_split,
    seeded,
)
from unrolled.tasks.text_examples import Texts, phrases_of

KINDS: tuple[type[Examples], ...] = (Pictures, Signals, NumberRows, Texts)
"""What examples may be; the first that takes the data reads it."""
ROWS_AT_ONCE = 256
"""Examples that are judged side by side."""


@dataclass(frozen=True)
class Rows:
    """Labelled examples of a split."""

    items: Any
    """Texts, signals, or pictures (n, C, H, W)."""
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
    """What the model is called with: ids (T, B) or numbers (T, B, C) and lengths (B,), or pictures."""
    labels: np.ndarray
    """(B,) int64."""


class Classify(Task):
    """Give each text, signal, film or picture one of the labels it was trained with.

    Different ones are shuffled by the seed and then split; rows with the same text, as tables of
    names have them, all go to the same split, so that none is judged on what it has learned from.
    `validation` and `test` name data of their own for these splits; with `folds`, the test split is
    one of so many equal parts. Pictures of files that begin with ``t10k`` or ``test`` are the test
    split if there are others.
    """

    name = "classify"
    summary = "classifier: text, signal or picture -> label"
    losses = ("cross-entropy", "hinge", "squared-hinge")
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
        self.criterion = Criterion(settings.classifier.best_by, "higher")
        self.headline = settings.classifier.best_by
        self.kind = kind
        self.examples = kind.asked
        self.labels = list(labels)
        self.baseline = baseline
        self._splits = splits

    @classmethod
    def defaults_for(cls, settings: Settings) -> Mapping[str, Mapping[str, Any]]:
        """Give those that go with the kind of the examples."""
        tables = {name: dict(fields) for name, fields in cls.defaults.items()}
        kind = _kind_of(settings.data.source or tables["data"]["source"])
        for name, fields in kind.defaults_for(settings).items():
            tables.setdefault(name, {}).update(fields)
        return tables

    @classmethod
    def choices_for(cls, settings: Settings) -> Sequence[Choice]:
        """Give what the nets of the kind of the examples read."""
        nets = NETS[_kind_of(settings.data.source).unit]
        return (Choice("classifier", "model", nets, (settings.task,)),)

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the data; fit what encodes it, and the baselines, on the training split.

        Raises:
            InputError: If the data is missing or damaged, has too few rows to split, or its
                training split has fewer than two labels.
        """
        data = settings.data
        made = _kind_of(data.source)
        refuse_others(settings, EXAMPLES, made.unit)
        if settings.classifier.calibrate and not data.validates:
            raise InputError("--calibrate takes a validation part; give it one with --split")
        parts = read_splits(lambda sources: made.load(sources, settings), settings, made.unit)
        chosen: dict[Split, tuple[Any, list[str]]] = {
            split: (part.of(rows), [part.labels[i] for i in rows])
            for split, (part, rows) in parts.items()
        }
        if data.phrases:
            chosen["training"] = phrases_of(*parts["training"])
        labels = sorted({label for _, names in chosen.values() for label in names})
        number = {label: i for i, label in enumerate(labels)}
        items, names = chosen["training"]
        if len(set(names)) < 2:
            raise InputError(
                f"all {len(names)} {made.unit} to train on have the same label; "
                "a classifier needs two labels or more"
            )
        warn_of_leaks({split: of for split, (of, _) in chosen.items()}, made.unit)
        kind = made.fit(settings, len(labels), items)
        splits: dict[Split, Rows] = {
            split: Rows(of, kind.inputs(of), np.array([number[label] for label in its], np.int64))
            for split, (of, its) in chosen.items()
        }
        baseline = kind.baseline(items, splits["training"].labels)
        own = cls(settings, kind, labels, baseline, splits)
        own._class_weights  # noqa: B018 - complains of names that are no labels
        return own

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from what encodes examples, labels and baselines."""
        table = artefacts.vocabulary
        made = next((kind for kind in KINDS if kind.key in table), Texts)
        try:
            labels = names_of(table, "labels")
            kind, baseline = made.restore(settings, len(labels), table, artefacts.baseline)
        except KeyError as error:
            raise InputError(f"vocabulary.json has no {error}; it is of no classifier") from None
        return cls(settings, kind, labels, baseline)

    def artefacts(self) -> Artefacts:
        """Give what encodes examples, the labels, and the baselines."""
        return Artefacts({"labels": self.labels, **self.kind.saved()}, self.baseline.to_arrays())

    def build(self) -> nn.Module:
        """Build the model, its initial weights drawn from the run's seed."""
        with seeded(self.settings.training.seed):
            model = self.kind.model()
        if self.settings.classifier.calibrate:
            model.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        return model

    def rows(self, split: Split) -> Rows:
        """The examples of a split.

        Raises:
            InputError: If the split is empty.
            RunError: If the task was restored and has no data.
        """
        return in_split(self._splits, split, "rows")

    @property
    def data_digest(self) -> str:
        """A hash of the examples, their labels, how they are split, and how they are encoded."""
        digest = hashlib.sha256(json.dumps([self.kind.saved(), self.labels]).encode())
        for split, rows in (self._splits or {}).items():
            digest.update(f"{split} {rows.labels.tolist()}".encode())
            for item in rows.items:
                digest.update(item.encode() + b"\n" if isinstance(item, str) else item.tobytes())
        return digest.hexdigest()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training example comes once; the last may begin the next epoch."""
        return math.ceil(len(self.rows("training")) / self.settings.training.batch_size)

    @property
    def initial_loss(self) -> float:
        """The loss when all labels seem alike: ln C; of hinge losses C - 1."""
        others = len(self.labels) - 1
        return math.log(others + 1) if self._measure is cross_entropy else others

    def batch(self, step: int, rows: slice) -> Batch:
        """Rows of batch number `step`: the training examples, shuffled anew in every epoch.

        Batches are cut from the epochs laid end to end, so that all are full. Texts of like length
        mostly come together.
        """
        size = self.settings.training.batch_size
        training = self.rows("training")
        chosen = in_batch(len(training), size, step, rows, self._order)
        inputs = self.kind.batch(picked(training.inputs, chosen), (step, rows.start or 0))
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
        """Loss of the labels, as cross-entropy in nats, times their weights, mean over rows."""
        outputs, loss = self.objective(batch)
        return loss(outputs(model)), {}

    def objective(self, batch: Batch) -> Objective:
        """Give the logits, and their loss."""
        smoothing = self.settings.training.label_smoothing

        def outputs(model: nn.Module) -> Tensor:
            return model(*tensors(batch.inputs, next(model.parameters()).device))

        def loss(logits: Tensor) -> Tensor:
            labels = torch.from_numpy(batch.labels).to(logits.device)
            if self._measure is cross_entropy:
                losses = cross_entropy(logits, labels, smoothing)
            else:
                losses = self._measure(logits, labels)
            if self._class_weights is None:
                return losses.mean()
            weights = torch.from_numpy(self._class_weights).to(logits)
            return (weights[labels] * losses).mean()

        return Objective(outputs, loss)

    @property
    def _measure(self) -> Loss:
        return CLASS_LOSSES[self.settings.training.loss or self.losses[0]]

    @cached_property
    def _class_weights(self) -> np.ndarray | None:
        given = self.settings.classifier.class_weights
        counts = np.bincount(self.rows("training").labels, minlength=len(self.labels))
        return judging.class_weights(given, self.labels, counts)

    def constrain(self, model: nn.Module) -> None:
        """Bound the norms of the labels' read-out weights, if the settings say so."""
        bound = self.settings.classifier.max_norm
        if bound is not None:
            linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
            max_norm_(linear[-1].weight, bound)

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Accuracy, macro F1 (the mean over labels of F1) and calibration error on a split.

        On validation the temperature of ``classifier.calibrate`` is fitted, and kept in the model.
        """
        rows = self.rows(split)
        logits = self._logits(model, rows.inputs)
        if self.settings.classifier.calibrate and split == "validation":
            temperature = judging.fit_temperature(rows.labels, logits)
            model.get_buffer("temperature").fill_(temperature)
        return judging.figures(rows.labels, _probabilities(model, logits))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge the simple models on a split."""
        rows = self.rows(split)
        return self._baselines(rows.items, rows.labels)

    def _baselines(self, items: Any, labels: np.ndarray) -> dict[str, dict[str, float]]:  # noqa: ANN401
        return {
            name: judging.label_figures(labels, predicted)
            for name, predicted in self.baseline.predict(items).items()
        }

    @torch.no_grad()
    def _logits(self, model: nn.Module, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """Score encoded examples (n, C), those of like length side by side."""
        device = next(model.parameters()).device
        logits = np.empty((len(inputs), self.kind.classes))
        by_length = np.argsort(self.kind.lengths(inputs), kind="stable")
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            rows = by_length[start : start + ROWS_AT_ONCE]
            batch = self.kind.batch(picked(inputs, rows), None)
            logits[rows] = model(*tensors(batch, device)).double().cpu().numpy()
        return logits

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
        predicted = self._logits(model, picked(rows.inputs, chosen)).argmax(axis=1)
        verdicts = [
            f"{self.labels[label]} ({'right' if label == truth else f'wrong: {self.labels[truth]}'})"
            for label, truth in zip(predicted, rows.labels[chosen], strict=True)
        ]
        told = f"{self.kind.told}\n" if self.kind.told and step == 0 else ""
        return told + self.kind.drawn(picked(rows.items, chosen), verdicts)

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw what held-out examples are taken for, and whether probabilities hold."""
        data = self.settings.data
        if not (data.tests or data.validates):
            return {}
        rows = self.rows("test" if data.tests else "validation")
        p = _probabilities(model, self._logits(model, rows.inputs))
        return {
            "confusion.png": confusion_picture(self.labels, rows.labels, p.argmax(axis=1)),
            "reliability.png": reliability_picture(rows.labels, p),
        }

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other labelled examples, and the baselines beside it.

        Returns:
            ``accuracy``, ``f1_macro``, ``calibration_error``, ``examples``; of texts
            ``unknown_symbols``, of pictures ``skipped``, files that are none; ``classes`` and
            ``confusion``, see :func:`unrolled.tasks.judging.report`; and ``baselines``.

        Raises:
            InputError: If the data is missing or damaged, or has a label the model does not know.
        """
        self.kind.settings = self.settings  # whose encoding the caller may have changed
        found = self.kind.read(sources)
        check_labels(found, self.labels)
        number = {label: i for i, label in enumerate(self.labels)}
        truth = np.array([number[label] for label in found.labels])
        inputs = self.kind.inputs(found.items)
        p = _probabilities(model, self._logits(model, inputs))
        return {
            **judging.figures(truth, p),
            "examples": len(truth),
            **self.kind.lost(found, inputs),
            **judging.report(self.labels, truth, p.argmax(axis=1)),
            "baselines": self._baselines(found.items, truth),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give the label and the probability of every label for each text, or file of signals or pictures.

        Raises:
            InputError: If a text is empty, or a file holds nothing such as the model was trained on.
        """
        for start in range(0, len(inputs), ROWS_AT_ONCE):
            items, names = self.kind.wanted(inputs[start : start + ROWS_AT_ONCE])
            found = _probabilities(model, self._logits(model, self.kind.inputs(items)))
            for name, p in zip(names, found, strict=True):
                yield {
                    self.kind.word: name,
                    "label": self.labels[int(p.argmax())],
                    "probabilities": dict(zip(self.labels, p.tolist(), strict=True)),
                }


def _kind_of(sources: Sequence[str]) -> type[Examples]:
    return next(kind for kind in KINDS if kind.takes(sources))


def _probabilities(model: nn.Module, logits: np.ndarray) -> np.ndarray:
    """Probability of each label (n, C), by the model's temperature if it has one."""
    temperature = getattr(model, "temperature", torch.ones(()))
    return (torch.from_numpy(logits) / temperature.cpu()).softmax(-1).numpy()
