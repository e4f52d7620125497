"""All tensors of a run by name, out of the live objects and back into them.

``model.*`` are the weights, ``optimizer.<weight>.<what>`` the optimiser's, ``carry.*`` what one window
hands to the next (all rows of the global batch), ``generator.*`` torch's random states, a row a process.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn, optim

from unrolled.checkpoint.weights import load_weights, weights
from unrolled.errors import InputError
from unrolled.tasks.task import Carry
from unrolled.train.distributed import Group


def capture(
    model: nn.Module, optimizer: optim.Optimizer, carry: Carry, device: torch.device, group: Group
) -> dict[str, Tensor]:
    """Collect the tensors of a run; all processes must call it, rank 0 gets the whole."""
    tensors = {f"model.{name}": tensor for name, tensor in weights(model).items()}
    names = _parameter_names(model)
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[index]}.{what}": value for what, value in values.items()}
    for name in sorted(carry):
        tensors[f"carry.{name}"] = group.gather(carry[name], dim=1)
    tensors["generator.cpu"] = group.gather(torch.get_rng_state().unsqueeze(0), dim=0)
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device).unsqueeze(0)
        tensors["generator.cuda"] = group.gather(state, dim=0)
    return tensors


def restore(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: optim.Optimizer,
    device: torch.device,
    group: Group,
    where: Path,
) -> Carry:
    """Undo :func:`capture`; give this process's own rows of the carry.

    The number of processes may differ. Random states are then left as they are, for they belong to
    the processes that drew from them; what the package itself draws does not depend on them.

    Raises:
        InputError: If the tensors do not fit the model; `where` is named.
    """
    load_weights(model, _under("model.", tensors), where)
    _restore_optimizer(_under("optimizer.", tensors), model, optimizer, where)
    states = _under("generator.", tensors)
    # A copy, as torch crashes on a state that does not lie at a multiple of 16 bytes in memory.
    if len(states.get("cpu", ())) == group.world:
        torch.set_rng_state(states["cpu"][group.rank].clone())
    if device.type == "cuda" and len(states.get("cuda", ())) == group.world:
        torch.cuda.set_rng_state(states["cuda"][group.rank].clone(), device)
    carry: Carry = {}
    for name, whole in _under("carry.", tensors).items():
        rows = group.rows(whole.shape[1])
        carry[name] = whole[:, rows].contiguous().to(device)
    return carry


def _restore_optimizer(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: optim.Optimizer, where: Path
) -> None:
    shapes = {name: w.shape for name, w in model.named_parameters()}
    state: dict[int, dict[str, Tensor]] = {}
    index = {name: i for i, name in enumerate(_parameter_names(model))}
    for key, tensor in tensors.items():
        name, _, what = key.rpartition(".")
        if name not in index or (tensor.dim() and tensor.shape != shapes[name]):
            raise InputError(
                f"{where} holds 'optimizer.{key}' of shape {tuple(tensor.shape)}, "
                f"but the model of its config has {tuple(shapes.get(name, ()))} there"
            )
        state.setdefault(index[name], {})[what] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _parameter_names(model: nn.Module) -> list[str]:
    """Names of the parameters in the order in which the optimiser numbers them."""
    return [name for name, _ in model.named_parameters()]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
