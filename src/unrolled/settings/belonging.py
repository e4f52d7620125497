"""Which tasks and kinds of data a setting belongs to: elsewhere it would do nothing, and is refused."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from unrolled.errors import InputError
from unrolled.settings import GROUPS, Settings, flag

Readers = Mapping[str, Sequence[str]]
"""Name of a kind of data -> the settings that are read with it."""

_TABLES = {field: table for table, group in GROUPS.items() for field in group.model_fields}

_LABELLED = ("classify", "embed")
TASKS: Readers = {
    "autoencoder": ("reconstruct", "few-labels"),
    "pictures": (*_LABELLED, "caption", "reconstruct", "few-labels"),
    **dict.fromkeys(("shift", "rotate", "scale", "noise"), _LABELLED),
    "classifier": (*_LABELLED, "caption", "forecast"),
    **dict.fromkeys(("over_time", "scan", "filters", "filter_widths", "pooling", "k"), _LABELLED),
    **dict.fromkeys(
        ("channels", "wide", "ngrams", "max_norm", "class_weights", "calibrate"), _LABELLED
    ),
    "best_by": ("classify",),
    **dict.fromkeys(("dense", "dense_activation"), (*_LABELLED, "forecast")),
    "decoder": ("translate", "caption"),
    "teacher_forcing": ("translate", "caption", "tag"),
    **dict.fromkeys(("shared_vocabulary", "copy_unknown"), ("translate",)),
    "forecast": ("forecast",),
    "embed": ("embed",),
    "generator": ("generate",),
    "tagger": ("tag", "several"),
    "several": ("several",),
    "varied": _LABELLED,
    **dict.fromkeys(("stride", "reduction"), ("generate",)),
    "window": ("generate", "forecast"),
    "symbols": ("generate", *_LABELLED, "translate", "caption"),
    "unknown": ("generate", *_LABELLED, "translate", "caption"),
    "vocabulary_size": ("generate", *_LABELLED, "translate", "caption", "tag", "several"),
    **dict.fromkeys(
        ("validation", "test"),
        (*_LABELLED, "tag", "several", "translate", "caption", "generate"),
    ),
    **dict.fromkeys(("folds", "fold"), (*_LABELLED, "forecast", "translate", "generate")),
    "stratify": (*_LABELLED, "generate"),
    "lowercase": (*_LABELLED, "generate", "tag", "several"),
    **dict.fromkeys(("simplify", "merge"), (*_LABELLED, "generate")),
    "phrases": _LABELLED,
    "length": ("forecast", "tag"),
    "missing": (*_LABELLED, "forecast", "tag"),
    "audio": (*_LABELLED, "tag"),
    "columns": ("forecast", "tag", "several"),
    "targets": ("forecast", "tag"),
    **dict.fromkeys(("horizon", "recursive", "ridge", "washout"), ("forecast",)),
    **dict.fromkeys(("vectors", "frozen_vectors"), (*_LABELLED, "tag", "several")),
}
"""Table or setting, which counts first, -> the tasks that read it; what is not named is for all."""

_OF_SYMBOLS = ("filters", "filter_widths", "over_time")
EXAMPLES: Readers = {
    "texts": (
        *("symbols", "vocabulary_size", "unknown", "lowercase", "simplify", "phrases", "merge"),
        *("vectors", "frozen_vectors", "embedding", "pooling", "k", "channels", "wide", "ngrams"),
        *("drop_symbols", "swap_symbols", "noise_symbols", *_OF_SYMBOLS),
    ),
    "signals": ("audio", "missing", "jitter", "amplitude", "warp", "size", *_OF_SYMBOLS),
    "pictures": (
        *("size", "unreadable", "shift", "rotate", "scale", "noise", "scan", "over_time"),
    ),
    "rows": (),
}
"""What classify and embed read with each kind of example."""
STEPS: Readers = {
    "words": (
        *("columns", "lowercase", "vocabulary_size", "vectors", "frozen_vectors", "embedding"),
        *("characters", "character_embedding", "character_units", "word_dropout"),
    ),
    "vectors": ("columns", "targets", "missing", "audio"),
    "copying": ("length", "embedding"),
}
"""What tag reads with each kind of step."""
TEXTS: Readers = {
    "texts with labels (--condition)": (
        *("folds", "fold", "stratify", "lowercase", "simplify", "merge"),
    ),
    "running text": ("window", "stride"),
}
"""What generate reads with each kind of text."""
NUMBERS: Readers = {
    "series": (
        *("columns", "targets", "horizon", "recursive", "missing", "known", "time", "scaling"),
        *("order", "season", "head", "quantiles", "interval", "length", "folds", "fold"),
    ),
    "rows": ("columns", "targets", "missing", "scaling", "head", "quantiles", "interval", "length"),
    "music": ("quarter",),
    "adding": ("length",),
    "moving-digits": ("length",),
}
"""What forecast reads with each kind of data."""

_RECURRENT = (
    *("cell", "cell_options", "nonlinearity", "bidirectional", "connection", "learned_states"),
    *("recurrent_dropout", "weight_dropout", "zoneout", "weight_norm", "recurrent_start"),
    *("forget_bias", "chrono", "activation_penalty", "temporal_penalty"),
)
_DENSE = ("dense", "dense_activation")
_OF_CNN = ("wide", "pooling", "k", "channels", *_DENSE)


class Choice(NamedTuple):
    """A setting whose value says whether others are read."""

    table: str
    field: str
    readers: Readers
    """Value -> the settings that are read with it; those of other values are not."""
    tasks: Sequence[str]


_TAGGED = ("tag", "several")
_SIZES = ("hidden", "layers")
_LAYERED = (*_SIZES, *_DENSE)
_FILTERS = ("filters", "filter_widths")
NETS: Mapping[str, Readers] = {
    "texts": {
        "rnn": (*_SIZES, "over_time"),
        "cnn": (*_FILTERS, *_DENSE),
        "bag": _DENSE,
        "mlp": _LAYERED,
    },
    "signals": {
        "rnn": (*_SIZES, "over_time"),
        "cnn": ("layers", *_FILTERS, "over_time", *_DENSE),
        "bag": _DENSE,
        "mlp": _LAYERED,
    },
    "pictures": {"rnn": (*_SIZES, "over_time"), "cnn": (), "mlp": _LAYERED},
    "rows": {"mlp": _LAYERED},
}
"""What each net that classifies and embeds reads, by the kind of example."""
_MODELS: Readers = {
    "rnn": (*_RECURRENT, "fixed_dropout", "scan"),
    "cnn": _OF_CNN,
    "bag": ("ngrams", *_DENSE),
    "mlp": ("ngrams", *_DENSE),
}
_DISTANCES = ("margin", "mining")
CHOICES = (
    Choice("classifier", "model", _MODELS, (*_LABELLED, "forecast")),
    Choice("classifier", "pooling", {"k-max": ("k",)}, _LABELLED),
    Choice(
        "tagger",
        "net",
        {"rnn": (*_RECURRENT, *_SIZES), "cnn": ("span", *_SIZES), "linear": ("lags",)},
        _TAGGED,
    ),
    Choice("tagger", "readout", {"previous": ("teacher_forcing",)}, _TAGGED),
    Choice("several", "sharing", {"soft": ("distance",)}, ("several",)),
    Choice("decoder", "attention", {"top-k": ("attended",)}, ("translate", "caption")),
    Choice(
        "embed",
        "objective",
        {"triplet": _DISTANCES, "contrastive": _DISTANCES, "n-pairs": ("temperature",)},
        ("embed",),
    ),
    Choice(
        "generator", "softmax", {"adaptive": ("cutoffs",), "sampled": ("samples",)}, ("generate",)
    ),
)


def of_the_package(task: str) -> bool:
    """Whether it is known what a task reads; one of somebody else may read anything."""
    return any(task in tasks for tasks in TASKS.values())


def check_task(settings: Settings) -> None:
    """Refuse what is set but not read by the task. Tasks of others may read anything.

    Raises:
        InputError: If there is something.
    """
    if not of_the_package(settings.task):
        return
    for table, group in GROUPS.items():
        for field in group.model_fields:
            tasks = TASKS.get(field, TASKS.get(table, ()))
            if tasks and settings.task not in tasks and _is_set(settings, table, field):
                raise InputError(
                    f"{flag(field)} is for {_listed(tasks)}, not for {settings.task}; leave it out"
                )


def check_choices(wanted: Settings, settings: Settings, more: Sequence[Choice] = ()) -> None:
    """Refuse what is set but not read with another setting as it is.

    Args:
        wanted: What somebody set.
        settings: The same with all defaults.
        more: Settings that say whether others are read, besides those for all data.

    Raises:
        InputError: If there is something.
    """
    for choice in (*CHOICES, *more):
        value = getattr(getattr(settings, choice.table), choice.field)
        if settings.task in choice.tasks and value is not None:
            read = {*choice.readers.get(value, ())}
            if settings.tagger.readout == "window":
                read.add("lags")  # which the linear net reads, too
            _refuse(wanted, choice.readers, value, read, f"{flag(choice.field)} ")


def refuse_others(settings: Settings, readers: Readers, kind: str) -> None:
    """Refuse what is set but read with other kinds of data alone.

    Args:
        settings: Of the run.
        readers: What is read with each kind.
        kind: That of the data.

    Raises:
        InputError: If there is something.
    """
    _refuse(settings, readers, kind, readers[kind])


def _refuse(
    settings: Settings, readers: Readers, kind: str, read: Collection[str], of: str = ""
) -> None:
    for field in dict.fromkeys(field for fields in readers.values() for field in fields):
        if field not in read and _is_set(settings, _TABLES[field], field):
            others = [name for name, fields in readers.items() if field in fields]
            raise InputError(
                f"{flag(field)} is for {of}{_listed(others)}, not for {kind}; leave it out"
            )


def _is_set(settings: Settings, table: str, field: str) -> bool:
    """Whether a setting is not what it is without anybody's doing."""
    group: Any = getattr(settings, table)
    return field in group.model_fields_set and getattr(
        group, field
    ) != group.__class__.model_fields[field].get_default(call_default_factory=True)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
