"""Element-wise functions by name."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def identity(a: Tensor) -> Tensor:
    """Give `a` back."""
    return a


ACTIVATIONS: dict[str, Activation] = {
    "identity": identity,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "hardtanh": functional.hardtanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sin": torch.sin,
}


def activation(phi: str | Activation) -> Activation:
    """Find an element-wise function: a name of :data:`ACTIVATIONS`, or a function, which is given back.

    Raises:
        ValueError: If there is none of that name.
    """
    if not isinstance(phi, str):
        return phi
    if phi not in ACTIVATIONS:
        raise ValueError(
            f"no activation {phi!r}; give one of {', '.join(ACTIVATIONS)}, or a function"
        )
    return ACTIVATIONS[phi]
