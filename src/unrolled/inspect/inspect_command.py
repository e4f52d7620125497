"""``unrolled inspect``: a trained model seen from inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from unrolled import console
from unrolled.checkpoint.command import Model, OwnCell
from unrolled.data.advice import UTF8, WHOLE, Topic, advising
from unrolled.errors import InputError

if TYPE_CHECKING:
    from unrolled.checkpoint.load import Trained


ADVICE: dict[Topic, str] = {**UTF8, **WHOLE, "short": "give a longer one, as that of its training"}
"""What helps where there are no flags of training."""


class Told(Protocol):
    """What an inspector found: ``str()`` is for people, ``to_dict`` for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values."""
        ...


def inspect_(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="What it is looked at with.")],
    what: Annotated[
        Literal["filters", "ngrams", "attention", "graph", "check", "gradients", "activations"],
        typer.Argument(
            metavar="WHAT",
            help="filters: of a model of pictures its filters, activation maps, what excites its "
            "units, and which of them are dead, saturated or duplicates; ngrams: of a text cnn the "
            "n-grams that drive its filters and its decisions; attention: of what translates or captions "
            "what it looked at for each symbol it wrote; graph: what it computes on one row, with value and "
            "gradient at every node; check: whether the gradients of its loss are right; gradients: how far "
            "they reach through time, and what to try if they do not; activations: what the units of a "
            "language model track.",
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
    together: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="activations: find where these units are on together."
        ),
    ] = None,
    cloze: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|A|B...", help="activations: which of some answers a text goes on with."
        ),
    ] = None,
    epsilon: Annotated[
        float, typer.Option(metavar="X", help="check: step of a difference.")
    ] = 1e-4,
    cell: OwnCell = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Instead gather all that applies in one page, this file."
        ),
    ] = None,
    json: console.Json = False,
) -> None:
    """Look inside a trained model, and write one page that needs no other file."""
    asked = (together, cloze, seed)
    with advising(ADVICE):
        _inspect(model, data, what, out, pictures, units, asked, epsilon, cell, report, json=json)


def _inspect(
    model: Path,
    data: str,
    what: str,
    out: Path | None,
    pictures: int,
    units: int,
    asked: tuple[str | None, str | None, int],
    epsilon: float,
    cell: str | None,
    report: Path | None,
    *,
    json: bool,
) -> None:
    from unrolled.checkpoint.load import load

    trained, seed = load(model, cell), asked[-1]
    trained.check_numbers()
    if report is not None:
        _report(trained, data, report, json=json)
        return
    if what == "ngrams":
        _ngrams(trained, data, out or model / what, pictures, json=json)
        return
    if what == "attention":
        _attention(trained, data, out or model / what, pictures, json=json)
        return
    if what == "graph":
        _graph(trained, data, out or model / what, json=json)
        return
    if what == "check":
        _check(trained, data, out or model / what, epsilon, seed, json=json)
        return
    if what == "gradients":
        _gradients(trained, data, out or model / what, json=json)
        return
    if what == "activations":
        _activations(trained, data, out or model / what, *asked, json=json)
        return
    from unrolled.inspect.filters import filters
    from unrolled.inspect.picture_net import picture_net

    net, some = picture_net(trained, data, pictures)
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


def _report(trained: "Trained", data: str, out: Path, *, json: bool) -> None:
    from unrolled.inspect.report import report

    page = report(trained, data, out)
    if json:
        pictures = sorted(str(path) for path in page.with_suffix("").rglob("*.png"))
        console.print_json({"page": str(page), "pictures": pictures})
    else:
        console.results().print(f"page  {page}", soft_wrap=True)


def _graph(trained: "Trained", data: str, out: Path, *, json: bool) -> None:
    from unrolled.checkpoint import files
    from unrolled.inspect.graph_model import graph_of

    title, found = graph_of(trained, data)
    path = out / "graph.svg"
    files.folder(out)
    files.write(path, found.to_svg().encode(), durable=False)
    if json:
        console.print_json({"of": title, **found.to_dict(), "picture": str(path)})
    else:
        console.results().print(
            f"{title}\n\n{found}\n\npicture  {path}", soft_wrap=True, markup=False
        )


def _check(
    trained: "Trained", data: str, out: Path, epsilon: float, seed: int, *, json: bool
) -> None:
    from unrolled.inspect.check_model import check_model, page_of

    found = check_model(trained, data, eps=epsilon, seed=seed)
    _tell(found, page_of(found).write(out, "check.html"), json=json)
    if not found.ok:
        raise typer.Exit(1)


def _gradients(trained: "Trained", data: str, out: Path, *, json: bool) -> None:
    from unrolled.inspect.flow_page import page_of
    from unrolled.inspect.flow_report import flow_of

    found = flow_of(trained, data)
    _tell(found, page_of(found).write(out, "gradients.html"), json=json)


def _activations(
    trained: "Trained",
    data: str,
    out: Path,
    together: str | None,
    cloze_: str | None,
    seed: int,
    *,
    json: bool,
) -> None:
    from unrolled.inspect.activations import activations
    from unrolled.inspect.decisions import cloze

    try:
        units = [int(number) for number in (together or "").split(",") if number.strip()]
    except ValueError:
        raise InputError(f"--together {together!r}: give whole numbers with commas") from None
    text, *answers = (cloze_ or "").split("|")
    chosen = cloze(trained, text, answers) if cloze_ else []
    found = activations(trained, data, units=units, seed=seed)
    page = found.page().write(out, "activations.html")
    if json:
        console.print_json({**found.to_dict(), "cloze": dict(chosen), "page": str(page)})
        return
    console.results().print(found)
    for answer, share in chosen:
        console.results().print(f"{text}{answer}  {share:.1%}", soft_wrap=True)
    console.results().print(f"\npage  {page}", soft_wrap=True)


def _tell(found: "Told", page: Path, *, json: bool) -> None:
    """Say what was found, and where the page is."""
    if json:
        console.print_json({**found.to_dict(), "page": str(page)})
    else:
        console.results().print(str(found), soft_wrap=True, markup=False, highlight=False)
        console.results().print(f"\npage  {page}", soft_wrap=True)
