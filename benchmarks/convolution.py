"""Time convolutions against torch's: ``OMP_NUM_THREADS=1 python benchmarks/convolution.py``.

Writes ``benchmarks/results/convolution.json`` and draws ``docs/_static/convolution-cost.png``. Ours and
torch's take turns in one process on one core; a ratio is the median of torch's time over ours, turn by
turn, and times are the processor's own, so that whatever else the machine does counts little.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from unrolled.layers import filter_bank

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "convolution.json"
PICTURE = ROOT / "docs" / "_static" / "convolution-cost.png"

LONG = [(1, 1, 1, 1), (1, 1, 8, 1), (1, 4, 4, 1), (8, 1, 1, 1), (1, 16, 16, 1), (1, 32, 32, 32)]
"""B, C, O and groups, all with 1,024 taps on 65,536 samples."""
USUAL = [
    ("1-D, 64 to 64 channels, 5 taps", (32, 64, 256), (64, 64, 5), 1),
    ("1-D, 16 to 16 channels, 3 taps", (8, 16, 4096), (16, 16, 3), 1),
    ("1-D, by channel, 7 taps", (8, 32, 1024), (32, 1, 7), 32),
    ("1-D, 1 to 1 channels, 9 taps", (1, 1, 65_536), (1, 1, 9), 1),
    ("1-D, 300 to 100 channels, 4 words", (50, 300, 60), (100, 300, 4), 1),
    ("2-D, LeNet-5's C1", (64, 1, 32, 32), (6, 1, 5, 5), 1),
    ("2-D, LeNet-5's C3", (64, 6, 14, 14), (16, 6, 5, 5), 1),
    ("2-D, 64 to 64 channels, 3 x 3", (4, 64, 56, 56), (64, 64, 3, 3), 1),
    ("2-D, 64 to 64 channels, 1 x 1", (4, 64, 56, 56), (64, 64, 1, 1), 1),
    ("2-D, 3 to 64 channels, 7 x 7", (2, 3, 112, 112), (64, 3, 7, 7), 1),
    ("3-D, 8 to 8 channels, 3 x 3 x 3", (2, 8, 16, 16, 16), (8, 8, 3, 3, 3), 1),
    ("tiny: 1 row, 4 channels of 20", (1, 4, 20), (4, 4, 3), 1),
]
"""Where torch's is the better way, and auto must not lose."""
IMAGES, KERNELS = (32, 64, 128, 256, 512), (3, 5, 9, 15, 25, 41)


def trained(run: Callable[..., Tensor], x: Tensor, w: Tensor, dy: Tensor, **how: Any) -> Callable:
    """Give a training step: forward and backward."""
    return lambda: torch.autograd.grad(run(x, w, **how), (x, w), dy)


def paired(ours: Callable, torchs: Callable, budget: float = 2.0) -> dict[str, float]:
    """Let both take turns for some seconds; give medians in milliseconds, and of the ratios."""
    ours(), torchs()
    times: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - begun < budget and len(times) < 400):
        turn = []
        order = (ours, torchs) if len(times) % 2 else (torchs, ours)
        for run in order:
            start = time.process_time()
            run()
            turn.append(time.process_time() - start)
        times.append((turn[0], turn[1]) if order[0] is ours else (turn[1], turn[0]))
    ratios = [theirs / mine for mine, theirs in times]
    mine, theirs = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    return {"ours_ms": mine, "torch_ms": theirs, "ratio": statistics.median(ratios)}


def against_torch(x_shape: tuple, w_shape: tuple, groups: int, method: str = "auto") -> dict:
    """Time one convolution in training."""
    x, w = torch.randn(x_shape, requires_grad=True), torch.randn(w_shape, requires_grad=True)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(x_shape) - 3]
    dy = torch.randn_like(convolve(x, w, groups=groups))
    ours = trained(filter_bank, x, w, dy, groups=groups, method=method)
    return paired(ours, trained(convolve, x, w, dy, groups=groups))


def main() -> None:
    """Measure, write and draw."""
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {"long": [], "usual": [], "pictures": []}

    def keep(part: str, **row: Any) -> None:
        found[part].append(row)
        print(
            part,
            {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()},
            flush=True,
        )

    for rows, channels, filters, groups in LONG:
        x_shape, w_shape = (rows, channels, 65_536), (filters, channels // groups, 1024)
        sizes = {"B": rows, "C": channels, "O": filters, "groups": groups}
        keep("long", **sizes, **against_torch(x_shape, w_shape, groups))
    for what, x_shape, w_shape, groups in USUAL:
        keep("usual", what=what, **against_torch(x_shape, w_shape, groups))
    for kernel in KERNELS:
        for image in IMAGES:
            if kernel <= image:
                times = against_torch((1, 1, image, image), (1, 1, kernel, kernel), 1, "fft")
                keep("pictures", image=image, kernel=kernel, **times)
    machine = {"torch": torch.__version__, "threads": 1}
    RESULTS.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n", "utf-8")
    draw(found["pictures"])


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the cost of a picture by its size, a line a kernel; through the transform they fall together."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, title in zip(
        panels, ("torch_ms", "ours_ms"), ("directly", "through the Fourier transform"), strict=True
    ):
        for n, kernel in enumerate(KERNELS):
            line = [row for row in rows if row["kernel"] == kernel]
            shade = (0.12, 0.2 + 0.12 * n, 0.75 - 0.1 * n)
            places = [row["image"] ** 2 for row in line]
            label = f"{kernel} x {kernel}"
            panel.loglog(places, [row[key] for row in line], "o-", color=shade, label=label, ms=3)
        panel.set_title(title)
        panel.set_xlabel("numbers in the picture")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    panels[0].set_ylabel("forward and backward (ms)")
    panels[0].legend(frameon=False, title="kernel")
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
