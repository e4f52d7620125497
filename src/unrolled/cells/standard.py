"""The cells of torch.nn: its parameters and their names, its equations, its errors.

Each is at once torch.nn's cell, which runs one step when called, and a cell of ours, which a layer
runs over time. B rows, I inputs, H hidden units.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unrolled.engine import Cell, run
from unrolled.engine.cell import Width
from unrolled.engine.choose import torch_runs


class StandardCell(Cell):
    """How the cells of torch.nn are called, one step at a time."""

    peer: ClassVar[type[nn.RNNCellBase]]
    """The class of torch.nn that this one stands for."""

    weight_ih: Tensor
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any
    nonlinearity: Any = None
    proj_size: int = 0

    @property
    def signature(self) -> tuple[Any, ...] | None:
        """All that a trace may see of this cell, where it is none of a class derived from ours."""
        if type(self) not in (RNNCell, LSTMCell, GRUCell):
            return None
        kind = self.nonlinearity, self.proj_size
        return type(self), self.input_size, self.hidden_size, self.bias, *kind

    @classmethod
    def rebuilt(cls, signature: tuple[Any, ...]) -> Self:
        """Build a cell of a signature, with parameters that have no values."""
        _, *sizes, nonlinearity, proj_size = signature
        own: dict[str, Any] = {"nonlinearity": nonlinearity} if nonlinearity else {}
        own |= {"proj_size": proj_size} if proj_size else {}
        return cls(*sizes, **own, device="meta")  # pyright: ignore[reportCallIssue]

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: ANN401
        """Run one step.

        Args:
            input: (B, I), or (I,) for a row alone.
            hx: The state (B, H), or (H,); for the LSTM the pair (h, c). Zeros if left out.

        Returns:
            The new state, in the form of `hx`.

        Raises:
            ValueError, RuntimeError: If a shape, a dtype or a device is wrong; as torch.nn.
        """
        name, pair = self.peer.__name__, len(self.state_names) == 2
        states = () if hx is None else tuple(hx) if pair else (hx,)
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for place, state in enumerate(states):
            if state.dim() not in (1, 2):
                what = f"hx[{place}]" if pair else "hidden"
                raise ValueError(
                    f"{name}: Expected {what} to be 1D or 2D, got {state.dim()}D instead"
                )
        alone = input.dim() == 1
        x = input[None] if alone else input
        states = tuple(state[None] for state in states) if alone else states
        self._check(x, states)
        x, states = alike(self.weight_ih, x, states)
        if not self.proj_size and torch_runs(x):
            new = self._run_torch(x, states)
        else:
            last = run(self, x[None], dict(zip(self.state_names, states, strict=False))).states
            new = tuple(last[name] for name in self.state_names)
        new = tuple(state.to(input.dtype) for state in new)
        new = tuple(state[0] for state in new) if alone else new
        return new if pair else new[0]

    def _run_torch(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run one step in torch's own kernel."""
        own = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        states = states or [x.new_zeros(x.shape[0], self.hidden_size) for _ in self.state_names]
        if len(states) == 2:
            return torch.lstm_cell(x, [*states], *own)
        name = "gru_cell" if self.nonlinearity is None else f"rnn_{self.nonlinearity}_cell"
        return (getattr(torch, name)(x, states[0], *own),)

    def _check(self, x: Tensor, states: Sequence[Tensor]) -> None:
        if x.shape[1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}"
            )
        if states and len(states) != len(self.state_names):
            raise RuntimeError("lstm_cell expects two hidden states")
        for place, (state, width) in enumerate(
            zip(states, self.state_sizes.values(), strict=False)
        ):
            if state.shape[0] != x.shape[0]:
                raise RuntimeError(
                    f"Input batch size {x.shape[0]} doesn't match hidden{place} batch size {state.shape[0]}"
                )
            if state.shape[1] != width:
                raise RuntimeError(
                    f"hidden{place} has inconsistent hidden_size: got {state.shape[1]}, expected {width}"
                )


class RNNCell(StandardCell, nn.RNNCell):
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh) (Elman 1990). State: h (B, H).

    Args:
        input_size: I.
        hidden_size: H.
        bias: Whether there are b_ih and b_hh.
        nonlinearity: phi, ``tanh`` or ``relu``.
        device: Where the parameters are.
        dtype: Of the parameters.
    """

    peer = nn.RNNCell
    blocks = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.RNNCell.__init__(self, input_size, hidden_size, bias, nonlinearity, device, dtype)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        a = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        if self.nonlinearity == "tanh":
            return a.tanh()
        if self.nonlinearity == "relu":
            return a.relu()
        raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")


class LSTMCell(StandardCell, nn.LSTMCell):
    """Gates i, f, o and candidate g from W_ih x + b_ih + W_hh h + b_hh. States: h, c, each (B, H).

    c' = sigma(f) c + sigma(i) tanh(g), h' = sigma(o) tanh(c'), or W_hr of that, P wide, with a
    projection (Hochreiter & Schmidhuber 1997; Gers et al. 2000; Sak, Senior & Beaufays 2014).

    Args:
        input_size: I.
        hidden_size: H.
        bias: Whether there are b_ih and b_hh.
        device: Where the parameters are.
        dtype: Of the parameters.
        proj_size: P, or 0 for no projection; an addition to torch.nn's cell.
    """

    peer = nn.LSTMCell
    state_names = ("h", "c")
    blocks = ("i", "f", "g", "o")
    keeps, writes = ("f",), ("i",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
        *,
        proj_size: int = 0,
    ) -> None:
        nn.LSTMCell.__init__(self, input_size, hidden_size, bias, device, dtype)
        if proj_size:
            self.proj_size = proj_size
            self.weight_hh = nn.Parameter(self.weight_hh.new_empty(4 * hidden_size, proj_size))
            self.weight_hr = nn.Parameter(self.weight_hh.new_empty(proj_size, hidden_size))
            self.reset_parameters()

    @property
    def state_sizes(self) -> dict[str, Width]:
        """H is P wide with a projection, c always H."""
        return {"h": self.proj_size or self.hidden_size, "c": self.hidden_size}

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, H), c (B, H) -> h, c."""
        a = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = a.chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * self.gate("g", g.tanh())
        h = self.gate("o", o.sigmoid()) * c.tanh()
        return linear(h, self.weight_hr) if self.proj_size else h, c


class GRUCell(StandardCell, nn.GRUCell):
    """Reset gate r, update gate z, candidate n (Cho et al. 2014). State: h (B, H).

    n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1 - z) n + z h: the reset gate after the
    product, as cuDNN has it.

    Args:
        input_size: I.
        hidden_size: H.
        bias: Whether there are b_ih and b_hh.
        device: Where the parameters are.
        dtype: Of the parameters.
    """

    peer = nn.GRUCell
    blocks = ("r", "z", "n")
    keeps = ("z",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,  # noqa: ANN401
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.GRUCell.__init__(self, input_size, hidden_size, bias, device, dtype)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        x_r, x_z, x_n = linear(x, self.weight_ih, self.bias_ih).chunk(3, -1)
        h_r, h_z, h_n = linear(h, self.weight_hh, self.bias_hh).chunk(3, -1)
        r = self.gate("r", (x_r + h_r).sigmoid())
        z = self.gate("z", (x_z + h_z).sigmoid())
        n = self.gate("n", (x_n + r * h_n).tanh())
        return (1 - z) * n + z * h


def alike(weight: Tensor, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Check that input and states have the dtype and device of the weights; autocast makes it so.

    Raises:
        RuntimeError: If they have not; as torch.nn.
    """
    if autocasts(x) and x.dtype != torch.float64:
        x = x.to(weight.dtype)
        states = [state.to(weight.dtype) for state in states]
    for what, tensor in (("parameter", weight), *(("hidden", state) for state in states)):
        if tensor.device != x.device:
            raise RuntimeError(
                f"Input and {what} tensors are not at the same device, "
                f"found input tensor at {x.device} and {what} tensor at {tensor.device}"
            )
        if tensor.dtype != x.dtype:
            raise RuntimeError(
                f"Input and {what} tensors are not the same dtype, "
                f"found input tensor with {x.dtype} and {what} tensor with {tensor.dtype}"
            )
    return x, tuple(states)


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on where x is."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
