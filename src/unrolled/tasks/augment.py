"""Pictures varied on the fly: shifted, rotated, scaled, with noise.

What is drawn depends on (seed, step, row) alone, see :mod:`unrolled.engine.randomness`.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unrolled.engine.randomness import generator
from unrolled.settings import PictureSettings

STREAM = 1 << 32
"""The stream of random numbers; layers of a model use low numbers."""


def augments(pictures: PictureSettings) -> bool:
    """Whether the settings vary pictures at all."""
    return any((pictures.shift, pictures.rotate, pictures.scale, pictures.noise))


def augment(x: Tensor, pictures: PictureSettings, seed: int, step: int, first_row: int) -> Tensor:
    """Vary each picture in its own way.

    Args:
        x: (B, C, H, W), black 0 and white 1.
        pictures: How much.
        seed: Of the run.
        step: Number of the update.
        first_row: Place of x's first row in the global batch.

    Returns:
        (B, C, H, W); what comes in from outside is black.
    """
    rows, channels, height, width = x.shape
    random = [generator(seed, step, STREAM, first_row + row) for row in range(rows)]
    draws = np.array([one.uniform(-1, 1, 5) for one in random], np.float32)
    # Of the target to the source, as grid_sample reads it: first shift, then rotate and scale.
    across, down, turn, wide, high = draws.T
    angle = turn * math.radians(pictures.rotate)
    scales = 1 + pictures.scale * wide, 1 + pictures.scale * high
    cosine, sine = np.cos(angle), np.sin(angle)
    # Coordinates run from -1 to 1 over each side, so a turn has to know the ratio of the sides.
    ratio = height / width
    matrix = np.empty((rows, 2, 3), np.float32)
    matrix[:, 0] = np.stack([cosine / scales[0], sine * ratio / scales[0], 0 * sine], 1)
    matrix[:, 1] = np.stack([-sine / ratio / scales[1], cosine / scales[1], 0 * sine], 1)
    moved = np.stack([across * 2 / width, down * 2 / height], 1) * pictures.shift
    matrix[:, :, 2] = -np.einsum("bij,bj->bi", matrix[:, :, :2], moved)
    grid = functional.affine_grid(
        torch.from_numpy(matrix).to(x), [rows, channels, height, width], align_corners=False
    )
    y = functional.grid_sample(x, grid, align_corners=False)
    if not pictures.noise:
        return y
    noise = [one.standard_normal((channels, height, width), np.float32) for one in random]
    return y + pictures.noise * torch.from_numpy(np.stack(noise)).to(x)
