"""Initial weights."""

from torch import nn

from unrolled.engine import Cell


def uniform_start(cell: Cell) -> None:
    """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch.nn's recurrent layers do."""
    bound = cell.hidden_size**-0.5 if cell.hidden_size else 0.0
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def normal_start(model: nn.Module, scale: float) -> None:
    """Draw every weight of a model from N(0, scale^2) and set every bias to zero."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=scale)
        else:
            nn.init.zeros_(parameter)
