"""Symbols as vectors: one-hot or embedded."""

import torch
from torch import Tensor, nn
from torch.nn import functional

ONE_HOT_LIMIT = 256


class Symbols(nn.Module):
    """Turn symbol ids (T, B) into vectors (T, B, width).

    Args:
        size: Number of symbols V.
        embedding: Width of a learned embedding; 0 for one-hot vectors of width V; ``None`` for
            one-hot up to 256 symbols and an embedding of 128 beyond.
    """

    def __init__(self, size: int, embedding: int | None = None) -> None:
        super().__init__()
        if embedding is None:
            embedding = 0 if size <= ONE_HOT_LIMIT else 128
        self.size = size
        self.width = embedding or size
        self.table = nn.Embedding(size, embedding) if embedding else None

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Look up ids (T, B), int64 -> (T, B, width) in `dtype`."""
        if self.table is not None:
            return self.table(ids).to(dtype)
        return functional.one_hot(ids, self.size).to(dtype)
