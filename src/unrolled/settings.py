"""The settings of a run: one model that is the command line's flags, a recipe's keys and `config.json`.

Every field is a flag (`batch_size` is `--batch-size`), a key in its table of a recipe
(`[training] batch_size`), and a key of the saved `config.json`. A field left at ``None`` is
filled from the task's own defaults.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from unrolled.errors import InputError

FORMAT_VERSION = 1


def _fractions(value: object) -> object:
    """Read "0.9,0.05,0.05" or "90/5/5" as three fractions."""
    if isinstance(value, str):
        parts = value.replace("/", ",").split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            return value
        total = sum(numbers)
        return tuple(n / total for n in numbers) if total > 1.5 else tuple(numbers)
    return value


Split = Annotated[tuple[float, float, float], BeforeValidator(_fractions)]


def _numbers(value: object) -> object:
    """Read "0.05,0.5" or a number alone as several."""
    if isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int | float) else value


Probabilities = Annotated[
    tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(_numbers)
]


def _names(value: object) -> object:
    """Read "OT, HUFL" as two names."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


def _options(value: object) -> object:
    """Read "leak=0.7, distances=[1, 4]" as a table of TOML."""
    if isinstance(value, str):
        try:
            return tomllib.loads(f"options = {{{value}}}")["options"]
        except tomllib.TOMLDecodeError:
            raise ValueError("write name=value, several with commas, as in leak=0.7") from None
    return value


Options = Annotated[dict[str, Any], BeforeValidator(_options)]


Widths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), BeforeValidator(_numbers)
]


def _merged(value: object) -> object:
    """Read "negative=0,1; positive=3,4" as a table: new label -> old ones."""
    if isinstance(value, str):
        pairs = (part.partition("=") for part in value.split(";") if part.strip())
        return {new.strip(): _names(old) for new, _, old in pairs}
    return value


Merged = Annotated[dict[str, Names], BeforeValidator(_merged)]


Dense = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_numbers)]


class Group(BaseModel):
    """One table of a recipe and one panel of `unrolled train --help`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=False, allow_inf_nan=False
    )


class DataSettings(Group):
    """Data: what is read and how it becomes symbols."""

    source: tuple[str, ...] = Field(
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
        default=(), description="classify: data for validation, instead of a part of DATA."
    )
    test: Names = Field(
        default=(), description="classify: data for the test, instead of a part of DATA."
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        description="classify: cross-validation; the test part is one of so many.",
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
        description="Steps of what is made: a sequence of adding or copying, all of mackey-glass.",
    )
    columns: Names = Field(default=(), description="Columns of a CSV file to read (default: all).")
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


class ModelSettings(Group):
    """Model: the cell, how many, how wide."""

    cell: str = Field(
        default="lstm", description="rnn, lstm, gru, or your own as module:Class or path.py:Class."
    )
    cell_options: Options = Field(
        default={}, description="Further arguments of the cell, e.g. leak=0.7, spectral_radius=1.0."
    )
    nonlinearity: Literal["tanh", "relu", "sigmoid"] = Field(
        default="tanh", description="Activation of the rnn cell."
    )
    hidden: int = Field(default=128, ge=1, description="Width of the hidden state.")
    layers: int = Field(default=1, ge=1, description="Recurrent layers, one on the other.")
    embedding: int | None = Field(
        default=None,
        ge=0,
        description="Width of the symbol embedding; 0 is one-hot (the default up to 256 symbols).",
    )
    bidirectional: bool = Field(
        default=False, description="Read from both ends; not for language models."
    )
    connection: Literal["plain", "residual", "highway", "dense"] = Field(
        default="plain", description="What a layer does with its input besides reading it."
    )
    learned_states: bool = Field(default=False, description="Learn the initial states.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of every layer's output.")
    fixed_dropout: bool = Field(
        default=False, description="Drop the same outputs at all steps (variational dropout)."
    )
    recurrent_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout of the state on its way to the next step."
    )
    weight_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Dropout of recurrent weights (DropConnect)."
    )
    zoneout: Probabilities = Field(
        default=(),
        description="Probability that a unit keeps its state; of each state in turn, e.g. 0.05,0.5.",
    )
    tied: bool = Field(
        default=False, description="Share the read-out's weights with the embedding."
    )
    initial_scale: float | None = Field(
        default=None,
        gt=0,
        description="Draw weights from N(0, scale^2), biases 0, instead of the cell's own start.",
    )
    recurrent_start: (
        Literal["identity", "orthogonal", "glorot", "he", "lecun", "sparse", "normal"] | None
    ) = Field(
        default=None, description="How recurrent weights begin, instead of the cell's own way."
    )
    forget_bias: float | None = Field(
        default=None, description="Where the bias of the forget gate begins."
    )
    chrono: int | None = Field(
        default=None, ge=3, description="Longest time scale of the gates at the start, in steps."
    )
    ridge: float = Field(
        default=1e-8, ge=0, description="esn: shrinks the read-out that is fitted in closed form."
    )
    washout: int = Field(
        default=100, ge=0, description="esn: steps at the start that are not learned from."
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="Number format of weights and states."
    )


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
        "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw"
    ] = Field(default="adam", description="How weights follow gradients.")
    lr: float | None = Field(
        default=None, gt=0, description="Learning rate (default: the optimiser's usual one)."
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


class AutoencoderSettings(Group):
    """Autoencoder: its layers, what it is asked for, and how it is trained layer by layer."""

    widths: Widths = Field(
        default=(128, 64, 8), description="Units of the encoder's layers, the code's last."
    )
    activation: str = Field(default="elu", description="Of the hidden layers, by its name.")
    code: str = Field(
        default="identity", description="Activation of the code; identity leaves it linear."
    )
    output: Literal["sigmoid", "linear"] = Field(
        default="sigmoid", description="What the reconstruction comes out of."
    )
    error: Literal["squared", "cross-entropy"] = Field(
        default="squared", description="What is made small: the sum over a picture's numbers."
    )
    tied_decoder: bool = Field(
        default=False, description="Decode with the encoder's weights, transposed."
    )
    sparse_units: float = Field(
        default=0.0, ge=0, description="Penalty on the absolute values of hidden units (L1)."
    )
    sparse_weights: float = Field(
        default=0.0, ge=0, description="Penalty on the absolute values of weights (L1)."
    )
    kl: float = Field(
        default=0.0,
        ge=0,
        description="Penalty on the divergence between a unit's mean over a batch and --kl-target.",
    )
    kl_target: float = Field(
        default=0.05, gt=0, lt=1, description="How active a sigmoid unit should be on average."
    )
    contraction: float = Field(
        default=0.0, ge=0, description="Penalty on the derivatives of the units by their input."
    )
    mask_noise: float = Field(
        default=0.0, ge=0, lt=1, description="Denoising: share of the input that is set to 0."
    )
    salt_noise: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Denoising: share of the input set to 0 or 1 at random.",
    )
    gaussian_noise: float = Field(
        default=0.0,
        ge=0,
        description="Denoising: standard deviation of what is added to the input.",
    )
    layer_steps: int = Field(
        default=0,
        ge=0,
        description="First so many updates for each layer alone, from the first on; part of --steps.",
    )
    row_by_row: bool = Field(
        default=False,
        description="Read a picture as a sequence of rows, with --cell, and write it with another.",
    )
    labelled: int | None = Field(
        default=None, ge=2, description="few-labels: how many labelled pictures there are."
    )
    freeze: bool = Field(
        default=False, description="few-labels: train the classifier alone, on top of the code."
    )


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


class ClassifierSettings(Group):
    """Classifier: which kind, and what a convolutional one is made of."""

    model: Literal["rnn", "cnn", "bag", "mlp"] | None = Field(
        default=None,
        description="What labels are read out of (default: rnn for texts, cnn for pictures).",
    )
    scan: Literal["rows", "pixels"] = Field(
        default="rows", description="What an rnn reads of a picture at a step."
    )
    filters: int = Field(
        default=100, ge=1, description="Text cnn: filters of each width and pooling."
    )
    filter_widths: Widths = Field(
        default=(3, 4, 5), description="Text cnn: how many words filters span, e.g. 2,3,4,5."
    )
    pooling: Literal["max", "k-max", "mean"] = Field(
        default="max", description="Text cnn: what is kept of a filter's answers to a text."
    )
    k: int = Field(default=2, ge=1, description="Text cnn: how many answers k-max keeps.")
    channels: int = Field(
        default=1,
        ge=1,
        le=2,
        description="Text cnn: with 2, filters read fixed vectors beside learned ones.",
    )
    dense: Dense = Field(
        default=(), description="cnn, bag: widths of hidden layers before the read-out."
    )
    ngrams: int = Field(
        default=1, ge=1, description="bag, mlp: count sequences of up to so many symbols."
    )


class Target(Group):
    """What a recipe must reach."""

    metric: str
    value: float
    better: Literal["lower", "higher"] = "lower"
    split: Literal["training", "validation", "test"] = "test"


class Settings(Group):
    """All settings of one run. `config.json` is this model written out."""

    format_version: int = FORMAT_VERSION
    task: str
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    pictures: PictureSettings = PictureSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    target: Target | None = None

    @property
    def architecture(self) -> str:
        """Name the model in a few words."""
        own, model = self.classifier.model, self.model
        if own in ("cnn", "bag", "mlp"):
            return own
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
        if not isinstance(version, int):
            raise InputError(f"{where} has no format_version; it is not a model of unrolled")
        if version > FORMAT_VERSION:
            raise InputError(
                f"{where} has format {version}, newer than the {FORMAT_VERSION} known here; upgrade unrolled"
            )
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
}


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
        return f"{'.'.join(names)}: {message}" if names else message
    return f"{flag(names[1])} {first['input']!r}: {message[0].lower()}{message[1:]}"
