"""What a person reads when a run is complete: how good the model is, where it lies, what to try next."""

import shlex
from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from unrolled import console
from unrolled.checkpoint.directory import PICTURE
from unrolled.train.callbacks import End, Start


def summary(start: Start, end: End, sample: str) -> Iterator[RenderableType]:
    """Give the parts of the closing summary, to be printed one below the other.

    Args:
        start: How the run began.
        end: How it ended.
        sample: The last thing the model has shown; empty if there is none.
    """
    metrics = end.metrics
    early = f" of {end.steps:,}, as there was no more progress" if end.step < end.steps else ""
    yield Text(
        f"\n{end.step:,} updates{early}, in {clock(end.seconds)}; "
        f"kept are the weights of step {metrics['model_step']:,}",
        style="bold",
    )
    held_out = metrics.get("held_out")
    yield f"\nOn the {held_out} split, which training never saw:" if held_out else "\nIn training:"
    rows = {"this model": metrics[held_out or "training"], **metrics.get("baselines", {})}
    yield console.comparison(rows, bold="this model")
    if note := metrics.get("note"):
        yield f"\n{note}"
    if target := metrics.get("target"):
        verdict = "reached" if target["reached"] else "not reached"
        yield (
            f"\nTarget: {amount(target['metric'], target['target'])} on the {target['split']} "
            f"split, {verdict}."
        )
    if sample:
        yield "\nNow it gives:"
        yield block(sample)
    yield f"\nmodel    {end.directory}\npicture  {end.directory / PICTURE}\n\nTry next:"
    yield from (f"  {command}" for command in _next_commands(start, end))


def _next_commands(start: Start, end: End) -> tuple[str, ...]:
    model, settings = shlex.quote(str(end.directory)), start.settings
    cell = f" --cell {shlex.quote(settings.model.cell)}" if ":" in settings.model.cell else ""
    longer = f"unrolled train {settings.task} --out {model}{cell} --resume --steps {end.steps * 2}"
    if settings.task == "generate" and settings.generator.condition is None:
        return (
            f"unrolled sample {model}{cell} --length 1000 --temperature 0.7",
            f"unrolled evaluate {model}{cell} {model}/README.md",
            longer,
        )
    asked, judged = start.task.examples
    return (
        f"unrolled predict {model}{cell} {asked}",
        f"unrolled evaluate {model}{cell} {judged}",
        longer,
    )


def amount(name: str, value: float) -> str:
    """Write a figure as people do: "2.210 bits/character", "accuracy 0.912"."""
    number, unit = f"{value:.3f}", console.words(name)
    return f"{number} {unit}" if "_per_" in name else f"{unit} {number}"


def rate(value: float, unit: str) -> str:
    """Write a speed: "940 characters/s", "53k characters/s"."""
    return f"{value / 1000:,.0f}k {unit}/s" if value >= 10_000 else f"{value:,.0f} {unit}/s"


def clock(seconds: float) -> str:
    """Write a duration: "0:42", "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def block(text: str) -> Padding:
    """Set a text off: indented and dim."""
    return Padding(Text(console.visible(text), style="dim"), (0, 0, 0, 4), expand=False)
