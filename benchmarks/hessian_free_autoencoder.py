"""Hessian-free optimisation beside SGD with momentum: MNIST's deep autoencoder, by wall time.

    python benchmarks/hessian_free_autoencoder.py --seconds 900

The net of Martens 2010, "Deep learning via Hessian-free optimization", section 6: 784-1000-500-250-30 and
back, of logistic units but for the code, begun with 15 weights into each unit (his section 5), and trained
on cross-entropy. Every side has the same start and the same seconds. Writes
``benchmarks/results/hessian-free-autoencoder.json`` and ``docs/_static/hessian-free-autoencoder.png``.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from hessian_free import ROOT, Curve, run, told, write
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data.images import read_images
from unrolled.settings import AutoencoderSettings
from unrolled.tasks.autoencoder import Autoencoder
from unrolled.tasks.task import Objective
from unrolled.train.hessian_free import HessianFree

WIDTHS = 1000, 500, 250, 30
CONNECTIONS = 15
SIDES = (0.9, 3e-2), (0.9, 1e-2), (0.99, 1e-2), (0.99, 3e-3)
"""Momentum and learning rate."""
BEFORE = 0.9, 1e-2
"""Those of the side that goes on by Hessian-free optimisation after half of its time."""
JUDGED = 5000
"""Training pictures on which all are judged."""
MEAN_PICTURE = 52.7
"""Squared error of giving back the mean of all pictures."""


def fresh() -> Autoencoder:
    """Build the net as all sides begin."""
    torch.manual_seed(0)
    settings = AutoencoderSettings(widths=WIDTHS, activation="sigmoid")
    model = Autoencoder(784, settings)
    for weight in model.parameters():
        if weight.dim() == 2:
            nn.init.sparse_(weight.T, 1 - CONNECTIONS / weight.shape[1], std=1.0)
        else:
            nn.init.zeros_(weight)
    return model.train()


def nats(scores: Tensor, x: Tensor) -> Tensor:
    """Give the cross-entropy of a picture, mean over rows: scores (B, 784), x (B, 784) -> ()."""
    return functional.binary_cross_entropy_with_logits(scores, x, reduction="sum") / len(x)


def judge(model: Autoencoder, x: Tensor) -> Callable[[], float]:
    """Give the squared error of a picture at each call."""
    return lambda: float(model(x).squared_error().mean())


def hessian_free(model: Autoencoder, x: Tensor, seconds: float, asked: argparse.Namespace) -> Curve:
    """Train by Hessian-free optimisation; curvature is measured on some of the rows."""
    random = np.random.default_rng(0)
    optimiser = HessianFree(model, damping=asked.damping, iterations=asked.cg)

    def problem(rows: Tensor) -> Objective:
        return Objective(lambda m: m(rows).scores, lambda z: nats(z, rows))

    def update(number: int) -> None:
        rows = x[random.choice(len(x), asked.rows, replace=False)]
        some = problem(rows[: asked.curvature])
        told(optimiser.step(problem(rows), some), number)

    return run(judge(model, x[:JUDGED]), update, seconds, every=seconds / 60)


def momentum(model: Autoencoder, x: Tensor, seconds: float, moment: float, rate: float) -> Curve:
    """Train by SGD with momentum on batches of 128."""
    random = np.random.default_rng(0)
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=moment, nesterov=True)

    def update(number: int) -> None:
        rows = x[random.integers(len(x), size=128)]
        optimiser.zero_grad()
        nats(model(rows).scores, rows).backward()
        optimiser.step()

    return run(judge(model, x[:JUDGED]), update, seconds, every=seconds / 60)


def curves(asked: argparse.Namespace) -> Iterator[tuple[str, Curve]]:
    """Give the name and the curve of each side."""
    pixels = read_images(["mnist/train-images-idx3-ubyte"]).pixels
    x = torch.from_numpy(pixels).flatten(1).float() / 255
    yield "Hessian-free", hessian_free(fresh(), x, asked.seconds, asked)
    for moment, rate in SIDES:
        curve = momentum(fresh(), x, asked.seconds, moment, rate)
        yield f"momentum {moment:g}, rate {rate:g}", curve
    model, half = fresh(), asked.seconds / 2
    first = momentum(model, x, half, *BEFORE)
    rest = hessian_free(model, x, half, asked)
    yield "half momentum, half Hessian-free", [*first, *((first[-1][0] + s, e) for s, e in rest)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=3000, help="of a batch of Hessian-free's")
    parser.add_argument("--curvature", type=int, default=1000, help="of them, for the curvature")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--damping", type=float, default=10.0)
    parser.add_argument("--cg", type=int, default=60)
    name = "hessian-free-autoencoder"
    parser.add_argument("--out", type=Path, default=ROOT / f"benchmarks/results/{name}.json")
    asked = parser.parse_args()
    write(curves(asked), asked, name, "squared error of a training picture", MEAN_PICTURE)


if __name__ == "__main__":
    main()
