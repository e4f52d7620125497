"""What one step computes: one short file a family of cells, their papers cited."""

from unrolled.cells.batch_norm import BatchNormLSTM
from unrolled.cells.convolutional import ConvGRU, ConvLSTM
from unrolled.cells.echo import EchoState
from unrolled.cells.elman import IRNN, Elman, PreActivation
from unrolled.cells.feedback import Jordan, teacher
from unrolled.cells.gru import GRU, MinimalGated, ResetBeforeGRU
from unrolled.cells.highway import RecurrentHighway
from unrolled.cells.independent import IndRNN
from unrolled.cells.layer_norm import LayerNormGRU, LayerNormLSTM
from unrolled.cells.leaky import Leaky
from unrolled.cells.linear import LRU, LinearCell, MinGRU, MinLSTM
from unrolled.cells.lstm import (
    LSTM,
    LSTM1997,
    CoupledLSTM,
    MultiplicativeLSTM,
    PeepholeLSTM,
    ProjectedLSTM,
)
from unrolled.cells.orthogonal import (
    Orthogonal,
    Spectral,
    project_singular_values_,
    singular_value_penalty,
)
from unrolled.cells.registry import CELLS, fingerprint, make_cell, resolve
from unrolled.cells.skip import Clockwork, Dilated, Skip
from unrolled.cells.slstm import SLSTM
from unrolled.cells.start import (
    chrono_start,
    forget_bias_start,
    joint_weight,
    set_joint_weight,
    start_,
    start_weights,
)
from unrolled.cells.topdown import TopDown
from unrolled.cells.unitary import Unitary

__all__ = [
    "CELLS",
    "GRU",
    "IRNN",
    "LRU",
    "LSTM",
    "LSTM1997",
    "SLSTM",
    "BatchNormLSTM",
    "Clockwork",
    "ConvGRU",
    "ConvLSTM",
    "CoupledLSTM",
    "Dilated",
    "EchoState",
    "Elman",
    "IndRNN",
    "Jordan",
    "LayerNormGRU",
    "LayerNormLSTM",
    "Leaky",
    "LinearCell",
    "MinGRU",
    "MinLSTM",
    "MinimalGated",
    "MultiplicativeLSTM",
    "Orthogonal",
    "PeepholeLSTM",
    "PreActivation",
    "ProjectedLSTM",
    "RecurrentHighway",
    "ResetBeforeGRU",
    "Skip",
    "Spectral",
    "TopDown",
    "Unitary",
    "chrono_start",
    "fingerprint",
    "forget_bias_start",
    "joint_weight",
    "make_cell",
    "project_singular_values_",
    "resolve",
    "set_joint_weight",
    "singular_value_penalty",
    "start_",
    "start_weights",
    "teacher",
]
