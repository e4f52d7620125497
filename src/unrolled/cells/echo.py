"""The echo-state reservoir (Jaeger 2001); what reads it is in :mod:`unrolled.layers.echo`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from unrolled.cells.leaky import check_leak
from unrolled.engine import Cell


class EchoState(Cell):
    """h_t = (1 - a) h_{t-1} + a tanh(W_x x_t + W_h h_{t-1} + b), never trained. State: h (B, H).

    Jaeger 2001, eq. 1, with the leak of Jaeger et al. 2007. W_x and b are drawn from
    U(-1, 1) times their scaling; W_h is sparse, drawn from U(-1, 1), and scaled to its spectral radius.

    Args:
        input_size: Width I of x.
        hidden_size: H, the units of the reservoir.
        spectral_radius: Largest absolute eigenvalue of W_h.
        density: Share of a unit's incoming connections in W_h that are there; at least one is.
        input_scaling: Of W_x.
        bias_scaling: Of b.
        leak: a: a number for all units, or H of them.

    Raises:
        ValueError: If the spectral radius is not positive, the density lies outside (0, 1], or a
            leak outside [0, 1].
    """

    weight_x: Tensor
    weight_h: Tensor
    bias: Tensor
    leak: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        spectral_radius: float = 0.9,
        *,
        density: float = 0.1,
        input_scaling: float = 1.0,
        bias_scaling: float = 0.0,
        leak: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not spectral_radius > 0:
            raise ValueError(f"the spectral radius must be positive, not {spectral_radius}")
        if not 0 < density <= 1:
            raise ValueError(f"the density must be above 0 and at most 1, not {density}")
        shape = hidden_size, hidden_size
        order = torch.rand(shape).argsort(1).argsort(1)
        weight = torch.empty(shape).uniform_(-1, 1) * (order < max(1, round(density * hidden_size)))
        radius = torch.linalg.eigvals(weight).abs().max()
        self.register_buffer("weight_x", _uniform(hidden_size, input_size) * input_scaling)
        self.register_buffer("weight_h", weight * (spectral_radius / radius))
        self.register_buffer("bias", _uniform(hidden_size) * bias_scaling)
        self.register_buffer("leak", check_leak(leak, hidden_size))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, H) -> h (B, H)."""
        new = (linear(x, self.weight_x, self.bias) + linear(h, self.weight_h)).tanh()
        return (1 - self.leak) * h + self.leak * new


def _uniform(*shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-1, 1)
