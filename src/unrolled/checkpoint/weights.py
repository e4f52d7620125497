"""A model's weights as named tensors, each stored once however many modules share it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from unrolled.errors import InputError


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Give the parameters and buffers of a model by name; of shared ones the first name only."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            named[name] = tensor
    return named


@torch.no_grad()
def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors given by :func:`weights` into a model of the same shapes, in place.

    Args:
        model: The model.
        tensors: Its weights by name.
        where: The file they come from, named when they do not fit.

    Raises:
        InputError: If a tensor is missing, superfluous, or of another shape or number format.
    """
    own = weights(model)
    if strangers := sorted(tensors.keys() - own.keys()):
        raise InputError(f"{where} holds {strangers[0]!r}, which the model of its config lacks")
    for name, tensor in own.items():
        if name not in tensors:
            raise InputError(f"{where} lacks {name!r}, which the model of its config needs")
        found = tensors[name]
        if found.shape != tensor.shape:
            raise InputError(
                f"{where} holds {name!r} of shape {tuple(found.shape)}, "
                f"but the model of its config needs {tuple(tensor.shape)}"
            )
        if found.dtype != tensor.dtype:
            raise InputError(
                f"{where} holds {name!r} as {found.dtype}, but its config says {tensor.dtype}"
            )
        tensor.copy_(found)
