"""Cross-correlation through the fast Fourier transform, tile by tile, with its backward pass.

Correlation in time is a product in frequency, so n outputs cost n log n instead of n times the kernel
(Oppenheim & Schafer, Discrete-Time Signal Processing, section 8.7: overlap-save forward, overlap-add
backward). A tile of n inputs gives h = n - K + 1 outputs; neighbours start h apart, and share K - 1 inputs.

B rows, G groups of I input and O output channels, N tiles, K the kernel; N, n, h and K have an entry for
each of the 1 to 3 dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Tiles:
    """How a signal is cut.

    Attributes:
        size: n, numbers in a tile.
        count: N, tiles.
        kernel: K.
    """

    size: tuple[int, ...]
    count: tuple[int, ...]
    kernel: tuple[int, ...]

    @property
    def hop(self) -> tuple[int, ...]:
        """Outputs of a tile h."""
        return tuple(n - k + 1 for n, k in zip(self.size, self.kernel, strict=True))

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The last dimensions, which are transformed."""
        return tuple(range(-len(self.size), 0))


def tile_sizes(length: int, kernel: int) -> list[tuple[int, int]]:
    """Give the sizes n and counts N of tiles worth trying for one dimension.

    All in one tile, or tiles that share at most half of their inputs, so that only neighbours overlap.
    """
    whole = fast_size(length)
    outputs, sizes = length - kernel + 1, []
    size = fast_size(2 * kernel)
    while size < whole:
        sizes.append((size, ceil(outputs / (size - kernel + 1))))
        size = fast_size(size * 4 // 3 + 1)
    return [*sizes, (whole, 1)]


def fast_size(least: int) -> int:
    """Give the smallest size of at least `least` that transforms fast: 2, 3, 5 or 7 times 2^a, even."""
    return min(m << max(1, (ceil(least / m) - 1).bit_length()) for m in (1, 3, 5, 7))


class FourierCorrelation(torch.autograd.Function):
    """y[t] = sum_k w[k] x[t + k] over the outputs where kernel and signal overlap whole.

    x (B, G * I, *size), w (G * O, I, *K) -> y (B, G * O, *(size - K + 1)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, groups: int, tiles: Tiles) -> Tensor:  # noqa: ANN401
        """Multiply spectra; each tile's first h numbers are its outputs."""
        X = torch.fft.rfftn(_cut(x, tiles), dim=tiles.dimensions)  # (B, G * I, *N, *n / 2)
        W = torch.fft.rfftn(w, s=tiles.size, dim=tiles.dimensions)  # (G * O, I, *n / 2)
        wants_dx, wants_dw = ctx.needs_input_grad[:2]
        ctx.save_for_backward(x, w, X if wants_dw else None, W if wants_dx else None)
        ctx.groups, ctx.tiles = groups, tiles
        Y = _product(X, W.conj(), groups, len(tiles.size))
        y = torch.fft.irfftn(Y, s=tiles.size, dim=tiles.dimensions)
        size = [n - k + 1 for n, k in zip(x.shape[2:], tiles.kernel, strict=True)]
        return _lay_side_by_side(y, tiles, size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        """dx[t] = sum_k w[k] dy[t - k], dw[k] = sum_t dy[t] x[t + k], as products of spectra."""
        (dy,) = grads
        x, w, X, W = ctx.saved_tensors
        groups, tiles = ctx.groups, ctx.tiles
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # a second derivative is asked for: torch has one
            d = len(tiles.size)
            one, zero = [1] * d, [0] * d
            dx, dw, _ = torch.ops.aten.convolution_backward(
                dy, x, w, None, one, zero, one, False, zero, groups, [*needs, False]
            )
            return dx, dw, None, None
        # Each tile's outputs, then zeros up to n.
        outputs = _cut(dy, Tiles(tiles.hop, tiles.count, (1,) * len(tiles.size)))
        Y = torch.fft.rfftn(outputs, s=tiles.size, dim=tiles.dimensions)
        dx = dw = None
        if needs[0]:
            dX = _product(Y, W, groups, len(tiles.size), transposed=True)
            dx = torch.fft.irfftn(dX, s=tiles.size, dim=tiles.dimensions)
            dx = _add_overlaps(dx, tiles, x.shape[2:])
        if needs[1]:
            dW = _weights(Y, X, groups, len(tiles.size))
            dw = torch.fft.irfftn(dW, s=tiles.size, dim=tiles.dimensions)
            dw = dw[(..., *(slice(k) for k in tiles.kernel))]
        return dx, dw, None, None


def correlate_by_fourier(x: Tensor, w: Tensor, groups: int, tiles: Tiles) -> Tensor:
    """Correlate x (B, G * I, *size) with w (G * O, I, *K) where they overlap whole."""
    y = FourierCorrelation.apply(x, w, groups, tiles)
    assert isinstance(y, Tensor)
    return y


def _product(x: Tensor, w: Tensor, groups: int, d: int, *, transposed: bool = False) -> Tensor:
    """Multiply spectra of tiles (B, G * I, *N, *f) by spectra of kernels (G * O, I, *f), summed over I.

    The result is (B, G * O, *N, *f); transposed, O goes in and I comes out.
    """
    kernels = w.unflatten(0, (groups, -1)).flatten(3)  # (G, O, I, f)
    kernels = kernels.transpose(1, 2) if transposed else kernels
    tiles = x.unflatten(1, (groups, -1)).flatten(3 + d).flatten(3, 2 + d)  # (B, G, I, N, f)
    if kernels.shape[2] == 1:
        y = tiles * kernels[:, :, 0, None]
    elif kernels.shape[1] == 1:
        y = (tiles * kernels[:, 0, :, None]).sum(2, keepdim=True)
    else:
        y = torch.einsum("bginf,goif->bgonf", tiles, kernels)
    return y.flatten(1, 2).unflatten(-1, x.shape[2 + d :]).unflatten(2, x.shape[2 : 2 + d])


def _weights(y: Tensor, x: Tensor, groups: int, d: int) -> Tensor:
    """Sum y* x over rows and tiles: (B, G * O, *N, *f), (B, G * I, *N, *f) -> (G * O, I, *f)."""
    left = y.conj().unflatten(1, (groups, -1)).flatten(3 + d).flatten(3, 2 + d)
    right = x.unflatten(1, (groups, -1)).flatten(3 + d).flatten(3, 2 + d)
    if min(left.shape[2], right.shape[2]) == 1:
        w = (left * right).sum((0, 3))  # (G, O or I, f)
        w = w.unsqueeze(2 if right.shape[2] == 1 else 1)
    else:
        w = torch.einsum("bgonf,bginf->goif", left, right)
    return w.flatten(0, 1).unflatten(-1, x.shape[2 + d :])


def _cut(x: Tensor, tiles: Tiles) -> Tensor:
    """Cut (..., *size) into tiles (..., *N, *n), the last ones filled with zeros."""
    d = len(tiles.size)
    wanted = [(c - 1) * h + n for c, h, n in zip(tiles.count, tiles.hop, tiles.size, strict=True)]
    missing = [max(0, w - n) for w, n in zip(wanted, x.shape[-d:], strict=True)]
    if any(missing):
        x = functional.pad(x, [side for m in reversed(missing) for side in (0, m)])
    first = x.dim() - d
    for axis, (n, h) in enumerate(zip(tiles.size, tiles.hop, strict=True), first):
        x = x.unfold(axis, n, h)
    return x


def _lay_side_by_side(y: Tensor, tiles: Tiles, size: Sequence[int]) -> Tensor:
    """Lay the first h numbers of each tile (B, C, *N, *n) one after the other: (B, C, size...)."""
    d = len(size)
    y = y[(..., *(slice(h) for h in tiles.hop))]
    order = [0, 1, *(axis for i in range(d) for axis in (2 + i, 2 + d + i))]
    lengths = (c * h for c, h in zip(tiles.count, tiles.hop, strict=True))
    y = y.permute(order).reshape(*y.shape[:2], *lengths)
    return y[(..., *(slice(n) for n in size))]


def _add_overlaps(x: Tensor, tiles: Tiles, size: Sequence[int]) -> Tensor:
    """Put tiles (B, C, *N, *n) h apart and add where neighbours overlap: (B, C, size...)."""
    d = len(size)
    for axis, (count, hop) in enumerate(zip(tiles.count, tiles.hop, strict=True), 2):
        x = x.movedim(2 + d, axis + 1)  # (..., N, n, ...), both of the dimension at hand
        if count == 1:
            x = x.squeeze(axis)
            continue
        head = x.narrow(axis + 1, 0, hop)
        tail = x.narrow(axis + 1, hop, x.shape[axis + 1] - hop)
        nothing = head.new_zeros(*head.shape[:axis], 1, *head.shape[axis + 1 :])
        x = torch.cat([head, nothing], axis)
        x.narrow(axis, 1, count).narrow(axis + 1, 0, tail.shape[axis + 1]).add_(tail)
        x = x.flatten(axis, axis + 1)
    return x[(..., *(slice(n) for n in size))]
