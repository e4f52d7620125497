"""Functions of torch that ask for the size of the batch, which a trace leaves open, said in smaller steps."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


def _cell(new: Callable[..., Any]) -> Callable[..., Any]:
    """A cell of torch, given its new states from both products and the old states."""

    def cell(
        x: Tensor,
        states: Any,  # noqa: ANN401 - h, or (h, c)
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:  # noqa: ANN401
        h, *others = states if isinstance(states, tuple | list) else (states,)
        return new(linear(x, w_ih, b_ih), linear(h, w_hh, b_hh), h, *others)

    return cell


def _gru(of_x: Tensor, of_h: Tensor, h: Tensor) -> Tensor:
    (r, z, n), (r_h, z_h, n_h) = of_x.chunk(3, -1), of_h.chunk(3, -1)
    n = (n + (r + r_h).sigmoid() * n_h).tanh()
    return n + (z + z_h).sigmoid() * (h - n)


def _lstm(of_x: Tensor, of_h: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (of_x + of_h).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


SPELLED: dict[Any, Callable[..., Any]] = {
    torch.gru_cell: _cell(_gru),
    torch.lstm_cell: _cell(_lstm),
    torch.rnn_tanh_cell: _cell(lambda of_x, of_h, h: (of_x + of_h).tanh()),
    torch.rnn_relu_cell: _cell(lambda of_x, of_h, h: (of_x + of_h).relu()),
}


class Spelled(TorchFunctionMode):
    """Calls of such functions become those of smaller ones."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Say a function in smaller steps, or let it be."""
        return SPELLED.get(func, func)(*args, **(kwargs or {}))
