"""A whole training step in the C++ core, for models that read symbols and foretell symbols.

Around a small model the time loop is the least of a step: through torch, a read-out with its loss
costs as much as 25 steps of a hundred units, and the optimiser as much again. A chain has them all in
one call: vectors of the symbols, layers of cells, read-out, softmax and cross-entropy, the way back,
clipping; and the update in a second one, so that a loss that is no number never reaches the weights.
"""

from collections.abc import Mapping, Sequence
from itertools import chain as in_turn

import torch
from torch import Tensor, nn

from unrolled.engine import native
from unrolled.engine.cell import Cell
from unrolled.engine.choose import engine_asked
from unrolled.engine.lower import Declined
from unrolled.engine.programs import compiled

OPTIMIZERS = (
    *("sgd", "momentum", "nesterov", "adagrad", "adagrad_inside", "rmsprop", "adam", "adamw"),
)
"""In the order of native/update.hpp."""
LINE = 16
"""Weights begin at a multiple of this many numbers."""


class _Readout(Cell):
    """y = W x + b."""

    state_names = ()
    output_names = ("y",)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features)
        self.linear = linear

    def step(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Chain:
    """The parts of a model, their weights side by side in one piece of memory.

    The parameters stay what and where they are for everyone else: views of that memory.

    Args:
        size: Number of symbols V.
        table: Vectors of the symbols (V, I); ``None`` for one-hot.
        cells: One a layer, each reading the outputs of the one before.
        readout: Outputs -> logits of the symbols; its weight may be the table's.

    Raises:
        Declined: If the core is missing, or a cell is not for it; the sentence says why.
    """

    def __init__(
        self, size: int, table: Tensor | None, cells: Sequence[Cell], readout: nn.Linear
    ) -> None:
        if engine_asked() != "native":
            raise Declined("the reference engine is asked for")
        if not native.available():
            raise Declined("the native core is not installed")
        links = [*cells, _Readout(readout)]
        own = [table] if table is not None else []
        self.parameters: list[Tensor] = list(
            dict.fromkeys(in_turn(own, *(link.parameters() for link in links)))
        )
        first = self.parameters[0]
        if first.dtype not in (torch.float32, torch.float64):
            raise Declined(f"the weights are {first.dtype}")
        for weight in self.parameters:
            if (weight.dtype, weight.device.type) != (first.dtype, "cpu"):
                raise Declined(f"a weight is {weight.dtype} on {weight.device}")
            if not weight.requires_grad:
                raise Declined("a weight is frozen")
        if cells[0].delays:
            raise Declined("a state is read from further back than one step")
        if any(cell.extra_names for cell in cells) or type(cells[0]).noise is not Cell.noise:
            raise Declined("its cells read more than the layer below")
        self.state_names = list(cells[0].state_names)
        plans, places = [], []
        for place, link in enumerate(links):
            plan = compiled(link, {}, first.dtype)
            if plan.step.joined:  # weights that move are not copied side by side first
                plan = compiled(link, {}, first.dtype, join=False)
            if None in plan.step.plain:
                raise Declined(
                    f"{type(link).__name__} computes with its parameters before the loop"
                )
            named = dict(link.named_parameters(remove_duplicate=False))
            constants = [named.get(name or "") for name in plan.step.plain]
            if any(constant is None for constant in constants):
                raise Declined(f"{type(link).__name__} has buffers")
            places.append(constants)
            needs = (place > 0 or table is not None, *(True for _ in constants))
            plans.append(plan.training(needs))
        self.widths = [plan.compiled.widths for plan in plans[:-1]]
        used = {id(constant) for constants in places for constant in constants}
        if any(id(p) not in used for p in self.parameters if p is not table):
            raise Declined("a weight is used by nothing")
        if len(used) != sum(map(len, places)):
            raise Declined("two layers share a weight")
        self._gather()
        self._at = (self.weights.data_ptr(), self.gradients.data_ptr())
        at = {id(p): start for p, start in zip(self.parameters, self.starts, strict=True)}
        symbols = (size, 0, -1) if table is None else (size, table.shape[1], at[id(table)])
        assert native._native is not None
        self._core = native._native.chain(
            symbols,
            [plan.engine for plan in plans],
            [[at[id(constant)] for constant in constants] for constants in places],
            self.weights.numel(),
        )

    def _gather(self) -> None:
        """Move the parameters into one piece of memory."""
        self.starts, total = [], 0
        for weight in self.parameters:
            self.starts.append(total)
            total += -(-weight.numel() // LINE) * LINE
        self.weights = self.parameters[0].detach().new_zeros(total)
        self.gradients = torch.zeros_like(self.weights)
        for weight, part in zip(self.parameters, self.views(self.weights), strict=True):
            part.copy_(weight.detach())
            weight.data = part

    def views(self, numbers: Tensor) -> list[Tensor]:
        """Give of numbers that stand beside the weights those of each parameter, in its shape."""
        return [
            numbers[start : start + weight.numel()].view(weight.shape)
            for weight, start in zip(self.parameters, self.starts, strict=True)
        ]

    def step(
        self,
        inputs: Tensor,
        targets: Tensor,
        states: Mapping[str, Tensor],
        *,
        factor: float = 1.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> tuple[float, float | None, dict[str, Tensor]]:
        """Compute loss and gradients, and clip these.

        Args:
            inputs: Symbols (T, B), int64.
            targets: The symbols to foretell (T, B), int64.
            states: Name -> (L, B, width); zeros where left out.
            factor: Of the mean cross-entropy.
            clip_value: Bound of every entry.
            clip_norm: Then the bound of the norm of all together.

        Returns:
            The loss, the norm before it was bounded where that is asked for, the last states.
        """
        steps, batch = inputs.shape
        new = [
            {
                name: self.weights.new_empty(batch, width)
                for name, width in zip(self.state_names, widths, strict=True)
            }
            for widths in self.widths
        ]
        given = {name: states[name].contiguous() for name in self.state_names if name in states}
        initial = [
            given[name][layer].data_ptr() if name in given else 0
            for layer in range(len(self.widths))
            for name in self.state_names
        ]
        last = [state.data_ptr() for layer in new for state in layer.values()]
        inputs, targets = inputs.contiguous(), targets.contiguous()
        loss, norm = self._core.gradients(
            *(steps, batch, inputs.data_ptr(), targets.data_ptr(), initial, last, factor),
            *self._at,
            *(clip_value or 0.0, clip_norm or 0.0, torch.get_num_threads()),
        )
        stacked = {
            name: torch.stack([layer[name] for layer in new])
            if len(new) > 1
            else new[0][name].unsqueeze(0)
            for name in self.state_names
        }
        return loss, norm if clip_norm else None, stacked

    def update(
        self, optimizer: str, numbers: Sequence[float], first: Tensor | None, second: Tensor | None
    ) -> None:
        """Move the weights.

        Args:
            optimizer: One of :data:`OPTIMIZERS`.
            numbers: Learning rate, weight decay, epsilon, momentum, beta 1, beta 2 (RMSprop's alpha)
                and the number of this update, from 1; what an optimiser lacks is not read.
            first: The optimiser's memory beside the weights: momentum, first moment.
            second: Sum or mean of squares.
        """
        kind = OPTIMIZERS.index(optimizer)
        at = [0 if memory is None else memory.data_ptr() for memory in (first, second)]
        self._core.update(kind, list(numbers), *self._at, *at, torch.get_num_threads())
