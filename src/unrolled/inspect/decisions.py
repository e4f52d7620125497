"""What a language model decides by: how many words back, and what it would fill in."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from unrolled.checkpoint.load import Trained
from unrolled.errors import InputError
from unrolled.inspect.reading import Reading, language_model
from unrolled.tasks.language import LanguageModel

WORDS = (0, 1, 2, 3, 5, 10, 20)
LONGEST = 300
"""Most symbols that are read for one decision."""


def share_of_last_words(
    trained: Trained, reading: Reading, *, places: int = 100, seed: int = 0
) -> list[tuple[int, float, float]]:
    """Say how much of a decision the last k words make.

    At places inside words, the symbol that follows is foretold from the word begun so far and the k whole
    words before it alone, and from all that was read in the row (at most 300 symbols).

    Args:
        trained: The language model.
        reading: Of :func:`unrolled.inspect.reading.read`.
        places: How many decisions, drawn at random.
        seed: Of which.

    Returns:
        For each k: k, the nats that it costs to expect, after the last k words, what is expected after
        all (the cross-entropy of the two), and the share of what k = 0 lacks that is won back.
    """
    model, texts = language_model(trained)
    lines = [np.asarray([not s[-1:].isalnum() for s in line]) for line in reading.symbols]
    possible = [
        (row, t) for row, ends in enumerate(lines) for t in range(min(len(ends) - 1, 60), len(ends))
    ]
    if not possible:
        return []
    chosen = np.random.default_rng(seed).permutation(len(possible))[:places]
    contexts: list[torch.Tensor] = []
    for row, t in (possible[i] for i in chosen):
        symbols = reading.symbols[row][: t + 1]
        ids = torch.from_numpy(texts.vocabulary.encode("".join(symbols)).astype(np.int64))
        ids = ids[-LONGEST:]
        starts = np.flatnonzero(_starts(symbols[-len(ids) :]))
        for k in WORDS:
            contexts.append(ids[int(starts[max(len(starts) - 1 - k, 0)]) :])
        contexts.append(ids)
    logits = _last(model, contexts).log_softmax(-1).unflatten(0, (-1, len(WORDS) + 1))
    full = logits[:, -1]
    # What the model itself expects after all it has read is what it decides; the text may differ.
    nats = -(full.exp()[:, None] * logits).sum(-1).mean(0).numpy()
    gain = nats[0] - nats[-1]
    return [
        (k, float(value), float((nats[0] - value) / gain) if gain > 0 else 1.0)
        for k, value in zip(WORDS, nats[:-1], strict=True)
    ]


def _starts(symbols: Sequence[str]) -> list[bool]:
    """Say of each symbol whether a word, or what stands between words, starts there anew."""
    inside = [symbol[-1:].isalnum() for symbol in symbols]
    return [True] + [now and not before for before, now in pairwise(inside)]


@torch.no_grad()
def _last(model: LanguageModel, contexts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Give logits after each context (n, V)."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(contexts), 64):
        some = contexts[start : start + 64]
        lengths = torch.tensor([len(one) for one in some])
        logits, _ = model(pad_sequence([*some]).to(device), None, lengths)
        found.append(logits[lengths.to(device) - 1, torch.arange(len(some), device=device)].cpu())
    return torch.cat(found).double()


def cloze(trained: Trained, text: str, answers: Sequence[str]) -> list[tuple[str, float]]:
    """Let a language model choose what a text goes on with, as in "In France ... the language is".

    Args:
        trained: The model.
        text: What it reads.
        answers: What may follow; each is read to its end, so that long ones have no advantage in being begun.

    Returns:
        Answers and their probabilities among each other, the likeliest first.

    Raises:
        InputError: If the model is another, or there are no two answers.
    """
    model, texts = language_model(trained)
    if len(answers) < 2 or not text or not all(answers):
        raise InputError("a cloze test needs a text and at least two answers")
    scores = []
    for answer in answers:
        ids = texts.vocabulary.encode(text + answer).astype(np.int64)
        begun = len(texts.vocabulary.encode(text))
        with torch.no_grad():
            logits, _ = model.eval()(torch.from_numpy(ids)[:-1, None])
        nats = logits[:, 0].double().log_softmax(-1).gather(1, torch.from_numpy(ids)[1:, None])
        scores.append(nats[begun - 1 :, 0].sum())
    shares = torch.stack(scores).softmax(0).tolist()
    return sorted(zip(answers, shares, strict=True), key=lambda pair: -pair[1])


def on_together(
    reading: Reading, units: Sequence[int], *, deviations: float = 1.0, longest: int = 10
) -> list[tuple[int, int, str]]:
    """Search the states for places where some units are on together (Strobelt et al. 2018, LSTMVis).

    A unit is on where it lies above its mean by so many standard deviations.

    Args:
        reading: Of :func:`unrolled.inspect.reading.read`.
        units: Numbers of the units, as in ``reading.names``.
        deviations: Above the mean.
        longest: Most stretches to give, the longest first.

    Returns:
        Row, first step and text of each stretch.

    Raises:
        InputError: If there is no such unit.
    """
    known = reading.values.shape[2]
    if not units or not all(0 <= unit < known for unit in units):
        raise InputError(f"units are numbers from 0 to {known - 1}")
    chosen = reading.values[:, :, list(units)]
    flat = chosen.reshape(-1, len(units))
    on = (chosen > flat.mean(0) + deviations * flat.std(0)).all(2)
    found = []
    for row, line in enumerate(on):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        for start, end in edges.reshape(-1, 2):
            found.append((row, int(start), "".join(reading.symbols[row][start:end])))
    return sorted(found, key=lambda stretch: -len(stretch[2]))[:longest]
