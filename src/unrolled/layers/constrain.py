"""Weights held in bounds, and weights whose length is apart from their direction."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations


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


def normalise_weights(module: nn.Module) -> None:
    """Learn length and direction of the weights into each unit apart: w = g v / ||v||.

    (Salimans & Kingma 2016, "Weight normalization", eq. 2.) All linear layers within change, as
    ``torch.nn.utils.parametrizations.weight_norm`` does it; the weights begin as they are.

    Raises:
        ValueError: If there is no linear layer.
    """
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(module).__name__} has no linear layer whose weights to normalise")
    for part in linear:
        parametrizations.weight_norm(part)
