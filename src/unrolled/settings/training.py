"""Settings of how it is trained."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group, Names


class TrainingSettings(Group):
    """Training: how long, how fast, and when to look."""

    steps: int | None = Field(default=None, ge=1, description="Weight updates to make.")
    epochs: float | None = Field(
        default=None, gt=0, description="Passes over the training data, instead of --steps."
    )
    batch_size: int = Field(
        default=32, ge=1, description="Rows per update, over all processes together."
    )
    window: int = Field(
        default=64, ge=1, description="Steps of truncated back-propagation through time (k2)."
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        description="Steps between updates (k1), at most the window, which it is if left out.",
    )
    loss: (
        Literal["cross-entropy", "hinge", "squared-hinge", "squared", "absolute", "huber"] | None
    ) = Field(
        default=None,
        description="What is made small (default: cross-entropy of classes, squared error of numbers).",
    )
    reduction: Literal["mean", "sum"] = Field(
        default="mean", description="generate: mean over the steps of a window, or their sum."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Of the truth, share out so much among all classes."
    )
    smoothing: float = Field(
        default=0.99, ge=0, lt=1, description="Weight of the past in the smoothed loss."
    )
    optimizer: Literal[
        "sgd",
        "momentum",
        "nesterov",
        "adagrad",
        "rmsprop",
        "adadelta",
        "adam",
        "adamw",
        "hessian-free",
    ] = Field(default="adam", description="How weights follow gradients.")
    lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate (default: the optimiser's usual one; hessian-free finds its own).",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="For momentum and nesterov.")
    momentum_form: Literal["torch", "velocity"] = Field(
        default="torch",
        description="velocity: v = mu v - lr g, w += v, so that a new rate leaves v as it is.",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty (decoupled in adamw).")
    epsilon: float | None = Field(
        default=None, gt=0, description="The optimiser's epsilon (default: torch's)."
    )
    epsilon_inside: bool = Field(
        default=False,
        description="Adagrad with epsilon inside the root, sqrt(sum + epsilon), as first printed.",
    )
    clip_norm: float | None = Field(
        default=None, ge=0, description="Scale gradients to at most this global norm; 0 for none."
    )
    clip_value: float | None = Field(
        default=None, gt=0, description="Clip every gradient entry to +- this value."
    )
    clip_each: float | None = Field(
        default=None, gt=0, description="Scale each parameter's gradient to at most this norm."
    )
    l1: float = Field(default=0.0, ge=0, description="Add so much times sum |w| to the loss.")
    l2: float = Field(
        default=0.0,
        ge=0,
        description="Add so much times sum w^2, gradient 2 lambda w, to the loss.",
    )
    elastic: float = Field(
        default=0.0, ge=0, description="Add so much times sum beta w^2 + |w| to the loss."
    )
    elastic_beta: float = Field(default=0.5, ge=0, description="elastic: beta.")
    penalised: Names = Field(
        default=(),
        description="Parameters that l1, l2, elastic and unit-norm hold, e.g. net.*,readout.weight "
        "(default: all but biases).",
    )
    unit_norm: float | None = Field(
        default=None,
        gt=0,
        description="Keep the norm of each unit's incoming weights at most this (max-norm).",
    )
    activation_penalty: float = Field(
        default=0.0, ge=0, description="Add so much times the mean of h^2 of recurrent nets."
    )
    temporal_penalty: float = Field(
        default=0.0, ge=0, description="Add so much times the mean of (h_t - h_t-1)^2."
    )
    accumulate: int = Field(
        default=1, ge=1, description="Read each batch in so many pieces, to need less memory."
    )
    precision: Literal["full", "bfloat16"] = Field(
        default="full", description="bfloat16: compute products so, weights stay as they are."
    )
    average: Literal["none", "ema", "swa"] = Field(
        default="none",
        description="Judge and keep a moving (ema) or plain (swa) mean of the weights.",
    )
    average_decay: float = Field(
        default=0.999, gt=0, lt=1, description="ema: share of the past in the mean."
    )
    average_from: int | None = Field(
        default=None,
        ge=0,
        description="Updates before averaging begins (default: ema 0, swa three quarters).",
    )
    average_every: int = Field(
        default=1, ge=1, description="Updates between the weights that are averaged."
    )
    damping: float = Field(
        default=1.0,
        gt=0,
        description="hessian-free: lambda at the start; it then follows by itself.",
    )
    structural_damping: float = Field(
        default=0.0, ge=0, description="hessian-free: mu, which holds the hidden states back."
    )
    cg_iterations: int = Field(
        default=100, ge=1, description="hessian-free: most steps of conjugate gradients an update."
    )
    curvature: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="hessian-free: share of a batch on which curvature is measured.",
    )
    schedule: Literal["constant", "step", "cosine", "plateau"] = Field(
        default="constant", description="How the learning rate changes."
    )
    warmup: int = Field(default=0, ge=0, description="Steps over which the rate rises from 0.")
    decay_every: int = Field(
        default=1000, ge=1, description="step: multiply the rate every so many steps."
    )
    decay: float = Field(
        default=0.5, gt=0, lt=1, description="step and plateau: multiply the rate by this."
    )
    patience: int = Field(
        default=3, ge=1, description="plateau: evaluations without progress before a decay."
    )
    stop_after: int | None = Field(
        default=None,
        ge=1,
        description="Early stopping: end after so many evaluations without progress.",
    )
    evaluate_every: int | None = Field(
        default=None, ge=1, description="Steps between evaluations (default: a twentieth)."
    )
    sample_every: int | None = Field(
        default=None, ge=1, description="Steps between samples (default: at evaluations)."
    )
    sample_length: int = Field(default=200, ge=0, description="Symbols per sample; 0 for none.")
    checkpoint_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between checkpoints, besides those at each evaluation.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of everything random.")
    threads: int | None = Field(
        default=None, ge=1, description="Threads of the numerical libraries."
    )
    device: str = Field(default="cpu", description="cpu or cuda.")
