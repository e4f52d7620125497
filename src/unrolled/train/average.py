"""Averages of the weights along a run, which are judged and kept in place of the last weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from unrolled.checkpoint.weights import weights
from unrolled.errors import InputError
from unrolled.settings import TrainingSettings

STATISTICS = ("running_mean", "running_var")
"""Buffers that follow the weights, as batch normalisation has them; they are averaged too."""


class Average:
    """The mean of the weights of many updates.

    The n-th weights counted move the mean by ``1 / n`` of what is between them (`swa`: Izmailov et al.
    2018, "Averaging weights leads to wider optima and better generalization"), but with `ema` by
    ``1 - decay`` at least (Polyak & Juditsky 1992; the exponential moving average). So both begin as
    the plain mean, and what the weights were before the run has no part in it.

    Args:
        model: Whose weights.
        training: ``average``, ``average_decay``, ``average_from`` and ``average_every`` count.
    """

    def __init__(self, model: nn.Module, training: TrainingSettings) -> None:
        self.training = training
        self.live = {
            name: tensor
            for name, tensor in weights(model).items()
            if isinstance(tensor, nn.Parameter) or name.endswith(STATISTICS)
        }
        self.means = {name: tensor.detach().clone() for name, tensor in self.live.items()}
        self.counted = 0

    @torch.no_grad()
    def see(self, step: int) -> None:
        """Count the weights after update number `step` (1, 2, ...), if their turn has come."""
        since = step - (self.training.average_from or 0)
        if since <= 0 or since % self.training.average_every:
            return
        self.counted = since // self.training.average_every
        share = 1 / self.counted
        if self.training.average == "ema":
            share = max(share, 1 - self.training.average_decay)
        for name, mean in self.means.items():
            mean.lerp_(self.live[name], share)

    @property
    def judged(self) -> dict[str, Tensor]:
        """The means by name, once there are any: what stands for these weights in what is kept."""
        return self.means if self.counted else {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the means in the model meanwhile, once there are any."""
        if not self.counted:
            yield
            return
        live = {name: tensor.detach().clone() for name, tensor in self.live.items()}
        self._put(self.means)
        try:
            yield
        finally:
            self._put(live)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self.live.items():
            tensor.copy_(tensors[name])

    def capture(self) -> dict[str, Tensor]:
        """Give the means by name, ``average.*``, for a checkpoint."""
        return {f"average.{name}": mean for name, mean in self.means.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int, where: Path) -> None:
        """Undo :meth:`capture`, in the checkpoint of update number `step`.

        Raises:
            InputError: If a mean is missing or has another shape; `where` is named.
        """
        for name, mean in self.means.items():
            found = tensors.get(f"average.{name}")
            if found is None or found.shape != mean.shape:
                raise InputError(f"{where} lacks the average of {name!r}, or it has another shape")
            mean.copy_(found)
        since = step - (self.training.average_from or 0)
        self.counted = max(since, 0) // self.training.average_every
