"""The gradients of one update: of the loss in one or several pieces, and of what is added to it."""

from contextlib import ExitStack

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.layers.penalties import ActivationPenalty, chosen, penalty
from unrolled.settings import TrainingSettings
from unrolled.tasks.task import Carry, Task


class Gradients:
    """Computes the loss of a batch and its gradients.

    With ``accumulate`` a batch is read in so many pieces, whose gradients are averaged; its rows draw
    the same noise as in one piece. With ``precision`` bfloat16, products are computed under
    ``torch.autocast``; weights, gradients and the optimiser's memory stay as they are.

    Args:
        task: The task.
        model: Its model.
        training: ``accumulate``, ``precision``, and the penalties count.
        rows: Of the global batch, those computed here.
        parallel: What stands for the model in the loss, if it is trained by several processes.

    Raises:
        InputError: If the rows cannot be parted, or no parameter is as ``penalised`` says.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        training: TrainingSettings,
        rows: slice,
        parallel: nn.Module | None = None,
    ) -> None:
        self.task, self.model, self.training = task, model, training
        self.parallel = parallel or model
        self.device = next((w.device for w in model.parameters()), torch.device("cpu"))
        held = training.l1 or training.l2 or training.elastic
        self.penalised = chosen(model, training.penalised) if held else {}
        self.activations = ActivationPenalty(
            model, training.activation_penalty, training.temporal_penalty
        )
        count, pieces = rows.stop - rows.start, training.accumulate
        if count % pieces:
            raise InputError(
                f"--accumulate {pieces} does not divide the {count} rows of a batch; "
                "take another --batch-size"
            )
        self.rows = [
            slice(start, start + count // pieces)
            for start in range(rows.start, rows.stop, count // pieces)
        ]

    def compute(self, step: int, carry: Carry) -> tuple[float, Carry]:
        """Put the gradients of update number `step` (0, 1, ...) into the parameters.

        Returns:
            The loss without penalties, and what the next window starts from.
        """
        for w in self.model.parameters():
            w.grad = None
        total, carries = 0.0, []
        for piece in self.rows:
            with ExitStack() as stack:
                # Processes need to agree on the gradients of all pieces together only.
                if piece is not self.rows[-1] and isinstance(
                    self.parallel, DistributedDataParallel
                ):
                    stack.enter_context(self.parallel.no_sync())
                loss, kept = self._piece(step, piece, carry)
            total += loss
            carries.append(kept)
        self._penalise()
        return total / len(self.rows), joined(carries)

    def _piece(self, step: int, rows: slice, carry: Carry) -> tuple[float, Carry]:
        first = self.rows[0].start
        own = slice(rows.start - first, rows.stop - first)
        if len(self.rows) > 1:
            carry = {name: state[:, own].contiguous() for name, state in carry.items()}
        batch = self.task.batch(step, rows)
        half = self.training.precision == "bfloat16"
        with (
            counter(self.training.seed, step, rows.start),
            torch.autocast(self.device.type, torch.bfloat16, enabled=half),
            self.activations.watch() as penalty,
        ):
            loss, kept = self.task.loss(self.parallel, batch, carry)
        value = loss.item()
        ((loss + penalty()) / len(self.rows)).backward()
        return value, {name: state.detach() for name, state in kept.items()}

    def _penalise(self) -> None:
        """Add the gradients of the penalties on weights."""
        parameters = [w for w in self.penalised.values() if w.requires_grad]
        if not parameters:
            return
        training = self.training
        held = penalty(
            parameters,
            l1=training.l1,
            l2=training.l2,
            elastic=training.elastic,
            beta=training.elastic_beta,
        )
        added = torch.autograd.grad(held, parameters)
        for w, gradient in zip(parameters, added, strict=True):
            w.grad = gradient if w.grad is None else w.grad.add_(gradient)


def joined(carries: list[Carry]) -> Carry:
    """Put what pieces of a batch hand on side by side."""
    if len(carries) == 1:
        return carries[0]
    return {name: torch.cat([one[name] for one in carries], 1) for name in carries[0]}
