"""What users stack: cells over time, torch.nn's layers, symbols as vectors."""

from unrolled.cells.standard import GRUCell, LSTMCell, RNNCell
from unrolled.layers.conversion import convert
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.standard import GRU, LSTM, RNN
from unrolled.layers.symbols import Symbols

__all__ = [
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "RNN",
    "RNNCell",
    "Recurrent",
    "Symbols",
    "convert",
]
