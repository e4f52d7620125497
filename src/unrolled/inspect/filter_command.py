"""``unrolled filter``: a picture through an image kernel."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unrolled import console
from unrolled.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


def filter_(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A PNG, JPEG, ... file.")],
    kernel: Annotated[
        str,
        typer.Argument(
            metavar="KERNEL",
            help="identity, sharpen, blur, edge, emboss, sobel, sobel-x or sobel-y.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What is written; PICTURE-KERNEL.png, here, if left out."
        ),
    ] = None,
    json: console.Json = False,
) -> None:
    """Run a picture through a named image kernel and write the result.

    What gets darker than black or brighter than white is cut off; of sobel-x and sobel-y the size of the
    gradient is drawn without its sign. Transparency stays as it is.
    """
    from unrolled.checkpoint import files

    out = out or Path(f"{picture.stem}-{kernel}.png")
    image = _filtered(_open(picture), kernel)
    encoded = io.BytesIO()
    try:
        image.save(encoded, format=_format(out))
    except OSError as error:  # a format that has no transparency
        raise InputError(
            f"{out} cannot hold a picture of {image.mode}: {error}; write .png"
        ) from error
    files.write(out, encoded.getvalue(), durable=False)
    if json:
        size = {"width": image.width, "height": image.height}
        console.print_json({"picture": str(picture), "kernel": kernel, "out": str(out), **size})
    else:
        console.results().print(str(out), soft_wrap=True)


def _open(path: Path) -> "Image":
    """Read a picture, upright, as grey or colour with or without transparency."""
    from unrolled.data.images import open_picture

    upright = open_picture(path)
    transparent = "A" in upright.getbands() or "transparency" in upright.info
    grey = upright.mode in ("1", "L", "LA")
    return upright.convert(("L" if grey else "RGB") + "A" * transparent)


def _filtered(image: "Image", kernel: str) -> "Image":
    import numpy as np
    import torch
    from PIL import Image

    from unrolled.layers.kernels import filter_picture

    pixels = np.asarray(image)
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    channels = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    colours = len(image.getbands()) - ("A" in image.getbands())
    found = filter_picture(channels[:colours].float(), kernel)
    if kernel.startswith("sobel"):
        found = found.abs()
    drawn = torch.cat([found.round().clamp(0, 255).byte(), channels[colours:]])
    return Image.fromarray(drawn.permute(1, 2, 0).squeeze(2).numpy())


def _format(out: Path) -> str:
    """Give the format that a file's name asks for."""
    from PIL import Image

    formats = Image.registered_extensions()
    if (name := formats.get(out.suffix.lower())) not in Image.SAVE:
        raise InputError(f"{out} must end in .png, .jpg or another format that can be written")
    assert name
    return name
