"""What users stack: cells over time, torch.nn's layers, symbols as vectors."""

from unrolled.cells.standard import GRUCell, LSTMCell, RNNCell
from unrolled.layers.activation import (
    ACTIVATIONS,
    LeakyReLU,
    Maxout,
    MaxoutGroups,
    PReLU,
    RadialBasis,
    leaky_relu,
    make_activation,
    radial_basis,
)
from unrolled.layers.attend import Attend
from unrolled.layers.attention import (
    AdditiveAttention,
    DotAttention,
    last_over_time,
    max_over_time,
    mean_over_time,
    pool_over_time,
    whole_chain,
)
from unrolled.layers.blocks import (
    Inception,
    Residual,
    Stage,
    TemporalBlock,
    TemporalConvolution,
)
from unrolled.layers.conversion import convert
from unrolled.layers.convolution import (
    Convolution1d,
    Convolution2d,
    Convolution3d,
    convolve,
    correlate,
    filter_bank,
)
from unrolled.layers.crf import CRF
from unrolled.layers.echo import EchoStateNetwork
from unrolled.layers.kernels import KERNELS, filter_picture
from unrolled.layers.lenet import LeNet5
from unrolled.layers.locally import LocallyConnected
from unrolled.layers.losses import gaussian_nll, quantile_loss
from unrolled.layers.metric_losses import (
    contrastive_loss,
    group_loss,
    n_pairs_loss,
    triplet_loss,
)
from unrolled.layers.mixed import Mixed
from unrolled.layers.pooling import (
    AdaptivePool,
    AveragePool,
    KMaxPool,
    L2Pool,
    LogSumExpPool,
    MaxPool,
    adaptive_pool,
    average_pool,
    k_max_pool,
    l2_pool,
    log_sum_exp_pool,
    max_pool,
    max_pool_switches,
    unpool,
)
from unrolled.layers.readout import Readout, WindowReadout
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.regularise import RecurrentDropout, WeightDropout, Zoneout
from unrolled.layers.standard import GRU, LSTM, RNN
from unrolled.layers.symbols import Symbols
from unrolled.layers.truncated import truncated

__all__ = [
    "ACTIVATIONS",
    "AdaptivePool",
    "AdditiveAttention",
    "Attend",
    "AveragePool",
    "CRF",
    "Convolution1d",
    "Convolution2d",
    "Convolution3d",
    "DotAttention",
    "EchoStateNetwork",
    "GRU",
    "GRUCell",
    "Inception",
    "KERNELS",
    "KMaxPool",
    "L2Pool",
    "LSTM",
    "LSTMCell",
    "LeNet5",
    "LeakyReLU",
    "LocallyConnected",
    "LogSumExpPool",
    "MaxPool",
    "Maxout",
    "MaxoutGroups",
    "Mixed",
    "PReLU",
    "RNN",
    "RNNCell",
    "RadialBasis",
    "Readout",
    "Recurrent",
    "RecurrentDropout",
    "Residual",
    "Stage",
    "Symbols",
    "TemporalBlock",
    "TemporalConvolution",
    "WeightDropout",
    "WindowReadout",
    "Zoneout",
    "adaptive_pool",
    "average_pool",
    "contrastive_loss",
    "convert",
    "convolve",
    "correlate",
    "filter_bank",
    "filter_picture",
    "gaussian_nll",
    "group_loss",
    "k_max_pool",
    "l2_pool",
    "last_over_time",
    "leaky_relu",
    "log_sum_exp_pool",
    "make_activation",
    "max_over_time",
    "max_pool",
    "max_pool_switches",
    "mean_over_time",
    "n_pairs_loss",
    "pool_over_time",
    "quantile_loss",
    "radial_basis",
    "triplet_loss",
    "truncated",
    "unpool",
    "whole_chain",
]
