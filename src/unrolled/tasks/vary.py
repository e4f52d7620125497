"""Texts and signals varied on the fly, each row in its own way.

What is drawn depends on (seed, step, row) alone, see :mod:`unrolled.engine.randomness`.
"""

import numpy as np

from unrolled.engine.randomness import generator
from unrolled.settings.varied import VariedSettings

TEXTS, SIGNALS = 1 << 33, 1 << 34
"""Streams of random numbers; layers of a model use low numbers."""
KNOTS = 4
"""Stretches of a signal between which time changes its pace."""


def vary_text(
    ids: np.ndarray, own: VariedSettings, symbols: int, seed: int, step: int, row: int
) -> np.ndarray:
    """Leave out, swap and replace symbols; one at least is left.

    Args:
        ids: The text (n,).
        own: How much.
        symbols: How many there are to draw from.
        seed: Of the run.
        step: Number of the update.
        row: Place in the global batch.

    Returns:
        (m,), m at most n.
    """
    if not len(ids) or not (own.drop_symbols or own.swap_symbols or own.noise_symbols):
        return ids
    random = generator(seed, step, TEXTS, row)
    drop, swap, noise = random.random((3, len(ids)))
    varied = np.where(noise < own.noise_symbols, random.integers(symbols, size=len(ids)), ids)
    for place in np.flatnonzero(swap[:-1] < own.swap_symbols):
        varied[place], varied[place + 1] = varied[place + 1], varied[place]
    kept = drop >= own.drop_symbols
    kept[np.argmax(drop)] = True
    return varied[kept].astype(ids.dtype)


def vary_signal(x: np.ndarray, own: VariedSettings, seed: int, step: int, row: int) -> np.ndarray:
    """Warp the time of a signal, scale its channels, and add noise.

    (Um et al. 2017, "Data augmentation of wearable sensor data".) Time runs through
    :data:`KNOTS` stretches, each at its own pace; between two steps values are interpolated.

    Args:
        x: The signal (T, C), or a film (T, C, H, W).
        own: How much.
        seed: Of the run.
        step: Number of the update.
        row: Place in the global batch.

    Returns:
        Of the same shape and length.
    """
    if not (own.jitter or own.amplitude or own.warp):
        return x
    random = generator(seed, step, SIGNALS, row)
    pace = 1 + own.warp * random.uniform(-1, 1, KNOTS)
    factor = 1 + own.amplitude * random.uniform(-1, 1, (x.shape[1], *[1] * (x.ndim - 2)))
    varied = (_warped(x, pace) if own.warp else x) * factor
    if own.jitter:
        varied = varied + own.jitter * random.standard_normal(x.shape)
    return varied.astype(x.dtype)


def _warped(x: np.ndarray, pace: np.ndarray) -> np.ndarray:
    """Read a signal with time running at these paces; it begins and ends where it did."""
    end = len(x) - 1
    passed = np.concatenate([[0.0], pace.cumsum()])
    at = np.interp(np.linspace(0, KNOTS, len(x)), np.arange(KNOTS + 1), passed / passed[-1] * end)
    before = np.minimum(at.astype(int), max(end - 1, 0))
    share = (at - before).reshape(-1, *[1] * (x.ndim - 1))
    return (1 - share) * x[before] + share * x[np.minimum(before + 1, end)]
