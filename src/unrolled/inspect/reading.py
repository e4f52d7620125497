"""A language model reading: what its units were at every symbol, and what it expected next.

N symbols in all, in R rows of T; U units, all states of all layers side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unrolled.checkpoint.load import Trained
from unrolled.data import Vocabulary, encode_sources
from unrolled.engine.cell import sample_of
from unrolled.errors import InputError
from unrolled.inspect.predicates import predicates
from unrolled.tasks.generate import Generate
from unrolled.tasks.language import LanguageModel
from unrolled.tasks.language_texts import Running

GUESSES = 5
"""Most likely next symbols that are kept."""


@dataclass(frozen=True)
class Reading:
    """What a model did over a text.

    Attributes:
        symbols: The symbols as text, (R, T) lists.
        values: (R, T, U).
        names: Of the units, as ``layer 0 c 12``.
        probability: Of the symbol that followed (R, T).
        guesses: For each place the most likely next symbols, with their probability.
        facts: Name of a predicate -> (R, T).
    """

    symbols: list[list[str]]
    values: np.ndarray
    names: list[str]
    probability: np.ndarray
    guesses: list[list[list[tuple[str, float]]]]
    facts: dict[str, np.ndarray]

    @property
    def flat(self) -> np.ndarray:
        """The units at all places (N, U)."""
        return self.values.reshape(-1, self.values.shape[2])

    def context(self, place: int, before: int = 30, after: int = 10) -> tuple[str, str]:
        """Give the text up to a place, and after it."""
        row, t = divmod(place, self.values.shape[1])
        line = self.symbols[row]
        return "".join(line[max(0, t + 1 - before) : t + 1]), "".join(line[t + 1 : t + 1 + after])


def language_model(trained: Trained) -> tuple[LanguageModel, Running]:
    """Give a model of running text, and its texts.

    Raises:
        InputError: If the model is another.
    """
    task, model = trained.task, trained.model
    if not isinstance(task, Generate) or not isinstance(task.texts, Running):
        raise InputError(
            f"{trained.directory} is no language model of running text; it is of the task {task.name}"
        )
    assert isinstance(model, LanguageModel)
    return model, task.texts


def read(trained: Trained, source: str, *, symbols: int = 20_000, row: int = 1000) -> Reading:
    """Read a text, or stretches of a long one, spread evenly.

    Args:
        trained: A language model of running text.
        source: A text.
        symbols: Most symbols to read.
        row: Symbols read in a row, from a zero state.

    Raises:
        InputError: If the model is another, or the text is missing or shorter than two symbols.
    """
    model, texts = language_model(trained)
    ids = encode_sources([source], texts.vocabulary, trained.settings.data.encoding).ids
    if len(ids) < 2:
        raise InputError("a text of fewer than two symbols cannot be read")
    length = min(row, len(ids) - 1)
    count = max(1, min(symbols, len(ids) - 1) // length)
    ends, quotes = _marks(texts.vocabulary)
    spread = np.linspace(0, len(ids) - 1 - length, count).astype(int)
    starts = [_line_start(ids, int(start), ends) for start in spread]
    chosen = np.stack([ids[start : start + length + 1] for start in starts]).astype(np.int64)
    spelt = [_spelt(texts.vocabulary, line) for line in chosen]
    values, names, logits = states_of(model, torch.from_numpy(chosen[:, :-1].T.copy()))
    probabilities = logits.softmax(-1).transpose(0, 1)  # (R, T, V)
    best = probabilities.topk(min(GUESSES, probabilities.shape[-1]), -1)
    following = torch.from_numpy(chosen[:, 1:, None])
    word = np.vectorize(lambda index: texts.vocabulary.decode([int(index)]), otypes=[object])
    told, shares = word(best.indices.numpy()), best.values.numpy()
    open_ = [int(quotes[ids[:start]].sum()) % 2 for start in starts]
    facts = [predicates(line, quoted) for line, quoted in zip(spelt, open_, strict=True)]
    return Reading(
        [line[:-1] for line in spelt],
        values,
        names,
        probabilities.gather(-1, following)[..., 0].numpy(),
        [
            [[*zip(a, map(float, b), strict=True)] for a, b in zip(line, share, strict=True)]
            for line, share in zip(told, shares, strict=True)
        ],
        {name: np.stack([fact[name][:-1] for fact in facts]) for name in facts[0]},
    )


@torch.no_grad()
def states_of(
    model: LanguageModel, ids: torch.Tensor
) -> tuple[np.ndarray, list[str], torch.Tensor]:
    """Read ids (T, R): all states (R, T, U), their names, and logits (T, R, V)."""
    model.eval()
    device = next(model.parameters()).device
    x = model.symbols(ids.to(device), sample_of(model).dtype)
    y, _, *kept = model.net(x, return_states=True)
    history = kept[0]
    parts, names = [], []
    for layer in range(model.net.num_layers):
        for name in model.net.cell.state_names:
            part = history[name][layer].flatten(2)  # (T, R, width)
            parts.append(part)
            names += [f"layer {layer} {name} {unit}" for unit in range(part.shape[2])]
    assert isinstance(y, torch.Tensor)
    logits = model.scores(y)
    return (
        torch.cat(parts, 2).transpose(0, 1).float().cpu().numpy(),
        names,
        logits.float().cpu(),
    )


def _marks(vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Say of each symbol whether it ends a line, and how many quotation marks it has."""
    spelt = [vocabulary.decode([index]) for index in range(len(vocabulary))]
    ends = np.asarray([symbol.endswith("\n") for symbol in spelt])
    return ends, np.asarray([symbol.count('"') for symbol in spelt])


def _line_start(ids: np.ndarray, start: int, ends: np.ndarray) -> int:
    """Give where the line begins in which a place lies, if that is not far."""
    first = max(0, start - 2000)
    before = np.flatnonzero(ends[ids[first:start]])
    return first + int(before[-1]) + 1 if len(before) else first if first == 0 else start


def _spelt(vocabulary: Vocabulary, ids: Sequence[int] | np.ndarray) -> list[str]:
    stream = vocabulary.stream()
    return [stream.push(int(index)) for index in ids]
