"""Recurrent layers as the settings say."""

from itertools import chain, repeat

from unrolled.cells import make_cell
from unrolled.engine import Cell
from unrolled.errors import InputError
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.regularise import RecurrentDropout, WeightDropout, Zoneout
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
        return Recurrent(
            cell,
            num_layers=model.layers,
            bidirectional=model.bidirectional,
            dropout=model.dropout,
            fixed_dropout=model.fixed_dropout,
            connection=model.connection,
            learned_states=model.learned_states,
        )
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(str(error)) from None


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
