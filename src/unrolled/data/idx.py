"""IDX files, the format of MNIST: a magic number, the sizes, then the numbers."""

import gzip
import struct
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from unrolled.data.read import find_pieces, reading
from unrolled.errors import InputError

IMAGES, LABELS = "images-idx3", "labels-idx1"
BYTES = 0x08  # the code of unsigned bytes, the third byte of the magic number


def is_idx(source: str) -> bool:
    """Tell an IDX file by its beginning, or by its name where it is one of a data set's."""
    path = Path(source)
    if not path.is_file():
        return IMAGES in source
    with reading(source), _open(path) as file:
        head = file.read(4)
    return len(head) == 4 and head[:3] == bytes([0, 0, BYTES]) and head[3] in (1, 3)


def read(source: str) -> np.ndarray:
    """Read the numbers of a file, or of one of a data set: uint8, of the sizes it names.

    Raises:
        InputError: If it is missing, damaged, or does not hold bytes.
    """
    (piece,) = find_pieces([source])
    with reading(source), piece.open() as file:
        content = file.read()
    dimensions = content[3] if len(content) > 3 else 0
    head = 4 + 4 * dimensions
    if content[:3] != bytes([0, 0, BYTES]) or len(content) < head:
        raise InputError(f"{source} is no IDX file of bytes; its first three bytes are 0, 0, 8")
    sizes = struct.unpack(f">{dimensions}I", content[4:head])
    numbers = np.frombuffer(content, np.uint8, offset=head)
    if numbers.size != np.prod(sizes, dtype=np.int64):
        raise InputError(
            f"{source} is damaged: it names {' x '.join(map(str, sizes))} numbers but holds "
            f"{numbers.size:,}; get it again"
        )
    return numbers.reshape(sizes)


def read_pair(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures (N, H, W) and, from the file of labels beside them, a number for each (N,).

    Raises:
        InputError: If a file is missing or damaged, or they do not belong together.
    """
    if IMAGES not in Path(source).name:
        find_pieces([source])  # says if there is nothing of this name
        raise InputError(
            f"{source} has no labels: pictures are read from a folder for each label, or from an IDX file "
            f"with {IMAGES} in its name and a file of labels beside it, with {LABELS}"
        )
    place, name = source[: -len(Path(source).name)], Path(source).name
    beside = place + name.replace(IMAGES, LABELS)
    if Path(source).exists() and not Path(beside).exists():  # only one of them compressed
        other = beside.removesuffix(".gz") if beside.endswith(".gz") else f"{beside}.gz"
        if Path(other).exists():
            beside = other
    pictures, labels = read(source), read(beside)
    if pictures.ndim != 3 or labels.shape != pictures.shape[:1]:
        raise InputError(
            f"{source} holds numbers of {pictures.shape} and {beside} of {labels.shape}; as many labels "
            "as pictures are needed"
        )
    return pictures, labels


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
