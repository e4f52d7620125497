"""Turn the recurrent modules of torch.nn inside a model into ours."""

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from unrolled.cells.standard import GRUCell, LSTMCell, RNNCell, StandardCell
from unrolled.layers.standard import GRU, LSTM, RNN, StandardLayers

ModuleT = TypeVar("ModuleT", bound=nn.Module)
OURS: dict[type[nn.Module], type[StandardLayers | StandardCell]] = {
    kind.peer: kind for kind in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell)
}


def convert(model: ModuleT) -> ModuleT:
    """Replace every RNN, LSTM, GRU and cell of torch.nn inside a model by ours, in place.

    The modules stay the same objects, with their weights, hooks, parametrisations and names; only
    their class changes. They are then instances of :class:`torch.nn.RNNBase` and of ours, and no
    longer of :class:`torch.nn.LSTM` and the like, which torch.compile would not follow. Subclasses of
    torch.nn's classes are left alone, as they may compute something else.

    Args:
        model: Any module; a recurrent module itself is converted too.

    Returns:
        The model.

    Raises:
        TypeError: If it is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert takes a torch.nn.Module, not {type(model).__name__}")
    for module in model.modules():
        ours = OURS.get(type_before_parametrizations(module))
        if ours is None:
            continue
        if is_parametrized(module):
            # A class of the module's own, and of its copies, which may be in other models.
            own = {
                k: v for k, v in vars(type(module)).items() if k not in ("__dict__", "__weakref__")
            }
            ours = type(f"Parametrized{ours.__name__}", (ours,), own)
        module.__class__ = ours
        if isinstance(module, StandardLayers):
            module._cells = module._make_cells()
        elif isinstance(module, StandardCell):
            options = {k: vars(module)[k] for k in ("bias", "nonlinearity") if k in vars(module)}
            module._arguments = ((module.input_size, module.hidden_size), options)
    return model
