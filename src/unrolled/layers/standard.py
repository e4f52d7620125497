"""RNN, LSTM and GRU of torch.nn: change the import, and nothing else.

Constructor, results, parameters and their names, initial weights for a seed and errors are those of
torch.nn; ``lengths`` is an addition. T steps, B rows, I inputs, H hidden units, P the width of the
LSTM's projection, L layers, D directions (1 or 2).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.cells.standard import GRUCell, LSTMCell, RNNCell, StandardCell, alike, autocasts
from unrolled.engine.choose import torch_runs
from unrolled.engine.packing import Packed
from unrolled.layers.cuda import run_torch
from unrolled.layers.stack import run_stack


class StandardLayers(nn.RNNBase):
    """What RNN, LSTM and GRU share.

    The parameters are the layer's own, under torch.nn's names; the cells say what one step computes
    and have no weights, so that the step is compiled once for all layers of a shape.
    """

    peer: ClassVar[type[nn.RNNBase]]
    """The class of torch.nn that this one stands for."""

    stream: int = 0
    """First of the streams of random numbers that dropout draws from."""

    _cells: list[StandardCell]

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,  # noqa: ANN401
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Any]:
        """Run over a sequence.

        Args:
            input: (T, B, I), or (B, T, I) if ``batch_first``; (T, I) for a row alone; or packed.
            hx: Initial state (L * D, B, H), or (L * D, H) for a row alone; for the LSTM the pair
                (h, c), h P wide with a projection. Zeros if left out.
            lengths: Steps of each row (B,), in any order, 0 allowed; an addition to torch.nn.

        Returns:
            y (T, B, D * H), or as `input` is laid out, zero past a row's end; and the last state,
            in the form of `hx`.

        Raises:
            ValueError, RuntimeError: If a shape, a dtype or a device is wrong; as torch.nn.
        """
        pair = len(self._cells[0].state_names) == 2
        states = () if hx is None else tuple(hx) if pair else (hx,)
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        packed: Packed | None = None
        alone = False
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence knows its lengths; do not pass lengths as well")
            if input.data.dim() != 2:
                raise RuntimeError(f"input must have 2 dimensions, got {input.data.dim()}")
            x, packed = input.data, Packed(input)
        else:
            self._check_dimensions(input, states)
            alone = input.dim() == 2
            if alone and lengths is not None:
                raise ValueError("lengths are for several rows; cut a row alone at its length")
            x = input[:, None] if alone else input.transpose(0, 1) if self.batch_first else input
            states = tuple(state[:, None] for state in states) if alone else states
        held: Any = self._parameters  # found at once, unless parametrised
        parameters = [
            {n.partition("_l")[0]: held[n] if n in held else getattr(self, n) for n in names}
            for names in self._all_weights
        ]
        weight = parameters[0]["weight_ih"]
        self._check_input(weight, x, states, x.shape[1] if packed is None else packed.batch)
        dtype = x.dtype
        x, states = alike(weight, x, states)
        # Each row draws for each step, and torch's own kernels and compilers take padded rows.
        padded = dropout or torch_runs(x) or torch.compiler.is_compiling()
        if packed is not None and padded:
            x, lengths = packed.pad(x), packed.lengths
        if torch_runs(x):
            y, new = self._run_torch(parameters, x, states, dropout, lengths)
        else:
            y, last, _ = run_stack(
                self._cells,
                x,
                dict(zip(self._cells[0].state_names, states, strict=False)),
                directions=2 if self.bidirectional else 1,
                dropout=dropout,
                stream=self.stream,
                lengths=lengths if packed is None or padded else packed,
                parameters=parameters,
            )
            new = tuple(last[name] for name in self._cells[0].state_names)
        if y.dtype != dtype:
            y, new = y.to(dtype), tuple(state.to(dtype) for state in new)
        new = tuple(state[:, 0] for state in new) if alone else new
        if packed is not None:
            y = packed.pack(packed.gather(y) if padded else y)
        elif alone:
            y = y[:, 0]
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, new if pair else new[0]

    def _run_torch(
        self,
        parameters: Sequence[Mapping[str, Tensor]],
        x: Tensor,
        states: Sequence[Tensor],
        dropout: float,
        lengths: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        shapes = [(len(self._cells), x.shape[1], n) for n in self._cells[0].state_sizes.values()]
        return run_torch(
            self.mode,
            [[*each.values()] for each in parameters],
            x,
            states or [x.new_zeros(shape) for shape in shapes],  # pyright: ignore
            bias=self.bias,
            directions=2 if self.bidirectional else 1,
            dropout=dropout,
            lengths=lengths,
        )

    def _check_dimensions(self, x: Tensor, states: Sequence[Tensor]) -> None:
        if x.dim() not in (2, 3):
            noun = " tensor" if self.peer is nn.RNN else ""
            raise ValueError(
                f"{self.peer.__name__}: Expected input to be 2D or 3D, got {x.dim()}D{noun} instead"
            )
        if any(state.dim() != x.dim() for state in states):
            kind = "batched 3-D" if x.dim() == 3 else "unbatched 2-D"
            found = ", ".join(f"{state.dim()}-D" for state in states)
            what, got = (
                ("hx and cx", f"({found}) tensors")
                if len(states) > 1
                else ("hx", f"{found} tensor")
            )
            raise RuntimeError(f"For {kind} input, {what} should also be {x.dim()}-D but got {got}")

    def _check_input(self, weight: Tensor, x: Tensor, states: Sequence[Tensor], batch: int) -> None:
        if x.dtype != weight.dtype and not autocasts(x):
            raise ValueError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {x.shape[-1]}"
            )
        cell = self._cells[0]
        if states and len(states) != len(cell.state_names):
            raise RuntimeError("lstm expects two hidden states")
        for place, (state, width) in enumerate(
            zip(states, cell.state_sizes.values(), strict=False)
        ):
            wanted = (len(self._cells), batch, width)
            if tuple(state.shape) != wanted:
                what = f"hidden[{place}]" if len(states) > 1 else "hidden"
                raise RuntimeError(f"Expected {what} size {wanted}, got {list(state.shape)}")
        if not x.shape[0]:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def _make_cells(self) -> list[StandardCell]:
        """Build a cell without weights for each layer and direction."""
        directions = 2 if self.bidirectional else 1
        first = self._make_cell(self.input_size)
        upper = self._make_cell(directions * first.output_size)
        return [first] * directions + [upper] * (directions * (self.num_layers - 1))

    def _make_cell(self, input_size: int) -> StandardCell:
        raise NotImplementedError


class RNN(StandardLayers):
    """A simple recurrent network (Elman 1990), as :class:`torch.nn.RNN`.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L; each layer reads the outputs of the one below.
        nonlinearity: ``tanh`` or ``relu``.
        bias: Whether there are biases, two in each layer.
        batch_first: Whether x and y are (B, T, ...). States are not affected.
        dropout: Probability of dropping an output between layers, while training.
        bidirectional: Whether a second cell reads each layer from its end.
        device: Where the parameters are.
        dtype: Of the parameters.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type or out of range; as torch.nn.
    """

    peer = nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
        **unknown: Any,  # noqa: ANN401
    ) -> None:
        _refuse_projection(unknown)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        self.nonlinearity = nonlinearity
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            **unknown,
        )
        self._cells = self._make_cells()

    def _make_cell(self, input_size: int) -> StandardCell:
        return RNNCell(input_size, self.hidden_size, self.bias, self.nonlinearity, device="meta")


class LSTM(StandardLayers):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), as :class:`torch.nn.LSTM`.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L; each layer reads the outputs of the one below.
        bias: Whether there are biases, two in each layer.
        batch_first: Whether x and y are (B, T, ...). States are not affected.
        dropout: Probability of dropping an output between layers, while training.
        bidirectional: Whether a second cell reads each layer from its end.
        proj_size: P; 0 for no projection.
        device: Where the parameters are.
        dtype: Of the parameters.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type or out of range; as torch.nn.
    """

    peer = nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )
        self._cells = self._make_cells()

    def _make_cell(self, input_size: int) -> StandardCell:
        return LSTMCell(
            input_size, self.hidden_size, self.bias, device="meta", proj_size=self.proj_size
        )


class GRU(StandardLayers):
    """Gated recurrent units (Cho et al. 2014), as :class:`torch.nn.GRU`: the reset gate after the product.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L; each layer reads the outputs of the one below.
        bias: Whether there are biases, two in each layer.
        batch_first: Whether x and y are (B, T, ...). States are not affected.
        dropout: Probability of dropping an output between layers, while training.
        bidirectional: Whether a second cell reads each layer from its end.
        device: Where the parameters are.
        dtype: Of the parameters.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type or out of range; as torch.nn.
    """

    peer = nn.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
        **unknown: Any,  # noqa: ANN401
    ) -> None:
        _refuse_projection(unknown)
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            **unknown,
        )
        self._cells = self._make_cells()

    def _make_cell(self, input_size: int) -> StandardCell:
        return GRUCell(input_size, self.hidden_size, self.bias, device="meta")


def _refuse_projection(arguments: Mapping[str, Any]) -> None:
    if "proj_size" in arguments:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
