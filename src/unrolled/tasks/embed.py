"""Embed: texts, signals or pictures as points, those of a label near each other."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.metric_losses import (
    contrastive_loss,
    group_loss,
    n_pairs_loss,
    triplet_loss,
)
from unrolled.settings import Settings
from unrolled.tasks.bag import Baseline
from unrolled.tasks.classify import Batch, Classify, Rows
from unrolled.tasks.examples import Examples, marks_of, picked, tensors
from unrolled.tasks.retrieval import MAPPED, in_plane, map_picture, nearest, raw_features, recall
from unrolled.tasks.splitting import split_rows
from unrolled.tasks.task import Artefacts, Carry, Criterion, Split, finite

GALLERY = 20_000
"""Training examples that a model keeps to be found again, at most."""


class Embedder(nn.Module):
    """An encoder whose outputs are points, and the training examples' points.

    Args:
        encoder: (B, ...) -> (B, E), E numbers an example.
        gallery: How many training examples are kept.
        dimension: E.
        unit_length: Whether points have the length 1.
    """

    gallery: Tensor

    def __init__(
        self, encoder: nn.Module, gallery: int, dimension: int, *, unit_length: bool
    ) -> None:
        super().__init__()
        self.encoder, self.unit_length = encoder, unit_length
        self.register_buffer("gallery", torch.zeros(gallery, dimension))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Embed what the encoder takes -> (B, E)."""
        points = self.encoder(*inputs)
        return functional.normalize(points, dim=-1) if self.unit_length else points


class Embed(Classify):
    """Learn from labels which examples are alike, and find the nearest.

    Data, splits and encoders are those of :class:`~unrolled.tasks.classify.Classify`; the encoder's
    last layer gives a point instead of scores. A batch has several examples of each of its labels.
    Examples of a split are judged by their neighbours in it, so that none has been learned from.
    """

    name = "embed"
    summary = "embedder: text, signal or picture -> a point near those of its label"
    losses = ()
    defaults: ClassVar = {
        **Classify.defaults,
        "training": {"steps": 400, "lr": 0.002, "batch_size": 64, "clip_norm": 1.0},
    }

    def __init__(
        self,
        settings: Settings,
        kind: Examples,
        labels: Sequence[str],
        baseline: Baseline,
        splits: dict[Split, Rows] | None = None,
    ) -> None:
        super().__init__(settings, kind, labels, baseline, splits)
        self.criterion, self.headline = Criterion("recall_at_1", "higher"), "recall_at_1"
        kind.classes = settings.embed.dimension
        self.kept = np.zeros(0, np.int64)
        """Labels of the training examples that are kept (G,)."""
        self.names: list[str] = []
        """What they are called."""
        self._places = np.zeros(0, np.int64)

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the data as a classifier does, and choose which training examples to keep.

        Raises:
            InputError: As of a classifier; if no label has two examples, the batch is no multiple of the
                examples of a label, the objective has no such mining, or there is no validation part.
        """
        own, training = settings.embed, settings.training
        if training.batch_size % own.per_label:
            raise InputError(
                f"--batch-size {training.batch_size} must be a multiple of --per-label {own.per_label}"
            )
        if (own.objective, own.mining) == ("contrastive", "semi-hard"):
            raise InputError(f"--mining {own.mining} is not for --objective {own.objective}")
        if not settings.data.validates:
            raise InputError("embed takes a validation part; give it one with --split")
        if settings.classifier.calibrate or settings.classifier.class_weights:
            raise InputError(
                "--calibrate and --class-weights are for classify: embed has no scores"
            )
        task = super().prepare(settings)
        rows = task.rows("training")
        if np.bincount(rows.labels).max() < 2:
            raise InputError("no label has two examples to train on, so that none could be near")
        if isinstance(rows.items[0], str):
            names = rows.items
        else:
            found = type(task.kind).load(settings.data.source, settings)
            where = split_rows(found, settings, task.kind.unit)["training"]
            names = [found.where[row] for row in where]
        places = _distinct(rows)
        task._places = places[
            np.linspace(0, len(places) - 1, min(GALLERY, len(places))).astype(int)
        ]
        task.kept = rows.labels[task._places]
        task.names = [names[place] for place in task._places]
        return task

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from what encodes examples, labels, baselines and the examples kept."""
        task = super().restore(settings, artefacts)
        try:
            task.names = artefacts.vocabulary["names"]
            task.kept = np.array(artefacts.vocabulary["kept"], np.int64)
        except KeyError as error:
            raise InputError(f"vocabulary.json has no {error}; it is of no embedder") from None
        return task

    def artefacts(self) -> Artefacts:
        """Give what a classifier does, and what the training examples that are kept are called."""
        given = super().artefacts()
        own = {"names": self.names, "kept": self.kept.tolist()}
        return Artefacts({**given.vocabulary, **own}, given.baseline)

    def build(self) -> nn.Module:
        """Build the model, its initial weights drawn from the run's seed."""
        own = self.settings.embed
        encoder = super().build()
        return Embedder(encoder, len(self.kept), own.dimension, unit_length=own.unit_length)

    @property
    def initial_loss(self) -> float:
        """The loss of points that are all in one place."""
        labels = torch.from_numpy(self.batch(0, slice(None)).labels)
        return self._objective(torch.zeros(len(labels), 1), labels).item()

    def batch(self, step: int, rows: slice) -> Batch:
        """Rows of batch number `step`: some labels, drawn evenly or not, with several examples of each.

        A label with fewer examples comes with some twice; one with a single example not at all.
        """
        training, settings = self.rows("training"), self.settings
        count = settings.embed.per_label
        random = np.random.default_rng([settings.training.seed, step])
        of_label = self._of_label
        wanted = settings.training.batch_size // count
        if settings.embed.by_frequency:
            sizes = np.array([len(places) for places in of_label])
            drawn = random.choice(len(of_label), wanted, p=sizes / sizes.sum())
        else:
            drawn = _several(np.arange(len(of_label)), wanted, random)
        chosen = np.concatenate([_several(of_label[n], count, random) for n in drawn])[rows]
        inputs = self.kind.batch(picked(training.inputs, chosen), (step, rows.start or 0))
        return Batch(inputs, training.labels[chosen])

    @property
    def _of_label(self) -> list[np.ndarray]:
        """Places of the training examples of each label that has two or more."""
        if not hasattr(self, "_by_label"):
            labels = self.rows("training").labels
            places = (np.flatnonzero(labels == label) for label in np.unique(labels))
            self._by_label = [each for each in places if len(each) > 1]
        return self._by_label

    def loss(self, model: nn.Module, batch: Batch, carry: Carry) -> tuple[Tensor, Carry]:
        """The objective of a batch's points. Nothing is carried on."""
        device = next(model.parameters()).device
        points = model(*tensors(batch.inputs, device))
        return self._objective(points, torch.from_numpy(batch.labels).to(device)), {}

    def _objective(self, points: Tensor, labels: Tensor) -> Tensor:
        own = self.settings.embed
        match own.objective:
            case "triplet":
                return triplet_loss(points, labels, own.margin, own.mining)
            case "contrastive":
                return contrastive_loss(points, labels, own.margin, own.mining)
            case "n-pairs":
                return n_pairs_loss(points, labels, own.temperature)
            case "group":
                return group_loss(points, labels).mean() / len(labels)

    def points(self, model: nn.Module, inputs: Any) -> np.ndarray:  # noqa: ANN401
        """Embed encoded examples: (n, E)."""
        return finite(self._logits(model, inputs))

    def few(self, rows: int) -> slice:
        """Give all rows of a batch, as the loss compares them."""
        return slice(0, self.settings.training.batch_size)

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Judge a split: recall at 1 and 5 among its different examples, and accuracy.

        ``accuracy`` is that of giving each the label of the training example that is nearest. On validation
        the points of the training examples are found anew, and kept in the model.
        """
        if split == "validation":
            inputs = picked(self.rows("training").inputs, self._places)
            gallery = model.get_buffer("gallery")
            gallery.copy_(torch.from_numpy(self.points(model, inputs)))
        return self._figures(model, self.rows(split))

    def _figures(self, model: nn.Module, rows: Rows) -> dict[str, float]:
        places = _distinct(rows)
        points, labels = self.points(model, picked(rows.inputs, places)), rows.labels[places]
        _, found = nearest(points, self._gallery(model), 1)
        known = labels < len(self.labels)
        figures = recall(points, labels)
        if known.any():
            figures["accuracy"] = float(np.mean((self.kept[found[:, 0]] == labels)[known]))
        return figures

    @staticmethod
    def _gallery(model: nn.Module) -> np.ndarray:
        return model.get_buffer("gallery").double().cpu().numpy()

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge raw features by their neighbours, and the simple classifiers by their accuracy."""
        return self._beside(self.rows(split))

    def _beside(self, rows: Rows) -> dict[str, dict[str, float]]:
        places = _distinct(rows)
        items, labels = picked(rows.items, places), rows.labels[places]
        known = np.flatnonzero(labels < len(self.labels))
        judged = self._baselines(picked(items, known), labels[known]) if len(known) else {}
        simple = {name: {"accuracy": found["accuracy"]} for name, found in judged.items()}
        return {"raw_features": recall(raw_features(items), labels), **simple}

    def show(self, model: nn.Module, step: int) -> str:
        """Name the labels of the nearest others of a few validation examples, the same at every step."""
        rows = self.rows("validation")
        points = self.points(model, rows.inputs)
        random = np.random.default_rng([self.settings.training.seed, 6])
        chosen = random.permutation(len(rows))[: self.kind.shown]
        _, places = nearest(points[chosen], points, 4)
        verdicts = []
        for own, near in zip(chosen, places, strict=True):
            others = [self.labels[rows.labels[place]] for place in near if place != own][:3]
            verdicts.append(f"{self.labels[rows.labels[own]]}; nearest: {', '.join(others)}")
        return self.kind.drawn(picked(rows.items, chosen), verdicts)

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw held-out examples in the plane, as they are raw and as they are embedded."""
        rows = self.rows("test" if self.settings.data.tests else "validation")
        places = _distinct(rows)[:MAPPED]
        how = self.settings.embed.map
        before = in_plane(raw_features(picked(rows.items, places)), how)
        after = in_plane(self.points(model, picked(rows.inputs, places)), how)
        return {"map.png": map_picture(before, after, rows.labels[places], self.labels)}

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model on other labelled examples, and the baselines beside it.

        Returns:
            The figures of :meth:`validate`, ``examples``, of texts ``unknown_symbols``, of pictures
            ``skipped``, where there are such ``examples_of_new_labels``, and ``baselines``. Of labels that
            no training example has, recall is told, and accuracy of the others only.

        Raises:
            InputError: If the data is missing or damaged.
        """
        self.kind.settings = self.settings  # whose encoding the caller may have changed
        found = self.kind.read(sources)
        known = set(self.labels)
        new = sorted(set(found.labels) - known)
        number = {label: i for i, label in enumerate([*self.labels, *new])}
        labels = np.array([number[label] for label in found.labels])
        rows = Rows(found.items, self.kind.inputs(found.items), labels)
        lost = self.kind.lost(found, rows.inputs)
        figures = self._figures(model, rows)
        if new:
            lost |= {"examples_of_new_labels": int((labels >= len(known)).sum())}
        return {**figures, "examples": len(rows), **lost, "baselines": self._beside(rows)}

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give the nearest training examples of each text, or file of signals or pictures.

        Returns:
            For each what it is called, ``label`` (of the nearest), ``nearest`` (a list of ``name``,
            ``label`` and ``distance``) and ``embedding``.

        Raises:
            InputError: If a text is empty, or a file is no signal or picture of the model's size.
        """
        items, names = self.kind.wanted(inputs)
        points = self.points(model, self.kind.inputs(items))
        far, places = nearest(points, self._gallery(model), self.settings.embed.neighbours)
        for name, point, distances, found in zip(names, points, far, places, strict=True):
            near = [
                {
                    "name": self.names[place],
                    "label": self.labels[self.kept[place]],
                    "distance": float(distance),
                }
                for distance, place in zip(distances, found, strict=True)
            ]
            label = near[0]["label"]
            yield {
                self.kind.word: name,
                "label": label,
                "nearest": near,
                "embedding": point.tolist(),
            }


def _distinct(rows: Rows) -> np.ndarray:
    """Places of the different examples of each label: names and the like come more than once."""
    pairs = np.stack([marks_of(rows.items), rows.labels.astype(np.uint64)])
    _, first = np.unique(pairs, axis=1, return_index=True)
    return np.sort(first)


def _several(places: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw so many of some places, none twice before all came once."""
    rounds = -(-count // len(places))
    return np.concatenate([random.permutation(places) for _ in range(rounds)])[:count]
