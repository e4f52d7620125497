"""Image kernels by name: small filters that sharpen, blur, or find edges."""

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.errors import InputError
from unrolled.layers.convolution import filter_bank

KERNELS: dict[str, tuple[tuple[float, ...], ...]] = {
    "identity": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "blur": ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),
    "edge": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
    "sobel-x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel-y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
}
"""Kernels by name, as they are laid over the picture."""

KERNEL_NAMES = (*KERNELS, "sobel")
"""All names that :func:`filter_picture` takes."""


def filter_picture(picture: Tensor, kernel: str) -> Tensor:
    """Filter a picture; its border is repeated outwards, so that no edge appears there.

    Args:
        picture: (C, H, W), each channel by itself.
        kernel: A name of :data:`KERNELS`, or ``sobel``, the length of the gradient: the root of the sum
            of squares of ``sobel-x`` and ``sobel-y``.

    Returns:
        (C, H, W), not cut to any range.

    Raises:
        InputError: If there is no kernel of that name, or the picture is not (C, H, W).
    """
    if kernel not in KERNEL_NAMES:
        raise InputError(f"there is no kernel {kernel!r}; take {', '.join(KERNEL_NAMES)}")
    if picture.dim() != 3 or not picture.numel():
        raise InputError(f"a picture must be (C, H, W), not {tuple(picture.shape)}")
    if kernel == "sobel":
        return torch.hypot(filter_picture(picture, "sobel-x"), filter_picture(picture, "sobel-y"))
    weight = torch.tensor(KERNELS[kernel], dtype=picture.dtype, device=picture.device)
    padded = functional.pad(picture[:, None], [1] * 4, mode="replicate")
    return filter_bank(padded, weight[None, None])[:, 0]
