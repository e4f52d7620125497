"""Reconstruct: pictures through a code and back.

n pictures of I numbers each, B of them in a batch, K numbers of the code.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from unrolled.data.splits import drawn
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import pictures as data
from unrolled.tasks.autoencoder import Autoencoder, Passed, SequenceAutoencoder
from unrolled.tasks.picture_task import PictureTask, Size, saved_size
from unrolled.tasks.task import Artefacts, Carry, Criterion, Objective, Split, finite, seeded

ROWS_AT_ONCE = 1000
"""Pictures that are judged side by side."""
SHOWN = 4
"""Pictures that :meth:`Reconstruct.show` shows."""


@dataclass(frozen=True)
class PictureBatch:
    """Pictures side by side, and what is to be trained on them."""

    rows: np.ndarray
    """(B, I), float32 from 0 to 1."""
    alone: int | None
    """The layer that is trained for itself; ``None`` for all together."""


class Reconstruct(PictureTask):
    """Give back a picture from a few numbers.

    With ``layer_steps`` each layer is first trained for itself, to give back what it reads; its way back
    is put aside while the next one learns. Then all are trained together.
    """

    name = "reconstruct"
    summary = "autoencoder: picture -> code -> picture"
    criterion = Criterion("squared_error")
    headline = "squared_error"
    defaults: ClassVar = {
        "data": {"source": ("digits",), "split": (0.8, 0.1, 0.1)},
        "model": {"hidden": 64},
        "training": {"steps": 3000, "batch_size": 64},
    }

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Read and split the pictures; fit the principal components on the training split.

        Raises:
            InputError: If the pictures cannot be read, or are too few to split, or there are not more
                steps than the layers' own.
        """
        check_steps(settings)
        task = cls.from_pictures(settings, data.read(settings.data.source, settings.pictures))
        task.build()  # settings that contradict each other are found before anything is written
        return task

    @classmethod
    def restore(cls, settings: Settings, artefacts: Artefacts) -> Self:
        """Rebuild the task from the size of the pictures and the principal components."""
        task = cls(settings, saved_size(artefacts))
        task.principal = Principal(**artefacts.baseline)
        return task

    @cached_property
    def principal(self) -> "Principal":
        """The baseline: as many components of the training pictures as the code has numbers."""
        return Principal.fit(self.part("training").rows, self.settings.autoencoder.widths[-1])

    def artefacts(self) -> Artefacts:
        """Give the size of the pictures and the principal components."""
        return Artefacts({"size": list(self.size)}, vars(self.principal))

    def build(self) -> Autoencoder | SequenceAutoencoder:
        """Build the model, its initial weights drawn from the run's seed."""
        return build_autoencoder(self.settings, self.size)

    @property
    def initial_loss(self) -> float:
        """What it costs to give back the mean picture, or half of everything."""
        pixels = self.part("training").rows
        if self.settings.autoencoder.error == "squared":
            return float(pixels.var(0).sum())
        return math.log(2) * pixels.shape[1]

    def batch(self, step: int, rows: slice) -> PictureBatch:
        """Rows of batch number `step`: the training pictures, shuffled anew in every epoch."""
        training = self.settings.training
        pixels = self.part("training").rows
        chosen = drawn(len(pixels), training.seed, training.batch_size, step, rows)
        return PictureBatch(pixels[chosen], alone(self.settings, step))

    def loss(self, model: nn.Module, batch: PictureBatch, carry: Carry) -> tuple[Tensor, Carry]:
        """Error and penalties, mean over rows. Nothing is carried on."""
        passed = model(data.on(model, batch.rows), batch.alone)
        return reconstruction_error(passed, self.settings), {}

    def objective(self, batch: PictureBatch) -> Objective:
        """Give what is compared with the pictures, and the error.

        Raises:
            InputError: If layers are trained one by one, or penalties depend on more than what comes out.
        """
        own = self.settings.autoencoder
        if (
            batch.alone is not None
            or own.sparse_units
            or own.sparse_weights
            or own.kl
            or own.contraction
        ):
            raise InputError(
                "--optimizer hessian-free trains all layers together, without penalties: leave out "
                "--layer-steps, --sparse-units, --sparse-weights, --kl and --contraction"
            )
        entropy = own.error == "cross-entropy" and own.output == "sigmoid"

        def outputs(model: nn.Module) -> Tensor:
            passed = model(data.on(model, batch.rows), None)
            return passed.scores if entropy else passed.reconstruction

        def loss(made: Tensor) -> Tensor:
            wanted = torch.as_tensor(batch.rows).to(made)
            if entropy:
                nats = functional.binary_cross_entropy_with_logits(made, wanted, reduction="none")
                return nats.sum(1).mean()
            return (made - wanted).square().sum(1).mean()

        return Objective(outputs, loss)

    def validate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Squared error a picture on a split, and cross-entropy where that is what is made small."""
        return self._metrics(model, self.part(split).rows)

    def baselines(self, split: Split) -> dict[str, dict[str, float]]:
        """Judge as many principal components as the code has numbers, and the mean picture."""
        return self._baselines(self.part(split).rows)

    def _baselines(self, rows: np.ndarray) -> dict[str, dict[str, float]]:
        name = f"{len(self.principal.components)} principal components"
        found = {name: self.principal.reconstruct(rows), "mean picture": self.principal.mean}
        return {name: {"squared_error": _squared(given, rows)} for name, given in found.items()}

    @torch.no_grad()
    def _metrics(self, model: nn.Module, rows: np.ndarray) -> dict[str, float]:
        totals = {"squared_error": 0.0, "cross_entropy": 0.0}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            passed: Passed = model(data.on(model, rows[start : start + ROWS_AT_ONCE]))
            totals["squared_error"] += float(passed.squared_error().double().sum())
            if self.settings.autoencoder.error == "cross-entropy":
                totals["cross_entropy"] += float(passed.cross_entropy().double().sum())
        finite(np.array([*totals.values()]))
        return {name: total / len(rows) for name, total in totals.items() if total}

    def show(self, model: nn.Module, step: int) -> str:
        """Draw a few validation pictures, and below them what the model gives back."""
        rows = self.some(SHOWN).rows
        given = self.reconstruct(model, rows)
        return "\n\n".join(data.as_text(part.reshape(-1, *self.size)) for part in (rows, given))

    @torch.no_grad()
    def reconstruct(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Give pictures (n, I) back."""
        found = model(data.on(model, rows)).reconstruction
        return finite(found.float().cpu().numpy())

    @torch.no_grad()
    def encode(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Give the codes of pictures: (n, I) -> (n, K)."""
        assert isinstance(model, (Autoencoder, SequenceAutoencoder))
        return model.encode(data.on(model, rows)).float().cpu().numpy()

    def drawings(self, model: nn.Module) -> dict[str, bytes]:
        """Draw test pictures with what model and baseline give back, and the codes by two numbers."""
        from unrolled.tasks import drawing

        split: Split = "test" if self.settings.data.tests else "training"
        some = self.part(split)
        rows = some.rows[:10]
        lines = {
            "original": rows,
            f"code of {len(self.principal.components)}": self.reconstruct(model, rows),
            f"{len(self.principal.components)} components": self.principal.reconstruct(rows),
        }
        codes = self.encode(model, some.rows[:2000])
        labels = None if some.labels is None else some.labels[:2000]
        shaped = {name: part.reshape(-1, *self.size) for name, part in lines.items()}
        return {
            "reconstructions.png": drawing.rows_of_pictures(shaped),
            "codes.png": drawing.scatter(codes, labels),
        }

    def evaluate(self, model: nn.Module, sources: Sequence[str]) -> dict[str, Any]:
        """Judge the model and the baselines on other pictures.

        Raises:
            InputError: If they cannot be read, or are of another size.
        """
        rows = data.read_like(sources, self.size, self.settings.pictures).rows
        return {
            **self._metrics(model, rows),
            "pictures": len(rows),
            "baselines": self._baselines(rows),
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Give each picture's code and squared error.

        Raises:
            InputError: If a picture cannot be read, or is of another size.
        """
        some = data.read_like(inputs, self.size, self.settings.pictures)
        for start in range(0, len(some), ROWS_AT_ONCE):
            part = some[np.arange(start, min(start + ROWS_AT_ONCE, len(some)))]
            codes, given = self.encode(model, part.rows), self.reconstruct(model, part.rows)
            errors = np.square(given - part.rows).sum(1)
            for where, error, code in zip(part.where, errors, codes, strict=True):
                yield {"picture": where, "squared_error": float(error), "code": code.tolist()}


@dataclass(frozen=True)
class Principal:
    """The principal components of pictures."""

    mean: np.ndarray
    """(I,)."""
    components: np.ndarray
    """(K, I), one direction a row."""

    @classmethod
    def fit(cls, rows: np.ndarray, count: int) -> "Principal":
        """Fit as many as there are numbers in the code, or as there can be: rows (n, I)."""
        from sklearn.decomposition import PCA

        found: Any = PCA(min(count, *rows.shape), random_state=0).fit(rows)
        return cls(found.mean_.astype(np.float32), found.components_.astype(np.float32))

    def reconstruct(self, rows: np.ndarray) -> np.ndarray:
        """Give rows (n, I) back from their components."""
        return self.mean + (rows - self.mean) @ self.components.T @ self.components


def alone(settings: Settings, step: int) -> int | None:
    """Which layer is trained for itself at this update; ``None`` if all are trained together."""
    each, layers = settings.autoencoder.layer_steps, len(settings.autoencoder.widths)
    return step // each if step < each * layers else None


def reconstruction_error(passed: Passed, settings: Settings) -> Tensor:
    """The error that was asked for, with the penalties, mean over rows.

    A layer that is trained for itself gives back numbers between 0 and 1, or any: cross-entropy
    compares the former only.
    """
    entropy = settings.autoencoder.error == "cross-entropy" and passed.sigmoid
    errors = passed.cross_entropy() if entropy else passed.squared_error()
    return errors.mean() + passed.penalty


def check_steps(settings: Settings) -> None:
    """Make sure that layers can be trained one by one, and that something is left after that.

    Raises:
        InputError: If not.
    """
    each, layers = settings.autoencoder.layer_steps, len(settings.autoencoder.widths)
    steps = settings.training.steps
    if steps is not None and steps <= each * layers:
        raise InputError(
            f"--layer-steps {each} for {layers} layers leaves none of --steps {steps} for all together; "
            f"give more than {each * layers}"
        )
    several = distributed.is_available() and distributed.is_initialized()
    if each and several and distributed.get_world_size() > 1:
        raise InputError(
            "--layer-steps trains a layer at a time, which only one process can; start one"
        )


def build_autoencoder(settings: Settings, size: Size) -> Autoencoder | SequenceAutoencoder:
    """Build the model that the settings describe, its initial weights drawn from the run's seed."""
    channels, height, width = size
    with seeded(settings.training.seed):
        if settings.autoencoder.row_by_row:
            if channels > 1:
                raise InputError("--row-by-row reads grey pictures; these are in colour")
            model = SequenceAutoencoder(height, width, settings.autoencoder, settings.model)
        else:
            model = Autoencoder(channels * height * width, settings.autoencoder)
        return model.to(getattr(torch, settings.model.dtype))


def _squared(given: np.ndarray, rows: np.ndarray) -> float:
    return float(np.square(given - rows).sum(1).mean(dtype=np.float64))
