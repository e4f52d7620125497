"""Rows of a batch, each reading its own contiguous stretch of the text, window by window."""

from typing import NamedTuple

import numpy as np

from unrolled.data.advice import Advised
from unrolled.errors import InputError


class Window(NamedTuple):
    """What B rows read at one step: T symbols, and for the last n of them the symbols that follow."""

    inputs: np.ndarray
    """(T, B) int64."""
    targets: np.ndarray
    """(n, B) int64, the last of `inputs` one symbol later; all of them unless windows overlap."""
    fresh: bool
    """Whether every row begins at the start of its stretch, so that no state goes before it."""
    carried: int
    """The next window goes on from the state that is there after this many steps."""


class Windows:
    """All windows of a text, by the number of the step.

    The text is cut into `batch_size` stretches of ``len(ids) // batch_size`` symbols, one a row; a
    window starts where the one before it ended, and after the last the first comes again. With one
    row this is how the classic minimal character model reads its text.

    Args:
        ids: The text, (symbols,) of any integer type, memory-mapped or not.
        batch_size: Rows, B.
        window: Symbols a row reads in one step, T.
        stride: Symbols from one window to the next: each window begins with the last `window` - `stride`
            symbols of the one before, whose errors have been counted, so that the errors of all its
            symbols flow back through them (Williams & Peng 1990).

    Raises:
        InputError: If a stretch is too short for one window and the symbol after it, or `stride` is
            longer than the window.
    """

    def __init__(
        self, ids: np.ndarray, batch_size: int, window: int, stride: int | None = None
    ) -> None:
        stretch = len(ids) // batch_size
        stride = window if stride is None else stride
        if stride > window:
            raise InputError(
                f"--stride {stride} is longer than --window {window}: errors between would not count"
            )
        self.per_epoch = (stretch - 1) // stride
        """Steps until the reading starts again."""
        if stretch <= window:
            raise Advised(
                "short",
                f"the text is too short: it has {len(ids):,} symbols, and {batch_size} rows of a window "
                f"of {window} need at least {batch_size * (window + 1):,}",
                "lower --batch-size or --window",
            )
        # asarray: slicing a plain view of the map is several times as fast as slicing the map.
        self._rows = np.asarray(ids)[: batch_size * stretch].reshape(batch_size, stretch)
        self._window, self._stride = window, stride

    def __call__(self, step: int, rows: slice = slice(None)) -> Window:
        """Give the rows `rows` of window number `step`, counted from 0."""
        start = step % self.per_epoch * self._stride
        ahead = self._window - self._stride
        first = max(0, start - ahead)
        block = self._rows[rows, first : start + self._stride + 1]
        symbols = block.T.astype(np.int64, order="C")
        carried = max(0, start + self._stride - ahead) - first
        return Window(symbols[:-1], symbols[1 + start - first :], first == 0, carried)
