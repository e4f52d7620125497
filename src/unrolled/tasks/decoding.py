"""Choosing symbols from logits: greedy, sampled, beam search. Knows nothing of models or words.

V is the number of symbols, W the width of a beam.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
"""ids (W,), states name -> (any, W, width) -> logits (W, V), new states."""


def beam_search(
    step: Step,
    logits: Tensor,
    states: States,
    *,
    width: int,
    length: int,
    ended: Callable[[Sequence[int]], bool] = lambda ids: False,
) -> list[int]:
    """Find a likely continuation: of all, keep the `width` likeliest at every step.

    Args:
        step: The model.
        logits: Logits (V,) of the first symbol.
        states: States they came with, one row: name -> (any, 1, width).
        width: W.
        length: Most symbols to choose.
        ended: Whether a sequence is complete.

    Returns:
        The ids of the sequence with the highest log probability a symbol, so that a short
        complete sequence does not win by being short.
    """
    if width < 1:
        raise InputError(f"--beam must be at least 1, not {width}")
    complete: list[tuple[float, list[int]]] = []
    score, best = logits.double().log_softmax(-1).topk(min(width, int(logits.isfinite().sum())))
    beams = [[int(i)] for i in best]
    parents = torch.zeros(len(beams), dtype=torch.long)
    for _ in range(length):
        running = [k for k, ids in enumerate(beams) if not ended(ids)]
        complete += [
            (float(score[k]) / len(ids), ids) for k, ids in enumerate(beams) if k not in running
        ]
        if not running or len(beams[0]) >= length:
            complete += [(float(score[k]) / len(beams[k]), beams[k]) for k in running]
            break
        states = {name: state[:, parents[running]] for name, state in states.items()}
        beams = [beams[k] for k in running]
        logits, states = step(torch.tensor([ids[-1] for ids in beams]), states)
        total = score[running, None].to(logits.device) + logits.double().log_softmax(-1)
        score, flat = total.flatten().topk(min(width, int(total.isfinite().sum())))
        parents, last = flat // logits.shape[-1], flat % logits.shape[-1]
        beams = [[*beams[p], i] for p, i in zip(parents.tolist(), last.tolist(), strict=True)]
    return max(complete)[1] if complete else []
