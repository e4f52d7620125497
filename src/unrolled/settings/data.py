"""Settings of what is read."""

from typing import Literal, Self

from pydantic import Field, model_validator

from unrolled.settings.values import Group, Merged, Names, Source, Split


class DataSettings(Group):
    """Data: what is read and how it becomes symbols."""

    source: Source = Field(
        default=(),
        description="Files, directories, '-' for standard input, or names from `unrolled data list`.",
    )
    symbols: Literal["character", "byte", "word", "subword"] = Field(
        default="character", description="What one symbol is."
    )
    vocabulary_size: int | None = Field(
        default=None,
        ge=2,
        description="Most symbols to keep (word: 20000, subword: 2000, others: all).",
    )
    unknown: bool = Field(
        default=True,
        description="Keep a symbol for what the training text lacks; off closes the vocabulary.",
    )
    split: Split = Field(
        default=(0.9, 0.05, 0.05),
        description="Fractions for training, validation and test, e.g. 0.9,0.05,0.05.",
    )
    validation: Names = Field(
        default=(), description="Data for validation, instead of a part of DATA."
    )
    test: Names = Field(default=(), description="Data for the test, instead of a part of DATA.")
    folds: int | None = Field(
        default=None,
        ge=2,
        description="classify: cross-validation, the test part is one of so many; forecast: backtest, "
        "so many test parts one after the other, each with all that was before to learn from.",
    )
    fold: int = Field(default=0, ge=0, description="Which of the folds is the test part, from 0.")
    encoding: str = Field(default="utf-8", description="Encoding of text files.")
    lowercase: bool = Field(default=False, description="classify: read texts in lower case.")
    simplify: bool = Field(
        default=False,
        description="classify: of texts keep letters, digits and ( ) , ! ? only; don't is dont.",
    )
    phrases: bool = Field(
        default=False, description="classify: of trees, learn from every phrase that has a label."
    )
    merge: Merged = Field(
        default={},
        description="classify: new labels from old, e.g. negative=0,1; positive=3,4. Others go.",
    )
    length: int | None = Field(
        default=None,
        ge=1,
        description="Steps of adding or copying; of a series, how many to make or to read.",
    )
    stratify: bool = Field(
        default=False, description="classify: split each label's examples in the same proportion."
    )
    missing: Literal["error", "forward", "interpolate", "drop"] = Field(
        default="error",
        description="What to do where a value or a step of a signal or series is missing.",
    )
    audio: Literal["bands", "samples"] = Field(
        default="bands",
        description="What is read of a WAV file: log power in bands, or its samples.",
    )
    columns: Names = Field(
        default=(),
        description="Columns of a CSV file to read (default: all); of words and tags, which they are, as "
        "form,xpos or 1,4.",
    )
    targets: Names = Field(
        default=(),
        description="Columns of a CSV file to tell; forecast: default all that are not known ahead, tag: "
        "at each step, default label, or the last.",
    )
    horizon: int = Field(default=1, ge=1, description="How many steps ahead to forecast.")
    recursive: bool = Field(
        default=False,
        description="Forecast by single steps, each read as the next input, instead of at once.",
    )

    @property
    def validates(self) -> bool:
        """Whether there is a validation split."""
        return bool(self.validation) or self.split[1] > 0

    @property
    def tests(self) -> bool:
        """Whether there is a test split."""
        return bool(self.test or self.folds) or self.split[2] > 0

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.folds and self.fold >= self.folds:
            raise ValueError(
                f"fold {self.fold} must be below folds {self.folds}: they count from 0"
            )
        if self.folds and self.test:
            raise ValueError("give folds or test, not both: a fold is the test part")
        if (
            any(part < 0 for part in self.split)
            or abs(sum(self.split) - 1) > 1e-6
            or not self.split[0]
        ):
            raise ValueError(
                f"split {self.split} must be three fractions that sum to 1, the first above 0"
            )
        return self


class PictureSettings(Group):
    """Pictures: their size, and how they are varied while training."""

    size: int | None = Field(
        default=None, ge=1, description="Scale pictures to so many pixels a side."
    )
    unreadable: Literal["stop", "skip"] = Field(
        default="stop", description="What to do at a file of a folder that is no picture."
    )
    shift: float = Field(default=0.0, ge=0, description="Shift by up to so many pixels.")
    rotate: float = Field(default=0.0, ge=0, le=180, description="Rotate by up to so many degrees.")
    scale: float = Field(
        default=0.0, ge=0, lt=1, description="Scale each side by a factor within 1 +- this."
    )
    noise: float = Field(
        default=0.0, ge=0, description="Standard deviation of noise, where white is 1."
    )
