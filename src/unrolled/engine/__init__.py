"""The contract of a cell, and the engines that run one over a sequence."""

from unrolled.engine.cell import Cell, States
from unrolled.engine.choose import engine, run
from unrolled.engine.reference import Outputs

__all__ = ["Cell", "Outputs", "States", "engine", "run"]
