"""Noise while training, within the time loop: cells around a cell.

Masks are drawn ahead, from counters keyed by seed, step, layer and row, and fed to the compiled loop:
the same whatever the threads, the engine or the batch a row is in.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor

from unrolled.cells.wrapped import Wrapped
from unrolled.engine import Cell
from unrolled.engine.randomness import keep
from unrolled.engine.weights import carried_states, recurrent_weights

STREAMS = 2**20
"""Streams of random numbers between two masks of a cell: more than a net has layers."""
DROPOUT, ZONEOUT, WEIGHTS = 2**8, 2**9, 2**10
"""First masks of each kind of noise."""


class Noisy(Wrapped):
    """A cell around another that has noise of its own, drawn ahead as masks."""

    @property
    def masks(self) -> tuple[str, ...]:
        """Names of the masks that ``step`` needs now."""
        return ()

    @property
    def extra_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the cell, and the masks."""
        return (*self.cell.extra_names, *self.masks)

    def clone(self, **changes: Any) -> Self:  # noqa: ANN401
        """Build the same around a clone of the cell."""
        (_, *args), kwargs = (
            self._arguments if self._arguments[0] else ((None,), self._arguments[1])
        )
        kwargs = {name: value for name, value in kwargs.items() if name != "cell"}
        return type(self)(self.cell.clone(**changes), *args, **kwargs)

    def _flat(self, name: str) -> int:
        width = self.state_sizes.get(name)
        if not isinstance(width, int):
            known = ", ".join(n for n, w in self.state_sizes.items() if isinstance(w, int))
            raise ValueError(
                f"{type(self.cell).__name__} has no state {name!r} of one dimension; it has {known or 'none'}"
            )
        return width


class RecurrentDropout(Noisy):
    """A state is dropped on its way into products: h_{t-1} * m / (1 - p), m zero with probability p.

    By default the same entries at all steps of a sequence (Gal & Ghahramani 2016, "A theoretically
    grounded application of dropout in recurrent neural networks", eq. 7); with `per_step` others at
    each. What the net gives as output is not dropped. It is for states that are multiplied by weights and
    go nowhere else, as h of an LSTM or an Elman network: not for a GRU, which keeps h.

    Args:
        cell: The cell.
        p: Probability of dropping an entry.
        states: Which states; the first alone if left out.
        per_step: Whether to draw anew at each step.

    Raises:
        ValueError: If p lies outside [0, 1), or a state is unknown, has several dimensions, or is kept
            from step to step.
    """

    def __init__(
        self, cell: Cell, p: float, states: Sequence[str] = (), *, per_step: bool = False
    ) -> None:
        super().__init__(cell)
        self.p = _probability(p, "recurrent dropout")
        self.per_step = per_step
        self.dropped = {name: self._flat(name) for name in states or cell.state_names[:1]}
        for name in sorted(self.dropped.keys() & carried_states(cell)):
            raise ValueError(
                f"{type(cell).__name__} does not only multiply {name} by weights but keeps it from step to "
                f"step, where dropout would wipe it out or let it grow; take WeightDropout, or Zoneout"
            )

    @property
    def masks(self) -> tuple[str, ...]:
        """One for each state that is dropped."""
        return tuple(f"{name}.dropout" for name in self.dropped if self.training and self.p)

    def noise(self, x: Tensor, layer: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw the masks."""
        extras, parameters = super().noise(x, layer)
        steps = x.shape[0] if self.per_step else 1
        for kind, (mask, width) in enumerate(zip(self.masks, self.dropped.values(), strict=False)):
            kept = keep((steps, x.shape[1], width), self.p, layer + (DROPOUT + kind) * STREAMS, x)
            extras[mask] = kept / (1 - self.p) if self.per_step else kept[0] / (1 - self.p)
        return extras, parameters

    def step(self, x: Tensor, *states: Any, **extras: Tensor) -> Any:  # noqa: ANN401
        """Compute a step from states with some entries dropped."""
        masks = {name.partition(".")[0]: extras.pop(name) for name in self.masks}
        seen = [
            state if name not in masks else _times(state, masks[name])
            for name, state in zip(self.state_names, states, strict=True)
        ]
        return self.cell.step(x, *seen, **extras)


class Zoneout(Noisy):
    """A unit keeps its last value with probability p: s_t = d s_{t-1} + (1 - d) s~_t, d one with p.

    Krueger et al. 2017, "Zoneout: regularizing RNNs by randomly preserving hidden activations",
    eqs. 2-6. In use, d is p. A cell's output that is its state is the kept one.

    Args:
        cell: The cell.
        p: Of each state by name: ``Zoneout(cell, h=0.05, c=0.5)``.

    Raises:
        ValueError: If a probability lies outside [0, 1), or a state is unknown, has several dimensions,
            or is not read from the step before.
    """

    def __init__(self, cell: Cell, **p: float) -> None:
        super().__init__(cell)
        for name in p:
            self._flat(name)
            if 1 not in cell.lags(name):
                raise ValueError(
                    f"{type(cell).__name__} does not read {name!r} of the step before, so it cannot keep it"
                )
        self.p = {name: _probability(q, f"zoneout of {name}") for name, q in p.items() if q}

    @property
    def masks(self) -> tuple[str, ...]:
        """One for each state."""
        return tuple(f"{name}.zoneout" for name in self.p if self.training)

    def noise(self, x: Tensor, layer: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw the masks."""
        extras, parameters = super().noise(x, layer)
        for kind, (mask, name) in enumerate(zip(self.masks, self.p, strict=False)):
            shape = (*x.shape[:2], self._flat(name))
            extras[mask] = keep(shape, self.p[name], layer + (ZONEOUT + kind) * STREAMS, x)
        return extras, parameters

    def step(self, x: Tensor, *states: Any, **extras: Tensor) -> Any:  # noqa: ANN401
        """Compute a step, and keep some of what was."""
        masks = {name.partition(".")[0]: extras.pop(name) for name in self.masks}
        found = self.cell.step(x, *states, **extras)
        results = [found] if isinstance(found, Tensor) else [*found]
        for place, name in enumerate(self.state_names):
            if name in self.p:
                old, new = states[place], results[place]
                if name in self.delays:
                    old = old[self.delays[name].index(1)]
                fresh = masks[name] if self.training else 1 - self.p[name]
                results[place] = old + fresh * (new - old)
        return results[0] if isinstance(found, Tensor) else tuple(results)


class WeightDropout(Noisy):
    """Weights are dropped, the same for all rows and steps of a call, the others scaled by 1 / (1 - p).

    DropConnect (Wan, Zeiler, Zhang, LeCun & Fergus 2013), on recurrent weights as Merity, Keskar &
    Socher 2018, "Regularizing and optimizing LSTM language models", have it. It costs the loop nothing.

    Args:
        cell: The cell.
        p: Probability of dropping a weight.
        names: Parameters of the cell; those that what depends on a state is multiplied by if left out.

    Raises:
        ValueError: If p lies outside [0, 1), a parameter is unknown, or none can be found.
    """

    def __init__(self, cell: Cell, p: float, names: Sequence[str] = ()) -> None:
        super().__init__(cell)
        self.p = _probability(p, "weight dropout")
        self.dropped = tuple(names or recurrent_weights(cell))
        known = dict(cell.named_parameters())
        for name in self.dropped:
            if name not in known:
                raise ValueError(
                    f"{type(cell).__name__} has no parameter {name!r}; it has {', '.join(known)}"
                )

    def noise(self, x: Tensor, layer: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Drop weights."""
        extras, parameters = super().noise(x, layer)
        weights: Mapping[str, Tensor] = dict(self.cell.named_parameters())
        for kind, name in enumerate(self.dropped if self.training and self.p else ()):
            given = parameters.get(f"cell.{name}", weights[name])
            stream = layer + (WEIGHTS + kind) * STREAMS
            kept = keep((1, 1, given.numel()), self.p, stream, given, shared=True)
            parameters[f"cell.{name}"] = given * (kept.view_as(given) / (1 - self.p))
        return extras, parameters


def _times(state: Any, mask: Tensor) -> Any:  # noqa: ANN401
    return tuple(s * mask for s in state) if isinstance(state, tuple) else state * mask


def _probability(p: float, what: str) -> float:
    if not 0 <= p < 1:
        raise ValueError(f"{what} must be a probability below 1, not {p}")
    return p
