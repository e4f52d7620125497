"""Writing text with a language model: drawn symbol by symbol, or searched for."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data import Vocabulary
from unrolled.data.advice import Advised
from unrolled.tasks.decoding import Sampler, beam_search
from unrolled.tasks.task import Carry

Unknown = Literal["error", "skip"]


class Pen:
    """A model that writes.

    Args:
        model: Ids (T, B), states -> logits (T, B, V), states.
        vocabulary: The symbols.
        end: The symbol before and after each text, if there is one.
        label: Number of the label that texts are to have, if the model knows labels.
    """

    def __init__(
        self,
        model: nn.Module,
        vocabulary: Vocabulary,
        end: int | None = None,
        label: int | None = None,
    ) -> None:
        self.model, self.vocabulary, self.end, self.label = model, vocabulary, end, label

    def write(
        self, prompt: str, unknown: Unknown, length: int, sampler: Sampler, stop: str | None
    ) -> Iterator[str]:
        """Draw up to `length` symbols after a prompt; end before `stop`, or where the text does."""
        return self._drawn(self._read(prompt, unknown), length, sampler, stop)

    def _drawn(
        self, ids: np.ndarray, length: int, sampler: Sampler, stop: str | None
    ) -> Iterator[str]:
        stream, held = self.vocabulary.stream(), ""
        logits, states = self._listen(ids)
        for _ in range(length):
            chosen = sampler.draw(logits)
            if chosen == self.end:
                break
            held += stream.push(chosen)
            if stop and stop in held:
                yield held[: held.index(stop)]
                return
            settled = len(held) - _overlap(held, stop) if stop else len(held)
            if settled:
                yield held[:settled]
            held = held[settled:]
            logits, states = self._listen(np.array([chosen]), states)
        yield held + stream.flush()

    def beam(self, prompt: str, unknown: Unknown, length: int, width: int, stop: str | None) -> str:
        """Find a likely continuation of a prompt by beam search of `width` hypotheses."""

        @torch.no_grad()
        def step(ids: Tensor, states: Carry) -> tuple[Tensor, Carry]:
            logits, states = self._score(ids.unsqueeze(0), states)
            return logits[0], states

        def ended(ids: Sequence[int]) -> bool:
            return ids[-1] == self.end or (bool(stop) and stop in self.vocabulary.decode(ids))

        logits, states = self._listen(self._read(prompt, unknown))
        (chosen,) = beam_search(step, logits[None], states, width=width, length=length, ended=ended)
        text = self.vocabulary.decode(chosen[:-1] if chosen[-1:] == [self.end] else chosen)
        return text[: text.index(stop)] if stop and stop in text else text

    def _read(self, prompt: str, unknown: Unknown) -> np.ndarray:
        """Ids of a prompt, after what begins every text; else of a line's start, or the first symbol."""
        vocabulary = self.vocabulary
        missing = vocabulary.missing(prompt)
        if missing and unknown == "error":
            names = ", ".join(map(repr, missing[:5]))
            raise Advised(
                "unknown",
                f"the prompt holds {names}, which the model never saw",
                "leave it out or give --unknown skip",
            )
        ids = vocabulary.encode(prompt) if prompt else np.empty(0, np.int64)
        if missing:
            ids = ids[ids != vocabulary.unknown]
        ids = ids.astype(np.int64)
        if self.end is not None:
            return np.append(self.end, ids)
        if not len(ids):
            ids = vocabulary.encode("\n") if not vocabulary.missing("\n") else np.zeros(1)
        return ids.astype(np.int64)

    @torch.no_grad()
    def _listen(self, ids: np.ndarray, states: Carry | None = None) -> tuple[Tensor, Carry]:
        """Read ids (T,) -> logits (V,) of what follows, and the states."""
        logits, last = self._score(torch.from_numpy(ids).unsqueeze(1), states)
        return logits[-1, 0], last

    def _score(self, ids: Tensor, states: Carry | None) -> tuple[Tensor, Carry]:
        """Read ids (T, B) -> logits (T, B, V); the unknown symbol is never written."""
        ids = ids.to(next(self.model.parameters()).device)
        if self.label is None:
            logits, states = self.model(ids, states)
        else:
            logits, states = self.model(
                ids, states, labels=ids.new_full((ids.shape[1],), self.label)
            )
        if self.vocabulary.unknown is not None:
            logits[..., self.vocabulary.unknown] = -math.inf
        return logits, states or {}


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of the stop text."""
    return next(
        (n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0
    )
