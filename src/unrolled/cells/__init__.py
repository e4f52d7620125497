"""What one step computes: one short file a cell, its paper cited."""

from unrolled.cells.elman import Elman
from unrolled.cells.gru import GRU
from unrolled.cells.lstm import LSTM
from unrolled.cells.registry import CELLS, fingerprint, make_cell, resolve

__all__ = ["CELLS", "GRU", "LSTM", "Elman", "fingerprint", "make_cell", "resolve"]
