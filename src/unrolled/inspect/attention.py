"""What a model that writes looked at, symbol by symbol."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.checkpoint import files
from unrolled.checkpoint.load import Trained
from unrolled.data.images import pictures_below
from unrolled.data.pairs import read_pairs
from unrolled.data.table import read_lines
from unrolled.errors import InputError
from unrolled.inspect.model_data import lacking
from unrolled.tasks.caption import Caption
from unrolled.tasks.drawing import alignments, maps
from unrolled.tasks.pictures import list_pictures
from unrolled.tasks.translate import Translate


@dataclass(frozen=True)
class Looked:
    """One text that was written, and what was looked at meanwhile."""

    read: list[str]
    """The symbols of a source; of a picture its places as ``down,right``, row by row."""
    written: list[str]
    """The symbols of the text, its end last."""
    weights: np.ndarray
    """Of each symbol written, of each symbol or place read, (S, T)."""
    picture: bytes
    """The weights drawn, as PNG."""

    @property
    def most(self) -> list[tuple[str, str, float]]:
        """Each symbol written, what was looked at most meanwhile, and how much."""
        best = self.weights.argmax(1)
        rows = zip(self.written, best, self.weights.max(1), strict=True)
        return [(symbol, self.read[int(at)], float(weight)) for symbol, at, weight in rows]

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the picture, for JSON."""
        return {"read": self.read, "written": self.written, "weights": self.weights.tolist()}


def attention(trained: Trained, source: str, count: int = 10) -> list[Looked]:
    """Let a translator or a captioner write, and see what it looks at.

    Args:
        trained: A model of `translate` or `caption` with attention.
        source: For a translator texts, one a line, or a TSV of pairs; for a captioner a folder of pictures or
            one picture.
        count: Most of them to write about.

    Raises:
        InputError: If the model is another, or the data is missing or damaged.
    """
    task, model = trained.task, trained.model
    if isinstance(task, Translate):
        table = source.removesuffix(".gz").endswith(".tsv")
        texts = read_pairs([source]).sources if table else read_lines([source])
        found = task.aligned(model, texts[:count])
        return [Looked(*one, alignments([one])) for one in found]
    if isinstance(task, Caption):
        paths = _pictures_in(source)[:count]
        if not paths:
            raise InputError(f"{source} is neither a picture nor a folder of pictures")
        return [_of_picture(one) for one in task.looks(model, task.named(paths)[0])]
    why = "writes nothing about what it reads; attention is of translate and caption"
    raise lacking(trained, why)


def _pictures_in(source: str) -> list[str]:
    """List the pictures of a folder, at any depth as a captioner reads them, or a picture alone."""
    if not Path(source).is_dir():
        return list_pictures(source)
    return [*map(str, pictures_below(Path(source)))]


def _of_picture(one: tuple[np.ndarray, list[str], np.ndarray]) -> Looked:
    _, written, weights = one
    places = [f"{down},{right}" for down, right in np.ndindex(weights.shape[1:])]
    return Looked(places, written, weights.reshape(len(weights), -1), maps([one]))


def write(found: list[Looked], directory: Path) -> list[Path]:
    """Write each picture into a directory, made if it is not there; give their paths.

    Raises:
        RunError: If one cannot be written.
    """
    files.folder(directory)
    paths = [directory / f"{number}.png" for number in range(1, len(found) + 1)]
    for path, one in zip(paths, found, strict=True):
        files.write(path, one.picture, durable=False)
    return paths
