"""Few labels: a classifier of pictures, of which many have no label.

B pictures of a batch, I numbers of a picture, K of the code, C labels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data.splits import drawn
from unrolled.data.vocabulary import names_of
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import pictures as data
from unrolled.tasks.autoencoder import Autoencoder, Passed
from unrolled.tasks.picture_task import PictureTask, saved_size
from unrolled.tasks.pictures import Pictures
from unrolled.tasks.reconstruct import (
    ROWS_AT_ONCE,
    alone,
    build_autoencoder,
    check_steps,
    reconstruction_error,
)
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, seeded

SHOWN = 4
"""Pictures that :meth:`FewLabels.show` shows."""


class CodeClassifier(nn.Module):
    """The encoder of an autoencoder, and a linear layer that reads labels from the code.

    Args:
        autoencoder: What comes before the linear layer.
        classes: C.
        frozen: Whether the labels teach the linear layer alone.
    """

    def __init__(self, autoencoder: Autoencoder, classes: int, *, frozen: bool) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        like = next(autoencoder.parameters())
        self.readout = nn.Linear(autoencoder.settings.widths[-1], classes, dtype=like.dtype)
        self.frozen = frozen

    def forward(self, x: Tensor, alone: int | None = None) -> Tensor | Passed:
        """Score labels: x (B, I) -> (B, C); or let one layer of the autoencoder reconstruct."""
        if alone is not None:
            return self.autoencoder(x, alone)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            code = self.autoencoder.encode(x)
        return self.readout(code)


@dataclass(frozen=True)
class LabelledBatch:
    """Pictures side by side."""

    rows: np.ndarray
    """(B, I), float32 from 0 to 1."""
    labels: np.ndarray
    """(B,) int64; of no use while a layer is trained for itself."""
    alone: int | None
    """The layer that is trained for itself, without labels; ``None`` for the classifier."""


class FewLabels(PictureTask):
    """Label pictures after an autoencoder has learned from all of them, and few were labelled.

    With ``layer_steps`` the layers are first trained one by one on all training pictures, as of an
    autoencoder. The other steps train a classifier on ``labelled`` pictures: on top of the code alone
    with ``freeze``, through all layers otherwise. Without ``layer_steps`` it starts from scratch.
    """

    name = "few-labels"
    summary = "picture -> label, from few labelled and many other pictures"
    criterion = Criterion("accuracy", "higher")
    headline = "accuracy"
    defaults: ClassVar = {
        "data": {"source": ("digits",), "split": (0.7, 0.1, 0.2)},
        "autoencoder": {"labelled": 100, "widths": (256, 128), "code": "elu"},
        "training": {"steps": 3000, "batch_size": 64},
    }

    labels: list[str]

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the pictures, choose those that are labelled, fit the baseline on them.

        Raises:
            InputError: If the pictures cannot be read, have no labels, or are too few.
        """
        check_steps(settings)
        if settings.autoencoder.row_by_row:
            raise InputError("--row-by-row is for `unrolled train reconstruct`")
        if settings.autoencoder.freeze and not settings.autoencoder.layer_steps:
            raise InputError(
                "--freeze would keep layers that nothing has trained; give --layer-steps"
            )
        found = data.read(settings.data.source, settings.pictures)
        names = np.unique(_labels(found)).tolist()
        if len(names) < 2:
            raise InputError("all pictures have the same label; a classifier needs two or more")
        task = cls.from_pictures(settings, found)
        task.labels = names
        task.build()  # what cannot be is found before anything is written
        _ = task.linear
        return task

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from the size of the pictures, the labels, and the baseline."""
        task = cls(settings, saved_size(artefacts))
        if not artefacts.vocabulary.get("labels"):
            raise InputError("vocabulary.json has no labels; it is of no classifier")
        task.labels = names_of(artefacts.vocabulary, "labels")
        task.linear = Linear(**artefacts.baseline)
        return task

    def artefacts(self) -> Artefacts:
        """Give the size of the pictures, the labels, and the baseline."""
        vocabulary = {"size": list(self.size), "labels": self.labels}
        return Artefacts(vocabulary, vars(self.linear))

    def build(self) -> CodeClassifier:
        """Build the model, its initial weights drawn from the run's seed."""
        autoencoder = build_autoencoder(self.settings, self.size)
        assert isinstance(autoencoder, Autoencoder)
        with seeded(self.settings.training.seed + 1):
            return CodeClassifier(
                autoencoder, len(self.labels), frozen=self.settings.autoencoder.freeze
            )

    def _numbers(self, pictures: Pictures) -> np.ndarray:
        labels = _labels(pictures)
        number = {label: place for place, label in enumerate(self.labels)}
        for where, label in zip(pictures.where, labels, strict=True):
            if label not in number:
                raise InputError(
                    f"{where}: the model does not know the label {label!r}; "
                    f"it was trained on {', '.join(self.labels)}"
                )
        return np.array([number[label] for label in labels], np.int64)

    @cached_property
    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """The pictures whose labels are used (m, I), and these (m,): as many of each label as can be.

        The first of each label in the training split, which is shuffled by the seed.
        """
        training, wanted = self.part("training"), self.settings.autoencoder.labelled
        numbers = self._numbers(training)
        if wanted is None or wanted > len(training):
            raise InputError(
                f"--labelled {wanted}: there are {len(training)} pictures to train on; give fewer"
            )
        if wanted < len(self.labels):
            raise InputError(f"--labelled {wanted}: give one for each of {len(self.labels)} labels")
        by_turns = np.empty(len(numbers), np.int64)  # how many of its label came before
        for label in range(len(self.labels)):
            here = np.flatnonzero(numbers == label)
            by_turns[here] = np.arange(len(here))
        chosen = np.argsort(by_turns, kind="stable")[:wanted]
        return training.rows[chosen], numbers[chosen]

    @cached_property
    def linear(self) -> "Linear":
        """The baseline: a logistic regression on the pixels of the labelled pictures."""
        return Linear.fit(*self.labelled, len(self.labels))

    @property
    def initial_loss(self) -> float:
        """The loss when all labels seem alike: ln C."""
        return math.log(len(self.labels))

    def batch(self, step: int, rows: slice) -> LabelledBatch:
        """Rows of batch number `step`: of all training pictures, later of those with labels."""
        training = self.settings.training
        layer = alone(self.settings, step)
        if layer is None:
            pixels, labels = self.labelled
        else:
            pixels = self.part("training").rows
            labels = np.zeros(len(pixels), np.int64)
        chosen = drawn(len(pixels), training.seed, training.batch_size, step, rows)
        return LabelledBatch(pixels[chosen], labels[chosen], layer)

    def loss(self, model: nn.Module, batch: LabelledBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Error of a layer's reconstruction, or cross-entropy of the labels. Nothing is carried on."""
        found = model(data.on(model, batch.rows), batch.alone)
        if isinstance(found, Passed):
            return reconstruction_error(found, self.settings), {}
        labels = torch.from_numpy(batch.labels).to(found.device)
        return functional.cross_entropy(found, labels), {}

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Accuracy on a split."""
        some = self.part(split)
        return _accuracy(self._probabilities(model, some.rows), self._numbers(some))

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge a logistic regression on the pixels of the same labelled pictures."""
        some = self.part(split)
        return self._baselines(some.rows, self._numbers(some))

    def _baselines(self, rows: np.ndarray, numbers: np.ndarray) -> dict[str, dict[str, float]]:
        return {"logistic regression on pixels": _accuracy(self.linear.scores(rows), numbers)}

    @torch.no_grad()
    def _probabilities(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        parts = [
            model(data.on(model, rows[start : start + ROWS_AT_ONCE])).double().softmax(-1)
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return torch.cat(parts).cpu().numpy()

    def show(self, model: nn.Module, step: int) -> str:
        """Label a few validation pictures."""
        some = self.some(SHOWN)
        found = [self.labels[p.argmax()] for p in self._probabilities(model, some.rows)]
        told = (f"{label} (is {truth})" for label, truth in zip(found, _labels(some), strict=True))
        return f"{data.as_text(some.pixels)}\n{', '.join(told)}"

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model and the baseline on other labelled pictures.

        Raises:
            InputError: If they cannot be read, are of another size, or a label is missing or unknown.
        """
        some = data.read_like(sources, self.size, self.settings.pictures)
        numbers = self._numbers(some)
        return {
            **_accuracy(self._probabilities(model, some.rows), numbers),
            "pictures": len(some),
            "baselines": self._baselines(some.rows, numbers),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give each picture's label and the probability of every label.

        Raises:
            InputError: If a picture cannot be read, or is of another size.
        """
        some = data.read_like(inputs, self.size, self.settings.pictures)
        for where, p in zip(some.where, self._probabilities(model, some.rows), strict=True):
            yield {
                "picture": where,
                "label": self.labels[int(p.argmax())],
                "probabilities": dict(zip(self.labels, p.tolist(), strict=True)),
            }


@dataclass(frozen=True)
class Linear:
    """A logistic regression on pixels."""

    weight: np.ndarray
    """(C, I)."""
    bias: np.ndarray
    """(C,)."""

    @classmethod
    def fit(cls, rows: np.ndarray, numbers: np.ndarray, classes: int) -> "Linear":
        """Fit rows (n, I) and the numbers of their labels (n,)."""
        from sklearn.linear_model import LogisticRegression

        found = LogisticRegression(max_iter=5000).fit(rows, numbers)
        weight, bias = found.coef_, found.intercept_
        if classes == 2:  # one score, of the second label
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        return cls(weight.astype(np.float32), bias.astype(np.float32))

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Score labels: rows (n, I) -> (n, C)."""
        return rows @ self.weight.T + self.bias


def _labels(pictures: Pictures) -> np.ndarray:
    """Give the labels.

    Raises:
        InputError: If there are none.
    """
    if pictures.labels is None:
        raise InputError("these pictures have no labels; give a folder for each label")
    return pictures.labels


def _accuracy(scores: np.ndarray, numbers: np.ndarray) -> dict[str, float]:
    return {"accuracy": float((scores.argmax(1) == numbers).mean())}
