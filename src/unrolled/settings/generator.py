"""Settings of language models."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Dense, Group


class GeneratorSettings(Group):
    """Generator: what a language model is told besides the text."""

    condition: Literal["input", "state", "none"] | None = Field(
        default=None,
        description="generate: DATA is texts with labels, as classify reads them; a label's vector is added "
        "to every input, or is where the states begin; none tells no label.",
    )
    softmax: Literal["full", "adaptive", "sampled"] = Field(
        default="full",
        description="generate, words: how many of them are learned at once. adaptive: rare ones have fewer "
        "weights; sampled: each update compares with some that are drawn. Figures stay exact.",
    )
    cutoffs: Dense = Field(
        default=(),
        description="adaptive: after how many words, most frequent first, clusters of rarer ones begin "
        "(default: a twentieth and a quarter of all).",
    )
    samples: int = Field(default=1024, ge=1, description="sampled: words drawn for an update.")
