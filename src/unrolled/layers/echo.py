"""The echo-state network: a fixed reservoir and a linear read-out in closed form (Jaeger 2001)."""

from typing import Self

import torch
from torch import Tensor, nn

from unrolled.cells.echo import EchoState
from unrolled.layers.recurrent import Recurrent

CHUNK = 1024
"""Steps whose states are held at a time while fitting."""


class EchoStateNetwork(nn.Module):
    """y_t = W_o [1; x_t; h_t], with W_o by ridge regression in one pass (Jaeger 2001, eq. 2).

    Args:
        cell: The reservoir.
        outputs: Width O of y.
        ridge: Added to the diagonal of the moments, sums over all steps; the bias is not shrunk.
        washout: Steps at the start of a sequence that are not learned from.

    Raises:
        ValueError: If the ridge or the washout is negative.
    """

    readout: Tensor

    def __init__(
        self, cell: EchoState, outputs: int, ridge: float = 1e-8, washout: int = 100
    ) -> None:
        super().__init__()
        if not ridge >= 0:
            raise ValueError(f"the ridge must not be negative, but it is {ridge}")
        if washout < 0:
            raise ValueError(f"the washout must not be negative, but it is {washout}")
        self.reservoir = Recurrent(cell)
        self.ridge, self.washout = ridge, washout
        width = 1 + cell.input_size + cell.hidden_size
        self.register_buffer("readout", torch.full((width, outputs), torch.nan).double())

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> Self:
        """Solve for the read-out.

        Args:
            x: Inputs (T, B, I).
            y: What is to be read out (T, B, O).

        Raises:
            ValueError: If x and y do not fit each other, or the washout leaves no steps.
        """
        outputs = self.readout.shape[1]
        if x.dim() != 3 or tuple(y.shape) != (*x.shape[:2], outputs):
            raise ValueError(
                f"x and y must be (steps, rows, n) and (steps, rows, {outputs}), "
                f"not {tuple(x.shape)} and {tuple(y.shape)}"
            )
        if len(x) <= self.washout:
            raise ValueError(f"a washout of {self.washout} leaves none of {len(x)} steps to learn")
        # The triangular factor of [features, targets], chunk by chunk: the moments that it spares
        # would square the condition number, which is what limits a free run.
        width = len(self.readout)
        factor = torch.zeros(width, width + outputs, dtype=torch.float64, device=x.device)
        factor.diagonal()[1:] = self.ridge**0.5
        states, skipped = None, self.washout
        for now, wanted in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
            features, states = self._features(now, states)
            rows = torch.cat([features, wanted.double()], -1)[skipped:].flatten(0, 1)
            factor = torch.linalg.qr(torch.cat([factor, rows]), mode="r").R
            skipped = max(0, skipped - len(now))
        factor = factor[:width]
        self.readout = torch.linalg.lstsq(factor[:, :width], factor[:, width:]).solution
        return self

    def forward(
        self, x: Tensor, states: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Read out what was learned: x (T, B, I) -> y (T, B, O) and the last states.

        Raises:
            RuntimeError: If nothing was fitted.
        """
        if self.readout.isnan().any():
            raise RuntimeError("the echo-state network has no read-out yet; call fit first")
        features, states = self._features(x, states)
        return (features @ self.readout.to(features)).to(x.dtype), states

    @torch.no_grad()
    def generate(self, x: Tensor, steps: int) -> Tensor:
        """Run free: read x (T, B, I), then feed each output back as the next input.

        Args:
            x: What comes before, T at least 1; outputs are as wide as inputs.
            steps: How many outputs are wanted.

        Returns:
            The outputs that follow x, (steps, B, I).

        Raises:
            ValueError: If outputs are not as wide as inputs.
            RuntimeError: If nothing was fitted.
        """
        y, states = self(x)
        if y.shape[2] != x.shape[2]:
            raise ValueError(
                f"outputs {y.shape[2]} wide cannot be fed back as inputs {x.shape[2]} wide"
            )
        outputs = [y[-1:]]
        for _ in range(steps - 1):
            y, states = self(outputs[-1], states)
            outputs.append(y)
        return torch.cat(outputs)[:steps]

    def _features(
        self, x: Tensor, states: dict[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """[1; x_t; h_t] in float64, (T, B, 1 + I + H), and the last states."""
        h, last = self.reservoir(x, states)
        return torch.cat([torch.ones_like(h[..., :1]), x, h], -1).double(), last
