"""Units that leak (Jaeger, Lukosevicius, Popovici & Siewert 2007)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.cells.activations import Activation
from unrolled.cells.elman import Elman


class Leaky(Elman):
    """h_t = (1 - a) h_{t-1} + a phi(W_x x_t + W_h h_{t-1} + b). State: h (B, H).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        leak: a: a number for all units, or H of them.
        learned: Whether a is learned, as sigma of a parameter.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If a leak lies outside [0, 1], or at an end where it is to be learned, or if
            there are neither one nor H.
    """

    leak: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        leak: float | Sequence[float] = 0.5,
        *,
        learned: bool = False,
        nonlinearity: str | Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, nonlinearity)
        a = check_leak(leak, hidden_size)
        if learned:
            if not ((a > 0) & (a < 1)).all():
                raise ValueError("a learned leak must begin between 0 and 1, not at an end")
            self.logit = nn.Parameter(a.logit())
        else:
            self.register_buffer("leak", a)
        self.learned = learned

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        a = self.logit.sigmoid() if self.learned else self.leak
        return (1 - a) * h + a * super().step(x, h)


def check_leak(leak: float | Sequence[float], hidden_size: int) -> Tensor:
    """Give leaks as (1,) or (H,).

    Raises:
        ValueError: If one lies outside [0, 1], or if there are neither one nor H.
    """
    a = torch.atleast_1d(torch.as_tensor(leak, dtype=torch.get_default_dtype()))
    if a.shape not in ((1,), (hidden_size,)):
        raise ValueError(f"leak must be a number or {hidden_size} numbers, not {tuple(a.shape)}")
    if not ((a >= 0) & (a <= 1)).all():  # NaN as well
        raise ValueError(f"leak must lie between 0 and 1, not {leak}")
    return a.clone()
