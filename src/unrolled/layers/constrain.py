"""Bounds that weights are put back into after each update."""

import torch
from torch import Tensor


@torch.no_grad()
def max_norm_(weight: Tensor, bound: float, dim: int = 1) -> Tensor:
    """Rescale, in place, vectors whose L2 norm is above a bound to that norm (Hinton et al. 2012; Kim 2014).

    Args:
        weight: The weights; (units, inputs) of a linear layer.
        bound: The largest norm allowed.
        dim: Along which a vector lies: 1 for the incoming weights of each unit.

    Raises:
        ValueError: If the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"the bound of a norm must be positive, not {bound}")
    norm = torch.linalg.vector_norm(weight, dim=dim, keepdim=True)
    # Where the norm is within the bound the factor is 1, and nothing changes.
    return weight.mul_((bound / norm).clamp(max=1))
