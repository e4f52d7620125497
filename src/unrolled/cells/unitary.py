"""The unitary recurrent network (Arjovsky, Shah & Bengio 2016)."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unrolled.engine import Cell
from unrolled.engine.cell import Width

TINY = 1e-12
"""Added to |z|^2, which has no derivative of its root at zero."""


class Unitary(Cell):
    """h_t = modReLU(W h_{t-1} + V x_t), W = D3 R2 F^-1 D2 P R1 F D1 (eq. 6). State: h (B, 2 H).

    h is complex, its real parts before its imaginary ones, as the paper reads it out: U [Re h; Im h].
    D are diagonal with exp(i w), R reflections ``1 - 2 v v* / |v|^2``, F the Fourier transform, P a fixed
    permutation. W depends on parameters alone and is computed once a call. modReLU(z) is
    ``(|z| + b) z / |z|`` where ``|z| + b`` is positive, and 0 elsewhere.

    Begun as in section 4.3: V and v from U(-a, a) with a = sqrt(6 / (fan in + fan out)) and 1, w from
    U(-pi, pi), b = 0.

    Args:
        input_size: Width I of x.
        hidden_size: H, the complex units.
    """

    permutation: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 2 * hidden_size, bias=False)
        self.w = nn.Parameter(torch.empty(3, hidden_size).uniform_(-math.pi, math.pi))
        self.v = nn.Parameter(torch.empty(2, 2, hidden_size).uniform_(-1, 1))
        self.b = nn.Parameter(torch.zeros(hidden_size))
        self.register_buffer("permutation", torch.randperm(hidden_size))
        nn.init.xavier_uniform_(self.x.weight)

    @property
    def state_sizes(self) -> dict[str, Width]:
        """Real and imaginary parts."""
        return {"h": 2 * self.hidden_size}

    def matrix(self) -> Tensor:
        """W, complex (H, H), in double precision, since it is applied many times."""
        w = self.w.double()
        d1, d2, d3 = torch.polar(torch.ones_like(w), w).unsqueeze(-1)
        v1, v2 = torch.complex(*self.v.double().unbind(1))
        z = d1 * torch.eye(self.hidden_size, dtype=d1.dtype, device=d1.device)
        z = _reflect(torch.fft.fft(z, dim=0, norm="ortho"), v1)
        z = d2 * z[self.permutation]
        return d3 * _reflect(torch.fft.ifft(z, dim=0, norm="ortho"), v2)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """Compute one step: x (B, I), h (B, 2 H) -> h (B, 2 H)."""
        w = self.matrix()
        real, imag = torch.cat([w.real, -w.imag], 1), torch.cat([w.imag, w.real], 1)
        w = torch.cat([real, imag]).to(self.w.dtype)
        re, im = (linear(h, w) + self.x(x)).chunk(2, -1)
        size = (re * re + im * im + TINY).sqrt()
        scale = self.gate("scale", (size + self.b).relu() / size)
        return torch.cat([scale * re, scale * im], -1)


def _reflect(z: Tensor, v: Tensor) -> Tensor:
    """Compute (1 - 2 v v* / |v|^2) z."""
    return z - torch.outer(v, (2 / v.abs().square().sum()) * (v.conj() @ z))
