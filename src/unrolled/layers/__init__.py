"""What users stack: cells over time, symbols as vectors."""

from unrolled.layers.recurrent import Recurrent
from unrolled.layers.symbols import Symbols

__all__ = ["Recurrent", "Symbols"]
