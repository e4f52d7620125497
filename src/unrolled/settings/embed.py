"""Settings of metric learning."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group


class EmbedSettings(Group):
    """Embed: which examples are to lie near each other, and how that is learned."""

    dimension: int = Field(default=32, ge=1, description="Numbers of an embedding.")
    objective: Literal["triplet", "contrastive", "n-pairs", "group"] = Field(
        default="triplet", description="What brings examples of a label together, others apart."
    )
    mining: Literal["all", "semi-hard", "hard"] = Field(
        default="all",
        description="triplet: which of a batch are learned from; contrastive: all or hard.",
    )
    margin: float = Field(
        default=0.2, gt=0, description="triplet, contrastive: how far others are to be away."
    )
    temperature: float = Field(
        default=0.1, gt=0, description="n-pairs: what products of embeddings are divided by."
    )
    unit_length: bool = Field(default=True, description="Give all embeddings the length 1.")
    per_label: int = Field(
        default=4, ge=2, description="Examples of a label in a batch; --batch-size is a multiple."
    )
    by_frequency: bool = Field(
        default=False, description="Draw labels as often as they occur, instead of evenly."
    )
    neighbours: int = Field(
        default=5, ge=1, description="How many of the nearest training examples predict gives."
    )
    map: Literal["pca", "tsne"] = Field(
        default="pca", description="How map.png brings embeddings into the plane."
    )
