"""Settings of what writes sequences."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group


class DecoderSettings(Group):
    """Decoder: how translate and caption write, and what they look at meanwhile."""

    attention: Literal["none", "additive", "dot", "general", "hard", "sampled", "top-k"] = Field(
        default="general", description="What the decoder looks at, of what was read, at each step."
    )
    attended: int = Field(default=3, ge=1, description="Steps that top-k attention chooses.")
    input_feeding: bool = Field(
        default=False, description="Read what was seen at the last step, too; goes step by step."
    )
    decoder_cell: str | None = Field(
        default=None, description="Registered cell that writes (default: --cell, which reads)."
    )
    teacher_forcing: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="How often the decoder reads the true symbol, not its own, in the end; from 1.",
    )
    shared_vocabulary: bool = Field(
        default=False, description="translate: one vocabulary and embedding for both sides."
    )
    copy_unknown: bool = Field(
        default=False, description="translate: write, for an unknown word, the one most looked at."
    )
    beam: int = Field(
        default=5, ge=1, description="Width of the search for what is written; 1 is greedy."
    )
    length_penalty: float = Field(
        default=1.0, ge=0, description="Log probabilities are divided by length to this power."
    )
