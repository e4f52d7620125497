"""``unrolled inspect``: a trained model seen from inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unrolled import console

if TYPE_CHECKING:
    from unrolled.checkpoint.load import Trained


def inspect_(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="What it is looked at with.")],
    what: Annotated[
        Literal["filters", "ngrams", "attention"],
        typer.Argument(
            metavar="WHAT",
            help="filters: of a model of pictures its filters, activation maps, what excites its "
            "units, and which of them are dead, saturated or duplicates; ngrams: of a text cnn the "
            "n-grams that drive its filters and its decisions; attention: of what translates or captions "
            "what it looked at for each symbol it wrote.",
        ),
    ] = "filters",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where pages and pictures go; MODEL/WHAT if left out."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(metavar="N", min=1, help="Look at the first N pictures or texts only.")
    ] = 1000,
    units: Annotated[
        int, typer.Option(metavar="N", min=1, help="Draw so many units of each layer.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    cell: Annotated[
        str | None,
        typer.Option("--cell", help="Your own cell again, for a model that was trained with it."),
    ] = None,
    json: console.Json = False,
) -> None:
    """Look inside a trained model, and write one page that needs no other file."""
    from unrolled.checkpoint.load import load

    if what == "ngrams":
        _ngrams(load(model, cell), data, out or model / what, pictures, json=json)
        return
    if what == "attention":
        _attention(load(model, cell), data, out or model / what, pictures, json=json)
        return
    from unrolled.inspect.filters import filters
    from unrolled.inspect.picture_net import picture_net

    net, some = picture_net(load(model, cell), data, pictures)
    found = filters(net, some, out or model / what, units=units, seed=seed)
    if json:
        console.print_json(found.to_dict())
    else:
        console.results().print(str(found), soft_wrap=True)
        console.results().print(f"\npage  {found.files[0]}", soft_wrap=True)


def _ngrams(trained: "Trained", data: str, out: Path, count: int, *, json: bool) -> None:
    from unrolled.inspect.ngrams import ngrams, texts_of

    found = ngrams(trained, texts_of(trained, data)[:count])
    page = found.write(out)
    if json:
        console.print_json({**found.to_dict(), "page": str(page)})
    else:
        console.results().print(found)
        console.results().print(f"\npage  {page}", soft_wrap=True)


def _attention(trained: "Trained", data: str, out: Path, count: int, *, json: bool) -> None:
    from unrolled.inspect.attention import attention, write

    found = attention(trained, data, count)
    paths = write(found, out)
    if json:
        rows = zip(found, paths, strict=True)
        console.print_json({"texts": [{**one.to_dict(), "picture": str(p)} for one, p in rows]})
        return
    for one, path in zip(found, paths, strict=True):
        seen = (f"{symbol.strip()} <- {at.strip()} {weight:.2f}" for symbol, at, weight in one.most)
        console.results().print(", ".join(seen), soft_wrap=True)
        console.results().print(f"picture  {path}\n", soft_wrap=True)
