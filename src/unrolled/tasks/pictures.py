"""Pictures with or without labels, split, as rows of numbers from 0 to 1."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.images import SUFFIXES, read_images, read_pictures, readable
from unrolled.data.splits import SPLITS, Split, borders, shares
from unrolled.errors import InputError
from unrolled.settings import PictureSettings, Settings

HELD_OUT = re.compile(r"(^|[/\\])(t10k|test)[^/\\]*$")
"""Names of files that their maker keeps for tests."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size."""

    pixels: np.ndarray
    """(n, C, H, W), float32 from 0 to 1."""
    labels: np.ndarray | None
    """Of each picture, as text (n,)."""
    where: np.ndarray
    """The file of each, as text (n,)."""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray) -> "Pictures":
        labels = None if self.labels is None else self.labels[rows]
        return Pictures(self.pixels[rows], labels, self.where[rows])

    @property
    def size(self) -> tuple[int, int, int]:
        """C, H, W."""
        return self.pixels.shape[1:]  # pyright: ignore[reportReturnType]

    @property
    def rows(self) -> np.ndarray:
        """Each picture as one row of numbers (n, C H W)."""
        return self.pixels.reshape(len(self), -1)


def read(sources: Sequence[str], settings: PictureSettings) -> Pictures:
    """Read what :func:`unrolled.data.read_images` reads, and folders and files without labels.

    Args:
        sources: All with labels, or all folders of pictures, or all files of them.
        settings: What to scale them to, and what to do at a file of a folder that is no picture.

    Raises:
        InputError: If a file is missing or damaged, sizes differ, or there is no picture.
    """
    folders = [list_pictures(source) for source in sources]
    if not sources or not all(folders):
        images = read_images(sources, size=settings.size, unreadable=settings.unreadable)
        labels = np.array(images.labels, object)
        return Pictures(_from_bytes(images.pixels), labels, np.array(images.where, object))
    paths = [path for paths in folders for path in paths]
    if settings.unreadable == "skip":
        paths = [path for path in paths if readable(path)]
        if not paths:
            raise InputError(f"none of the pictures in {', '.join(sources)} can be read")
    pixels, where = read_pictures(paths, settings.size)
    return Pictures(_from_bytes(pixels), None, np.array(where, object))


def read_like(
    sources: Sequence[str], size: tuple[int, int, int], settings: PictureSettings
) -> Pictures:
    """Read pictures for a model that takes this size.

    Raises:
        InputError: If they cannot be read, or are of another size.
    """
    some = read(sources, settings)
    if some.size != size:
        raise InputError(
            f"the model takes pictures of {as_words(size)}, but {some.where[0]} is {as_words(some.size)}; "
            "give such, or train with --size"
        )
    return some


def list_pictures(source: str) -> list[str]:
    """List the pictures that lie in a folder itself, or a picture alone; none of anything else."""
    path = Path(source)
    if not path.is_dir():
        return [source] if path.suffix.lower() in SUFFIXES else []
    return [str(file) for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]


def _from_bytes(pixels: np.ndarray) -> np.ndarray:
    return (pixels / np.float32(255)).astype(np.float32)


def on(model: nn.Module, rows: np.ndarray) -> Tensor:
    """Put rows where a model's weights are."""
    like = next(model.parameters())
    return torch.from_numpy(np.ascontiguousarray(rows)).to(like.device, like.dtype)


def split_pictures(pictures: Pictures, settings: Settings) -> dict[Split, Pictures]:
    """Shuffle by the seed and split.

    Pictures of files whose names begin with ``t10k`` or ``test`` are the test split, if there are others,
    which training and validation then share in the proportion of their fractions.

    Raises:
        InputError: If nothing is left for a split that should have something.
    """
    for_tests = np.array([HELD_OUT.search(name) is not None for name in pictures.where])
    apart = for_tests.any() and not for_tests.all()
    rest = np.flatnonzero(~for_tests) if apart else np.arange(len(pictures))
    fractions = shares(settings.data.split, ["test"] if apart else [])
    ends = borders(len(rest), fractions, f"{len(rest)} pictures")
    places = np.split(np.random.default_rng([settings.training.seed]).permutation(rest), ends[1:3])
    if apart:
        places[2] = np.flatnonzero(for_tests)
    return {name: pictures[place] for name, place in zip(SPLITS, places, strict=True)}


def digest(splits: dict[Split, Pictures]) -> str:
    """Hash the pictures, their labels, and how they are split."""
    found = hashlib.sha256()
    for split, pictures in splits.items():
        found.update(f"{split} {pictures.size} ".encode())
        found.update(np.ascontiguousarray(pictures.pixels).data)
        if pictures.labels is not None:
            found.update("\n".join(pictures.labels).encode())
    return found.hexdigest()


SHADES = " .:-=+*#%@"
LINES = 14
"""Most lines that a picture takes as text."""


def as_text(pixels: np.ndarray) -> str:
    """Draw pictures (n, C, H, W) side by side in characters, each pixel two columns wide."""
    grey = pixels.mean(1)
    step = -(-grey.shape[1] // LINES)
    grey = grey[:, ::step, ::step].clip(0, 1)
    shades = np.array(list(SHADES))[np.rint(grey * (len(SHADES) - 1)).astype(int)]
    lines = (
        "  ".join("".join(np.repeat(row, 2)) for row in line) for line in shades.swapaxes(0, 1)
    )
    return "\n".join(line.rstrip() for line in lines)


def as_words(size: tuple[int, int, int]) -> str:
    """Write a size (C, H, W) as people do."""
    channels, height, width = size
    return f"{width} x {height} {'grey' if channels == 1 else 'colour'}"
