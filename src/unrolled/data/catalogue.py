"""Data sets by name: what they are, under which licence, and how to have their files.

`catalogue.toml` holds the facts. A file is looked for in ``UNROLLED_DATA_DIR/<set>/``, then in the
cache, and is downloaded at last; its checksum is that of the unpacked file, wherever it comes from.
"""

import difflib
import gzip
import hashlib
import os
import tomllib
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, Literal

from unrolled.data.builtin import BUILTINS
from unrolled.data.cache import cache_dir, partial_directory, sync, writing_to
from unrolled.errors import InputError, RunError

DOWNLOAD_TIMEOUT = 30  # seconds without an answer

Where = Literal["built in", "local", "cached", "to download"]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set. `bytes` and `sha256` are those of the file unpacked."""

    name: str
    bytes: int
    sha256: str
    url: str


@dataclass(frozen=True)
class Entry:
    """One data set of the catalogue; a set that is built in has no files."""

    name: str
    what: str
    task: str
    licence: str
    page: str
    bytes: int
    encoding: str = "utf-8"
    label: str = ""
    """Where each file holds the texts of one label, one a line: what of its name the label is."""
    apart: bool = False
    """Whether files are sets of their own, of which one is to be named."""
    files: tuple[DataFile, ...] = ()

    def where(self) -> Where:
        """Say where the set lies now, by looking for its files, not into them."""
        if not self.files:
            return "built in"
        if all(_local_copy(self, file) for file in self.files):
            return "local"
        if all(_local_copy(self, file) or _cached(self, file).exists() for file in self.files):
            return "cached"
        return "to download"


@cache
def list_entries() -> tuple[Entry, ...]:
    """Give the whole catalogue, what is built in first."""
    table = tomllib.loads(
        resources.files("unrolled.data").joinpath("catalogue.toml").read_text("utf-8")
    )
    built_in = [
        Entry(
            name=name,
            what=builtin.what,
            task=builtin.task,
            licence=builtin.licence,
            page=builtin.page,
            bytes=len(builtin.text().encode()) if builtin.text else 0,
        )
        for name, builtin in BUILTINS.items()
    ]
    return (*built_in, *(_entry(**fields) for fields in table["entry"]))


def _entry(base: str, files: list[dict], **fields: Any) -> Entry:  # noqa: ANN401 - of a table
    listed = tuple(
        DataFile(file["name"], file["bytes"], file["sha256"], base + file.get("path", file["name"]))
        for file in files
    )
    size = sum(file.bytes for file in listed)
    return Entry(bytes=size, files=listed, **fields)


def find(name: str) -> Entry | None:
    """Find an entry by ``SET``, or by ``SET/FILE`` for one of its files; ``None`` if there is none."""
    name, _, wanted = name.partition("/")
    for entry in list_entries():
        if entry.name == name and not wanted:
            return entry
        for file in entry.files:
            if (entry.name, file.name) == (name, wanted):
                return Entry(
                    **{**vars(entry), "files": (file,), "bytes": file.bytes, "apart": False}
                )
    return None


def suggest(name: str) -> str:
    """Give the end of an error sentence about a name that is not in the catalogue."""
    near = difflib.get_close_matches(name, [entry.name for entry in list_entries()], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}`unrolled data list` names the data sets"


def get(name: str) -> list[Path]:
    """Give the files of a data set, downloading what is not here yet.

    Args:
        name: ``SET``, or ``SET/FILE`` for one file of it.

    Returns:
        One path a file, verified; a local copy may be a ``.gz``. Nothing for a set that is built in.

    Raises:
        InputError: If the name is unknown, or a local copy is not the file the catalogue means.
        RunError: If a download fails or the cache cannot be written.
    """
    entry = find(name)
    if entry is None:
        raise InputError(f"no data set is named {name!r}; {suggest(name)}")
    return [_path(entry, file) for file in entry.files]


def _path(entry: Entry, file: DataFile) -> Path:
    local = _local_copy(entry, file)
    if local is None:
        cached = _cached(entry, file)
        # Only verified files are renamed into the cache, so being there is enough.
        return cached if cached.exists() else _download(entry, file)
    if _sha256(local) != file.sha256:
        raise InputError(
            f"{local} is not the {file.name} of {entry.name} that the catalogue means (its checksum "
            "differs); remove it or unset UNROLLED_DATA_DIR to have it downloaded"
        )
    return local


def _local_copy(entry: Entry, file: DataFile) -> Path | None:
    root = os.environ.get("UNROLLED_DATA_DIR")
    if not root:
        return None
    plain = Path(root).expanduser() / entry.name / file.name
    return next((path for path in (plain, Path(f"{plain}.gz")) if path.is_file()), None)


def _cached(entry: Entry, file: DataFile) -> Path:
    return cache_dir() / "datasets" / entry.name / file.name


def _download(entry: Entry, file: DataFile) -> Path:
    final = _cached(entry, file)
    with writing_to(final.parent), partial_directory(final.parent) as partial:
        fetched = partial / ("download.gz" if file.url.endswith(".gz") else "download")
        unpacked = partial / file.name
        _fetch(entry, file.url, fetched)
        try:
            with _open(fetched) as source, unpacked.open("wb") as target:
                target.write(source.read(file.bytes))
        except (gzip.BadGzipFile, EOFError, zlib.error):
            unpacked.write_bytes(b"")
        if _sha256(unpacked) != file.sha256:
            raise RunError(
                f"what {file.url} gave is not the {file.name} of {entry.name} (its checksum differs); "
                "nothing was kept, try again later"
            )
        sync(unpacked)
        unpacked.replace(final)
    return final


def _fetch(entry: Entry, url: str, target: Path) -> None:
    import pooch
    import requests

    # stream=False reads the whole answer, a few megabytes, so that a bad one leaves no open connection.
    download = pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT, stream=False, chunk_size=1 << 20)
    try:
        download(url, str(target), None)
    except requests.RequestException as error:
        raise RunError(
            f"cannot download {entry.name} from {url} ({type(error).__name__}); connect to the "
            f"network, or put the file into $UNROLLED_DATA_DIR/{entry.name}/"
        ) from error


def _open(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # pyright: ignore[reportReturnType]


def _sha256(path: Path) -> str | None:
    """Hash a file's unpacked content; ``None`` if it cannot be unpacked."""
    try:
        with _open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
