"""Settings of what is trained."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import (
    Dense,
    Group,
    Options,
    Probabilities,
    Readouts,
    Weights,
    Widths,
)


class ModelSettings(Group):
    """Model: the cell, how many, how wide."""

    cell: str = Field(
        default="lstm", description="rnn, lstm, gru, or your own as module:Class or path.py:Class."
    )
    cell_options: Options = Field(
        default={}, description="Further arguments of the cell, e.g. leak=0.7, spectral_radius=1.0."
    )
    nonlinearity: Literal["tanh", "relu", "sigmoid"] = Field(
        default="tanh", description="Activation of the rnn cell."
    )
    hidden: int = Field(default=128, ge=1, description="Width of the hidden state.")
    layers: int = Field(default=1, ge=1, description="Recurrent layers, one on the other.")
    embedding: int | None = Field(
        default=None,
        ge=0,
        description="Width of the symbol embedding; 0 is one-hot (the default up to 256 symbols).",
    )
    vectors: str | None = Field(
        default=None,
        description="Word vectors to begin with: a text file as of GloVe or word2vec, also .gz.",
    )
    frozen_vectors: bool = Field(
        default=False, description="Leave the word vectors of --vectors as they are."
    )
    bidirectional: bool = Field(
        default=False, description="Read from both ends; not for language models."
    )
    connection: Literal["plain", "residual", "highway", "dense"] = Field(
        default="plain", description="What a layer does with its input besides reading it."
    )
    learned_states: bool = Field(default=False, description="Learn the initial states.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of every layer's output.")
    fixed_dropout: bool = Field(
        default=False, description="Drop the same outputs at all steps (variational dropout)."
    )
    recurrent_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout of the state on its way to the next step."
    )
    weight_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout of recurrent weights (DropConnect)."
    )
    zoneout: Probabilities = Field(
        default=(),
        description="Probability that a unit keeps its state; of each state in turn, e.g. 0.05,0.5.",
    )
    weight_norm: bool = Field(
        default=False,
        description="Learn length and direction of each unit's weights in recurrent nets apart.",
    )
    tied: bool = Field(
        default=False, description="Share the read-out's weights with the embedding."
    )
    initial_scale: float | None = Field(
        default=None,
        gt=0,
        description="Draw weights from N(0, scale^2), biases 0, instead of the cell's own start.",
    )
    recurrent_start: (
        Literal["identity", "orthogonal", "glorot", "he", "lecun", "sparse", "normal"] | None
    ) = Field(
        default=None, description="How recurrent weights begin, instead of the cell's own way."
    )
    forget_bias: float | None = Field(
        default=None, description="Where the bias of the forget gate begins."
    )
    chrono: int | None = Field(
        default=None, ge=3, description="Longest time scale of the gates at the start, in steps."
    )
    ridge: float = Field(
        default=1e-8, ge=0, description="esn: shrinks the read-out that is fitted in closed form."
    )
    washout: int = Field(
        default=100, ge=0, description="esn: steps at the start that are not learned from."
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="Number format of weights and states."
    )


class AutoencoderSettings(Group):
    """Autoencoder: its layers, what it is asked for, and how it is trained layer by layer."""

    widths: Widths = Field(
        default=(128, 64, 8), description="Units of the encoder's layers, the code's last."
    )
    activation: str = Field(default="elu", description="Of the hidden layers, by its name.")
    code: str = Field(
        default="identity", description="Activation of the code; identity leaves it linear."
    )
    output: Literal["sigmoid", "linear"] = Field(
        default="sigmoid", description="What the reconstruction comes out of."
    )
    error: Literal["squared", "cross-entropy"] = Field(
        default="squared", description="What is made small: the sum over a picture's numbers."
    )
    tied_decoder: bool = Field(
        default=False, description="Decode with the encoder's weights, transposed."
    )
    sparse_units: float = Field(
        default=0.0, ge=0, description="Penalty on the absolute values of hidden units (L1)."
    )
    sparse_weights: float = Field(
        default=0.0, ge=0, description="Penalty on the absolute values of weights (L1)."
    )
    kl: float = Field(
        default=0.0,
        ge=0,
        description="Penalty on the divergence between a unit's mean over a batch and --kl-target.",
    )
    kl_target: float = Field(
        default=0.05, gt=0, lt=1, description="How active a sigmoid unit should be on average."
    )
    contraction: float = Field(
        default=0.0, ge=0, description="Penalty on the derivatives of the units by their input."
    )
    mask_noise: float = Field(
        default=0.0, ge=0, lt=1, description="Denoising: share of the input that is set to 0."
    )
    salt_noise: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Denoising: share of the input set to 0 or 1 at random.",
    )
    gaussian_noise: float = Field(
        default=0.0,
        ge=0,
        description="Denoising: standard deviation of what is added to the input.",
    )
    layer_steps: int = Field(
        default=0,
        ge=0,
        description="First so many updates for each layer alone, from the first on; part of --steps.",
    )
    row_by_row: bool = Field(
        default=False,
        description="Read a picture as a sequence of rows, with --cell, and write it with another.",
    )
    labelled: int | None = Field(
        default=None, ge=2, description="few-labels: how many labelled pictures there are."
    )
    freeze: bool = Field(
        default=False, description="few-labels: train the classifier alone, on top of the code."
    )


class ClassifierSettings(Group):
    """Classifier: which kind, and what a convolutional one is made of."""

    model: Literal["rnn", "cnn", "bag", "mlp", "ar"] | None = Field(
        default=None,
        description="What reads the input (default: rnn, of pictures cnn); ar: forecast alone.",
    )
    over_time: Readouts = Field(
        default=("last", "mean", "max"),
        description="rnn, cnn of signals: what of the steps is read out: last, mean, max, attention.",
    )
    scan: Literal["rows", "pixels"] = Field(
        default="rows", description="What an rnn reads of a picture at a step."
    )
    filters: int = Field(
        default=100, ge=1, description="Text cnn: filters of each width and pooling."
    )
    filter_widths: Widths = Field(
        default=(3, 4, 5), description="Text cnn: how many words filters span, e.g. 2,3,4,5."
    )
    wide: bool = Field(
        default=False,
        description="Text cnn: filters reach beyond both ends of a text, where all is zero.",
    )
    pooling: Literal["max", "k-max", "mean"] = Field(
        default="max", description="Text cnn: what is kept of a filter's answers to a text."
    )
    k: int = Field(default=2, ge=1, description="Text cnn: how many answers k-max keeps.")
    channels: int = Field(
        default=1,
        ge=1,
        le=2,
        description="Text cnn: with 2, filters read fixed vectors beside learned ones.",
    )
    dense: Dense = Field(
        default=(), description="cnn, bag: widths of hidden layers before the read-out."
    )
    dense_activation: str = Field(
        default="relu", description="Activation of these and of an mlp's layers, by its name."
    )
    ngrams: int = Field(
        default=1, ge=1, description="bag, mlp: count sequences of up to so many symbols."
    )
    max_norm: float | None = Field(
        default=None,
        gt=0,
        description="Keep the norm of each label's read-out weights at most this (Kim 2014: 3).",
    )
    class_weights: Weights | None = Field(
        default=None,
        description="balanced, or what an example of a label counts, e.g. spam=3; of others 1.",
    )
    best_by: Literal["accuracy", "f1_macro"] = Field(
        default="accuracy", description="The figure by which the best weights are chosen."
    )
    calibrate: bool = Field(
        default=False,
        description="Divide scores by a temperature fitted on validation, so that probabilities hold.",
    )
