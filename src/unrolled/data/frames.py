"""Films of moving digits, as Srivastava, Mansimov & Salakhutdinov 2015 made them, from scikit-learn's."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.random import Generator

from unrolled.data.sequences import Asked, Made, Sequences
from unrolled.data.splits import SPLITS, Split
from unrolled.errors import InputError
from unrolled.settings import Settings

SIDE = 16
"""Pixels a side of a film; a digit has 8."""
DIGITS = 2
SPEEDS = np.array([(v, h) for v in (-1, 0, 1) for h in (-1, 0, 1) if v or h])
"""Pixels a step, down and to the right."""


@cache
def _digits() -> np.ndarray:
    """(1797, 8, 8), from 0 to 1."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits.images / 16


def moving_digits(
    frames: int, rows: int, random: Generator, digits: np.ndarray | None = None
) -> np.ndarray:
    """Draw films of two digits, each moving straight on and bouncing off the edges.

    Args:
        frames: T.
        rows: B.
        random: What to draw from.
        digits: Pictures to choose from, (n, 8, 8); all of scikit-learn's if left out.

    Returns:
        (T, B, 1, 16, 16), from 0 to 1.
    """
    pictures = _digits() if digits is None else digits
    shape = rows, DIGITS
    chosen = pictures[random.integers(0, len(pictures), shape)]
    size = pictures.shape[-1]
    room = SIDE - size
    place = random.integers(0, room + 1, (*shape, 2))
    speed = SPEEDS[random.integers(0, len(SPEEDS), shape)]
    films = np.zeros((frames, rows, 1, SIDE, SIDE))
    for t in range(frames):
        for row, digit in np.ndindex(shape):
            down, right = place[row, digit]
            part = films[t, row, 0, down : down + size, right : right + size]
            np.maximum(part, chosen[row, digit], out=part)
        speed = np.where((place + speed < 0) | (place + speed > room), -speed, speed)
        place = place + speed
    return films


class Films(Made):
    """Films, of which the next frame is wanted at each step; no digit is in two splits."""

    kind = "moving-digits"
    examples = ("film.npy", "moving-digits")
    inputs = outputs = 1
    grid = (SIDE, SIDE)
    held = 500

    @classmethod
    def prepare(cls, settings: Settings) -> Self:
        """Make nothing yet."""
        return cls(settings, 10)

    @classmethod
    def restore(cls, settings: Settings, table: Mapping[str, Any]) -> Self:
        """There is nothing to restore."""
        return cls.prepare(settings)

    @property
    def epoch(self) -> int:
        """As many as Srivastava et al. count."""
        return 10_000

    def draw(self, rows: int, random: Generator, split: Split) -> Sequences:
        """Draw films and give the next frame of each."""
        shuffled = np.random.default_rng([7]).permutation(_digits())
        ends = np.rint(np.array([0, 0.8, 0.9, 1]) * len(shuffled)).astype(int)
        part = SPLITS.index(split)
        films = moving_digits(self.length + 1, rows, random, shuffled[ends[part] : ends[part + 1]])
        return Sequences.full(films[:-1], films[1:])

    def asked(self, name: str) -> Asked:
        """Read a film from a ``.npy`` file of NumPy's, (T, 16, 16), from 0 to 1."""
        try:
            film = np.load(name, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{name} is not a readable .npy file of NumPy's: {error}") from None
        if film.ndim != 3 or film.shape[1:] != self.grid or not len(film):
            raise InputError(f"{name} is {film.shape}; a film is (frames, {SIDE}, {SIDE})")
        return Asked.at_end(film[:, None, None].astype(float))

    def told(self, y: np.ndarray) -> list[list[float]]:
        """Give the pixels of the next frame."""
        return y[0].tolist()

    def line(self, truth: np.ndarray, forecast: np.ndarray) -> str:
        """Draw two frames side by side."""
        pairs = zip(truth[0, ::2, :], forecast[0, ::2, :], strict=True)
        return "\n".join("  ".join(map(_drawn, pair)) for pair in pairs) + "\n"

    def baselines(
        self, batch: Sequences, fitted: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The frame there is."""
        return {"last_frame": batch.x}


def _drawn(pixels: np.ndarray) -> str:
    return "".join(" .:-=+*#%@"[int(p)] for p in np.clip(pixels * 10, 0, 9))
