"""Recurrent layers as the settings say."""

from itertools import chain, repeat

from torch import nn

from unrolled.cells import make_cell
from unrolled.cells.start import chrono_start, forget_bias_start, start_weights
from unrolled.engine import Cell
from unrolled.errors import InputError
from unrolled.layers.constrain import normalise_weights
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.regularise import Noisy, RecurrentDropout, WeightDropout, Zoneout
from unrolled.settings import ModelSettings


def make_net(model: ModelSettings, input_size: int) -> Recurrent:
    """Build the layers.

    Args:
        model: Cell, widths, connections and noise.
        input_size: Width I of the input.

    Raises:
        InputError: If the cell cannot be built so.
    """
    try:
        cell = _noisy(make_cell(model, input_size), model)
        net = Recurrent(
            cell,
            num_layers=model.layers,
            bidirectional=model.bidirectional,
            dropout=model.dropout,
            fixed_dropout=model.fixed_dropout,
            connection=model.connection,
            learned_states=model.learned_states,
        )
        for each in net.cells:
            _begin(each, model)
            if model.weight_norm:
                normalise_weights(each)
        return net
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(str(error)) from None


def _begin(cell: nn.Module, model: ModelSettings) -> None:
    while isinstance(cell, Noisy):
        cell = cell.cell
    assert isinstance(cell, Cell)
    if model.recurrent_start is not None:
        start_weights(cell, "recurrent", model.recurrent_start)
    if model.chrono is not None:
        chrono_start(cell, model.chrono)
    if model.forget_bias is not None:
        forget_bias_start(cell, model.forget_bias)


def _noisy(cell: Cell, model: ModelSettings) -> Cell:
    if model.weight_dropout:
        cell = WeightDropout(cell, model.weight_dropout)
    if model.recurrent_dropout:
        cell = RecurrentDropout(cell, model.recurrent_dropout)
    if model.zoneout:
        *first, last = model.zoneout
        if len(first) >= len(cell.state_names):
            raise InputError(
                f"--zoneout gives {len(model.zoneout)} probabilities, but the states of {model.cell} are "
                f"{', '.join(cell.state_names)}"
            )
        cell = Zoneout(
            cell, **dict(zip(cell.state_names, chain(first, repeat(last)), strict=False))
        )
    return cell
