"""Cells over time: stacked, in both directions, over sequences of any length.

T steps, B rows, I inputs, H the width of the cell's output, L layers, D directions (1 or 2).
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import Cell, States
from unrolled.layers.packed import unpack
from unrolled.layers.stack import run_stack


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
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, not {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must lie between 0 and 1, not {dropout}")
        self.num_layers = num_layers
        self.num_directions = 2 if bidirectional else 1
        self.batch_first = batch_first
        self.dropout = dropout
        cells = [cell]
        for place in range(1, num_layers * self.num_directions):
            below = self.num_directions * cell.output_size
            cells.append(
                cell.clone(input_size=cell.input_size if place < self.num_directions else below)
            )
        self.cells = nn.ModuleList(cells)

    @property
    def cell(self) -> Cell:
        """The cell of layer 0, forwards."""
        return self.cells[0]  # pyright: ignore[reportReturnType]

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
            flat = unpack(x)
            y, *rest = self._layers(flat.x, states, flat.lengths, extras, return_states)
            return flat.pack(y), *rest  # pyright: ignore[reportReturnType]
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
        y, last, history = run_stack(
            [*self.cells],  # pyright: ignore[reportArgumentType]
            x,
            states or {},
            directions=self.num_directions,
            dropout=self.dropout if self.training else 0.0,
            lengths=lengths,
            extras=extras,
            keep=keep,
        )
        return (y, last, history) if keep else (y, last)

    def _check_states(self, states: Mapping[str, Tensor] | None) -> None:
        places = self.num_layers * self.num_directions
        for name, state in (states or {}).items():
            if state.dim() < 3 or state.shape[0] != places:
                raise ValueError(
                    f"state {name!r} must be ({places}, rows, width), layers x directions first, "
                    f"not {tuple(state.shape)}"
                )
