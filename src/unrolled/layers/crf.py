"""A linear-chain conditional random field: tags that depend on each other.

T steps, B rows, C tags.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from unrolled.engine import Cell, run
from unrolled.engine.check import check_lengths


class LogForward(Cell):
    """alpha_t = x_t + log(exp(alpha_{t-1}) exp(A)), the forward algorithm. State: alpha (B, C).

    That is eq. 20 of Rabiner 1989 in logarithms. The largest alpha is taken out of the exponentials, so
    that none overflows and their sum is never zero.

    Args:
        tags: C.
    """

    state_names = ("alpha",)

    def __init__(self, tags: int) -> None:
        super().__init__(tags, tags)
        self.transition = nn.Parameter(torch.zeros(tags, tags))

    def step(self, x: Tensor, alpha: Tensor) -> Tensor:
        """Compute one step: x (B, C), alpha (B, C) -> alpha (B, C)."""
        top = alpha.amax(-1, keepdim=True).detach()  # any shift gives the same gradient
        return x + top + ((alpha - top).exp() @ self.transition.exp()).log()


class CRF(nn.Module):
    """p(y | x) = exp(s) / Z, s = start_{y_1} + sum_t x_{t, y_t} + sum_t A_{y_{t-1}, y_t} + end_{y_T}.

    The linear-chain conditional random field of Lafferty, McCallum & Pereira 2001. x are scores of each
    tag at each step, as a linear read-out gives them (Lample et al. 2016, section 2.2). A, start and end
    are learned and zero at first.

    Args:
        tags: C.

    Raises:
        ValueError: If there is no tag.
    """

    def __init__(self, tags: int) -> None:
        super().__init__()
        if tags < 1:
            raise ValueError(f"a chain needs at least one tag, not {tags}")
        self.tags = tags
        self.chain = LogForward(tags)
        self.start = nn.Parameter(torch.zeros(tags))
        self.end = nn.Parameter(torch.zeros(tags))

    @property
    def transition(self) -> nn.Parameter:
        """A (C, C): from the row's tag to the column's."""
        return self.chain.transition

    def forward(
        self,
        scores: Tensor,
        tags: Tensor,
        lengths: Tensor | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> Tensor:
        """Compute -log p(y | x) in nats.

        Args:
            scores: x (T, B, C).
            tags: y (T, B), int64; what stands past a row's end does not count.
            lengths: Steps of each row (B,), at least 1; all T where left out.
            reduction: ``mean`` over the rows, ``sum``, or ``none``: (B,).

        Raises:
            ValueError: If a shape, a tag or a length is wrong, or there is no such reduction.
        """
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be mean, sum or none, not {reduction!r}")
        nats = self.log_partition(scores, lengths) - self.score(scores, tags, lengths)
        if reduction == "none":
            return nats
        return nats.mean() if reduction == "mean" else nats.sum()

    def score(self, scores: Tensor, tags: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute s(x, y) of each row (B,); arguments and errors as of :meth:`forward`."""
        ends = self._ends(scores, lengths)
        if tags.shape != scores.shape[:2]:
            raise ValueError(f"tags must be {tuple(scores.shape[:2])}, not {tuple(tags.shape)}")
        inside = torch.arange(len(scores), device=scores.device)[:, None] < ends
        tags = torch.where(inside, tags, 0)
        if tags.min() < 0 or tags.max() >= self.tags:
            raise ValueError(
                f"tags must lie from 0 to {self.tags - 1}, not {tags.min()} to {tags.max()}"
            )
        of_steps = scores.gather(2, tags[..., None])[..., 0] * inside
        of_moves = self.transition[tags[:-1], tags[1:]] * inside[1:]
        last = tags.gather(0, ends[None] - 1)[0]
        return self.start[tags[0]] + of_steps.sum(0) + of_moves.sum(0) + self.end[last]

    def log_partition(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute log Z(x) of each row (B,) by the forward algorithm."""
        ends = self._ends(scores, lengths)
        alpha = self.start + scores[0]
        if len(scores) > 1:
            rest = None if lengths is None else ends - 1
            alpha = run(self.chain, scores[1:], {"alpha": alpha}, lengths=rest).states["alpha"]
        return (alpha + self.end).logsumexp(-1)

    def marginals(self, scores: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute p(y_t = c | x) (T, B, C), zero past a row's end: the gradient of log Z (Eisner 2016)."""
        with torch.enable_grad():
            scores = scores.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.log_partition(scores, lengths).sum(), scores)
        return found

    @torch.no_grad()
    def decode(self, scores: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the best tags of each row (Viterbi 1967).

        Args:
            scores: x (T, B, C).
            lengths: Steps of each row (B,), at least 1; all T where left out.

        Returns:
            Tags (T, B), int64, -1 past a row's end, and s(x, y) of each row (B,).
        """
        ends = self._ends(scores, lengths)
        best, origins = self.start + scores[0], []
        stay = torch.arange(self.tags, device=scores.device)
        for t in range(1, len(scores)):
            through, origin = (best[:, :, None] + self.transition).max(1)  # (B, C)
            inside = (t < ends)[:, None]
            best = torch.where(inside, through + scores[t], best)
            origins.append(torch.where(inside, origin, stay))
        score, tag = (best + self.end).max(-1)
        path = [tag]
        for origin in reversed(origins):
            path.append(origin.gather(1, path[-1][:, None])[:, 0])
        tags = torch.stack(path[::-1])
        inside = torch.arange(len(scores), device=scores.device)[:, None] < ends
        return torch.where(inside, tags, -1), score

    def _ends(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        """Steps of each row (B,)."""
        if scores.dim() != 3 or scores.shape[2] != self.tags or not len(scores):
            raise ValueError(
                f"scores must be (steps, rows, {self.tags}) with a step, not {tuple(scores.shape)}"
            )
        steps, rows = scores.shape[:2]
        if lengths is None:
            return torch.full((rows,), steps, device=scores.device)
        ends = check_lengths(lengths, steps, rows).to(scores.device)
        if rows and ends.min() < 1:
            raise ValueError("every row needs a step: a chain of none has no tags")
        return ends
