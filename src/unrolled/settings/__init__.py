"""The settings of a run: one model that is the command line's flags, a recipe's keys and `config.json`.

Every field is a flag (`batch_size` is `--batch-size`), a key in its table of a recipe
(`[training] batch_size`), and a key of the saved `config.json`. A field left at ``None`` is
filled from the task's own defaults.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from unrolled.errors import InputError
from unrolled.settings.data import DataSettings, PictureSettings
from unrolled.settings.decoder import DecoderSettings
from unrolled.settings.embed import EmbedSettings
from unrolled.settings.forecast import ForecastSettings
from unrolled.settings.generator import GeneratorSettings
from unrolled.settings.model import AutoencoderSettings, ClassifierSettings, ModelSettings
from unrolled.settings.several import SeveralSettings
from unrolled.settings.tagger import TaggerSettings
from unrolled.settings.training import TrainingSettings
from unrolled.settings.values import Group
from unrolled.settings.varied import VariedSettings

__all__ = [
    "FORMAT_VERSION",
    "GROUPS",
    "AutoencoderSettings",
    "ClassifierSettings",
    "DataSettings",
    "DecoderSettings",
    "EmbedSettings",
    "ForecastSettings",
    "GeneratorSettings",
    "Group",
    "ModelSettings",
    "PictureSettings",
    "Settings",
    "SeveralSettings",
    "TaggerSettings",
    "Target",
    "TrainingSettings",
    "VariedSettings",
    "flag",
]

FORMAT_VERSION = 2


class Target(Group):
    """What a recipe must reach."""

    metric: str
    value: float
    better: Literal["lower", "higher"] = "lower"
    split: Literal["training", "validation", "test"] = "test"


class Settings(Group):
    """All settings of one run. `config.json` is this model written out."""

    format_version: int = Field(default=FORMAT_VERSION, ge=1, le=FORMAT_VERSION)
    task: str
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    pictures: PictureSettings = PictureSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    decoder: DecoderSettings = DecoderSettings()
    forecast: ForecastSettings = ForecastSettings()
    embed: EmbedSettings = EmbedSettings()
    generator: GeneratorSettings = GeneratorSettings()
    tagger: TaggerSettings = TaggerSettings()
    several: SeveralSettings = SeveralSettings()
    varied: VariedSettings = VariedSettings()
    target: Target | None = None

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.classifier.model == "ar" and self.task != "forecast":
            raise ValueError("--model ar is for the task forecast alone")
        return self

    @property
    def architecture(self) -> str:
        """Name the model in a few words."""
        own, model = self.classifier.model, self.model
        if own in ("cnn", "bag", "mlp", "ar"):
            return own
        if self.tagger.net != "rnn":
            return self.tagger.net
        return f"{model.layers} x {model.hidden} {model.cell}"

    @classmethod
    def from_flags(
        cls, task: str, flags: Mapping[str, Any], base: "Settings | None" = None
    ) -> "Settings":
        """Build settings from flat names, as flags and keyword arguments are: ``hidden=256, steps=2000``.

        Args:
            task: Name of the task.
            flags: Field name -> value; a value of ``None`` leaves the field as it is.
            base: Settings to start from, as a recipe's.

        Raises:
            InputError: If a name is unknown or a value out of range; the sentence says which.
        """
        tables: dict[str, Any] = (base or cls(task=task)).model_dump(exclude_unset=True)
        home = {field: group for group, model in GROUPS.items() for field in model.model_fields}
        for name, value in flags.items():
            if name not in home:
                raise InputError(
                    f"unknown setting {name!r}; `unrolled train --help` lists them all"
                )
            if value is not None:
                tables.setdefault(home[name], {})[name] = value
        return cls._checked(tables | {"task": task}, where="")

    @classmethod
    def from_toml(cls, path: Path) -> "Settings":
        """Read a recipe.

        Raises:
            InputError: If the file is missing, is not TOML, or a key or value is wrong.
        """
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(f"no recipe at {path}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path} is not a readable TOML file: {error}") from None
        return cls._checked(tables, where=f"{path}: ")

    @classmethod
    def from_json(cls, text: str, where: str) -> "Settings":
        """Read `config.json`; `where` opens the error sentence.

        Raises:
            InputError: If the text is damaged or written by a newer version.
        """
        try:
            tables = json.loads(text)
            version = tables.get("format_version")
        except (ValueError, AttributeError):
            raise InputError(f"{where} is not a JSON object; the file is damaged") from None
        if type(version) is not int or version < 1:
            raise InputError(
                f"{where} has no format_version from 1 on; it is not a model of unrolled"
            )
        if version > FORMAT_VERSION:
            raise InputError(
                f"{where} has format {version}, newer than the {FORMAT_VERSION} known here; upgrade unrolled"
            )
        if version == 1:
            _from_version_1(tables)
        return cls._checked(tables, where=f"{where}: ")

    @classmethod
    def _checked(cls, tables: Mapping[str, Any], where: str) -> "Settings":
        try:
            return cls.model_validate(tables)
        except ValidationError as error:
            raise InputError(where + _sentence(error)) from None

    def with_defaults(self, defaults: Mapping[str, Mapping[str, Any]]) -> "Settings":
        """Fill the fields nobody set from `defaults` (table -> field -> value)."""
        tables = self.model_dump(exclude_unset=True)
        for group, fields in defaults.items():
            tables[group] = {**fields, **tables.get(group, {})}
        return type(self)._checked(tables, where="")


GROUPS: dict[str, type[Group]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "training": TrainingSettings,
    "autoencoder": AutoencoderSettings,
    "pictures": PictureSettings,
    "classifier": ClassifierSettings,
    "decoder": DecoderSettings,
    "forecast": ForecastSettings,
    "embed": EmbedSettings,
    "generator": GeneratorSettings,
    "tagger": TaggerSettings,
    "several": SeveralSettings,
    "varied": VariedSettings,
}


def _from_version_1(tables: dict[str, Any]) -> None:
    """Put settings where they stand now."""
    training, decoder = tables.get("training", {}), tables.get("decoder", {})
    if "loss" in training:
        training["reduction"] = training.pop("loss")
    if "label_smoothing" in decoder:
        training["label_smoothing"] = decoder.pop("label_smoothing")
    tables["format_version"] = FORMAT_VERSION


def flag(field: str) -> str:
    """Name of a field on the command line."""
    return "--" + field.replace("_", "-")


def _sentence(error: ValidationError) -> str:
    """The first complaint of pydantic, in the words of the user's own flags."""
    first = error.errors(include_url=False)[0]
    names = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return f"unknown setting {'.'.join(names)!r}"
    if first["type"] == "missing":
        return f"setting {'.'.join(names)!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if len(names) < 2 or names[0] not in GROUPS:
        shown = f" {first['input']!r}" if not isinstance(first["input"], dict) else ""
        return f"{'.'.join(names)}{shown}: {message}" if names else message
    name = "data.source" if names[1] == "source" else flag(names[1])
    return f"{name} {first['input']!r}: {message[0].lower()}{message[1:]}"
