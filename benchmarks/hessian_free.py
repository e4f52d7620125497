"""Hessian-free optimisation beside Adam: a plain tanh RNN on the adding problem, by wall time.

    python benchmarks/hessian_free.py --steps 200 --seconds 900

Hessian-free goes on until its error on held-out sequences is below 0.01, or the seconds are over; then Adam
has as long with each of five rates and two starts. Every side runs the same compiled RNN. Writes
``benchmarks/results/hessian-free.json`` and ``docs/_static/hessian-free.png``.
"""

import argparse
import datetime
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import unrolled as ur
from unrolled.data.made import adding
from unrolled.tasks.task import Objective
from unrolled.train.hessian_free import HessianFree, Report

ROOT = Path(__file__).resolve().parent.parent
SOLVED = 0.01
RATES = 1e-2, 3e-3, 1e-3, 3e-4, 1e-4
STARTS = "default", "orthogonal"
HELD_OUT = 1000
Curve = list[tuple[float, float]]


class Adder(nn.Module):
    """A tanh RNN and a linear read-out of its last state."""

    def __init__(self, hidden: int, start: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = ur.RNN(2, hidden)
        self.out = nn.Linear(hidden, 1)
        if start == "orthogonal":
            nn.init.orthogonal_(self.rnn.weight_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        """Add: x (T, B, 2) -> (B,)."""
        return self.out(self.rnn(x)[0][-1])[:, 0]


def batch(steps: int, rows: int, *seed: int) -> tuple[Tensor, Tensor]:
    """Draw sequences (T, B, 2) and their sums (B,)."""
    x, y = adding(steps, rows, np.random.default_rng(seed))
    return torch.from_numpy(x).float(), torch.from_numpy(y).float().reshape(-1)


def run(
    error: Callable[[], float],
    update: Callable[[int], Any],
    seconds: float,
    *,
    solved: float = 0.0,
    every: float = 2.0,
) -> Curve:
    """Train until solved or time is over; give the error by the seconds spent on updates."""
    curve: Curve = []
    spent, looked, number = 0.0, -every, 0
    while True:
        if spent - looked >= every or spent >= seconds:
            with torch.no_grad():
                curve.append((spent, error()))
            looked = spent
            if spent >= seconds or not curve[-1][1] > solved:
                return curve
        began = time.perf_counter()
        update(number)
        spent, number = spent + time.perf_counter() - began, number + 1


def told(report: Report, number: int) -> None:
    """Print what an update of Hessian-free optimisation did."""
    print(
        f"{number:4} loss {report.loss:.5f} -> {report.after:.5f}  lambda {report.damping:.2e}  "
        f"cg {report.iterations:3}  rho {report.ratio:5.2f}  step {report.step:.2f}",
        flush=True,
    )


def held_out(model: Adder, steps: int) -> Callable[[], float]:
    """Give the mean square error on the same held-out sequences at each call."""
    x, y = batch(steps, HELD_OUT, 1)
    return lambda: float((model(x) - y).square().mean())


def hessian_free(steps: int, hidden: int, rows: int, seconds: float, **options: float) -> Curve:
    """Train by Hessian-free optimisation; curvature is measured on a quarter of the rows."""
    model = Adder(hidden, "orthogonal")
    optimiser = HessianFree(model, recurrent=[model.rnn], **options)  # pyright: ignore

    def problem(x: Tensor, y: Tensor) -> Objective:
        return Objective(lambda m: m(x), lambda z: 0.5 * (z - y).square().mean())

    def update(number: int) -> None:
        x, y = batch(steps, rows, 0, number)
        part = rows // 4
        told(optimiser.step(problem(x, y), problem(x[:, :part], y[:part])), number)

    return run(held_out(model, steps), update, seconds, solved=SOLVED)


def adam(steps: int, hidden: int, rate: float, start: str, seconds: float) -> Curve:
    """Train by Adam on batches of 32, gradients clipped to norm 1."""
    model = Adder(hidden, start)
    optimiser = torch.optim.Adam(model.parameters(), rate, fused=True)

    def update(number: int) -> None:
        x, y = batch(steps, 32, 2, number)
        optimiser.zero_grad()
        (model(x) - y).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return run(held_out(model, steps), update, seconds, solved=SOLVED)


def curves(asked: argparse.Namespace) -> Iterator[tuple[str, Curve]]:
    """Give the name and the curve of each side."""
    options = {"damping": asked.damping, "structural": asked.structural, "iterations": asked.cg}
    first = hessian_free(asked.steps, asked.hidden, asked.rows, asked.seconds, **options)
    yield "Hessian-free", first
    for start in STARTS:
        for rate in RATES:
            yield (
                f"Adam {rate:g}, {start}",
                adam(asked.steps, asked.hidden, rate, start, first[-1][0]),
            )


def picture(found: dict[str, Curve], label: str, guess: float) -> Figure:
    """Draw the errors by wall time, and what a guess of the mean would have."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in found.items():
        seconds, errors = zip(*curve, strict=True)
        ours = name == "Hessian-free"
        style: dict[str, Any] = {"lw": 2.2, "color": "#d9590b"} if ours else {"lw": 0.9}
        axes.semilogy(seconds, errors, label=name, **style)
    axes.axhline(guess, color="grey", lw=0.8, ls=":")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel(label)
    axes.legend(fontsize=7, ncols=2)
    return figure


def write(
    sides: Iterable[tuple[str, Curve]],
    asked: argparse.Namespace,
    name: str,
    label: str,
    guess: float,
) -> None:
    """Print each side when it is done; write what was asked for and all curves, and their picture."""
    found = {}
    for side, curve in sides:
        found[side] = curve
        print(f"{side:24} {min(e for _, e in curve):.4f} in {curve[-1][0]:.0f} s", flush=True)
    asked_for = {key: value for key, value in vars(asked).items() if key != "out"}
    date = datetime.date.today().isoformat()
    asked.out.write_text(json.dumps({**asked_for, "date": date, "curves": found}, indent=1) + "\n")
    picture(found, label, guess).savefig(ROOT / f"docs/_static/{name}.png", dpi=150)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--damping", type=float, default=0.1)
    parser.add_argument("--structural", type=float, default=0.05)
    parser.add_argument("--cg", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/hessian-free.json")
    asked = parser.parse_args()
    write(curves(asked), asked, "hessian-free", f"mean square error, T = {asked.steps}", 1 / 6)


if __name__ == "__main__":
    main()
