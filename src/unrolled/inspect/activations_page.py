"""The activations of units, drawn and on a page."""

import html
from typing import TYPE_CHECKING

import numpy as np

from unrolled.inspect.page import Page
from unrolled.inspect.reading import Reading
from unrolled.tasks.drawing import encode, make_figure

if TYPE_CHECKING:
    from unrolled.inspect.activations import Activations

SHOWN, EXPECTED = 1500, 400
"""Symbols in colour of each unit, and symbols with what was expected in their place."""
TRACKED = 8
"""Predicates whose unit is shown."""


def page_of(found: "Activations") -> Page:
    """Lay activations out as a page."""
    page = Page(f"Activations of {found.model}")
    page.heading("Units by layer")
    page.text(*map(str, found.health))
    reading = found.reading
    if reading is None:
        return page
    page.heading("What units track")
    page.text("Each unit over the text: red where it is high, blue where it is low.")
    for tracker in found.trackers[:TRACKED]:
        told = f"{tracker.name} goes with '{tracker.predicate}', correlation {tracker.correlation:+.2f}"
        page.parts.append(f"<h3>{html.escape(told)}</h3>{_coloured(reading, tracker.unit)}")
    page.picture("units.png", "These units over the first symbols", _curves(found))
    page.heading("One unit, or many")
    page.text("What can be read from the best single unit, and from all by a linear probe.")
    rows = [
        (
            one.predicate,
            reading.names[one.unit],
            one.measure,
            f"{one.single:.3f}",
            f"{one.linear:.3f}",
        )
        for one in found.probes
    ]
    page.table(("predicate", "best unit", "measure", "alone", "all units"), rows)
    page.heading("What was expected")
    page.text("Green where the symbol was expected, red where not; hover for the likeliest ones.")
    page.parts.append(_expected(reading))
    page.heading("Errors by kind of symbol")
    kinds = [
        (k.kind, f"{k.share:.1%}", f"{k.nats:.3f}", f"{k.of_loss:.1%}", f"{k.wrong:.1%}")
        for k in found.kinds
    ]
    page.table(("next symbol", "share", "nats", "of the loss", "wrong"), kinds)
    page.heading("How many words back")
    page.text("What the last k words alone make of a decision that is made with all before it.")
    words = [(k, f"{nats:.3f}", f"{share:.1%}") for k, nats, share in found.last_words]
    page.table(("whole words", "nats", "share"), words)
    if found.last_words:
        page.picture("words.png", "Share of the last words", _words(found))
    page.heading("On together")
    names = ", ".join(reading.names[unit] for unit in found.searched)
    page.text(f"The longest stretches in which these are on together: {names}")
    page.table(("row", "step", "text"), found.together)
    return page


def _coloured(reading: Reading, unit: int) -> str:
    values = reading.flat[:SHOWN, unit]
    low, high = values.min(), values.max()
    shares = 2 * (values - low) / max(high - low, 1e-12) - 1
    symbols = [symbol for line in reading.symbols for symbol in line][:SHOWN]
    spans = (
        f'<span style="background:rgba({"205,66,55" if share > 0 else "68,119,170"},{abs(share):.2f})" '
        f'title="{value:.3f}">{html.escape(symbol)}</span>'
        for symbol, share, value in zip(symbols, shares, values, strict=True)
    )
    return f'<div class="text">{"".join(spans)}</div>'


def _expected(reading: Reading) -> str:
    spans = []
    for t, symbol in enumerate(reading.symbols[0][1:EXPECTED], 1):
        share = float(reading.probability[0, t - 1])
        best = ", ".join(f"{s!r} {p:.2f}" for s, p in reading.guesses[0][t - 1])
        colour = f"34,139,87,{share:.2f}" if share > 0.5 else f"205,66,55,{1 - 2 * share:.2f}"
        spans.append(
            f'<span style="background:rgba({colour})" title="{html.escape(f"{share:.3f}: {best}")}">'
            f"{html.escape(symbol)}</span>"
        )
    return f'<div class="text">{"".join(spans)}</div>'


def _curves(found: "Activations") -> bytes:
    reading, chosen = found.reading, found.trackers[:TRACKED]
    assert reading is not None
    count = min(200, len(reading.flat))
    figure = make_figure((10, 0.9 * len(chosen) + 0.5))
    panels = figure.subplots(max(1, len(chosen)), 1, squeeze=False, sharex=True)[:, 0]
    for panel, tracker in zip(panels, chosen, strict=False):
        fact = reading.facts[tracker.predicate].reshape(-1)[:count]
        panel.plot(reading.flat[:count, tracker.unit], linewidth=1, color="#4477aa")
        other = panel.twinx()
        other.plot(fact, linewidth=0.8, color="#ccbb44")
        other.set_yticks([])
        panel.set_title(f"{tracker.name}: {tracker.predicate}", fontsize=7, loc="left")
    return encode(figure)


def _words(found: "Activations") -> bytes:
    figure = make_figure((6, 3))
    panel = figure.subplots()
    counts, _, shares = np.asarray(found.last_words).T
    panel.plot(counts, shares, marker="o", color="#4477aa")
    panel.set_xlabel("whole words before the one begun")
    panel.set_ylabel("share of the decision")
    panel.spines[["top", "right"]].set_visible(False)
    return encode(figure)
