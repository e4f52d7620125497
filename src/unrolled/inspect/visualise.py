"""What a unit responds to: by deconvolution, by climbing its gradient, by covering parts of a picture."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from unrolled.errors import InputError
from unrolled.inspect.units import BATCH, Watched, evaluating, listening


class _Rectified(torch.autograd.Function):
    """max(0, x), and on the way back max(0, gradient), whatever x was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        """Rectify."""
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        """Rectify what comes back."""
        return gradients[0].clamp(min=0)


class _Deconvolution(TorchFunctionMode):
    """Rectifies on the way back wherever a model rectifies, however it is written."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Call a function, or what stands for it."""
        if getattr(func, "__name__", "") in ("relu", "relu_"):
            return _Rectified.apply(args[0] if args else (kwargs or {})["input"])
        return func(*args, **(kwargs or {}))


def deconvolve(
    model: nn.Module, layer: Watched, pictures: Tensor, unit: int, places: Tensor
) -> Tensor:
    """Show what in each picture excites a unit: its output is sent back down to the pixels.

    Zeiler & Fergus 2013, section 2.1: all other outputs of the layer are set to zero; then, layer by layer,
    maxima go back to where their switches say, negative numbers are cut off where the model has a ReLU, and
    filters are applied transposed. This is the gradient but for the ReLU, which here forgets its input.

    Args:
        model: Takes (B, C, H, W).
        layer: Of :func:`unrolled.inspect.units.watched_layers`.
        pictures: (B, C, H, W).
        unit: Of the layer.
        places: Where on its map, flattened, for each picture (B,); zeros where it has no map.

    Returns:
        (B, C, H, W), positive where more of the pixel excites the unit.
    """
    x = pictures.detach().clone().requires_grad_()
    heard: list[Tensor] = []
    with evaluating(model), torch.enable_grad(), listening(layer.seen, heard.append):
        with _Deconvolution():
            model(x)
        outputs = _at(heard[-1], unit, places)
        (signal,) = torch.autograd.grad(outputs, x, outputs.detach())
    return signal


def ascend(
    model: nn.Module,
    layer: Watched,
    units: list[int],
    size: tuple[int, int, int],
    *,
    steps: int = 128,
    rate: float = 0.1,
    decay: float = 0.01,
    seed: int = 0,
) -> Tensor:
    """Draw the picture that excites each unit most, by climbing the gradient from grey noise.

    With L2 decay (Simonyan, Vedaldi & Zisserman 2013, section 2) and a blur at every fourth step
    (Yosinski et al. 2015, section 3), both left out in the last quarter. What is climbed is what goes into
    the layer's activation, which may be flat; of a map, its middle place.

    Args:
        model: Takes (B, C, H, W) from 0 to 1.
        layer: Of :func:`unrolled.inspect.units.watched_layers`.
        units: Of the layer.
        size: C, H, W.
        steps: Of the climb.
        rate: Length of a step, as the root of the mean square over pixels.
        decay: Share of its distance from grey that a picture loses at each step.
        seed: Of the noise.

    Returns:
        (units, C, H, W) from 0 to 1.
    """
    like = next(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(units), *size, generator=generator)
    x = (0.5 + 0.05 * noise).to(like.device, like.dtype)
    own = torch.arange(len(units))
    heard: list[Tensor] = []
    with evaluating(model), listening(layer.weighted, heard.append):
        for step in range(steps):
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                model(x)
                y = heard.pop()
                value = y[own, units] if y.dim() == 2 else y[own, units, *_middle(y)]
                (slope,) = torch.autograd.grad(value.sum(), x)
            length = slope.square().mean((1, 2, 3), keepdim=True).sqrt()
            left = 1 - step / steps
            with torch.no_grad():
                x = x + rate * left * slope / (length + 1e-8)
                if left > 0.25:
                    x = 0.5 + (1 - decay) * (x - 0.5)
                    x = _blurred(x) if step % 4 == 3 else x
                x = x.clamp(0, 1)
    return x.detach()


@torch.no_grad()
def occlude(
    model: nn.Module, layer: Watched, picture: Tensor, unit: int, patch: int | None = None
) -> Tensor:
    """Say how much a unit's largest output falls when a part of a picture is covered.

    Zeiler & Fergus 2013, section 4.2. A square of the picture's mean is moved over it in half steps; each
    pixel is given the mean fall of the squares that cover it.

    Args:
        model: Takes (B, C, H, W).
        layer: Of :func:`unrolled.inspect.units.watched_layers`.
        picture: (C, H, W).
        unit: Of the layer.
        patch: Side of the square; a quarter of the smaller side if left out.

    Returns:
        (H, W), positive where covering lowers the output.

    Raises:
        InputError: If the square is larger than the picture.
    """
    _, height, width = picture.shape
    patch = max(1, min(height, width) // 4) if patch is None else patch
    if not 1 <= patch <= min(height, width):
        raise InputError(f"a patch of {patch} does not fit on a picture of {height} x {width}")
    step = max(1, patch // 2)
    corners = [
        (top, left) for top in _starts(height, patch, step) for left in _starts(width, patch, step)
    ]
    covered = picture.repeat(len(corners) + 1, 1, 1, 1)
    for row, (top, left) in enumerate(corners):
        covered[row, :, top : top + patch, left : left + patch] = picture.mean()
    heard: list[Tensor] = []
    with evaluating(model), listening(layer.seen, heard.append):
        for start in range(0, len(covered), BATCH):
            model(covered[start : start + BATCH])
    outputs = torch.cat(
        [y[:, unit].flatten(1).max(1).values if y.dim() == 4 else y[:, unit] for y in heard]
    )
    falls = outputs[-1] - outputs[:-1]
    total, count = picture.new_zeros(height, width), picture.new_zeros(height, width)
    for (top, left), fall in zip(corners, falls, strict=True):
        total[top : top + patch, left : left + patch] += fall
        count[top : top + patch, left : left + patch] += 1
    return total / count


def _starts(length: int, patch: int, step: int) -> list[int]:
    """Where squares begin so that all is covered."""
    return sorted({*range(0, length - patch + 1, step), length - patch})


def _at(y: Tensor, unit: int, places: Tensor) -> Tensor:
    """Give one output of a unit for each picture: (B,)."""
    rows = torch.arange(len(y))
    return y[:, unit] if y.dim() == 2 else y.flatten(2)[rows, unit, places]


def _middle(y: Tensor) -> tuple[int, int]:
    return y.shape[2] // 2, y.shape[3] // 2


def _blurred(x: Tensor) -> Tensor:
    """Blur a little: 1-2-1 both ways, edges repeated."""
    line = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(functional.pad(x, [1] * 4, "replicate"), kernel, groups=x.shape[1])
