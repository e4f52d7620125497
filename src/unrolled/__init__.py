"""Recurrent sequence models that you write in ten lines, train with one command, and can see inside.

Nothing heavy is loaded before it is used: ``import unrolled`` imports neither torch nor matplotlib.
"""

from typing import TYPE_CHECKING

from unrolled.errors import InputError, Interrupted, RunError, UnrolledError
from unrolled.lazy import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unrolled import cells as cells
    from unrolled import data as data
    from unrolled import layers as layers
    from unrolled.checkpoint.load import Trained as Trained
    from unrolled.checkpoint.load import load as load
    from unrolled.engine import Cell as Cell
    from unrolled.engine.frozen import frozen as frozen
    from unrolled.inspect import bench as bench
    from unrolled.inspect import doctor as doctor
    from unrolled.inspect.cells import explain as explain
    from unrolled.inspect.describe import describe as describe
    from unrolled.inspect.filters import filters as filters
    from unrolled.inspect.flow_report import gradient_flow as gradient_flow
    from unrolled.inspect.gradients import check_gradients as check_gradients
    from unrolled.inspect.graph import graph as graph
    from unrolled.layers import GRU as GRU
    from unrolled.layers import LSTM as LSTM
    from unrolled.layers import RNN as RNN
    from unrolled.layers import GRUCell as GRUCell
    from unrolled.layers import LSTMCell as LSTMCell
    from unrolled.layers import Mixed as Mixed
    from unrolled.layers import Recurrent as Recurrent
    from unrolled.layers import RecurrentDropout as RecurrentDropout
    from unrolled.layers import RNNCell as RNNCell
    from unrolled.layers import WeightDropout as WeightDropout
    from unrolled.layers import Zoneout as Zoneout
    from unrolled.layers import convert as convert
    from unrolled.layers import pool_over_time as pool_over_time
    from unrolled.layers import truncated as truncated
    from unrolled.settings import Settings as Settings
    from unrolled.train import train as train
    from unrolled.train.callbacks import Callback as Callback

__all__ = [
    "Callback",
    "Cell",
    "GRU",
    "GRUCell",
    "InputError",
    "Interrupted",
    "LSTM",
    "LSTMCell",
    "Mixed",
    "RNN",
    "RNNCell",
    "Recurrent",
    "RecurrentDropout",
    "RunError",
    "Settings",
    "Trained",
    "UnrolledError",
    "WeightDropout",
    "Zoneout",
    "__version__",
    "bench",
    "cells",
    "check_gradients",
    "convert",
    "data",
    "describe",
    "doctor",
    "explain",
    "filters",
    "frozen",
    "gradient_flow",
    "graph",
    "layers",
    "load",
    "pool_over_time",
    "train",
    "truncated",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Callback": "unrolled.train.callbacks",
        "Cell": "unrolled.engine",
        "GRU": "unrolled.layers",
        "GRUCell": "unrolled.layers",
        "LSTM": "unrolled.layers",
        "LSTMCell": "unrolled.layers",
        "Mixed": "unrolled.layers",
        "RNN": "unrolled.layers",
        "RNNCell": "unrolled.layers",
        "Recurrent": "unrolled.layers",
        "RecurrentDropout": "unrolled.layers",
        "WeightDropout": "unrolled.layers",
        "Zoneout": "unrolled.layers",
        "Settings": "unrolled.settings",
        "Trained": "unrolled.checkpoint.load",
        "bench": "unrolled.inspect",
        "cells": "unrolled.cells",
        "check_gradients": "unrolled.inspect.gradients",
        "gradient_flow": "unrolled.inspect.flow_report",
        "convert": "unrolled.layers",
        "data": "unrolled.data",
        "describe": "unrolled.inspect.describe",
        "doctor": "unrolled.inspect",
        "explain": "unrolled.inspect.cells",
        "filters": "unrolled.inspect.filters",
        "frozen": "unrolled.engine.frozen",
        "graph": "unrolled.inspect.graph",
        "layers": "unrolled.layers",
        "load": "unrolled.checkpoint.load",
        "pool_over_time": "unrolled.layers",
        "train": "unrolled.train",
        "truncated": "unrolled.layers",
    },
    __all__,
)
