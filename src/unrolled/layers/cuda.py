"""Standard layers on CUDA tensors: torch's own kernels, cuDNN where it is there.

T steps, B rows, L layers, D directions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from unrolled.engine.check import check_lengths
from unrolled.engine.randomness import dropout as drop

_FUNCTIONS = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


def run_torch(
    mode: str,
    weights: Sequence[Sequence[Tensor]],
    x: Tensor,
    states: Sequence[Tensor],
    *,
    bias: bool,
    directions: int,
    dropout: float,
    lengths: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a standard layer as torch.nn does.

    Args:
        mode: ``LSTM``, ``GRU``, ``RNN_TANH`` or ``RNN_RELU``.
        weights: Of each layer and direction, in torch.nn's order.
        x: (T, B, I).
        states: (L * D, B, width) each.
        bias: Whether there are biases.
        directions: D.
        dropout: Probability of dropping an output between layers; by our counters, not by cuDNN's.
        lengths: Steps of each row (B,), 0 allowed.

    Returns:
        y (T, B, D * H), zero past a row's end, and the last states.
    """
    if lengths is not None:
        lengths = check_lengths(lengths, *x.shape[:2])
    if not dropout:
        return _run(mode, weights, x, states, bias, directions, lengths)
    last = []
    for first in range(0, len(weights), directions):
        if first:
            x = drop(x, dropout, first // directions)
        own = slice(first, first + directions)
        before = [state[own] for state in states]
        x, new = _run(mode, weights[own], x, before, bias, directions, lengths)
        last.append(new)
    return x, tuple(torch.cat(parts) for parts in zip(*last, strict=True))


def _run(
    mode: str,
    weights: Sequence[Sequence[Tensor]],
    x: Tensor,
    states: Sequence[Tensor],
    bias: bool,
    directions: int,
    lengths: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    flat = [weight for each in weights for weight in each]
    given = (flat, bias, len(weights) // directions, 0.0, False, directions == 2)
    function = _FUNCTIONS[mode]
    if lengths is None:
        y, *last = function(x, _one_or_all(states), *given, False)
        return y, tuple(last)
    packed = pack_padded_sequence(x, lengths.clamp(min=1), enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None
    assert back is not None
    before = _one_or_all([state.index_select(1, order) for state in states])
    data, *new = function(packed.data, packed.batch_sizes, before, *given)
    y, _ = pad_packed_sequence(packed._replace(data=data), total_length=x.shape[0])
    none = (lengths == 0).to(x.device)[:, None]  # a row without steps was run for one
    last = (state.index_select(1, back) for state in new)
    last = [torch.where(none, old, state) for old, state in zip(states, last, strict=True)]
    return torch.where(none, 0, y), tuple(last)


def _one_or_all(states: Sequence[Tensor]) -> Tensor | list[Tensor]:
    return states[0] if len(states) == 1 else [*states]
