"""Sound from WAV files: its samples, or log power in bands as ears hear them."""

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np

from unrolled.data.read import reading
from unrolled.errors import InputError

BANDS = 32
WINDOW, HOP = 0.025, 0.010
"""Seconds that a frame spans, and from one to the next."""
FLOOR = 1e-10
"""Power at which the logarithm ends; full scale is 1."""


def read_wav(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a WAV file of whole numbers or floats.

    Returns:
        Samples (T, C) float32, full scale within -1 to 1; and samples a second.

    Raises:
        InputError: If the file is missing, damaged, empty or of another kind.
    """
    from scipy.io import wavfile

    with reading(str(path)), warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
        try:
            rate, samples = wavfile.read(path)
        except ValueError as error:
            raise InputError(f"{path} cannot be read as WAV: {error}") from None
    if not samples.size:
        raise InputError(f"{path} holds no sound")
    samples = samples.reshape(len(samples), -1)
    if samples.dtype.kind == "u":  # 8 bits are written from 0 to 255
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min))
    return samples.astype(np.float32), int(rate)


def log_bands(samples: np.ndarray, rate: int, bands: int = BANDS) -> np.ndarray:
    """Give log power in bands that are equally wide on the mel scale.

    Frames of 25 ms, 10 ms apart, under a Hann window; m = 2595 log10(1 + f / 700) (O'Shaughnessy 1987).
    Sound shorter than a frame is filled with silence.

    Args:
        samples: (T, C), whose channels are averaged.
        rate: Samples a second.
        bands: From 0 to half the rate.

    Returns:
        (frames, bands) float32.
    """
    sound = samples.mean(1)
    span, hop = max(2, round(WINDOW * rate)), max(1, round(HOP * rate))
    sound = np.pad(sound, (0, max(0, span - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, span)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(span), axis=1)) ** 2
    return np.log(power @ _filters(rate, span, bands) + FLOOR).astype(np.float32)


@lru_cache(maxsize=8)
def _filters(rate: int, span: int, bands: int) -> np.ndarray:
    """Triangles that reach from the middle of one band to that of the next but one, (span / 2 + 1, bands)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(span, 1 / rate)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequency - low) / (middle - low), (high - frequency) / (high - middle)
    return np.clip(np.minimum(rising, falling), 0, None) / (span * span / 4)
