"""Operations that torch cannot trace with a symbolic batch, or the graph has no words for, said otherwise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from unrolled.engine.lower import Declined, unknown


def _lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + weight * (b - a)


def _addcmul(a: Tensor, b: Tensor, c: Tensor, *, value: float = 1) -> Tensor:
    return a + value * (b * c)


def _addcdiv(a: Tensor, b: Tensor, c: Tensor, *, value: float = 1) -> Tensor:
    return a + value * (b / c)


def _pad(a: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    before, after, *others = pad
    if any(others) or a.dim() != 2:
        raise Declined("it pads more than the features of its rows")
    width, one = a.shape[1], a[:, :1]
    inside = a[:, max(-before, 0) : width + min(after, 0)]
    filled = [torch.full_like(one, value).expand(-1, max(n, 0)) for n in (before, after)]
    return torch.cat([filled[0], inside, filled[1]], 1)


def _complex(real: Tensor, imag: Tensor) -> Tensor:
    return torch.view_as_complex(torch.stack(torch.broadcast_tensors(real, imag), -1))


def _polar(size: Tensor, angle: Tensor) -> Tensor:
    return _complex(size * angle.cos(), size * angle.sin())


def _constant(array: np.ndarray, like: Tensor) -> Tensor:
    with _disable_current_modes():
        own = torch.tensor(array, dtype=like.dtype.to_real(), device="cpu")
    return torch.ops.aten.lift_fresh_copy(own)


def _waves(n: int, normalization: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrices of cos(2 pi j k / n) and sin(2 pi j k / n), scaled."""
    turns = np.outer(np.arange(n), np.arange(n)) % n
    sin = np.where(2 * turns % n == 0, 0.0, np.sin(turns * (2 * np.pi / n)))
    scale = (1.0, n**-0.5, 1 / n)[normalization]
    return np.cos(turns * (2 * np.pi / n)) * scale, sin * scale


def _of_rows(a: Tensor, dims: Sequence[int]) -> bool:
    """Whether a Fourier transform is one of rows, rather than of parameters alone."""
    if not isinstance(a.shape[0], torch.SymInt):
        return False
    if a.dim() != 2 or [dim % 2 for dim in dims] != [1]:
        raise Declined("it takes a Fourier transform of more than the features of its rows")
    return True


def _fft_of_real(a: Tensor, dim: Sequence[int], normalization: int, onesided: bool) -> Tensor:
    if not _of_rows(a, dim):
        return NotImplemented
    n = a.shape[1]
    cos, sin = _waves(n, normalization)
    kept = n // 2 + 1 if onesided else n
    return _complex(a @ _constant(cos[:, :kept], a), a @ _constant(-sin[:, :kept], a))


def _fft(a: Tensor, dim: Sequence[int], normalization: int, forward: bool) -> Tensor:
    if not _of_rows(a, dim):
        return NotImplemented
    cos, sin = _waves(a.shape[1], normalization)
    cos, sin = _constant(cos, a), _constant(-sin if forward else sin, a)
    return _complex(a.real @ cos - a.imag @ sin, a.real @ sin + a.imag @ cos)


def _fft_to_real(a: Tensor, dim: Sequence[int], normalization: int, last_dim_size: int) -> Tensor:
    if not _of_rows(a, dim):
        return NotImplemented
    n, kept = last_dim_size, last_dim_size // 2 + 1
    cos, sin = _waves(n, normalization)
    # Each frequency but the first and that of n / 2 stands for two.
    times = np.where(2 * np.arange(kept) % n == 0, 1.0, 2.0)[:, None]
    return a.real @ _constant(cos[:kept] * times, a) - a.imag @ _constant(sin[:kept] * times, a)


def _trilinear(*arguments: Any) -> Tensor:  # noqa: ANN401
    raise unknown("_trilinear")


PLAINER: dict[Any, Any] = {
    torch.ops.aten.lerp.Tensor: _lerp,
    torch.ops.aten.addcmul.default: _addcmul,
    torch.ops.aten.addcdiv.default: _addcdiv,
    torch.ops.aten._trilinear.default: _trilinear,
    torch.ops.aten.constant_pad_nd.default: _pad,
    torch.ops.aten.complex.default: _complex,
    torch.ops.aten.polar.default: _polar,
    torch.ops.aten._fft_r2c.default: _fft_of_real,
    torch.ops.aten._fft_c2c.default: _fft,
    torch.ops.aten._fft_c2r.default: _fft_to_real,
}
"""Operations that torch cannot broadcast over a symbolic batch, said otherwise."""
