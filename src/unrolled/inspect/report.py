"""One page with all that can be seen of a model: it needs no other file and no network."""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unrolled.checkpoint import files
from unrolled.checkpoint.directory import ModelDirectory
from unrolled.checkpoint.load import Trained
from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.inspect.model_data import with_data
from unrolled.inspect.page import Page
from unrolled.tasks.drawing import encode, make_figure

BYTES = 5_000_000
"""Most bytes of a page; pictures that are too much lie beside it only."""
POINTS = 1000
"""Most points of a curve."""
BINS = 60
STYLE = (
    "figure.chart{margin:0}svg.plot{width:100%;touch-action:none;cursor:crosshair}svg.plot text{font:11px "
    "system-ui;fill:var(--ink)}svg.plot .grid{stroke:var(--line)}svg.plot .cursor{stroke:var(--quiet)}"
    "svg.plot .curve{fill:none;stroke-width:1.5}.frame{overflow:hidden}.frame>*{transform-origin:0 0}"
    "svg.graph{max-width:100%;height:auto}"
)
Curve = Sequence[tuple[float, float]]


class Report(Page):
    """A page with charts that can be zoomed and hovered over."""

    def chart(self, name: str, title: str, x: str, curves: Mapping[str, Curve]) -> None:
        """Add curves; they become a PNG of this name as well.

        Args:
            name: Of the file.
            title: Of the chart.
            x: What the points' first number is.
            curves: Name -> points.
        """
        drawn = {each: _thinned(points) for each, points in curves.items() if points}
        if not drawn:
            return
        series = [{"name": each, "points": points} for each, points in drawn.items()]
        content = json.dumps({"x": x, "series": series}).replace("</", "<\\/")
        self.parts.append(
            f'<h3>{html.escape(title)}</h3><figure class="chart">'
            f'<script type="application/json">{content}</script></figure>'
        )
        figure = make_figure((8, 3.2))
        panel = figure.subplots()
        for each, points in drawn.items():
            panel.plot(*zip(*points, strict=True), label=each)
        panel.set_xlabel(x)
        panel.set_title(title)
        panel.legend(frameon=False)
        self.pictures[name] = encode(figure)

    def add(self, name: str, title: str, page: Page) -> None:
        """Add another page as a section."""
        self.heading(title)
        self.parts += page.parts
        self.pictures |= {f"{name}-{picture}": png for picture, png in page.pictures.items()}

    def save(self, path: Path) -> Path:
        """Write the page, and its pictures into a folder beside it that has its name.

        Raises:
            RunError: If one cannot be written.
        """
        script = files.read(Path(__file__).with_name("chart.js")).decode()
        while len(self.to_html().encode()) > BYTES - len(script) and self._drop_largest():
            pass
        self.parts += [f"<style>{STYLE}</style>", f"<script>{script}</script>"]
        home = path.with_suffix("")
        files.folder(home)
        for name, png in self.pictures.items():
            files.write(home / name, png, durable=False)
        files.write(path, self.to_html().encode(), durable=False)
        return path

    def _drop_largest(self) -> bool:
        """Leave the largest part that is a picture to the folder; tell whether there was one."""
        pictures = [
            k for k, part in enumerate(self.parts) if "data:image/png" in part or "<svg" in part
        ]
        if not pictures:
            return False
        largest = max(pictures, key=lambda k: len(self.parts[k]))
        self.parts[largest] = (
            "<p>A picture too large for this page lies in the folder beside it.</p>"
        )
        return True


def report(trained: Trained, source: str, out: str | Path) -> Path:
    """Gather all that can be seen of a model in one page, readable in light and dark.

    The run and its figures, the weights, and what every inspector has to say that takes such a model:
    the gradient check, gradients through time, the graph, activations, filters, n-grams, attention. What
    does not apply is named at the end, with the reason.

    Args:
        trained: The model.
        source: Data such as it was trained on.
        out: The page; its pictures go into a folder of the same name.

    Raises:
        InputError: If the data does not fit the model.
        RunError: If the page cannot be written.
    """
    path = Path(out)
    if path.suffix != ".html":
        raise InputError(f"{path} should end with .html")
    page = Report(f"{trained.directory.resolve().name}: {trained.task.summary}")
    page.text(f"Made from {source}. Wheel zooms, dragging moves, a double click puts back.")
    _figures(page, trained)
    _curves(page, trained)
    _weights(page, trained, source)
    missing: list[tuple[str, str]] = []
    for name, (title, inspector) in SECTIONS.items():
        try:
            page.add(name, title, inspector(trained, source, path))
        except InputError as error:
            missing.append((name, str(error)))
    if missing:
        page.heading("What does not apply")
        page.table(("what", "why"), missing)
    return page.save(path)


def _figures(page: Report, trained: Trained) -> None:
    """Tell what it is and how good it is."""
    model, settings = trained.model, trained.settings
    count = sum(w.numel() for w in model.parameters())
    data = " ".join(settings.data.source)
    page.text(f"{settings.task} on {data}: {type(model).__name__}, {count:,} weights")
    rows = [
        (f"{group} {name}", f"{value:.4g}")
        for group, found in trained.metrics.items()
        if isinstance(found, Mapping)
        for name, value in found.items()
        if isinstance(value, float)
    ]
    if rows:
        page.heading("Figures")
        page.table(("figure", "value"), rows)


def _curves(page: Report, trained: Trained) -> None:
    """Draw the run."""
    lines = ModelDirectory(trained.directory).metrics()
    losses: dict[str, list[tuple[float, float]]] = {"loss": [], "smoothed loss": []}
    judged: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if line.get("event") == "train":
            losses["loss"].append((line["step"], line["loss"]))
            losses["smoothed loss"].append((line["step"], line["smoothed_loss"]))
        elif line.get("event") == "validation":
            for name, value in _numbers(line):
                judged.setdefault(name, []).append((line["step"], value))
    if losses["loss"]:
        page.heading("The run")
        page.chart("loss.png", "Loss while training", "step", losses)
        for name, points in judged.items():
            page.chart(f"{name}.png", f"{name} on validation", "step", {name: points})


def _numbers(line: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [
        (name, float(value))
        for name, value in line.items()
        if isinstance(value, float) and name not in ("seconds", "best")
    ]


def _weights(page: Report, trained: Trained, source: str) -> None:
    """Tell of every parameter: size, spread, and the gradient of the loss on one batch."""
    task, model = with_data(trained, source), trained.model
    gradients = _gradients(task, model)
    rows, curves = [], {}
    for name, weight in model.named_parameters():
        values = weight.detach().double().flatten()
        spread = float(values.std()) if len(values) > 1 else 0.0
        norm = gradients.get(name)
        rows.append(
            (
                name,
                "x".join(map(str, weight.shape)),
                f"{float(values.mean()):.3g}",
                f"{spread:.3g}",
                "" if norm is None else f"{norm:.3g}",
            )
        )
        if len(values) > BINS:
            counts, edges = torch.histogram(values.cpu(), BINS, density=True)
            middles = (edges[1:] + edges[:-1]) / 2
            curves[name] = [*zip(middles.tolist(), counts.tolist(), strict=True)]
    page.heading("Weights")
    page.table(("parameter", "size", "mean", "deviation", "norm of the gradient"), rows)
    largest = sorted(curves, key=lambda name: -model.get_parameter(name).numel())[:6]
    page.chart(
        "weights.png", "How weights are spread", "value", {name: curves[name] for name in largest}
    )


def _gradients(task: Any, model: nn.Module) -> dict[str, float]:  # noqa: ANN401
    if task.closed_form:
        return {}
    named = [(name, w) for name, w in model.named_parameters() if w.requires_grad]
    with torch.enable_grad(), counter(0, 0, 0):
        loss, _ = task.loss(model, task.batch(0, slice(0, task.settings.training.batch_size)), {})
        found = torch.autograd.grad(loss, [w for _, w in named], allow_unused=True)
    return {
        name: 0.0 if g is None else float(g.norm())
        for (name, _), g in zip(named, found, strict=True)
    }


def _check(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.check_model import check_model, page_of

    return page_of(check_model(trained, source))


def _flow(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.flow_page import page_of
    from unrolled.inspect.flow_report import flow_of

    return page_of(flow_of(trained, source))


def _activations(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.activations import activations

    return activations(trained, source).page()


def _graph(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.graph_model import graph_of

    title, found = graph_of(trained, source)
    page = Page(title)
    page.text(f"Differentiated is {title}.")
    page.parts.append(found.to_svg())
    return page


def _filters(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.filters import filters
    from unrolled.inspect.picture_net import picture_net

    net, some = picture_net(trained, source, 500)
    found = filters(net, some, path.with_suffix("") / "filters", units=4)
    page = Page("filters")
    page.printed(str(found))
    for file in found.files[1:]:
        page.picture(file.name, file.stem.replace("-", " "), files.read(file))
    return page


def _ngrams(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.ngrams import ngrams, texts_of

    found = ngrams(trained, texts_of(trained, source)[:20])
    return Page("n-grams", [found.body()])


def _attention(trained: Trained, source: str, path: Path) -> Page:
    from unrolled.inspect.attention import attention

    page = Page("attention")
    for number, one in enumerate(attention(trained, source, 6), 1):
        page.picture(f"{number}.png", "".join(one.written), one.picture)
    return page


SECTIONS: dict[str, tuple[str, Callable[[Trained, str, Path], Page]]] = {
    "check": ("Whether gradients are right", _check),
    "gradients": ("Gradients through time", _flow),
    "graph": ("What is computed", _graph),
    "activations": ("What units track", _activations),
    "filters": ("Filters", _filters),
    "ngrams": ("N-grams that decide", _ngrams),
    "attention": ("What is looked at", _attention),
}
"""Name -> title and inspector."""


def _thinned(points: Curve) -> list[tuple[float, float]]:
    """Keep every n-th point, the last one too, and numbers only."""
    some = [(float(x), float(y)) for x, y in points if y == y and abs(y) != float("inf")]
    every = len(some) // POINTS + 1
    return [*some[::-1][::every][::-1]]
