"""What a convolution costs directly and through the Fourier transform, in seconds, known beforehand.

The figures are those of one core; more cores shorten both alike. ``benchmarks/fit_convolution.py``
measures random convolutions, fits the constants below and prints them anew: they were fitted on an AMD
EPYC of the Zen 4 generation with torch 2.13, by non-negative least squares on relative errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import log2, prod

from unrolled.layers.fourier import Tiles, tile_sizes

DIRECT = {
    "forward": (1.76e-05, 2.05e-11, 0.0, 1.21e-11, 2.86e-10, 0.0, 5.78e-11),
    "training": (1.01e-04, 6.44e-11, 3.7e-12, 7.81e-10, 1.52e-09, 0.0, 0.0),
}
"""Seconds for each amount of :meth:`Work.direct`."""
FOURIER = {
    "forward": (1.12e-04, 1.41e-10, 7.78e-10, 3.08e-10, 0.0),
    "training": (3.24e-04, 3.32e-10, 2.76e-09, 8.93e-10, 0.0),
}
"""Seconds for each amount of :meth:`Work.fourier`."""
MARGIN = 2.0
"""How much faster the transform must look before it is taken: the model is right to a factor of 2."""


@dataclass(frozen=True)
class Work:
    """One convolution at stride 1, without what is around it.

    Attributes:
        rows: B.
        groups: G.
        inputs: Channels that go into a group I.
        outputs: Channels that come out of a group O.
        size: Of the padded input, in each dimension.
        kernel: Taps K in each dimension.
        dilation: Steps between taps.
        stride: Steps between outputs; the transform computes all outputs and drops some.
    """

    rows: int
    groups: int
    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> tuple[int, ...]:
        """What a kernel with its gaps spans, in each dimension."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def places(self) -> int:
        """Places of the output."""
        spans = zip(self.size, self.span, self.stride, strict=True)
        return prod((n - k) // s + 1 for n, k, s in spans)

    def direct(self) -> tuple[float, ...]:
        """Give what the direct cost is linear in: calls, multiply-adds by channels, numbers moved."""
        inputs, outputs = self.inputs, self.outputs
        work = self.rows * self.groups * inputs * outputs * self.places * prod(self.kernel)
        by_channel = inputs == outputs == 1 and self.groups > 1
        moved = self.rows * self.groups * (inputs * prod(self.size) + outputs * self.places)
        return (
            1.0,
            work,
            work / inputs,
            work / outputs,
            0.0 if by_channel else work / (inputs * outputs),
            float(work) if by_channel else 0.0,
            moved,
        )

    def fourier(self, tiles: Tiles) -> tuple[float, ...]:
        """Give what the cost through the transform is linear in: calls, transforms, moves, products."""
        n, rows = prod(tiles.size), self.rows * prod(tiles.count)
        pairs = self.groups * self.inputs * self.outputs
        planes = rows * self.groups * (self.inputs + self.outputs) + pairs
        products = float(n * rows * pairs)
        matrices = min(self.inputs, self.outputs) > 1
        return (
            1.0,
            planes * n * log2(n),
            float(planes * n),
            products if matrices else 0.0,
            0.0 if matrices else products,
        )

    def tilings(self) -> Iterator[Tiles]:
        """Give each way to cut the input into tiles that is worth a try."""
        sizes = map(tile_sizes, self.size, self.span)
        for chosen in product(*sizes):
            size, count = zip(*chosen, strict=True)
            yield Tiles(size, count, self.span)


@lru_cache(maxsize=4096)
def best_tiles(work: Work, *, training: bool) -> Tiles:
    """Give the cheapest way to cut the input."""
    costs = FOURIER["training" if training else "forward"]
    return min(work.tilings(), key=lambda tiles: _seconds(costs, work.fourier(tiles)))


@lru_cache(maxsize=4096)
def transform_pays(work: Work, *, training: bool) -> bool:
    """Tell whether the transform is the faster way, by a clear margin."""
    what = "training" if training else "forward"
    direct = _seconds(DIRECT[what], work.direct())
    if direct < MARGIN * FOURIER[what][0]:  # less than a transform of nothing
        return False
    tiles = best_tiles(work, training=training)
    return MARGIN * _seconds(FOURIER[what], work.fourier(tiles)) < direct


def _seconds(costs: tuple[float, ...], amounts: tuple[float, ...]) -> float:
    return sum(cost * amount for cost, amount in zip(costs, amounts, strict=True))
