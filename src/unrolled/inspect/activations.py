"""What the units of a model track: for a language model over a text, for others whether they are of use.

Karpathy, Johnson & Li 2015, "Visualizing and Understanding Recurrent Networks".
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unrolled.checkpoint.load import Trained
from unrolled.inspect.activations_page import page_of
from unrolled.inspect.decisions import on_together, share_of_last_words
from unrolled.inspect.model_data import with_data
from unrolled.inspect.page import Page
from unrolled.inspect.predicates import Probe, correlations, kinds, probe
from unrolled.inspect.reading import Reading, read
from unrolled.inspect.unit_health import UnitHealth, health_of, unit_health
from unrolled.tasks.generate import Generate
from unrolled.tasks.language_texts import Running

SHOWN = 300
"""Symbols that are printed in colour."""


@dataclass(frozen=True)
class Tracker:
    """The unit that goes most with a predicate."""

    predicate: str
    unit: int
    name: str
    correlation: float


@dataclass(frozen=True)
class Kind:
    """How symbols of one kind are foretold."""

    kind: str
    share: float
    """Of all symbols."""
    nats: float
    """Mean of -ln p."""
    of_loss: float
    """Share of the whole loss."""
    wrong: float
    """Share not foretold first."""


@dataclass(frozen=True)
class Activations:
    """What was found; printed with colours by rich, see :meth:`__rich__`."""

    model: str
    health: list[UnitHealth]
    reading: Reading | None = None
    trackers: tuple[Tracker, ...] = ()
    probes: tuple[Probe, ...] = ()
    kinds: tuple[Kind, ...] = ()
    last_words: tuple[tuple[int, float, float], ...] = ()
    together: tuple[tuple[int, int, str], ...] = ()
    """Where the units searched for are on together."""
    searched: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        words = [{"words": k, "nats": nats, "share": share} for k, nats, share in self.last_words]
        return {
            "model": self.model,
            "layers": [one.to_dict() for one in self.health],
            "trackers": [asdict(one) for one in self.trackers],
            "probes": [{**asdict(one), "local": one.local} for one in self.probes],
            "kinds": [asdict(one) for one in self.kinds],
            "last_words": words,
            "searched": list(self.searched),
            "together": [{"row": r, "step": t, "text": text} for r, t, text in self.together],
        }

    def page(self) -> Page:
        """Lay everything out as a page."""
        return page_of(self)

    def __rich__(self) -> RenderableType:
        """Lay out for a terminal: a unit is red where it is high, blue where it is low."""
        parts: list[RenderableType] = [f"{self.model}: activations", ""]
        for tracker in distinct(self.trackers)[:3]:
            assert self.reading is not None
            parts += [
                f"{tracker.name} goes with {tracker.predicate!r} ({tracker.correlation:+.2f})"
            ]
            parts += [coloured(self.reading, tracker.unit), ""]
        if self.probes:
            table = Table("predicate", "best unit", "alone", "all units", "", box=None)
            for one in self.probes:
                assert self.reading is not None
                figures = (f"{one.measure} {one.single:.2f}", f"{one.linear:.2f}")
                told = "in one unit" if one.local else "spread"
                table.add_row(one.predicate, self.reading.names[one.unit], *figures, told)
            parts += [table, ""]
        if self.kinds:
            table = Table("next symbol", "share", "nats", "of the loss", "wrong", box=None)
            for kind in self.kinds:
                table.add_row(
                    kind.kind,
                    f"{kind.share:.1%}",
                    f"{kind.nats:.2f}",
                    f"{kind.of_loss:.1%}",
                    f"{kind.wrong:.1%}",
                )
            parts += [table, ""]
        if self.last_words:
            words = ", ".join(f"{k}: {share:.0%}" for k, _, share in self.last_words)
            parts += [f"share of a decision that the last k words make: {words}", ""]
        return Group(*parts, *map(str, self.health))


def distinct(trackers: Sequence[Tracker]) -> list[Tracker]:
    """Leave of the predicates that one unit goes with the first."""
    return [*{tracker.unit: tracker for tracker in reversed(trackers)}.values()][::-1]


def coloured(reading: Reading, unit: int, count: int = SHOWN) -> Text:
    """Give the beginning of a text with one unit's values as colours."""
    text = Text()
    shares = scaled(reading.flat[:count, unit])
    symbols = [symbol for line in reading.symbols for symbol in line][:count]
    for symbol, share in zip(symbols, shares, strict=True):
        level = round(200 * abs(share))
        colour = f"#{level:02x}0000" if share > 0 else f"#0000{level:02x}"
        text.append(symbol, style=f"white on {colour}" if level > 10 else "")
    return text


def scaled(values: np.ndarray) -> np.ndarray:
    """Scale values to -1 to 1, 0 at their middle."""
    low, high = values.min(), values.max()
    return 2 * (values - low) / max(high - low, 1e-12) - 1


def activations(
    trained: Trained,
    source: str,
    *,
    symbols: int = 20_000,
    units: Sequence[int] = (),
    seed: int = 0,
) -> Activations:
    """Look at the units of a model while it reads.

    Of a language model of running text all is found out; of other models, which units of each layer are
    dead, saturated, duplicates, or deaf to the input.

    Args:
        trained: A model with a recurrent net.
        source: For a language model any text, for others data such as it was trained on.
        symbols: Most symbols to read, in stretches spread evenly over the text.
        units: Search for places where these units are on together; those that go most with the first
            predicate if left out.
        seed: Of the places at which decisions are looked at.

    Raises:
        InputError: If the data is missing or does not fit, or there is no such unit.
    """
    name = trained.directory.resolve().name
    task = trained.task
    if not isinstance(task, Generate) or not isinstance(task.texts, Running):
        return Activations(name, unit_health(with_data(trained, source), trained.model))
    reading = read(trained, source, symbols=symbols)
    found = correlations(reading.flat, {n: f.reshape(-1) for n, f in reading.facts.items()})
    trackers = [
        Tracker(fact, unit, reading.names[unit], float(values[unit]))
        for fact, values in found.items()
        for unit in [int(np.abs(values).argmax())]
    ]
    trackers.sort(key=lambda one: -abs(one.correlation))
    searched = tuple(units)
    if not searched and trackers:
        ranked = found[trackers[0].predicate] * np.sign(trackers[0].correlation)
        searched = tuple(int(u) for u in np.argsort(-ranked)[:2])
    return Activations(
        name,
        _healths(reading),
        reading,
        tuple(trackers),
        tuple(probe(reading.flat, reading.facts)),
        tuple(by_kind(reading)),
        tuple(share_of_last_words(trained, reading, seed=seed)),
        tuple(on_together(reading, searched)) if searched else (),
        searched,
    )


def by_kind(reading: Reading) -> list[Kind]:
    """Break the loss down by the kind of the symbol that was to be foretold, the costliest kind first."""
    nats, wrong, names = [], [], []
    for row, line in enumerate(reading.symbols):
        own = kinds(line)
        for t in range(len(line) - 1):
            names.append(own[t + 1])
            nats.append(-np.log(max(float(reading.probability[row, t]), 1e-30)))
            wrong.append(reading.guesses[row][t][0][0] != line[t + 1])
    groups: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        groups[name].append(place)
    loss, missed = np.asarray(nats), np.asarray(wrong)
    found = [
        Kind(
            name,
            len(places) / len(names),
            float(loss[places].mean()),
            float(loss[places].sum() / max(loss.sum(), 1e-30)),
            float(missed[places].mean()),
        )
        for name, places in groups.items()
    ]
    return sorted(found, key=lambda kind: -kind.of_loss)


def _healths(reading: Reading) -> list[UnitHealth]:
    groups: dict[str, list[int]] = defaultdict(list)
    for unit, name in enumerate(reading.names):
        groups[name.rpartition(" ")[0]].append(unit)
    return [
        health_of(layer, reading.values[:, :, units].transpose(1, 0, 2))
        for layer, units in groups.items()
    ]
