"""The layers of torch.nn and ours, side by side."""

import torch
from torch import nn

import unrolled as ur

GRID = [
    (kind, layers, both, first, bias, proj)
    for kind in ("RNN", "LSTM", "GRU")
    for layers in (1, 2)
    for both in (False, True)
    for first in (False, True)
    for bias in (False, True)
    for proj in ((0, 2) if kind == "LSTM" else (0,))
]


def pair(kind, *args, seed=0, dtype=torch.float64, **options):
    """torch.nn's layer and ours, drawn from the same seed."""
    built = []
    for home in (nn, ur):
        torch.manual_seed(seed)
        built.append(getattr(home, kind)(*args, **options, dtype=dtype))
    return built


def parts(result):
    """Everything a layer gives, flat: the data of y, then the states."""
    y, state = result
    y = y.data if isinstance(y, nn.utils.rnn.PackedSequence) else y
    return [y, *(state if isinstance(state, tuple) else (state,))]


def gradients(results, wanted):
    """Gradients of a loss in which every result has weights of its own."""
    generator = torch.Generator().manual_seed(7)
    loss = sum(
        (r * torch.randn(r.shape, generator=generator, dtype=torch.float64)).sum() for r in results
    )
    return torch.autograd.grad(loss, wanted)


def states_for(layer, batch=None, *, requires_grad=False):
    """Initial states of a layer, as torch.nn takes them."""
    places = layer.num_layers * (2 if layer.bidirectional else 1)
    rows = () if batch is None else (batch,)
    dtype = layer.weight_ih_l0.dtype
    h = torch.randn(places, *rows, layer.proj_size or layer.hidden_size, dtype=dtype)
    h.requires_grad_(requires_grad)
    if layer.mode != "LSTM":
        return h
    c = torch.randn(places, *rows, layer.hidden_size, dtype=dtype)
    return h, c.requires_grad_(requires_grad)
