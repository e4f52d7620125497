"""Settings of how it is trained."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group


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
    loss: Literal["mean", "sum"] = Field(
        default="mean", description="Mean over the steps of a window, or their sum."
    )
    smoothing: float = Field(
        default=0.99, ge=0, lt=1, description="Weight of the past in the smoothed loss."
    )
    optimizer: Literal[
        *("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw"),
        "hessian-free",
    ] = Field(default="adam", description="How weights follow gradients.")
    lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate (default: the optimiser's usual one; hessian-free finds its own).",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="For momentum and nesterov.")
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
