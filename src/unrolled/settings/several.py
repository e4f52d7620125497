"""Settings of several tasks that are learned together."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group, LossWeights


class SeveralSettings(Group):
    """Several: what tasks share, and how much each counts."""

    sharing: Literal["hard", "soft"] = Field(
        default="hard",
        description="several: one encoder for all, or one for each, drawn to each other.",
    )
    distance: float = Field(
        default=1e-3,
        ge=0,
        description="soft: times the squared distance between weights of encoders, added to the loss; 0 "
        "learns each task alone.",
    )
    loss_weights: LossWeights = Field(
        default=(),
        description="What the loss of each task is multiplied by, e.g. 1,0.5 (default: 1), or learned.",
    )
