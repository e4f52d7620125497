"""Pictures and sentences about them: a folder with a file of captions, digits by name, composed canvases.

N pictures, C channels, H x W pixels.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unrolled.data.images import pictures_below, read_images, read_pictures, readable
from unrolled.data.read import Piece
from unrolled.data.splits import SPLITS, Split
from unrolled.errors import InputError
from unrolled.settings import PictureSettings

_log = logging.getLogger(__name__)

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NEIGHBOURS = {"neighbours": "digits", "neighbours-mnist": "mnist"}
"""Name of composed canvases -> the digits they are composed of."""
CANVASES: dict[Split, int] = {"training": 8000, "validation": 500, "test": 1000}
CAPTION_FILES = ("Flickr8k.token.txt", "captions.txt")
"""Files of captions as Flickr8k has them: ``NAME#0<tab>caption``, or ``NAME,caption`` below a header."""
LISTS: dict[Split, str] = {
    "training": "Flickr_8k.trainImages.txt",
    "validation": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
"""Files that name the pictures of each split, one a line, as Flickr8k has them."""


@dataclass(frozen=True)
class Captioned:
    """Pictures of one size."""

    pixels: np.ndarray
    """(N, C, H, W), uint8."""
    captions: list[tuple[str, ...]]
    """Of each picture, all that is said about it."""
    where: list[str]
    """The file of each, or ``source:number``."""

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.captions)

    def of(self, rows: np.ndarray) -> "Captioned":
        """Give some of the pictures."""
        captions, where = ([part[row] for row in rows] for part in (self.captions, self.where))
        return Captioned(self.pixels[rows], captions, where)


def read_captioned(sources: Sequence[str], settings: PictureSettings) -> Captioned:
    """Read pictures with captions.

    Args:
        sources: One of ``digits`` and ``mnist`` (and its files), whose captions are a digit's name; or
            folders of pictures, at any depth, with one of `CAPTION_FILES`, as Flickr8k comes.
        settings: What to scale pictures to, and what to do where one is missing or unreadable.

    Raises:
        InputError: If there is nothing to read, a line names no picture or says nothing, a picture is missing
            or unreadable, or sizes differ.
    """
    folders = [source for source in sources if Path(source).is_dir()]
    if sources and len(folders) == len(sources):
        parts = [_folder(Path(source), settings) for source in sources]
        found = {path: texts for part in parts for path, texts in part.items()}
        pixels, where = read_pictures([*found], settings.size, channels=3)
        return Captioned(pixels, [tuple(texts) for texts in found.values()], where)
    if folders or not sources:
        raise InputError(
            "captions are read from folders of pictures with a captions.txt, from digits, mnist or neighbours"
        )
    images = read_images(sources, size=settings.size, unreadable=settings.unreadable)
    return Captioned(images.pixels, [(_name(label),) for label in images.labels], images.where)


def listed_rows(
    found: Captioned, sources: Sequence[str], settings: PictureSettings
) -> dict[Split, np.ndarray]:
    """Give the rows of each split as `LISTS` name them; nothing if no folder has such lists.

    Args:
        found: What was read.
        sources: From these.
        settings: What to do where a picture that is named was not read.

    Raises:
        InputError: If a list is missing or empty, or names a picture that was not read or is in another list.
    """
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    lists = {
        split: [path for folder in folders for path in sorted(folder.rglob(name))]
        for split, name in LISTS.items()
    }
    if not any(lists.values()):
        return {}
    at = {Path(name).name: row for row, name in enumerate(found.where)}
    taken: dict[str, str] = {}
    rows: dict[Split, np.ndarray] = {}
    for split in SPLITS:
        if not lists[split]:
            raise InputError(
                f"{', '.join(sources)} lists pictures of some splits, but has no {LISTS[split]}"
            )
        chosen: list[int] = []
        for path in lists[split]:
            text = Piece(str(path), path, "utf-8-sig").text()
            for number, line in enumerate(text.splitlines(), 1):
                name, where = line.strip(), f"{path}:{number}"
                if name in taken:
                    raise InputError(f"{where} names {name}, which {taken[name]} names too")
                if name in at:
                    taken[name] = where
                    chosen.append(at[name])
                elif name and settings.unreadable == "stop":
                    raise InputError(
                        f"{where} names {name}, of which there is no picture with a caption; remove the "
                        "line, or give --unreadable skip"
                    )
        if not chosen:
            raise InputError(f"{lists[split][0]} names no picture that was read")
        rows[split] = np.array(chosen, int)
    return rows


def neighbours(source: str, seed: int = 0) -> dict[Split, Captioned]:
    """Compose canvases of two digits, one left of or above the other; no digit is in two splits.

    Args:
        source: One of :data:`NEIGHBOURS`.
        seed: Of what is drawn.

    Returns:
        `CANVASES` pictures a split, each with a sentence such as "a seven left of a two".

    Raises:
        InputError: If the digits cannot be read.
    """
    digits = read_images([NEIGHBOURS[source]])
    random = np.random.default_rng([seed, 11])
    parts = np.split(
        random.permutation(len(digits)), [int(0.8 * len(digits)), int(0.9 * len(digits))]
    )
    values = np.array([int(label) for label in digits.labels])
    found: dict[Split, Captioned] = {}
    for split, part in zip(SPLITS, parts, strict=True):
        pixels, captions = [], []
        for one, other in random.choice(part, (CANVASES[split], 2)):
            across = bool(random.integers(2))
            pixels.append(
                _composed(digits.pixels[one], digits.pixels[other], random, across=across)
            )
            place = "left of" if across else "above"
            first, second = (_some(NAMES[values[which]]) for which in (one, other))
            captions.append((f"{first} {place} {second}",))
        where = [f"{source}:{split}:{n}" for n in range(len(pixels))]
        found[split] = Captioned(np.stack(pixels), captions, where)
    return found


def _some(name: str) -> str:
    return f"{'an' if name == 'eight' else 'a'} {name}"


def _composed(
    one: np.ndarray, other: np.ndarray, random: np.random.Generator, *, across: bool
) -> np.ndarray:
    """Put pictures (C, h, h) beside or above each other on a canvas 5 h / 2 wide, shifted at random."""
    size = one.shape[-1]
    side = size * 5 // 2
    canvas = np.zeros((len(one), side, side), np.uint8)
    free = side - size
    for picture, half in ((one, 0), (other, 1)):
        along = half * (side - side // 2) + int(random.integers(0, side // 2 - size + 1))
        beside = int(random.integers(0, free + 1))
        down, right = (beside, along) if across else (along, beside)
        canvas[:, down : down + size, right : right + size] = picture
    return canvas


def _name(label: str) -> str:
    """Spell a digit's name; other labels stand for themselves."""
    return NAMES[int(label)] if label.isdigit() and len(label) == 1 else label


def _folder(folder: Path, settings: PictureSettings) -> dict[str, list[str]]:
    """Give the path of each picture of a folder that has captions, with these."""
    listed = [path for name in CAPTION_FILES for path in sorted(folder.rglob(name))]
    if not listed:
        raise InputError(f"{folder} holds no captions; it needs a {' or a '.join(CAPTION_FILES)}")
    if len(listed) > 1 and listed[0].name == listed[1].name:
        raise InputError(
            f"{folder} holds captions twice, in {listed[0]} and {listed[1]}; name the folder of each"
        )
    at = {path.name: str(path) for path in pictures_below(folder)}
    found: dict[str, list[str]] = {}
    for where, name, text in _captions(listed[0]):
        if name in at:
            found.setdefault(at[name], []).append(text)
        elif settings.unreadable == "stop":
            raise InputError(
                f"{where} is about {name}, which is not in {folder}; put it there, or give "
                "--unreadable skip"
            )
        else:
            _log.warning("skipped: %s is about %s, which is not there", where, name)
    if settings.unreadable == "skip":
        found = {path: texts for path, texts in found.items() if readable(path)}
    if not found:
        raise InputError(f"{listed[0]} is about no picture that can be read in {folder}")
    return found


def _captions(path: Path) -> list[tuple[str, str, str]]:
    """Give where each caption stands, the picture it is about, and what it says."""
    text = Piece(str(path), path, "utf-8-sig").text()
    tabs = path.name == CAPTION_FILES[0]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or (not tabs and number == 1 and line.startswith("image,")):
            continue
        name, mark, caption = line.partition("\t" if tabs else ",")
        if not name.strip() or not mark or not caption.strip():
            kind = "a picture, #, a number, a tab" if tabs else "a picture, a comma"
            raise InputError(f"{path}:{number} is {line[:40]!r}; a line is {kind} and a caption")
        name = name.rpartition("#")[0] if tabs and "#" in name else name
        found.append((f"{path}:{number}", name.strip(), caption.strip().strip('"')))
    return found
