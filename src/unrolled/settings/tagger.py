"""Settings of taggers."""

from typing import Literal

from pydantic import Field

from unrolled.settings.values import Group


class TaggerSettings(Group):
    """Tagger: what words are made of, what reads them, and how tags are read out."""

    net: Literal["rnn", "cnn", "linear"] = Field(
        default="rnn",
        description="tag: what reads the steps; linear sees one, and the tags of those before.",
    )
    readout: Literal["softmax", "window", "crf", "previous"] = Field(
        default="softmax",
        description="tag: each step by itself, the states of the last few, a chain of tags (CRF), or an "
        "rnn that is fed its previous tag.",
    )
    lags: int = Field(
        default=2,
        ge=0,
        description="Steps back that --readout window (states) and --net linear (tags) look.",
    )
    span: int = Field(default=3, ge=1, description="tag: steps that a filter of --net cnn spans.")
    characters: Literal["rnn", "cnn", "none"] | None = Field(
        default=None,
        description="tag: what reads the characters of words (default: rnn, none where words have one).",
    )
    character_embedding: int = Field(
        default=32, ge=1, description="Width of the vector of a character."
    )
    character_units: int = Field(
        default=64, ge=1, description="Filters over characters, or units of each direction."
    )
    word_dropout: float = Field(
        default=0.25,
        ge=0,
        description="alpha: a word that came n times trains as unknown with probability alpha/(alpha+n).",
    )
