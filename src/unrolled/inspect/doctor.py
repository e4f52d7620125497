"""What this installation is and can do: for a person with a question, and for the report of a fault."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unrolled import __version__
from unrolled.data import cache_dir

LIBRARIES = (
    "torch",
    "numpy",
    "safetensors",
    "tokenizers",
    "scikit-learn",
    "matplotlib",
    "tensorboard",
)

INSTRUCTION_SETS = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"),  # x86
    *("asimd", "bf16", "sve"),  # ARM
)
"""The abilities of a processor that matrix products gain from, as Linux names them."""

OPENMP_PREFIXES = ("OMP_", "KMP_", "GOMP_", "MKL_")


def doctor() -> dict[str, Any]:
    """Examine the installation.

    Returns:
        One object of plain values with the keys ``versions`` (name -> version, ``None`` where a
        library is not installed), ``platform``, ``threads``, ``instruction_sets``, ``gpu`` (one name
        a device), ``cache`` (``directory``, ``bytes``), ``engines`` (name -> whether it is there) and
        ``environment`` (the variables that steer threads and this package).
    """
    import torch

    from unrolled.engine import native

    cache = cache_dir()
    return {
        "versions": {
            "unrolled": __version__,
            "python": platform.python_version(),
            **{name: version_of(name) for name in LIBRARIES},
        },
        "platform": platform.platform(),
        "threads": {
            "processors": os.cpu_count(),
            "usable": usable_processors(),
            "torch": torch.get_num_threads(),
            "torch_interop": torch.get_num_interop_threads(),
        },
        "instruction_sets": {
            "torch": torch.backends.cpu.get_cpu_capability(),
            "processor": _instruction_sets(),
        },
        "gpu": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "cache": {"directory": str(cache), "bytes": _bytes_under(cache)},
        "engines": {"reference": True, "native": native.instruction_set()},
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith((*OPENMP_PREFIXES, "UNROLLED_"))
        },
    }


def version_of(library: str) -> str | None:
    """Give the version of a library, ``None`` where it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def usable_processors() -> int | None:
    """Processors this process may run on, fewer than all in a container that was given a few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Read them where the system lists them; empty elsewhere."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return [name for name in INSTRUCTION_SETS if name in value.split()]
    return []


def _bytes_under(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # another run may be tidying up
            total += path.stat().st_size if path.is_file() else 0
    return total
