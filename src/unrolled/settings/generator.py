"""Settings of language models."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group


class GeneratorSettings(Group):
    """Generator: what a language model is told besides the text."""

    condition: Literal["input", "state", "none"] | None = Field(
        default=None,
        description="generate: DATA is texts with labels, as classify reads them; a label's vector is added "
        "to every input, or is where the states begin; none tells no label.",
    )
