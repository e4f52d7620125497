"""Whole training steps in the C++ core, where task, model and settings allow it."""

from typing import Any

import torch
from torch import Tensor, nn, optim

from unrolled.engine import Chain, Declined
from unrolled.settings import TrainingSettings
from unrolled.tasks.task import Carry, Task
from unrolled.train.distributed import Group
from unrolled.train.optimisers import AdagradInside

MEMORY: dict[str, tuple[str | None, str | None]] = {
    "sgd": (None, None),
    "momentum": ("momentum_buffer", None),
    "nesterov": ("momentum_buffer", None),
    "adagrad": (None, "sum"),
    "rmsprop": (None, "square_avg"),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}
"""What torch's optimisers call their memory beside the weights; those left out have no whole step."""


class WholeStep:
    """Updates of a model in two calls of the core.

    Model and optimiser stay as they are for everyone else: their tensors become views of memory that
    lies side by side, so evaluation, samples and checkpoints see nothing of it.

    Args:
        chain: The model.
        optimizer: Whose rule, numbers and memory are used.
        training: Clipping and the kind of the optimiser, one of :data:`MEMORY`.
    """

    def __init__(
        self, chain: Chain, optimizer: optim.Optimizer, training: TrainingSettings
    ) -> None:
        self.chain, self.optimizer, self.training = chain, optimizer, training
        self.kind = training.optimizer
        if isinstance(optimizer, AdagradInside):
            self.kind = "adagrad_inside"
        self.memory = [
            None if name is None else self._gather(name) for name in MEMORY[training.optimizer]
        ]
        self.counts: Tensor | None = None
        if self.kind not in ("sgd", "momentum", "nesterov", "adagrad_inside"):
            states = [optimizer.state[weight] for weight in chain.parameters]
            done = float(states[0].get("step", 0))
            self.counts = torch.full((len(states),), done)
            for state, count in zip(states, self.counts, strict=True):
                state["step"] = count

    def _gather(self, name: str) -> Tensor:
        """Move one memory of the optimiser to where the core finds it."""
        whole = torch.zeros_like(self.chain.weights)
        for weight, part in zip(self.chain.parameters, self.chain.views(whole), strict=True):
            state = self.optimizer.state[weight]
            if state.get(name) is not None:
                part.copy_(state[name])
            state[name] = part
        return whole

    def gradients(self, task: Task, batch: Any, carry: Carry) -> tuple[float, float | None, Carry]:  # noqa: ANN401
        """Compute the loss, the gradients' norm where it is bounded, and what the next window starts from."""
        inputs, targets, states, factor = task.symbols(batch, carry)
        return self.chain.step(
            inputs,
            targets,
            states,
            factor=factor,
            clip_value=self.training.clip_value,
            clip_norm=self.training.clip_norm,
        )

    def update(self) -> None:
        """Move the weights by the gradients computed last, at the optimiser's present rate."""
        if self.counts is not None:
            self.counts += 1
        group = self.optimizer.param_groups[0]
        beta1, beta2 = group.get("betas", (0.0, group.get("alpha", 0.0)))
        numbers = (
            *(group["lr"], group["weight_decay"], group.get("eps", 0.0)),
            *(group.get("momentum", 0.0), beta1, beta2),
            0.0 if self.counts is None else float(self.counts[0]),
        )
        self.chain.update(self.kind, numbers, *self.memory)


def whole_step(
    task: Task,
    model: nn.Module,
    optimizer: optim.Optimizer,
    training: TrainingSettings,
    group: Group,
) -> WholeStep:
    """Arrange whole steps.

    Raises:
        Declined: If a step must be made of torch's operations; the sentence says why.
    """
    if group.world > 1:
        raise Declined("gradients are averaged over processes")
    return WholeStep(_chain(task, model, training), optimizer, training)


def through_torch(task: Task, model: nn.Module, training: TrainingSettings) -> str | None:
    """Why one process makes the steps of torch's operations; ``None`` where the core makes them whole."""
    try:
        _chain(task, model, training)
    except Declined as reason:
        return str(reason)
    return None


def left_to_torch(training: TrainingSettings) -> str | None:
    """Name what the settings ask for that has no part in a whole step."""
    wanted = {
        "momentum in the form of a velocity": training.momentum_form != "torch"
        and training.optimizer in ("momentum", "nesterov"),
        "clipping each parameter by itself": training.clip_each,
        "a penalty on weights": training.l1 or training.l2 or training.elastic,
        "a penalty on activations": training.activation_penalty or training.temporal_penalty,
        "a batch in pieces": training.accumulate > 1,
        "label smoothing": training.label_smoothing,
        "bfloat16": training.precision != "full",
    }
    return next((what for what, asked in wanted.items() if asked), None)


def _chain(task: Task, model: nn.Module, training: TrainingSettings) -> Chain:
    if training.optimizer not in MEMORY:
        raise Declined(f"{training.optimizer} is left to torch")
    if left := left_to_torch(training):
        raise Declined(f"{left} is left to torch")
    return task.chain(model)
