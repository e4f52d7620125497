"""Attention of queries over a sequence of states: what of it matters to each of them.

S queries, T steps, B rows, Q the width of a query, H that of a step; row b has n_b of the T steps. What lies
past a row's end is never seen. For one vector of a whole sequence without a query see
:mod:`unrolled.layers.attention`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.engine.check import check_lengths
from unrolled.engine.randomness import uniform

Score = Literal["additive", "dot", "general"]
Choice = Literal["soft", "hard", "sampled", "top-k"]
NOWHERE = -1
"""Stands in :attr:`Attended.chosen` for a step that a row does not have."""


class Attended(NamedTuple):
    """What was seen, and where."""

    context: Tensor
    """sum_t a_t y_t of each query, (S, B, H)."""
    weights: Tensor
    """a, (S, B, T); zero past a row's end."""
    chosen: Tensor | None
    """The steps that were chosen, the heaviest first, (S, B, k) int64; ``None`` of soft attention, which
    chooses all."""


@dataclass(frozen=True)
class Memory:
    """A sequence as queries look at it, computed once for all of them."""

    values: Tensor
    """y (T, B, H), zero past a row's end."""
    keys: Tensor
    """What queries are compared with, (T, B, A)."""
    inside: Tensor | None
    """Where there are steps, (T, B, 1); ``None`` where everywhere."""


class Attend(nn.Module):
    """c = sum_t a_t y_t, where a comes of the scores of each step y_t for a query q.

    ===========  ==========================================================================================
    score
    ===========  ==========================================================================================
    `additive`   <v, tanh(W q + U y_t)> (Bahdanau, Cho & Bengio 2015, A.1.2)
    `dot`        <q, y_t> (Luong, Pham & Manning 2015, eq. 8)
    `general`    <W q, y_t> (the same)
    ===========  ==========================================================================================

    ===========  ==========================================================================================
    choice       what becomes of a = softmax(scores)
    ===========  ==========================================================================================
    `soft`       a, as it is
    `hard`       1 at the largest, else 0; the gradient is that of a (straight-through; Bengio, Léonard &
                 Courville 2013)
    `sampled`    while training 1 at a step drawn from a, with the same gradient; else as `hard`
    `top-k`      softmax over the k largest scores, else 0
    ===========  ==========================================================================================

    Args:
        query_size: Q.
        width: H.
        score: How a step is compared with a query.
        choice: Which steps count.
        k: Steps that `top-k` chooses.
        hidden: Width A of `additive`'s v; H if left out.
        batch_first: Whether queries, y, contexts, weights and choices are (B, ...) before steps.

    Raises:
        ValueError: If there is no such score or choice, k is below 1, or `dot` is to compare vectors of
            unlike width.
    """

    stream: int = 0
    """Stream of random numbers from which `sampled` draws."""

    def __init__(
        self,
        query_size: int,
        width: int,
        score: Score = "additive",
        choice: Choice = "soft",
        *,
        k: int = 3,
        hidden: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        for value, known in ((score, get_args(Score)), (choice, get_args(Choice))):
            if value not in known:
                raise ValueError(f"no attention {value!r}; give one of {', '.join(known)}")
        if k < 1:
            raise ValueError(f"top-k must choose at least 1 step, not {k}")
        if score == "dot" and query_size != width:
            raise ValueError(
                f"dot attention compares vectors of one width: the query has {query_size}, a step {width}; "
                "take general"
            )
        self.score, self.choice, self.k, self.batch_first = score, choice, k, batch_first
        self.width = width
        if score == "additive":
            self.query = nn.Linear(query_size, hidden or width)
            self.key = nn.Linear(width, hidden or width, bias=False)
            self.v = nn.Linear(hidden or width, 1, bias=False)
        elif score == "general":
            self.query = nn.Linear(query_size, width, bias=False)

    def forward(self, query: Tensor, y: Tensor, lengths: Tensor | None = None) -> Attended:
        """Look at a sequence: query (S, B, Q), y (T, B, H), lengths (B,) -> context, weights, chosen.

        Args:
            query: The queries.
            y: The sequence.
            lengths: Steps of each row (B,), in any order, 0 allowed; all T if left out. The context of a
                row without steps is zero.

        Raises:
            ValueError: If a shape is wrong, or lengths are not B integers from 0 to T.
        """
        if self.batch_first and query.dim() == y.dim() == 3:
            query, y = query.transpose(0, 1), y.transpose(0, 1)
        found = self.look(query, self.read(y, lengths))
        if not self.batch_first:
            return found
        return Attended(*(None if part is None else part.transpose(0, 1) for part in found))  # pyright: ignore[reportArgumentType]

    def read(self, y: Tensor, lengths: Tensor | None = None) -> Memory:
        """Prepare a sequence y (T, B, H) for any number of :meth:`look`, which are all time first.

        Raises:
            ValueError: If y is not (T, B, H) with a step, or lengths are not B integers from 0 to T.
        """
        if y.dim() != 3 or not len(y) or y.shape[2] != self.width:
            raise ValueError(
                f"y must be (steps, rows, {self.width}) with a step, not {tuple(y.shape)}"
            )
        inside = None
        if lengths is not None:
            ends = check_lengths(lengths, *y.shape[:2]).to(y.device)
            inside = (torch.arange(len(y), device=y.device)[:, None] < ends)[..., None]
            y = torch.where(inside, y, 0)
        return Memory(y, self.key(y) if self.score == "additive" else y, inside)

    def look(self, query: Tensor, memory: Memory) -> Attended:
        """Look at what was read: query (S, B, Q) -> context (S, B, H), weights (S, B, T), chosen (S, B, k).

        Raises:
            ValueError: If the queries are not (S, B, Q).
        """
        if query.dim() != 3 or query.shape[1] != memory.values.shape[1]:
            raise ValueError(
                f"queries must be (steps, {memory.values.shape[1]} rows, width), not {tuple(query.shape)}"
            )
        scores = self._scores(query, memory.keys)
        inside = None if memory.inside is None else memory.inside.permute(1, 2, 0)  # (B, 1, T)
        weights, chosen = self._choose(scores, inside)
        context = torch.bmm(weights, memory.values.transpose(0, 1))  # (B, S, H)
        found = context.transpose(0, 1), weights.transpose(0, 1)
        return Attended(*found, None if chosen is None else chosen.transpose(0, 1))

    def extra_repr(self) -> str:
        """Say how it is made."""
        return f"{self.score}, {self.choice}, batch_first={self.batch_first}"

    def _scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """(B, S, T)."""
        if self.score == "additive":
            q, u = self.query(query).transpose(0, 1), keys.transpose(0, 1)
            return self.v((q[:, :, None] + u[:, None]).tanh())[..., 0]
        query = self.query(query) if self.score == "general" else query
        return torch.bmm(query.transpose(0, 1), keys.permute(1, 2, 0))

    def _choose(self, scores: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Give weights (B, S, T) and chosen steps (B, S, k) of scores (B, S, T)."""
        chosen = None
        if inside is not None:
            scores = torch.where(inside, scores, -torch.inf)
        if self.choice == "top-k":
            best = scores.topk(min(self.k, scores.shape[-1]), -1)
            chosen = torch.where(best.values.isneginf(), NOWHERE, best.indices)
            scores = torch.full_like(scores, -torch.inf).scatter(-1, best.indices, best.values)
        if inside is not None:  # a row without steps: softmax of nothing is nothing
            some = inside.any(-1, keepdim=True)
            soft = torch.where(inside, torch.where(some, scores, 0).softmax(-1), 0)
        else:
            soft = scores.softmax(-1)
        if self.choice in ("soft", "top-k"):
            return soft, chosen
        step = self._drawn(soft) if self.choice == "sampled" and self.training else soft.argmax(-1)
        taken = functional.one_hot(step, soft.shape[-1]).to(soft)
        there = soft.sum(-1, keepdim=True) > 0
        chosen = torch.where(there, step[..., None], NOWHERE)
        return torch.where(there, taken, 0) + (soft - soft.detach()), chosen

    def _drawn(self, weights: Tensor) -> Tensor:
        """Draw a step (B, S) from weights (B, S, T), by inversion."""
        rows, queries, steps = weights.shape
        drawn = uniform((queries, rows, 1), self.stream, weights).transpose(0, 1)
        last = (weights > 0).sum(-1).clamp(min=1) - 1  # rounding may leave the sum below 1
        return (weights.detach().cumsum(-1) <= drawn).sum(-1).clamp(max=steps - 1).minimum(last)
