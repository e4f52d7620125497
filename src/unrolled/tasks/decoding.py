"""Choosing symbols from logits: greedy, sampled, beam search. Knows nothing of models or words.

V is the number of symbols, W the width of a beam.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.check import PAST
from unrolled.engine.randomness import generator
from unrolled.errors import InputError


@dataclass(frozen=True)
class Drawing:
    """How the next symbol is drawn.

    Args:
        temperature: Logits are divided by it; 0 takes the likeliest symbol.
        top_k: Draw among the k likeliest symbols only.
        top_p: Draw among the likeliest symbols that together hold this probability (nucleus
            sampling; Holtzman et al. 2020).

    Raises:
        InputError: If a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"--temperature must be 0 (greedy) or more, not {self.temperature:g}")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"--top-k must be at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"--top-p must lie above 0 and at most 1, not {self.top_p:g}")

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probability of each symbol, (V,), from its logits, (V,); a logit of -inf never comes."""
        if self.temperature == 0:
            return np.eye(len(logits))[logits.argmax()]
        p = np.exp((logits - logits.max()) / self.temperature)
        likeliest_first = np.argsort(-p, kind="stable")
        if self.top_k is not None:
            p[likeliest_first[self.top_k :]] = 0
        p /= p.sum()
        if self.top_p is not None:
            before = np.cumsum(p[likeliest_first]) - p[likeliest_first]
            p[likeliest_first[before >= self.top_p]] = 0
        return p / p.sum()


class Sampler:
    """Draws one symbol after another; the draws depend on the seed and the sample's number only.

    Args:
        drawing: How to draw.
        seed: Seed.
        sample: Which of several samples of this seed.

    Raises:
        InputError: If the seed is negative.
    """

    def __init__(self, drawing: Drawing, seed: int, sample: int = 0) -> None:
        if seed < 0:
            raise InputError(f"--seed must be 0 or more, not {seed}")
        self.drawing = drawing
        self.random = generator(seed, 0, 0, sample)

    def draw(self, logits: Tensor) -> int:
        """Draw one id from logits (V,)."""
        p = self.drawing.probabilities(logits.detach().double().cpu().numpy())
        return min(
            int(np.searchsorted(np.cumsum(p), self.random.random(), side="right")), p.size - 1
        )


States = dict[str, Tensor]
Step = Callable[[Tensor, States], tuple[Tensor, States]]
"""ids (N,), states name -> (any, N, width) -> logits (N, V), new states."""
Ended = Callable[[Sequence[int]], bool]
"""Whether a sequence is complete."""


class Beam(NamedTuple):
    """A sequence that is being searched for."""

    row: int
    ids: list[int]
    score: float
    """Its log probability."""
    parent: int
    """The place, among those one symbol shorter, of what it goes on from."""


def _never(ids: Sequence[int]) -> bool:
    return False


def beam_search(
    step: Step,
    logits: Tensor,
    states: States,
    *,
    width: int,
    length: int,
    ended: Ended = _never,
    penalty: float = 1.0,
) -> list[list[int]]:
    """Find a likely continuation of each of B rows: of all, keep the `width` likeliest at every step.

    A sequence is given up only where, whatever follows, it cannot become better than a complete one.

    Args:
        step: The model.
        logits: Logits (B, V) of the first symbols.
        states: States they came with: name -> (any, B, width).
        width: W.
        length: Most symbols to choose.
        ended: Whether a sequence is complete.
        penalty: Sequences are compared by log probability / length^penalty: at 1 a short one does not win
            by being short, at 0 the likeliest wins (Wu et al. 2016, section 7, with length for their lp).

    Returns:
        The ids of each row's best sequence; of two alike the one whose ids are larger.
    """
    if width < 1:
        raise InputError(f"--beam must be at least 1, not {width}")
    best: list[tuple[float, list[int]]] = [(-math.inf, []) for _ in logits]
    beams = [Beam(row, [], 0.0, row) for row in range(len(logits))]
    for n in range(1, length + 1):
        running = []
        for beam in _longer(beams, logits, width):
            if n == length or ended(beam.ids):
                best[beam.row] = max(best[beam.row], (beam.score / n**penalty, beam.ids))
            else:
                running.append(beam)
        # Log probabilities only fall, so a beam will at best be as likely as it is, and as long as can be.
        beams = [beam for beam in running if beam.score / length**penalty > best[beam.row][0]]
        if not beams:
            break
        last = torch.tensor([beam.ids[-1] for beam in beams])
        logits, states = step(last, rows_of(states, [beam.parent for beam in beams]))
    return [ids for _, ids in best]


def _longer(beams: Sequence[Beam], logits: Tensor, width: int) -> Iterator[Beam]:
    """Give the `width` likeliest sequences of each row that are one symbol longer, the best first."""
    told = logits.detach().double().log_softmax(-1)
    values, symbols = (best.tolist() for best in told.topk(min(width, told.shape[-1])))
    for _, group in groupby(range(len(beams)), key=lambda place: beams[place].row):
        found = [
            (beams[place].score + value, place, symbol)
            for place in group
            for value, symbol in zip(values[place], symbols[place], strict=True)
            if value > -math.inf
        ]
        for score, place, symbol in nlargest(width, found, key=lambda one: one[0]):
            yield Beam(beams[place].row, [*beams[place].ids, symbol], score, place)


def sample_sequences(
    step: Step,
    logits: Tensor,
    states: States,
    samplers: Sequence[Sampler],
    *,
    length: int,
    ended: Ended = _never,
) -> list[list[int]]:
    """Draw a continuation of each of B rows, which have a sampler each; else as :func:`beam_search`."""
    written: list[list[int]] = [[] for _ in samplers]
    running = list(range(len(samplers)))
    for n in range(1, length + 1):
        for place, row in enumerate(running):
            written[row].append(samplers[row].draw(logits[place]))
        kept = [place for place, row in enumerate(running) if not ended(written[row])]
        running = [running[place] for place in kept]
        if not running or n == length:
            break
        last = torch.tensor([written[row][-1] for row in running])
        logits, states = step(last, rows_of(states, kept))
    return written


def rows_of(states: States, rows: Sequence[int]) -> States:
    """Give some rows of states, which lie along dimension 1; of a state's past along dimension 2."""
    places = torch.tensor(rows)
    return {
        name: state.index_select(2 if name.endswith(PAST) else 1, places.to(state.device))
        for name, state in states.items()
    }
