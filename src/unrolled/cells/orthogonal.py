"""Recurrent matrices whose singular values are held at one, below a bound, or near one."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from unrolled.cells.activations import Activation
from unrolled.cells.elman import Elman


class Orthogonal(Elman):
    """h_t = phi(W_x x_t + Q h_{t-1} + b), Q orthogonal throughout training. State: h (B, H).

    Q is a product of H Householder reflections (Mhammedi et al. 2017), the Cayley transform
    (I + A/2)^-1 (I - A/2) (Helfrich, Willmott & Ye 2018) or the exponential exp(A) of a
    skew-symmetric A (Lezcano-Casado & Martinez-Rubio 2019). It begins at random.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        mapping: How Q is made: ``cayley``, the quickest, ``householder`` or ``matrix_exp``.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If there is no such mapping or activation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        mapping: Literal["householder", "cayley", "matrix_exp"] = "cayley",
        nonlinearity: str | Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, nonlinearity)
        nn.init.orthogonal_(self.h.weight)
        parametrizations.orthogonal(self.h, orthogonal_map=mapping)


class Spectral(Elman):
    """h_t = phi(W_x x_t + W_h h_{t-1} + b) with ||W_h||_2 at most `bound`. State: h (B, H).

    W_h is divided by max(1, ||W_h||_2 / bound). Below 1 and with a phi no steeper than 1 the state
    forgets its start (Miller & Hardt 2019, section 2.2).

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h.
        bound: Of the largest singular value.
        nonlinearity: phi, by name or as a function.

    Raises:
        ValueError: If the bound is not positive, or there is no such activation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bound: float = 1.0,
        nonlinearity: str | Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, nonlinearity)
        parametrize.register_parametrization(self.h, "weight", SpectralBound(bound))


class SpectralBound(nn.Module):
    """W / max(1, ||W||_2 / bound), a parametrisation for :mod:`torch.nn.utils.parametrize`.

    Args:
        bound: Of the largest singular value.

    Raises:
        ValueError: If it is not positive.
    """

    def __init__(self, bound: float = 1.0) -> None:
        super().__init__()
        if not bound > 0:
            raise ValueError(f"the bound of the spectral norm must be positive, not {bound}")
        self.bound = bound

    def forward(self, weight: Tensor) -> Tensor:
        """Scale a matrix."""
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))  # bfloat16 has no SVD
        return (wide / (torch.linalg.matrix_norm(wide, 2) / self.bound).clamp(min=1.0)).to(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Begin at the matrix itself."""
        return weight


def singular_value_penalty(weight: Tensor, eps: float = 0.0) -> Tensor:
    """Sum of the squares by which singular values leave [1 - eps, 1 + eps], to be added to a loss.

    Args:
        weight: A matrix.
        eps: The margin (Vorontsov, Trabelsi, Kadoury & Pal 2017).

    Raises:
        ValueError: If eps lies outside [0, 1].
    """
    _check_margin(eps)
    return ((torch.linalg.svdvals(weight) - 1).abs() - eps).clamp(min=0).square().sum()


@torch.no_grad()
def project_singular_values_(weight: Tensor, eps: float = 0.0) -> Tensor:
    """Move a matrix, in place, to the nearest whose singular values lie in [1 - eps, 1 + eps].

    Args:
        weight: A matrix; called after every update of an optimiser.
        eps: The margin; at 0 the matrix becomes orthogonal.

    Raises:
        ValueError: If eps lies outside [0, 1].
    """
    _check_margin(eps)
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return weight.copy_(u * s.clamp(1 - eps, 1 + eps) @ v)


def _check_margin(eps: float) -> None:
    if not 0 <= eps <= 1:
        raise ValueError(f"the margin of the singular values must lie between 0 and 1, not {eps}")
