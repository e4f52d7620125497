"""How rows of unequal length lie: sorted, the longest first, step after step, with no padding between."""

from functools import lru_cache

import torch
from torch import Tensor


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
