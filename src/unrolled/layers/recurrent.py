"""Cells over time: stacked, in both directions, over sequences of any length.

T steps, B rows, I inputs, H the width of the cell's output, L layers, D directions (1 or 2).
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import Cell, States, run
from unrolled.engine.cell import sample_of
from unrolled.engine.check import shape_of
from unrolled.engine.packing import Packed
from unrolled.layers.stack import Carry, run_stack

Connection = Literal["plain", "residual", "highway", "dense"]


class Recurrent(nn.Module):
    """A cell run over time, in `num_layers` layers and one or both directions.

    Layer 0 forwards is the given cell; the others are built by the same constructor call with their
    own ``input_size``.

    Args:
        cell: What one step computes.
        num_layers: L; each layer reads the outputs of the one below.
        bidirectional: Whether a second cell reads each layer from its end; outputs are concatenated.
        batch_first: Whether x and y are (B, T, ...) instead of (T, B, ...). States are not affected.
        dropout: Probability of dropping an output between layers, while training.
        fixed_dropout: Whether dropout drops the same outputs at all steps of a sequence, which Gal &
            Ghahramani 2016 call variational. For dropout through time see
            :class:`~unrolled.layers.regularise.RecurrentDropout` and its neighbours.
        connection: What a layer above the first does with its input x besides reading it. ``plain``:
            nothing. ``residual``: y = x + f(x) (He et al. 2016; Wu et al. 2016). ``highway``: y = g f(x)
            + (1 - g) x, g = sigma(W x + b), b = -1 at first (Srivastava, Greff & Schmidhuber 2015).
            ``dense``: each layer, the first included, hands on x and f(x) side by side (Huang et al.
            2017); the last one f(x) alone.
        learned_states: Whether initial states that are left out are parameters, zero at first.

    Raises:
        TypeError: If the cell cannot be built again for further layers or directions.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        cell: Cell,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        fixed_dropout: bool = False,
        connection: Connection = "plain",
        learned_states: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, not {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must lie between 0 and 1, not {dropout}")
        if connection not in get_args(Connection):
            known = ", ".join(get_args(Connection))
            raise ValueError(f"connection must be one of {known}, not {connection!r}")
        self.num_layers = num_layers
        self.num_directions = 2 if bidirectional else 1
        self.batch_first = batch_first
        self.dropout, self.fixed_dropout = dropout, fixed_dropout
        self.connection = connection
        cells = [cell]
        width = self.num_directions * cell.output_size
        for place in range(1, num_layers * self.num_directions):
            layer = place // self.num_directions
            below = width if layer else cell.input_size
            if connection == "dense":
                below = cell.input_size + layer * width
            cells.append(cell.clone(input_size=below))
        self.cells = nn.ModuleList(cells)
        like = sample_of(cell)
        if connection == "highway":
            carry = (Carry(width).to(like.device, like.dtype) for _ in range(num_layers - 1))
            self.carry = nn.ModuleList(carry)
        self.initial = nn.ParameterDict(
            {
                name: like.new_zeros(len(cells), *shape_of(size))
                for name, size in (cell.state_sizes.items() if learned_states else ())
            }
        )

    stream: int = 0
    """First of the streams of random numbers that dropout and cells draw from."""

    @property
    def cell(self) -> Cell:
        """The cell of layer 0, forwards."""
        return self.cells[0]  # pyright: ignore[reportReturnType]

    @property
    def additions(self) -> str | None:
        """What there is besides cells one upon another, as a sentence; ``None`` if nothing."""
        if self.dropout:
            return "there is dropout"
        if self.connection != "plain" and self.num_layers > 1:
            return f"its layers are connected by {self.connection}"
        if len(self.initial):
            return "it learns its initial states"
        return None

    @property
    def output_size(self) -> int:
        """Width of y."""
        return self.num_directions * self.cell.output_size

    def forward(
        self,
        x: Tensor | PackedSequence,
        states: Mapping[str, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
        return_states: bool = False,
    ) -> (
        tuple[Tensor | PackedSequence, States]
        | tuple[Tensor | PackedSequence, States, dict[str, Tensor]]
    ):
        """Run over a sequence.

        Args:
            x: (T, B, I), or (B, T, I) if ``batch_first``, or packed.
            states: Name -> (L * D, B, width), direction by direction within a layer; zeros where
                left out.
            lengths: Steps of each row (B,), in any order, 0 allowed.
            extras: Further inputs the cell declares, name -> (T, B, n) or (B, n), for every layer.
            return_states: Whether to give all states, outputs and gates of all steps as well.

        Returns:
            y (T, B, D * H), zero past a row's end, or (B, T, D * H), or packed as x was; the last
            states; and, with `return_states`, name -> (L * D, T, B, width).

        Raises:
            TypeError, ValueError: If an input's type, name or shape is wrong.
            RuntimeError: If the cell's ``step`` returns the wrong number or shape of results.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths; do not pass lengths as well")
            packed = Packed(x)
            y, *rest = self._layers(
                packed.pad(x.data), states, packed.lengths, extras, return_states
            )
            return packed.pack(packed.gather(y)), *rest  # pyright: ignore[reportReturnType]
        if x.dim() < 3:
            order = "rows, steps" if self.batch_first else "steps, rows"
            raise ValueError(
                f"input must be ({order}, {self.cell.input_size}), not {tuple(x.shape)}"
            )
        x = x.transpose(0, 1) if self.batch_first else x
        y, *rest = self._layers(x, states, lengths, extras, return_states)
        return y.transpose(0, 1) if self.batch_first else y, *rest  # pyright: ignore[reportReturnType]

    def step(
        self, x: Tensor, states: Mapping[str, Tensor] | None = None, **extras: Tensor
    ) -> tuple[Tensor, States]:
        """Run one step: x (B, I), states name -> (L * D, B, width) -> y (B, H), new states.

        Raises:
            ValueError: If the net is bidirectional, or a shape is wrong.
        """
        if self.num_directions == 2:
            raise ValueError(
                "a bidirectional net needs the whole sequence; it cannot run step by step"
            )
        y, states, *_ = self._layers(x.unsqueeze(0), states, None, extras, False)
        return y[0], states

    def _layers(
        self,
        x: Tensor,
        states: Mapping[str, Tensor] | None,
        lengths: Tensor | None,
        extras: Mapping[str, Tensor] | None,
        keep: bool,
    ) -> tuple[Tensor, States] | tuple[Tensor, States, dict[str, Tensor]]:
        self._check_states(states)
        if len(self.initial):
            learned = {
                name: state.unsqueeze(1).expand(-1, x.shape[1], *state.shape[1:])
                for name, state in self.initial.items()
            }
            states = {**learned, **(states or {})}
        y, last, history = run_stack(
            [*self.cells],  # pyright: ignore[reportArgumentType]
            x,
            states or {},
            directions=self.num_directions,
            dropout=self.dropout if self.training else 0.0,
            fixed=self.fixed_dropout,
            stream=self.stream,
            join=self._join,
            lengths=lengths,
            extras=extras,
            keep=keep,
        )
        return (y, last, history) if keep else (y, last)

    def _join(self, layer: int, x: Tensor, y: Tensor) -> Tensor:
        """What the next layer reads, of a layer's input x and output y; after the last one the output."""
        if self.connection == "dense":
            return y if layer == self.num_layers - 1 else torch.cat([x, y], -1)
        if layer and self.connection == "residual":
            return x + y
        if layer and self.connection == "highway":
            carry: Cell = self.carry[layer - 1]  # pyright: ignore[reportAssignmentType]
            return run(carry, x, extras={"above": y}).y
        return y

    def _check_states(self, states: Mapping[str, Tensor] | None) -> None:
        places = self.num_layers * self.num_directions
        for name, state in (states or {}).items():
            if state.dim() < 3 or state.shape[0] != places:
                raise ValueError(
                    f"state {name!r} must be ({places}, rows, width), layers x directions first, "
                    f"not {tuple(state.shape)}"
                )
