"""Labelled pictures: IDX files, a folder of pictures per label, scikit-learn's digits.

N pictures, C channels (1 grey, 3 colour), H x W pixels.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from unrolled.data import idx
from unrolled.data.read import check_name
from unrolled.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
"""Files of a folder that are taken for pictures."""

Unreadable = Literal["stop", "skip"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Images:
    """Pictures of one size, with their labels."""

    pixels: np.ndarray
    """(N, C, H, W), uint8."""
    labels: list[str]
    where: list[str]
    """The file of each, or ``file:number`` counted from 0."""
    skipped: list[str] = field(default_factory=list)
    """Files that are no readable picture."""

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.labels)


def is_images(sources: Sequence[str]) -> bool:
    """Tell whether sources are pictures, by their names, the beginning of a file, or what a folder holds."""
    return any(
        source in ("digits", "mnist") or idx.is_idx(source) or _is_picture_folder(Path(source))
        for source in sources
    )


def read_images(
    sources: Sequence[str], *, size: int | None = None, unreadable: Unreadable = "stop"
) -> Images:
    """Read labelled pictures.

    Args:
        sources: IDX files of pictures (``train-images-idx3-ubyte``, also as ``.gz``; its labels are looked
            for beside it under ``train-labels-idx1-ubyte``); folders that hold a folder of pictures for
            each label; ``digits`` (8 x 8, built in); ``mnist``, or one of its files by name.
        size: Scale all pictures to so many pixels a side.
        unreadable: Whether a file of a folder that is no readable picture stops the reading, or is
            skipped and named in a warning.

    Raises:
        InputError: If there is nothing to read, a file is missing or damaged, pictures differ in size and
            `size` is not given, or some are grey and others colour by source.
    """
    if not sources:
        raise InputError("no pictures are given; name a folder, an IDX file, or digits")
    parts = [_read(source, size, unreadable) for source in sources]
    skipped = [name for part in parts for name in part.skipped]
    shape = parts[0].pixels.shape[1:]
    for source, part in zip(sources, parts, strict=True):
        if part.pixels.shape[1:] != shape:
            raise InputError(_sizes_differ(sources[0], shape, source, part.pixels.shape[1:]))
    return Images(
        np.concatenate([part.pixels for part in parts]),
        [label for part in parts for label in part.labels],
        [place for part in parts for place in part.where],
        skipped,
    )


def read_pictures(
    paths: Sequence[str], size: int | None = None, channels: int | None = None
) -> tuple[np.ndarray, list[str]]:
    """Read pictures without labels: files, or IDX files with several in each.

    Returns:
        (N, C, H, W) uint8; and what each is called.

    Raises:
        InputError: If a file cannot be read, or sizes differ and `size` is not given.
    """
    pixels, names = [], []
    for path in paths:
        if idx.is_idx(path):
            found = idx.read(path)
            pixels += list(_scaled(found, size)[:, None])
            names += [f"{path}:{number}" for number in range(len(found))]
        else:
            pixels.append(_picture(Path(path), size, channels))
            names.append(path)
    return _stack(pixels, names), names


def readable(path: str) -> bool:
    """Tell whether :func:`read_pictures` can read a file; log what is wrong with it."""
    try:
        read_pictures([path])
    except InputError as error:
        _log.warning("skipped: %s", error)
        return False
    return True


def _read(source: str, size: int | None, unreadable: Unreadable) -> Images:
    if source == "digits" and not Path(source).exists():
        return _digits(size)
    if source == "mnist" and not Path(source).exists():
        return read_images(
            [f"mnist/{part}-images-idx3-ubyte" for part in ("train", "t10k")], size=size
        )
    if not Path(source).is_dir():
        pixels, numbers = idx.read_pair(source)
        where = [f"{source}:{number}" for number in range(len(pixels))]
        return Images(_scaled(pixels, size)[:, None], [str(n) for n in numbers], where)
    return _folder(Path(source), size, unreadable)


def _digits(size: int | None) -> Images:
    from sklearn.datasets import load_digits

    rows, numbers = load_digits(return_X_y=True)
    pixels = np.rint(np.reshape(rows, (-1, 8, 8)) * (255 / 16)).astype(np.uint8)
    where = [f"digits:{number}" for number in range(len(pixels))]
    return Images(_scaled(pixels, size)[:, None], [str(n) for n in numbers], where)


def _is_picture_folder(path: Path) -> bool:
    return path.is_dir() and any(True for folder in _folders(path) for _ in _pictures(folder))


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield path


def _folder(path: Path, size: int | None, unreadable: Unreadable) -> Images:
    files = [(file, folder.name) for folder in _folders(path) for file in _pictures(folder)]
    if not files:
        raise InputError(
            f"{path} holds no pictures; it needs a folder for each label, with its pictures inside"
        )
    pixels, labels, where, skipped = [], [], [], []
    for file, label in files:
        try:
            pixels.append(_picture(file, size))
        except InputError as error:
            if unreadable == "stop":
                raise InputError(f"{error}; remove it, or give --unreadable skip") from None
            _log.warning("skipped: %s", error)
            skipped.append(str(file))
            continue
        labels.append(label)
        where.append(str(file))
    if not pixels:
        raise InputError(f"none of the {len(files)} pictures in {path} can be read")
    if len({len(one) for one in pixels}) > 1:  # some grey, some colour
        pixels = [np.broadcast_to(one, (3, *one.shape[1:])) for one in pixels]
    return Images(_stack(pixels, where), labels, where, skipped)


def pictures_below(folder: Path) -> list[Path]:
    """List the files of a folder, at any depth, that are pictures by their names."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]


def open_picture(path: Path, instead: str = "name one picture") -> "Image":
    """Read a file as a picture, upright.

    Args:
        path: The file.
        instead: What to do where it is a folder.

    Raises:
        InputError: If it is none that can be read, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    check_name(str(path))
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise InputError(
                    f"{path} has more than 8 bits a channel ({file.mode}); save it with 8"
                )
            file.load()
            return ImageOps.exif_transpose(file)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"no file at {path}") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture that can be read") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; {instead}") from None
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from None


def _picture(path: Path, size: int | None, channels: int | None = None) -> np.ndarray:
    """Read a file, upright, as grey or in colour: (C, H, W)."""
    from PIL import Image

    image = open_picture(path, f"name the pictures inside, as {path}/*.png")
    grey = channels == 1 or (channels is None and image.mode in ("1", "L", "LA"))
    image = image.convert("L" if grey else "RGB")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _scaled(pixels: np.ndarray, size: int | None) -> np.ndarray:
    """Scale grey pictures (N, H, W)."""
    if size is None or pixels.shape[1:] == (size, size):
        return pixels
    from PIL import Image

    return np.stack(
        [
            np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR))
            for one in pixels
        ]
    )


def _stack(pixels: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    for name, one in zip(names, pixels, strict=True):
        if one.shape != pixels[0].shape:
            raise InputError(_sizes_differ(names[0], pixels[0].shape, name, one.shape))
    return np.stack(pixels)


def _sizes_differ(
    first: str, shape: tuple[int, ...], other: str, differing: tuple[int, ...]
) -> str:
    return (
        f"pictures must have one size and as many channels: {first} is {_size(shape)}, but {other} is "
        f"{_size(differing)}; give --size 32 to scale all to 32 x 32 (in a model of your own, "
        "AdaptivePool takes any size)"
    )


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width} x {height} {'grey' if channels == 1 else 'colour'}"
