"""Cells linear in their state: h_t = a_t h_{t-1} + b_t, with a and b from the input alone.

So all steps can be computed at once: see :func:`unrolled.engine.scan.scan`.
"""

import math

import torch
from torch import Tensor, nn

from unrolled.cells.start import uniform_start
from unrolled.engine.cell import Width
from unrolled.engine.scan import LinearCell


class MinGRU(LinearCell):
    """h_t = (1 - z) h_{t-1} + z n, z = sigma(W_z x_t + b_z), n = W_n x_t + b_n. State: h (B, H).

    Feng et al. 2024, section 3.1: the GRU whose gate and candidate do not see the state.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    blocks = ("z", "n")
    writes = ("z",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 2 * hidden_size)
        uniform_start(self)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give 1 - z and z n for x (..., I)."""
        z, n = self.x(x).chunk(2, -1)
        z = self.gate("z", z.sigmoid())
        return 1 - z, z * n


class MinLSTM(LinearCell):
    """h_t = f' h_{t-1} + i' n, f' = f / (f + i), i' = i / (f + i). State: h (B, H).

    f, i = sigma(W x_t + b), n = W_n x_t + b_n: Feng et al. 2024, section 3.2.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
    """

    blocks = ("f", "i", "n")
    keeps, writes = ("f",), ("i",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 3 * hidden_size)
        uniform_start(self)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give f' and i' n for x (..., I)."""
        f, i, n = self.x(x).chunk(3, -1)
        f, i = f.sigmoid(), i.sigmoid()
        i, f = self.gate("i", i / (f + i)), self.gate("f", f / (f + i))
        return f, i * n


class LRU(LinearCell):
    """The linear recurrent unit (Orvieto et al. 2023). State: h (B, 2 N). Output: y (B, H).

    h_t = lambda h_{t-1} + exp(gamma) B x_t, y_t = Re(C h_t) + D x_t, h complex, its real parts before
    its imaginary ones; lambda = exp(-exp(nu) + i exp(theta)) lies within the unit circle (section 3.3).
    It begins on the ring of radii `least` to `most` with phases up to `phase`, and
    ``exp(gamma) = sqrt(1 - |lambda|^2)``. D is a matrix, since the widths of x and y may differ.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of y, and N.
        least: Smallest radius of lambda.
        most: Largest radius of lambda.
        phase: Largest angle of lambda.

    Raises:
        ValueError: If the radii do not satisfy 0 <= least < most <= 1, or the phase is not positive.
    """

    output_names = ("y",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        least: float = 0.0,
        most: float = 1.0,
        phase: float = 2 * math.pi,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not 0 <= least < most <= 1:
            raise ValueError(f"the radii must lie between 0 and 1 in order, not {least}, {most}")
        if not phase > 0:
            raise ValueError(f"the largest phase must be positive, not {phase}")
        # Uniform on the ring: so is the square of the radius. 1 - u is never 0.
        squares = (1 - torch.rand(hidden_size)) * (most**2 - least**2) + least**2
        squares = squares.clamp(max=1 - 1e-6)
        self.nu = nn.Parameter((-0.5 * squares.log()).log())
        self.theta = nn.Parameter((phase * (1 - torch.rand(hidden_size))).log())
        self.gamma = nn.Parameter((1 - squares).sqrt().log())
        self.B = nn.Linear(input_size, 2 * hidden_size, bias=False)
        self.C = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.D = nn.Linear(input_size, hidden_size, bias=False)
        nn.init.normal_(self.B.weight, std=(2 * input_size) ** -0.5)
        nn.init.normal_(self.C.weight, std=hidden_size**-0.5)
        nn.init.normal_(self.D.weight, std=input_size**-0.5)

    @property
    def state_sizes(self) -> dict[str, Width]:
        """Real and imaginary parts."""
        return {"h": 2 * self.hidden_size}

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give lambda and exp(gamma) B x, each as its real and imaginary parts."""
        radius, angle = (-self.nu.exp()).exp(), self.theta.exp()
        b_re, b_im = self.B(x).chunk(2, -1)
        scale = self.gamma.exp()
        return radius * angle.cos(), radius * angle.sin(), scale * b_re, scale * b_im

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give lambda (N,) and exp(gamma) B x (..., N), complex, for x (..., I)."""
        re, im, b_re, b_im = self._parts(x)
        return torch.complex(re, im), torch.complex(b_re, b_im)

    def outputs(self, x: Tensor, h: Tensor) -> Tensor:
        """Read y (..., H) out of x (..., I) and h (..., 2 N)."""
        re, im = h.chunk(2, -1)
        return self.C(torch.cat([re, -im], -1)) + self.D(x)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step: x (B, I), h (B, 2 N) -> h (B, 2 N), y (B, H)."""
        re, im, b_re, b_im = self._parts(x)
        h_re, h_im = h.chunk(2, -1)
        h = torch.cat([re * h_re - im * h_im + b_re, re * h_im + im * h_re + b_im], -1)
        return h, self.outputs(x, h)
