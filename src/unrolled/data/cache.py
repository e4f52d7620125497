"""The cache directory: encoded corpora, downloads and spooled standard input."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unrolled.errors import RunError

PARTIAL = ".partial-"
ABANDONED_AFTER = 24 * 3600  # seconds


def cache_dir() -> Path:
    """Say where the cache is: ``UNROLLED_CACHE_DIR``, else the platform's own place. Creates nothing."""
    chosen = os.environ.get("UNROLLED_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("unrolled", appauthor=False))


@contextmanager
def writing_to(directory: Path) -> Iterator[None]:
    """Create `directory`, and turn every failure to write there into one sentence.

    Raises:
        RunError: If the disk is full, the directory read-only, or its path taken by a file.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunError(
            f"cannot write to the cache at {directory}: {error.strerror or error}; "
            "free some space there, or set UNROLLED_CACHE_DIR to another directory"
        ) from error


@contextmanager
def partial_directory(room: Path) -> Iterator[Path]:
    """Give a fresh directory in `room` to fill and rename; what is left of it at the end is removed.

    Directories that killed processes left behind more than a day ago are removed as well.
    """
    for old in room.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):  # another process sweeps too
            if time.time() - old.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(old, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=room))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Make sure that a file's content is on the disk, so that a rename never shows an empty one."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
