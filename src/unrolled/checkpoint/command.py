"""``unrolled sample``, ``unrolled predict``, ``unrolled evaluate``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from unrolled import console
from unrolled.errors import InputError

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")]
OwnCell = Annotated[
    str | None,
    typer.Option("--cell", help="Your own cell again, for a model that was trained with it."),
]
TopK = Annotated[int | None, typer.Option(help="Draw among the K likeliest only.")]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw among the likeliest that together hold this probability."),
]


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command("sample")(_sample)
    app.command("predict")(_predict)
    app.command("evaluate")(_evaluate)


def _sample(
    model: Model,
    prompt: Annotated[
        str, typer.Option(help="What the text begins with; of music a file of one piece.")
    ] = "",
    length: Annotated[
        int | None,
        typer.Option(help="Symbols to write, or steps of music. \\[default 500, of music 64]"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0: always the likeliest; above 1: wilder. \\[default 1]")
    ] = None,
    top_k: TopK = None,
    top_p: TopP = None,
    stop: Annotated[str | None, typer.Option(help="End before this text.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="Texts to write, all different.")] = 1,
    beam: Annotated[
        int | None,
        typer.Option(metavar="WIDTH", help="Search for one likely text instead of drawing."),
    ] = None,
    unknown: Annotated[
        Literal["error", "skip"] | None,
        typer.Option(
            help="What to do with symbols of the prompt that the model never saw. \\[default error]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="What kind of text, for a model that learned labels.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write music to a file: its notes as .json or .mid, or drawn as .png."),
    ] = None,
    cell: OwnCell = None,
    json: console.Json = False,
) -> None:
    """Write text or music with a trained model, shown as it is drawn."""
    from unrolled.checkpoint.load import load

    drawing = _given(temperature=temperature, top_k=top_k, top_p=top_p)
    common = _given(length=length, stop=stop, unknown=unknown, label=label)
    if beam is not None and (drawing or samples > 1):
        raise InputError(
            "--beam finds one text: leave out --samples, --temperature, --top-k and --top-p"
        )
    trained = load(model, cell)
    if out is not None:
        if beam is not None or samples > 1:
            raise InputError("--out takes one piece of music; leave out --samples and --beam")
        trained.compose(out, prompt, seed=seed, **drawing, **common)
        return
    if beam is not None:
        texts = [iter([trained.beam(prompt, width=beam, **common)])]
    else:
        texts = [
            trained.sample(prompt, seed=seed, sample=number, **drawing, **common)
            for number in range(samples)
        ]
    if json:
        console.print_json({"prompt": prompt, "samples": ["".join(pieces) for pieces in texts]})
        return
    for number, pieces in enumerate(texts, start=1):
        if samples > 1:
            print(f"--- {number} of {samples} ---")
        if trained.task.prompts == "text":
            _stream(prompt)
        for piece in pieces:
            _stream(piece)
        print()


def _given(**options: object) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _stream(text: str) -> None:
    """Write text at once; on a terminal, what could steer it is made visible."""
    print(console.visible(text) if sys.stdout.isatty() else text, end="", flush=True)


def _predict(
    model: Model,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Texts; '-' stands for standard input."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file of inputs, one a line; '-' for standard input.")
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(metavar="WIDTH", help="translate, caption: width of the search; 1 is greedy."),
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Log probabilities are divided by length to this power.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Draw instead: 0 the likeliest, above 1 wilder.")
    ] = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of what is drawn.")] = None,
    cell: OwnCell = None,
    json: console.Json = False,
) -> None:
    """Apply a trained model to inputs, one result each."""
    from unrolled.checkpoint.load import load

    texts = list(_read_inputs(inputs or [], file))
    if not texts:
        raise InputError("nothing to predict: give texts, or --file with one text a line")
    search = _given(beam=beam, length_penalty=length_penalty)
    options = search | _given(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    predictions = load(model, cell).predict(texts, **options)
    if json:
        console.print_json({"predictions": list(predictions)})
        return
    for prediction in predictions:
        print("\t".join(_readable(value) for value in prediction.values()))


def _read_inputs(inputs: list[str], file: Path | None) -> Iterator[str]:
    for text in inputs:
        if text == "-":
            yield from _lines("-")
        else:
            yield text
    if file is not None:
        yield from _lines(str(file))


def _lines(file: str) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        where = "standard input" if file == "-" else file
        raise InputError(f"{where} is not UTF-8 at byte {error.start}") from None


def _readable(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_readable(item)}" for name, item in value.items())
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return console.visible(text) if sys.stdout.isatty() else text


def _evaluate(
    model: Model,
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help="Data of the kind the model learned from."),
    ],
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of the data, if not that of the training data.")
    ] = None,
    cell: OwnCell = None,
    json: console.Json = False,
) -> None:
    """Judge a trained model on data, simple baselines beside it."""
    from unrolled.checkpoint.load import load

    found = load(model, cell, encoding).evaluate(data)
    if json:
        console.print_json(found)
        return
    for part in _readable_parts(found):
        console.results().print(part)


def _readable_parts(found: dict[str, Any]) -> Iterator[Table | str]:
    """Give the figures beside the baselines', then counts and words, then what is known of each class."""
    baselines = found.pop("baselines", {})
    tables = {name: value for name, value in found.items() if isinstance(value, Mapping)}
    counts = {name: value for name, value in found.items() if isinstance(value, int)}
    figures = {name: value for name, value in found.items() if isinstance(value, float)}
    yield console.comparison({"this model": figures, **baselines}, bold="this model")
    yield from (f"{console.words(name)}: {value:,}" for name, value in counts.items())
    yield from (f"{console.words(name)}: {v}" for name, v in found.items() if isinstance(v, str))
    for name, rows in tables.items():
        yield f"\n{console.words(name)}"
        yield console.comparison(rows)
