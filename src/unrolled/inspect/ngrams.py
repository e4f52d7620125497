"""Which n-grams drive each filter of a text CNN, and each of its decisions.

A decision is the score of the label given minus the mean score of the others. Its parts are, for each
answer of a filter at a place, the answer times the decision's derivative by it: with one linear layer behind
max or mean pooling they and the read-out's biases add up to the decision, with hidden layers to first order.
"""

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unrolled.checkpoint import files
from unrolled.checkpoint.load import Trained
from unrolled.inspect.model_data import lacking
from unrolled.tasks.classify import Classify
from unrolled.tasks.examples import tensors
from unrolled.tasks.text_examples import Texts
from unrolled.tasks.text_models import TextCNN, places_of

PAGE = "ngrams.html"
FOR, AGAINST = (34, 139, 87), (205, 66, 55)
"""Colours of what speaks for the label given, and of what speaks against it."""
_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "span{border-radius:3px}table{border-collapse:collapse}td,th{text-align:left;padding:2px 10px;"
    "vertical-align:top;border-bottom:1px solid #ddd}small{color:#666}"
)


@dataclass(frozen=True)
class Phrase:
    """Symbols in a row."""

    text: str
    value: float
    """What the filter answers to them, or what they add to a decision."""


@dataclass(frozen=True)
class Filter:
    """One filter, by what it answers to most."""

    width: int
    number: int
    """Among those of its width."""
    label: str
    """The label for which it speaks most, as far as one linear layer can tell; else empty."""
    phrases: list[Phrase]
    """All different, the strongest answer first."""


@dataclass(frozen=True)
class Decision:
    """One text, and what each of its symbols adds to the decision."""

    symbols: list[Phrase]
    label: str
    probability: float
    phrases: list[Phrase]
    """The n-grams that add most, or take most away, the largest first."""


@dataclass(frozen=True)
class NGrams:
    """Filters and decisions; printed with colours by rich, see :meth:`__rich__`."""

    title: str
    filters: list[Filter]
    decisions: list[Decision]

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON."""
        return asdict(self)

    def __rich__(self) -> RenderableType:
        """Lay out for a terminal: what speaks for the label given is green, against it red."""
        parts: list[RenderableType] = []
        for decision in self.decisions:
            strongest = _strongest(decision)
            line = Text(f"{decision.label} {decision.probability:.2f}  ", style="bold")
            for symbol in decision.symbols:
                line.append(_shown(symbol.text), style=_rich_style(symbol.value / strongest))
            parts.append(line)
        table = Table("filter", "speaks for", "answers most to", box=None, pad_edge=False)
        for one in self.filters:
            phrases = ", ".join(f"{p.text.strip()} {p.value:.2f}" for p in one.phrases)
            table.add_row(f"{one.width} words #{one.number}", one.label, Text(phrases))
        return Group(*parts, "", table)

    def body(self) -> str:
        """Write decisions and filters as a part of a page."""
        decisions = "".join(
            f"<p><b>{html.escape(d.label)}</b> <small>{d.probability:.2f}</small> "
            + "".join(_span(symbol, _strongest(d)) for symbol in d.symbols)
            + f"<br><small>{html.escape(_listed(d.phrases, '+.2f'))}</small></p>"
            for d in self.decisions
        )
        rows = "".join(
            f"<tr><td>{f.width} words #{f.number}<td>{html.escape(f.label)}"
            f"<td>{html.escape(_listed(f.phrases, '.2f'))}"
            for f in self.filters
        )
        return (
            "<h2>Decisions</h2><p><small>Green speaks for the label given, red against it.</small></p>"
            f"{decisions}<h2>Filters</h2><table><tr><th>filter<th>speaks for<th>answers most to</tr>"
            f"{rows}</table>"
        )

    def to_html(self) -> str:
        """Write one page that needs no other file."""
        title = html.escape(self.title)
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
            f"<style>{_STYLE}</style><h1>{title}: n-grams</h1>{self.body()}</html>\n"
        )

    def write(self, directory: Path) -> Path:
        """Write the page into a directory, made if it is not there; give its path.

        Raises:
            RunError: If it cannot be written.
        """
        files.folder(directory)
        path = directory / PAGE
        files.write(path, self.to_html().encode(), durable=False)
        return path


def ngrams(
    trained: Trained, texts: Sequence[str], *, filters: int = 20, phrases: int = 5
) -> NGrams:
    """Find what drives a text CNN.

    Args:
        trained: A model of `classify` with ``model="cnn"`` for texts.
        texts: Texts; all are decided on, and searched for what filters answer to.
        filters: Most filters to list, those with the strongest answers.
        phrases: N-grams to give for each filter and each decision.

    Raises:
        InputError: If the model is another, or a text is empty.
    """
    examples, model, task = _examples(trained), trained.model, trained.task
    assert isinstance(model, TextCNN)
    assert isinstance(task, Classify)
    items, _ = examples.wanted(texts)
    read = [_Read(examples, model, text, task.labels) for text in items]
    return NGrams(
        trained.directory.resolve().name,
        _filters(model, read, task.labels, filters, phrases),
        [one.decision(phrases) for one in read],
    )


def texts_of(trained: Trained, source: str) -> list[str]:
    """Read the texts of labelled data, in its order.

    Raises:
        InputError: If the model is no text CNN, or the data is missing or damaged.
    """
    return list(_examples(trained).read([source]).items)


def _examples(trained: Trained) -> Texts:
    examples = getattr(trained.task, "kind", None)
    if not isinstance(trained.model, TextCNN) or not isinstance(examples, Texts):
        raise lacking(trained, "is no text CNN; n-grams are of classify --model cnn")
    return examples


class _Read:
    """One text, the answers of all filters to it, and what each adds to the decision."""

    def __init__(self, examples: Texts, model: TextCNN, words: str, labels: Sequence[str]) -> None:
        self.symbols = examples.spelt(words)
        self.widths = model.own.filter_widths
        device = next(model.parameters()).device
        text, lengths = tensors(examples.batch(examples.inputs([words]), None), device)
        with torch.no_grad():
            answers = model.answers(text, lengths)
        with torch.enable_grad():
            leaves = [one.detach().requires_grad_() for one in answers]
            logits = model.read_out(leaves, lengths)[0]
            best = int(logits.argmax())
            others = logits.sum() - logits[best]
            decision = logits[best] - others / max(len(logits) - 1, 1)
            slopes = torch.autograd.grad(decision, leaves)
        self.label, self.probability = labels[best], float(logits.detach().softmax(0)[best])
        self.wide = model.own.wide
        places = [int(places_of(lengths, width, wide=self.wide)) for width in self.widths]
        self.answers = [a[0, :, :n].cpu().numpy() for a, n in zip(answers, places, strict=True)]
        self.parts = [
            (a * g)[0, :, :n].cpu().numpy() for a, g, n in zip(answers, slopes, places, strict=True)
        ]

    def span(self, place: int, width: int) -> slice:
        """Give the symbols that a filter sees at a place; beyond the ends there are none."""
        first = place - width + 1 if self.wide else place
        return slice(max(first, 0), first + width)

    def phrase(self, place: int, width: int) -> str:
        return "".join(self.symbols[self.span(place, width)])

    def decision(self, count: int) -> Decision:
        each = np.zeros(len(self.symbols))
        found: dict[str, float] = {}
        for width, part in zip(self.widths, self.parts, strict=True):
            for place, value in enumerate(part.sum(0)):
                covered = each[self.span(place, width)]
                covered += value / max(len(covered), 1)
                if value:
                    text = self.phrase(place, width)
                    found[text] = found.get(text, 0.0) + float(value)
        largest = sorted(found.items(), key=lambda item: -abs(item[1]))[:count]
        symbols = [Phrase(s, float(v)) for s, v in zip(self.symbols, each, strict=True)]
        return Decision(symbols, self.label, self.probability, [Phrase(*item) for item in largest])


def _filters(
    model: TextCNN, read: Sequence[_Read], labels: Sequence[str], filters: int, phrases: int
) -> list[Filter]:
    found = []
    first = 0
    for bank, width in enumerate(model.own.filter_widths):
        for number in range(model.own.filters):
            best: dict[str, float] = {}
            for one in read:
                for place, value in enumerate(one.answers[bank][number]):
                    text = one.phrase(place, width)
                    if value > best.get(text, 0.0):
                        best[text] = float(value)
            ranked = sorted(best.items(), key=lambda item: -item[1])[:phrases]
            label = _spoken_for(model, first + number, labels)
            found.append(Filter(width, number, label, [Phrase(*item) for item in ranked]))
        first += model.own.filters
    found = [one for one in found if one.phrases]
    return sorted(found, key=lambda one: -one.phrases[0].value)[:filters]


def _spoken_for(model: TextCNN, number: int, labels: Sequence[str]) -> str:
    """Give the label to which a filter's answer adds most, if it goes there through one layer alone."""
    if len(model.readout) > 1 or model.own.pooling == "k-max":
        return ""
    weight = model.readout[0].weight
    assert isinstance(weight, torch.Tensor)
    return labels[int(weight[:, number].argmax())]


def _strongest(decision: Decision) -> float:
    return max((abs(symbol.value) for symbol in decision.symbols), default=0.0) or 1.0


def _rich_style(share: float) -> str:
    """Mix a colour with black, as terminals are mostly dark, and write white on it."""
    if abs(share) < 0.05:
        return ""
    mixed = (round(c * abs(share)) for c in (FOR if share > 0 else AGAINST))
    return f"white on #{''.join(f'{c:02x}' for c in mixed)}"


def _span(symbol: Phrase, strongest: float) -> str:
    share = symbol.value / strongest
    colour = ",".join(map(str, FOR if share > 0 else AGAINST))
    text = html.escape(_shown(symbol.text))
    style = f"background:rgba({colour},{abs(share):.2f})"
    return f'<span style="{style}" title="{symbol.value:+.3f}">{text}</span>'


def _listed(phrases: Sequence[Phrase], form: str) -> str:
    return ", ".join(f"{phrase.text.strip()} {phrase.value:{form}}" for phrase in phrases)


def _shown(symbol: str) -> str:
    return symbol.replace("\n", " ")
