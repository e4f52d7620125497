"""Fit the cost model of convolutions: ``OMP_NUM_THREADS=1 python benchmarks/fit_convolution.py``.

Random convolutions in one to three dimensions are timed directly and through the transform, forward and
in training, on one core. The constants, to be put into ``layers/convolution_cost.py``, are fitted to two
thirds of them and judged on the rest: how often ``auto`` would have been more than 5 % slower than torch.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from math import exp, log

import numpy as np
import torch
from scipy.optimize import nnls
from torch.nn import functional

from unrolled.layers import convolution_cost as cost
from unrolled.layers.fourier import Tiles, correlate_by_fourier

LONGEST = {1: 100_000, 2: 600, 3: 48}
WIDEST = {1: 2048, 2: 49, 3: 13}
MOST = 3e9
"""Multiply-adds of one convolution, so that all is measured in minutes."""


def one(rng: random.Random) -> cost.Work:
    """Draw a convolution."""
    while True:
        d = rng.choice((1, 1, 1, 2, 2, 3))
        size = between(rng, 8, LONGEST[d])
        kernel = between(rng, 1, min(WIDEST[d], size))
        groups = rng.choice((1, 1, 1, 1, 2, 16))
        inputs, outputs = (rng.choice((1, 1, 3, 8, 16, 64)) for _ in "io")
        if groups == 16:
            inputs = outputs = 1
        rows = rng.choice((1, 1, 2, 8, 32))
        work = cost.Work(
            rows, groups, inputs, outputs, (size,) * d, (kernel,) * d, (1,) * d, (1,) * d
        )
        if 1e5 < work.direct()[1] < MOST and work.fourier(next(work.tilings()))[2] < 5e7:
            return work


def between(rng: random.Random, least: int, most: int) -> int:
    """Draw a whole number, evenly on a scale of logarithms."""
    return round(exp(rng.uniform(log(least), log(most))))


def seconds(run: Callable[[], object]) -> float:
    """Time a call: the fastest of some."""
    run()
    spent: list[float] = []
    while len(spent) < 3 or (sum(spent) < 0.05 and len(spent) < 20):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)


def measured(work: cost.Work, tiles: Tiles) -> dict[str, dict[str, tuple]]:
    """Time one convolution."""
    d = len(work.size)
    x = torch.randn(work.rows, work.groups * work.inputs, *work.size, requires_grad=True)
    w = torch.randn(work.groups * work.outputs, work.inputs, *work.kernel, requires_grad=True)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[d - 1]
    ways = {
        "direct": (work.direct(), lambda: convolve(x, w, groups=work.groups)),
        "fourier": (
            work.fourier(tiles),
            lambda: correlate_by_fourier(x, w, work.groups, tiles),
        ),
    }
    found: dict[str, dict[str, tuple]] = {}
    for name, (amounts, run) in ways.items():
        y = torch.ones_like(run())
        with torch.no_grad():
            forward = seconds(run)
        training = seconds(lambda run=run, y=y: torch.autograd.grad(run(), (x, w), y))
        found[name] = {"forward": (amounts, forward), "training": (amounts, training)}
    return found


def fit(rows: list[tuple]) -> tuple[float, ...]:
    """Fit costs >= 0 to (amounts, seconds), each row by its relative error."""
    amounts = np.array([row for row, _ in rows], dtype=float)
    spent = np.array([seconds for _, seconds in rows])
    scaled = amounts / spent[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    found, _ = nnls(scaled / norms, np.ones(len(rows)))
    return tuple(float(f"{cost:.3g}") for cost in found / norms)


def main() -> None:
    """Measure, fit, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(wanted.seed)
    works = [one(rng) for _ in range(wanted.count)]
    learnt, judged = 2 * wanted.count // 3, range(2 * wanted.count // 3, wanted.count)
    # Any tiling to learn from, so that all are known; to judge, the one that is taken today.
    tilings = [rng.choice([*work.tilings()]) for work in works[:learnt]]
    tilings += [cost.best_tiles(work, training=True) for work in works[learnt:]]
    rows = [measured(work, tiles) for work, tiles in zip(works, tilings, strict=True)]
    for name, table in (("direct", cost.DIRECT), ("fourier", cost.FOURIER)):
        for what in ("forward", "training"):
            table[what] = fit([row[name][what] for row in rows[:learnt]])
            errors = [
                log(sum(c * a for c, a in zip(table[what], amounts, strict=True)) / spent)
                for amounts, spent in (rows[i][name][what] for i in judged)
            ]
            print(f"{name.upper()} {what}: {table[what]}, factor {exp(np.std(errors)):.2f}")
    for what in ("forward", "training"):
        taken, slower, factors = 0, 0, []
        for i in judged:
            direct, fourier = (rows[i][name][what][1] for name in ("direct", "fourier"))
            amounts = rows[i]["fourier"][what][0]
            looks = sum(c * a for c, a in zip(cost.FOURIER[what], amounts, strict=True))
            against = sum(c * a for c, a in zip(cost.DIRECT[what], works[i].direct(), strict=True))
            if cost.MARGIN * looks < against:
                taken += 1
                slower += fourier > 1.05 * direct
                factors.append(direct / fourier)
                if fourier > 1.05 * direct:
                    print("  slower:", works[i], f"{fourier / direct:.2f}")
        middle = np.median(factors) if factors else float("nan")
        print(
            f"{what}: {len(judged)} judged, the transform taken for {taken}, median {middle:.1f} times "
            f"faster, slower by more than 5 % for {slower}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
