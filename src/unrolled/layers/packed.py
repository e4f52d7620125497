"""Packed sequences as padded ones and back. N rows in all steps together."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


@dataclass
class Unpacked:
    """A packed sequence laid out by step and row, rows in the order of whoever packed it.

    Attributes:
        x: (T, B, I), zero past a row's end.
        lengths: Steps of each row (B,).
        packed: What it was made from.
        places: Of each of the N packed rows its place among T * B (N,).
    """

    x: Tensor
    lengths: Tensor
    packed: PackedSequence
    places: Tensor

    def pack(self, y: Tensor) -> PackedSequence:
        """Pack (T, B, n) as the input was."""
        # torch.compile does not follow ``_replace``.
        data = y.flatten(0, 1).index_select(0, self.places)
        return PackedSequence(data, *self.packed[1:])


def unpack(packed: PackedSequence) -> Unpacked:
    """Lay a packed sequence out by step and row."""
    data, sizes, order, _ = packed
    steps, batch = len(sizes), int(sizes[0])
    running = torch.arange(batch, device=sizes.device) < sizes[:, None]
    lengths = running.sum(0)
    time, row = (place.to(data.device) for place in running.nonzero(as_tuple=True))
    if order is not None:
        row = order[row]
        lengths = lengths.index_copy(0, order.to(lengths.device), lengths)
    places = time * batch + row
    x = data.new_zeros(steps * batch, *data.shape[1:]).index_copy(0, places, data)
    return Unpacked(x.unflatten(0, (steps, batch)), lengths, packed, places)
