"""Truncated back-propagation through time (Williams & Peng 1990): a long sequence, learned from in parts.

T steps, B rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from unrolled.engine.check import check_lengths


@dataclass(frozen=True)
class Part:
    """What a net makes of a few steps.

    Attributes:
        y: Its outputs of these steps (n, B, O), or (B, n, O) if the net is batch first.
        start: The first of these steps.
        stop: The step behind the last.
        reach: The first step to which their errors flow back.
        states: The states behind the last step, detached.
    """

    y: Any
    start: int
    stop: int
    reach: int
    states: Any

    @property
    def steps(self) -> slice:
        """These steps, to index targets (T, B, ...) with."""
        return slice(self.start, self.stop)


def truncated(
    net: Callable[..., Any],
    x: Tensor,
    k1: int,
    k2: int | None = None,
    *,
    states: Any = None,  # noqa: ANN401 - whatever the net takes
    lengths: Tensor | None = None,
    extras: Mapping[str, Tensor] | None = None,
) -> Iterator[Part]:
    """Run a net over a sequence in parts of k1 steps whose errors flow back k2 steps: BPTT(k2; k1).

    ::

        for part in truncated(net, x, k1=10, k2=40):
            loss = criterion(part.y, targets[part.steps])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    The outputs of every step come once, in parts that start at s = 0, k1, 2 k1, ... The error of a step t
    of the part that starts at s flows back through the steps from max(0, s - (k2 - k1)) to t: k2 of them
    for the last step of the part, k2 - k1 + 1 for its first, or all t + 1 where there are no more. The
    states before that are constants.

    Before each part the k2 - k1 steps ahead of it are run again, from the states that were found there, with
    the weights as they are now: a whole pass costs k2 / k1 plain ones. With k2 = k1 nothing is run twice.

    Args:
        net: Called as ``net(x, states)``, gives ``(y, states)``, with an output for each step:
            :class:`~unrolled.Recurrent`, ``RNN``, ``LSTM``, ``GRU``, or anything alike. With
            ``batch_first`` it takes (B, T, ...).
        x: (T, B, I), or (B, T, I).
        k1: Steps of a part, and so between updates; the last part may be shorter.
        k2: Steps that errors flow back, at least k1; k1 if left out.
        states: Before the first step; they are detached.
        lengths: Steps of each row (B,), handed to the net as ``lengths``.
        extras: Further inputs of its cells, handed to it as ``extras``: those for each step (T, B, n)
            are cut as x is.

    Yields:
        A :class:`Part` for every k1 steps. The states of the last are where the next sequence goes on.

    Raises:
        ValueError: If k1 is below 1, k2 below k1 (errors between would not count), lengths are wrong, or
            the net is bidirectional; at once, not at the first part.
    """
    k2 = k1 if k2 is None else k2
    if k1 < 1:
        raise ValueError(f"k1 must be at least 1 step, not {k1}")
    if k2 < k1:
        raise ValueError(
            f"k2 must be at least k1 = {k1} steps, not {k2}: an error {k2} steps or more before the update "
            "would not count"
        )
    if getattr(net, "bidirectional", False) or getattr(net, "num_directions", 1) == 2:
        raise ValueError("a bidirectional net needs the whole sequence; it cannot learn from parts")
    time = 1 if getattr(net, "batch_first", False) else 0
    steps, batch = x.shape[time], x.shape[1 - time]
    ends = None if lengths is None else check_lengths(lengths, steps, batch)

    def run(states: Any, start: int, stop: int) -> tuple[Any, Any]:  # noqa: ANN401
        options: dict[str, Any] = {}
        if ends is not None:
            options["lengths"] = (ends - start).clamp(0, stop - start)
        if extras is not None:
            options["extras"] = {
                name: extra[start:stop] if extra.dim() > 2 else extra
                for name, extra in extras.items()
            }
        y, states, *_ = net(x.narrow(time, start, stop - start), states, **options)
        return y, states

    return _parts(run, detached(states), steps, k1, k2, time)


def _parts(
    run: Callable[[Any, int, int], tuple[Any, Any]],
    states: Any,  # noqa: ANN401
    steps: int,
    k1: int,
    k2: int,
    time: int,
) -> Iterator[Part]:
    """Yield the parts; `states` are those before the first step that errors may reach."""
    reach = 0
    for start in range(0, steps, k1):
        stop = min(start + k1, steps)
        following = max(0, start + k1 - (k2 - k1))  # where the reach of the next part begins
        pieces: list[Tensor] = []
        at, now, kept = reach, states, states
        for end in sorted({min(following, stop), start, stop}):
            if end > at:
                y, now = run(now, at, end)
                if end > start:
                    pieces.append(y)
                at = end
            if end == following:
                kept = detached(now)
        y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, time)
        yield Part(y, start, stop, reach, detached(now))
        reach, states = following, kept


def detached(states: Any) -> Any:  # noqa: ANN401 - a tensor, or any nest of them
    """Give the states as constants."""
    return tree_map(lambda s: s.detach() if isinstance(s, Tensor) else s, states)
