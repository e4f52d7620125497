"""How a model calls the recurrent nets inside it, so that they can be run again by hand.

T steps, B rows, I inputs, L layers, D directions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import Cell
from unrolled.engine.check import PAST
from unrolled.engine.packing import Packed
from unrolled.inspect.cells import cells_of
from unrolled.layers import Recurrent
from unrolled.layers.stack import run_stack
from unrolled.layers.standard import StandardLayers

Net = Recurrent | StandardLayers


@dataclass
class Call:
    """One call of a net over a sequence, steps first.

    Attributes:
        name: Where the net is in the model.
        net: The net.
        x: (T, B, I).
        states: Name -> (L * D, B, width); empty where they were left out.
        lengths: Steps of each row (B,), or ``None``.
        extras: Further inputs, name -> (T, B, n) or (B, n).
        results: What it gave: y first, then the last states, as the model goes on with them.
        packed: How the rows of a packed input lie.
    """

    name: str
    net: Net
    x: Tensor
    states: dict[str, Tensor]
    lengths: Tensor | None
    extras: dict[str, Tensor]
    results: list[Tensor]
    packed: Packed | None

    @property
    def cells(self) -> list[tuple[str, Cell]]:
        """Each cell with the weights it ran with, and what it is called."""
        return [(place.removeprefix(": "), cell) for place, cell in cells_of(self.net)]

    @property
    def directions(self) -> int:
        """D."""
        net = self.net
        return net.num_directions if isinstance(net, Recurrent) else 1 + int(net.bidirectional)

    def join(self, layer: int, x: Tensor, y: Tensor) -> Tensor:
        """Give what the next layer reads."""
        return self.net._join(layer, x, y) if isinstance(self.net, Recurrent) else y

    def by_step(self, y: Tensor) -> Tensor:
        """Lay out what has the form of the net's y as (T, B, n)."""
        if self.packed is not None:
            return self.packed.pad(y)
        return y.transpose(0, 1) if self.net.batch_first else y

    def states_of(self, rows: slice) -> dict[str, Tensor]:
        """Give the initial states of some of the rows."""
        return {
            name: state[:, :, rows] if name.endswith(PAST) else state[:, rows]
            for name, state in self.states.items()
        }

    def extras_of(self, rows: slice) -> dict[str, Tensor]:
        """Give the further inputs of some of the rows."""
        return {n: e[rows] if e.dim() == 2 else e[:, rows] for n, e in self.extras.items()}

    def run(self, rows: slice) -> Tensor:
        """Run some of the rows again, by the engine in force: y (T, rows, D * H)."""
        y, _, _ = run_stack(
            [cell for _, cell in self.cells],
            self.x[:, rows],
            self.states_of(rows),
            directions=self.directions,
            join=self.join,
            lengths=None if self.lengths is None else self.lengths[rows],
            extras=self.extras_of(rows),
        )
        return y


@contextmanager
def noting_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Collect the calls of all recurrent nets of a model, as they happen."""
    calls: list[Call] = []
    handles = [
        module.register_forward_hook(_noting(name, calls), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, Recurrent | StandardLayers)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _noting(name: str, calls: list[Call]) -> Callable[..., None]:
    def note(net: Net, args: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:  # noqa: ANN401
        given = dict(zip(("x", "states"), args, strict=False)) | named
        source: Any = given.get("x", given.get("input"))
        states = given.get("states", given.get("hx"))
        packed = Packed(source) if isinstance(source, PackedSequence) else None
        x: Any = source if packed is None else packed.pad(source.data)
        if x.dim() < 3:
            return  # a row alone
        lengths = given.get("lengths") if packed is None else packed.lengths
        if packed is None and net.batch_first:
            x = x.transpose(0, 1)
        names = cells_of(net)[0][1].state_names
        if states is not None and not isinstance(states, dict):
            states = dict(
                zip(names, states if isinstance(states, tuple) else (states,), strict=True)
            )
        y, last = result[0], result[1]
        lasts = (
            [*last.values()]
            if isinstance(last, dict)
            else [*last]
            if isinstance(last, tuple)
            else [last]
        )
        calls.append(
            Call(
                name,
                net,
                x.detach(),
                {key: state.detach() for key, state in (states or _learned(net, x)).items()},
                lengths,
                {key: extra.detach() for key, extra in (given.get("extras") or {}).items()},
                [y.data if isinstance(y, PackedSequence) else y, *lasts],
                packed,
            )
        )

    return note


def _learned(net: Net, x: Tensor) -> dict[str, Tensor]:
    """Give the initial states that a net has learned."""
    initial = getattr(net, "initial", {})
    return {
        name: state.unsqueeze(1).expand(-1, x.shape[1], *state.shape[1:])
        for name, state in initial.items()
    }
