"""How rows of unequal length lie: sorted, the longest first, step after step, with no padding between.

T steps, B rows of the batch, N rows in all steps together.
"""

from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import past


class Packing:
    """Which rows run at which step.

    Args:
        steps: T.
        batch: B.
        offsets: First row of each step, and N at the end: (T + 1,) int64.
        running: Rows of each step (T,) int64.
        shape: How the N rows are laid out for the caller: (N,), or (T, B) where nothing is moved.
    """

    def __init__(
        self,
        steps: int,
        batch: int,
        offsets: Tensor,
        running: Tensor,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.steps, self.batch = steps, batch
        self.offsets, self.running = offsets, running
        self.rows = int(offsets[-1])
        self.shape = shape or (self.rows,)
        self.geometry = (steps, batch, offsets.data_ptr(), running.data_ptr())


@lru_cache(maxsize=64)
def alike(steps: int, batch: int) -> Packing:
    """All rows have all steps."""
    offsets = torch.arange(steps + 1, device="cpu") * batch
    running = torch.full((steps,), batch, device="cpu")
    return Packing(steps, batch, offsets, running, (steps, batch))


def pack(
    lengths: Tensor | None, steps: int, batch: int, reverse: bool
) -> tuple[Packing, Tensor, Tensor]:
    """Sort rows by length and pack them, each flipped if the run is reversed.

    Returns:
        The packing; for each packed row its place among (T * B); the order of the rows.
    """
    given = torch.full((batch,), steps, device="cpu") if lengths is None else lengths
    longest_first, order = given.sort(descending=True, stable=True)
    t = torch.arange(int(longest_first[0]), device="cpu")[:, None]
    running_rows = t < longest_first
    running = running_rows.sum(1)
    offsets = torch.cat([running.new_zeros(1), running.cumsum(0)])
    time, column = running_rows.nonzero(as_tuple=True)
    if reverse:
        time = longest_first[column] - 1 - time
    places = time * batch + order[column]
    return Packing(len(running), batch, offsets, running), places, order


class Way:
    """How the rows of a call stand inside, and the way there and back.

    Args:
        lengths: Steps of each row (B,); all where ``None``.
        steps: T.
        batch: B.
        reverse: Whether rows are read from their end.
    """

    def __init__(self, lengths: Tensor | None, steps: int, batch: int, reverse: bool) -> None:
        self.steps, self.batch = steps, batch
        self.flipped = reverse and lengths is None
        self.order: Tensor | None = None
        if lengths is None:
            self.packing = alike(steps, batch)
        else:
            self.packing, self.places, self.order = pack(lengths, steps, batch, reverse)

    def enter(self, tensor: Tensor) -> Tensor:
        """Lay out the rows of (T, B, n) as the packing has them."""
        if self.order is None:
            return tensor.flip(0) if self.flipped else tensor
        return tensor.reshape(-1, tensor.shape[2]).index_select(0, self.places)

    def leave(self, rows: Tensor) -> Tensor:
        """Undo :meth:`enter`, with zeros past a row's end."""
        if self.order is None:
            return rows.flip(0) if self.flipped else rows
        whole = rows.new_zeros(self.steps * self.batch, rows.shape[1])
        return whole.index_copy(0, self.places, rows).view(self.steps, self.batch, -1)

    def sort(self, state: Tensor | None) -> Tensor | None:
        """Put the rows of a state (D * B, n) in the order used inside."""
        return state if self.order is None or state is None else past.arrange(state, self.order)

    def unsort(self, state: Tensor) -> Tensor:
        """Undo :meth:`sort`."""
        return state if self.order is None else past.arrange(state, self.order.argsort())


class Packed:
    """How the rows of a packed sequence lie, which is how they stand inside.

    Args:
        sequence: The packed sequence.

    Raises:
        ValueError: If its parts do not fit each other.
    """

    def __init__(self, sequence: PackedSequence) -> None:
        data, running, self.order, _ = sequence
        self.sequence = sequence
        falls = bool((running[:-1] >= running[1:]).all()) and int(running[-1]) > 0
        if not falls or int(running.sum()) != len(data):
            raise ValueError(
                f"a PackedSequence of {len(data)} rows cannot have batch_sizes {running.tolist()}; "
                "they add up to the rows, and none is larger than the one before"
            )
        self.running = running
        self.steps, self.batch = len(running), int(running[0])

    @cached_property
    def packing(self) -> Packing:
        """Which rows run at which step."""
        offsets = torch.cat([self.running.new_zeros(1), self.running.cumsum(0)])
        return Packing(self.steps, self.batch, offsets, self.running)

    @cached_property
    def _longest_first(self) -> Tensor:
        """Steps of each row, the longest first (B,)."""
        return (torch.arange(self.batch, device=self.running.device) < self.running[:, None]).sum(0)

    @cached_property
    def lengths(self) -> Tensor:
        """Steps of each row (B,)."""
        lengths = self._longest_first
        if self.order is None:
            return lengths
        return lengths.index_copy(0, self.order.to(lengths.device), lengths)

    @cached_property
    def _running_rows(self) -> tuple[Tensor, Tensor]:
        """Of each of the N rows its step and its place among those sorted by length."""
        batch = torch.arange(self.batch, device=self.running.device)
        time, row = (batch < self.running[:, None]).nonzero(as_tuple=True)
        return time, row

    @cached_property
    def places(self) -> Tensor:
        """Of each of the N rows its place among T * B (N,)."""
        time, row = (place.to(self.sequence.data.device) for place in self._running_rows)
        row = row if self.order is None else self.order[row]
        return time * self.batch + row

    def pad(self, data: Tensor) -> Tensor:
        """Lay out rows (N, n) by step and row of the batch, (T, B, n), zero past a row's end."""
        whole = data.new_zeros(self.steps * self.batch, *data.shape[1:])
        return whole.index_copy(0, self.places, data).unflatten(0, (self.steps, self.batch))

    def gather(self, y: Tensor) -> Tensor:
        """Undo :meth:`pad`."""
        return y.flatten(0, 1).index_select(0, self.places)

    def pack(self, data: Tensor) -> PackedSequence:
        """Give rows (N, n) as a packed sequence."""
        # torch.compile does not follow ``_replace``.
        return PackedSequence(data, *self.sequence[1:])

    def way(self, reverse: bool) -> "PackedWay":
        """The way to where the rows are already, but for their direction."""
        return PackedWay(self, reverse)


class PackedWay(Way):
    """The way of rows that lie packed.

    Args:
        packed: How they lie.
        reverse: Whether rows are read from their end.
    """

    def __init__(self, packed: Packed, reverse: bool) -> None:
        self.packing, self.order = packed.packing, packed.order
        self.places: Tensor | None = None
        if reverse:
            time, row = packed._running_rows
            self.places = packed.packing.offsets[packed._longest_first[row] - 1 - time] + row

    def enter(self, tensor: Tensor) -> Tensor:
        """Turn rows (N, n) round."""
        return tensor if self.places is None else tensor.index_select(0, self.places)

    def leave(self, rows: Tensor) -> Tensor:
        """Undo :meth:`enter`: by doing it again."""
        return self.enter(rows)
