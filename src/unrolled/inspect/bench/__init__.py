"""Side by side with others: workloads, peers, how it is measured, how it is told.

`workloads` says what is computed, `peers` by whom besides us (`side` is what they have in common), `measure`
compares results and times in turns, `run` goes through all of it, `report` and `display` show it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled.inspect.bench.display import Watcher

SECONDS = 10.0
"""Timed for each workload, shared out among its peers."""


def bench(
    *workloads: str,
    grid: bool = False,
    seconds: float = SECONDS,
    threads: int | None = None,
    peers: Sequence[str] | None = None,
    out: str | Path | None = None,
    picture: str | Path | None = None,
    watcher: "Watcher | None" = None,
) -> dict[str, Any]:
    """Time this package and others on the same work, in turns, in this process.

    Before a pair is timed, outputs and gradients are compared with torch's. Ours runs in the native engine
    where it can, or in the one that ``UNROLLED_ENGINE`` names.

    Args:
        workloads: Names or patterns (``U*``), see :mod:`unrolled.inspect.bench.workloads`; all named ones
            by default. ``cell:*`` is every registered cell in two sizes, ``wiring:*`` noise in the loop.
        grid: Measure the grid of cells and sizes in place of the named workloads.
        seconds: For each workload, shared out among its peers; three pairs are timed in any case.
        threads: Threads of everyone; as many as torch has by default.
        peers: ``torch``, ``padded``, ``loop``, ``compile``, ``jax``, ``numpy``, ``onnxruntime``,
            ``torchrecurrent``, ``plain``; by default all but ``compile``, which takes a minute a
            workload, and ``plain``; ``torch`` alone for the grid, ``loop`` and ``torchrecurrent`` for
            cells, and ``plain``, the same without noise, for wirings.
        out: Where to write what is returned, as JSON, anew after every workload.
        picture: Where to draw the ratios, a PNG.
        watcher: Who is told of the progress.

    Returns:
        ``format_version``, ``date``, ``unrolled`` (version), ``machine``, ``threads``, ``seconds``,
        ``peaks`` (GFLOP/s of the largest products by precision), ``workloads`` (``name``, ``what``,
        ``gflop``, ``engine``, and ``engine_reason`` if it is not the fastest way), ``rows`` (``workload``,
        ``peer``, ``ours_ms``, ``peer_ms``, ``ratio``, each a median with its quartiles; ``gflops``,
        ``of_peak``, ``timings``), ``skipped`` and ``differing`` (``workload``, ``peer``, ``reason``).

    Raises:
        InputError: If a name is unknown, a number out of range, or a file's directory missing.
        RunError: If results differ from torch's, after all else is measured and written; or if a file
            cannot be written.
    """
    from unrolled.inspect.bench.run import run

    return run(workloads, grid, seconds, threads, peers, out, picture, watcher)


__all__ = ["SECONDS", "bench"]
