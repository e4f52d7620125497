"""Pooling over time: of a whole sequence one vector.

T steps, B rows, H the width of y; row b has n_b of the T steps. What lies past a row's end is never seen,
and a row's result and gradient are the same bits in any batch, however far it is padded (those of additive
attention where its products run in the native engine). Of a row without steps the result is zero.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.engine import Cell, run
from unrolled.engine.check import check_lengths

Pool = Callable[[Tensor, Tensor | None], Tensor]


def last_over_time(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Give y at each row's last step: y (T, B, H), lengths (B,), all T if left out -> (B, H).

    Raises:
        ValueError: If y is not (T, B, H) with a step, or lengths are not B integers from 0 to T.
    """
    ends, inside = _rows(y, lengths)
    last = y[(ends - 1).clamp(min=0), torch.arange(y.shape[1], device=y.device)]
    return last if inside is None else torch.where(ends[:, None] > 0, last, 0)


def mean_over_time(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Give the mean over each row's steps; arguments and errors are those of :func:`last_over_time`."""
    ends, inside = _rows(y, lengths)
    return _sum(_zeroed(y, inside)) / ends.clamp(min=1)[:, None]


def max_over_time(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Give the largest of each row's steps; of equal ones the first takes the gradient.

    Arguments and errors are those of :func:`last_over_time`.
    """
    ends, inside = _rows(y, lengths)
    if inside is None:
        return y.max(0).values
    largest = torch.where(inside, y, -torch.inf).max(0).values
    return torch.where(ends[:, None] > 0, largest, 0)


def whole_chain(y: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Give y (T, B, H) itself, zero past a row's end; errors are those of :func:`last_over_time`."""
    return _zeroed(y, _rows(y, lengths)[1])


class PoolOverTime(nn.Module):
    """A function such as :func:`mean_over_time`, as a module.

    Args:
        pool: (T, B, H), lengths (B,) -> (B, H), or (T, B, H) for the whole chain.
        batch_first: Whether y is (B, T, H).
    """

    def __init__(self, pool: Pool, *, batch_first: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.batch_first = batch_first

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool y (T, B, H), or (B, T, H) if ``batch_first``, over each row's steps -> (B, H)."""
        pooled = self.pool(y.transpose(0, 1) if self.batch_first else y, lengths)
        return pooled.transpose(0, 1) if self.batch_first and pooled.dim() == 3 else pooled

    def extra_repr(self) -> str:
        """Say how it is made."""
        return f"{getattr(self.pool, '__name__', self.pool)}, batch_first={self.batch_first}"


class AttentionPool(nn.Module):
    """sum_t a_t y_t with a = softmax over the row's steps of a score of each y_t.

    A subclass says what the score is. The weights are recorded as the gate ``attention``.

    Args:
        score: y (T, B, H) -> its output (T, B, 1).
        batch_first: Whether y is (B, T, H), and the weights (B, T).
    """

    def __init__(self, score: Cell, *, batch_first: bool = False) -> None:
        super().__init__()
        self.score = score
        self.batch_first = batch_first

    def weights(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give a: y (T, B, H) -> (T, B), zero past a row's end; (B, T) if ``batch_first``.

        Raises:
            ValueError: If y is not (T, B, H) with a step, or lengths are not B integers from 0 to T.
        """
        return self.forward(y, lengths, return_weights=True)[1]

    def forward(
        self, y: Tensor, lengths: Tensor | None = None, *, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool y (T, B, H), or (B, T, H) if ``batch_first``, over each row's steps.

        Args:
            y: The sequence.
            lengths: Steps of each row (B,), in any order, 0 allowed; all T if left out.
            return_weights: Whether to give a (T, B) as well, or (B, T).

        Returns:
            (B, H); and the weights.

        Raises:
            ValueError: If y is not (T, B, H) with a step, or lengths are not B integers from 0 to T.
        """
        y = y.transpose(0, 1) if self.batch_first else y
        ends, inside = _rows(y, lengths)
        scores = run(self.score, y, lengths=lengths).y
        scores = scores if inside is None else torch.where(inside, scores, -torch.inf)
        # A row without steps has no largest score, and its exponentials add up to nothing.
        largest = scores.detach().max(0).values
        parts = (scores - torch.where(ends[:, None] > 0, largest, 0)).exp()
        whole = torch.where(ends[:, None] > 0, _sum(parts), 1)
        a = self.score.gate("attention", (parts / whole)[..., 0])
        # Divided behind the sum: a division of each step would have torch add up its gradient over T.
        pooled = _sum(parts * _zeroed(y, inside)) / whole
        if not return_weights:
            return pooled
        return pooled, a.transpose(0, 1) if self.batch_first else a


class AdditiveScore(Cell):
    """s_t = <v, tanh(W y_t + b)>."""

    state_names = ()
    output_names = ("score",)

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, 1)
        self.y = nn.Linear(width, hidden)
        self.v = nn.Linear(hidden, 1, bias=False)

    def step(self, y: Tensor) -> Tensor:
        """Compute one step: y (B, H) -> s (B, 1)."""
        return self.v(self.y(y).tanh())


class DotScore(Cell):
    """s_t = <q, y_t> / sqrt(H)."""

    state_names = ()
    output_names = ("score",)

    def __init__(self, width: int, scaled: bool) -> None:
        super().__init__(width, 1)
        self.q = nn.Linear(width, 1, bias=False)
        self.scale = width**-0.5 if scaled else 1.0

    def step(self, y: Tensor) -> Tensor:
        """Compute one step: y (B, H) -> s (B, 1)."""
        return self.scale * self.q(y)


class AdditiveAttention(AttentionPool):
    """Scores <v, tanh(W y_t + b)> (Bahdanau, Cho & Bengio 2015, A.1.2).

    The query is learned, and so is one with the bias b (Yang et al. 2016, eqs. 5-7).

    Args:
        width: H.
        hidden: Width of v; H if left out.
        batch_first: Whether y is (B, T, H).
    """

    def __init__(self, width: int, hidden: int | None = None, *, batch_first: bool = False) -> None:
        super().__init__(AdditiveScore(width, hidden or width), batch_first=batch_first)


class DotAttention(AttentionPool):
    """Scores <q, y_t> / sqrt(H) with a learned query q (Vaswani et al. 2017, eq. 1).

    Args:
        width: H.
        scaled: Whether scores are divided by sqrt(H); Luong, Pham & Manning 2015 do not.
        batch_first: Whether y is (B, T, H).
    """

    def __init__(self, width: int, *, scaled: bool = True, batch_first: bool = False) -> None:
        super().__init__(DotScore(width, scaled), batch_first=batch_first)


POOLS: dict[str, Pool] = {
    "last": last_over_time,
    "mean": mean_over_time,
    "max": max_over_time,
    "whole": whole_chain,
}
ATTENTIONS: dict[str, Callable[..., AttentionPool]] = {
    "additive": AdditiveAttention,
    "dot": DotAttention,
}


def pool_over_time(
    name: str, width: int | None = None, *, batch_first: bool = False
) -> PoolOverTime | AttentionPool:
    """Build a pooling by name; it is called with y (T, B, H) and lengths (B,).

    Args:
        name: ``last``, ``mean``, ``max``, ``whole`` (the chain as it is), ``additive`` or ``dot``
            (attention).
        width: H, which attention has to know.
        batch_first: Whether y is (B, T, H).

    Raises:
        ValueError: If there is none of that name, or attention is not told the width.
    """
    if name in POOLS:
        return PoolOverTime(POOLS[name], batch_first=batch_first)
    if name not in ATTENTIONS:
        raise ValueError(
            f"no pooling over time {name!r}; give one of {', '.join([*POOLS, *ATTENTIONS])}"
        )
    if width is None:
        raise ValueError(f"{name} attention has weights: give the width of what it pools")
    return ATTENTIONS[name](width, batch_first=batch_first)


def _rows(y: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Give the steps of each row (B,), and where there are any (T, B, 1), unless everywhere."""
    if y.dim() != 3 or not len(y):
        raise ValueError(f"y must be (steps, rows, width) with a step, not {tuple(y.shape)}")
    steps, batch, _ = y.shape
    if lengths is None:
        return torch.full((batch,), steps, device=y.device), None
    ends = check_lengths(lengths, steps, batch).to(y.device)
    return ends, (torch.arange(steps, device=y.device)[:, None] < ends)[..., None]


def _zeroed(y: Tensor, inside: Tensor | None) -> Tensor:
    return y if inside is None else torch.where(inside, y, 0)


def _sum(y: Tensor) -> Tensor:
    """Add up the steps (T, ...) -> (...), neighbours first, then neighbouring pairs, and so on.

    So zeros behind change nothing, nor does what stands beside: torch's own sum adds in an order that
    depends on all sizes.
    """
    while len(y) > 1:
        if len(y) % 2:
            y = functional.pad(y, [0] * (2 * y.dim() - 1) + [1])
        y = y.unflatten(0, (-1, 2)).sum(1)
    return y[0]
