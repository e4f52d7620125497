"""What is added to a loss to hold weights or activations back, as formulas print it.

With a weight w and lambda in front, R is

- `l1`: sum |w|, gradient lambda sign(w);
- `l2`: sum w^2, gradient 2 lambda w (``weight_decay`` of torch's optimisers adds lambda w instead: it
  is R = sum w^2 / 2);
- `elastic`: sum beta w^2 + |w| (Zou & Hastie 2005), gradient lambda (2 beta w + sign(w)).

Each is 0 where all weights are, and has no upper bound.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.errors import InputError
from unrolled.layers.recurrent import Recurrent


def l1_penalty(w: Tensor) -> Tensor:
    """Compute ``sum |w|``, a scalar of 0 or more."""
    return w.abs().sum()


def l2_penalty(w: Tensor) -> Tensor:
    """Compute sum w^2, a scalar of 0 or more; without a half, so that its gradient is 2 w."""
    return w.square().sum()


def elastic_penalty(w: Tensor, beta: float = 0.5) -> Tensor:
    """Compute ``sum beta w^2 + |w|``, a scalar of 0 or more (Zou & Hastie 2005)."""
    return beta * l2_penalty(w) + l1_penalty(w)


def penalty(
    weights: Iterable[Tensor],
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    elastic: float = 0.0,
    beta: float = 0.5,
) -> Tensor:
    """Add up the penalties on weights, each times its strength, lambda; 0 leaves one out."""
    total = torch.zeros(())
    for w in weights:
        if l1:
            total = total + l1 * l1_penalty(w)
        if l2:
            total = total + l2 * l2_penalty(w)
        if elastic:
            total = total + elastic * elastic_penalty(w, beta)
    return total


def chosen(model: nn.Module, patterns: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Choose parameters that are held back.

    Args:
        model: Whose.
        patterns: Names, also with ``*`` and ``?``; without any, all but biases: whatever has two
            dimensions or more.

    Returns:
        Name -> parameter.

    Raises:
        InputError: If a pattern fits none.
    """
    named = dict(model.named_parameters())
    if not patterns:
        return {name: w for name, w in named.items() if w.dim() > 1}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise InputError(
                f"--penalised {pattern}: no parameter is named so; they are {', '.join(named)}"
            )
    return {name: w for name, w in named.items() if any(fnmatchcase(name, one) for one in patterns)}


def activation_penalty(h: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Compute the mean of h^2 over all units and steps, a scalar of 0 or more.

    Activation regularisation (Merity, McCann & Socher 2017, "Revisiting activation regularization for
    language RNNs", section 3.1, with the squared norm).

    Args:
        h: (T, B, H).
        lengths: Steps there are of each row (B,); the others do not count.
    """
    return _mean(h.square(), lengths)


def temporal_penalty(h: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Compute the mean of (h_t - h_{t-1})^2, a scalar of 0 or more; of rows of one step 0.

    Temporal activation regularisation (Merity, McCann & Socher 2017, section 3.2, squared). The
    arguments are those of :func:`activation_penalty`.
    """
    return _mean((h[1:] - h[:-1]).square(), None if lengths is None else lengths - 1)


def _mean(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Average (T, B, H) over units and the steps there are."""
    if lengths is not None:
        there = torch.arange(len(values))[:, None] < lengths.cpu()
        values = values[there.to(values.device)]
    return values.mean() if values.numel() else values.sum()


class ActivationPenalty:
    """Penalties on what the recurrent nets of a model give, collected while its loss is computed.

    Args:
        model: The model; each :class:`~unrolled.layers.Recurrent` in it counts, by its last layer.
        activation: What :func:`activation_penalty` is multiplied by.
        temporal: What :func:`temporal_penalty` is multiplied by.

    Raises:
        InputError: If a penalty is asked for and there is no recurrent net.
    """

    def __init__(self, model: nn.Module, activation: float = 0.0, temporal: float = 0.0) -> None:
        self.activation, self.temporal = activation, temporal
        self.nets: list[Recurrent] = []
        if activation or temporal:
            self.nets = [net for net in model.modules() if isinstance(net, Recurrent)]
            if not self.nets:
                raise InputError(
                    "penalties on activations need a recurrent net; this model has none"
                )

    @contextmanager
    def watch(self) -> Iterator[Callable[[], Tensor | float]]:
        """Note what the nets give; the function that comes with it tells the penalty so far."""
        parts: list[Tensor] = []

        def note(net: nn.Module, _: Any, kwargs: dict[str, Any], given: Any) -> None:  # noqa: ANN401
            assert isinstance(net, Recurrent)
            parts.append(self._of(given[0], kwargs.get("lengths"), batch_first=net.batch_first))

        handles = [net.register_forward_hook(note, with_kwargs=True) for net in self.nets]
        try:
            yield lambda: sum(parts, start=0.0)
        finally:
            for handle in handles:
                handle.remove()

    def _of(self, y: Any, lengths: Tensor | None, *, batch_first: bool) -> Tensor:  # noqa: ANN401
        if isinstance(y, nn.utils.rnn.PackedSequence):
            y, lengths = nn.utils.rnn.pad_packed_sequence(y)
        elif batch_first:
            y = y.transpose(0, 1)
        held = self.activation * activation_penalty(y, lengths)
        return held + self.temporal * temporal_penalty(y, lengths)
