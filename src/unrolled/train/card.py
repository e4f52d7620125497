"""The model card: `README.md` of a model directory."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unrolled import __version__
from unrolled.checkpoint import files
from unrolled.checkpoint.directory import CARD, PICTURE
from unrolled.settings import GROUPS, Settings
from unrolled.tasks.task import Task
from unrolled.train.callbacks import Callback, End, Start


class Card(Callback):
    """Writes the model card at the end of a run."""

    def on_start(self, event: Start) -> None:
        """Learn what was trained."""
        self._settings, self._task = event.settings, event.task

    def on_end(self, event: End) -> None:
        """Write the card."""
        text = card(event.directory, self._settings, self._task, event.metrics)
        files.write(event.directory / CARD, text.encode(), durable=False)


def card(directory: Path, settings: Settings, task: Task, metrics: Mapping[str, Any]) -> str:
    """Write a model card in Markdown.

    Args:
        directory: The model directory; only its name is mentioned.
        settings: The complete settings of the run.
        task: The task.
        metrics: What :func:`unrolled.train.results.final_metrics` gave.
    """
    model, name = settings.model, directory.resolve().name
    sources = ", ".join(f"`{Path(source).name}`" for source in settings.data.source) or "built in"
    cell = f" --cell {model.cell}" if ":" in model.cell else ""
    python_cell = f', cell="{model.cell}"' if cell else ""
    python = platform.python_version()
    versions = f"unrolled {__version__}, torch {torch.__version__}, Python {python}"
    verb = "sample" if hasattr(task, "sample") else "predict"
    return f"""# {name}

A model ({settings.architecture}) of {metrics["parameters"]:,} numbers, trained with
[unrolled](https://pypi.org/project/unrolled/) for the task `{settings.task}` ({task.summary}).

## Data

{sources}, split {"/".join(f"{part:.4g}" for part in settings.data.split)} into training, validation and test.

## Results

{_results(task, metrics)}
![Loss]({PICTURE})

{metrics["step"]:,} updates in {metrics["seconds"]:.0f} seconds; the weights are those of step
{metrics["model_step"]:,}.

## Use

```sh
unrolled {verb} {name}{cell}
```

```python
import unrolled as ur

trained = ur.load("{name}"{python_cell})
```

## Settings

{_settings(settings)}
Seed {settings.training.seed}; {versions}.
"""


def _results(task: Task, metrics: Mapping[str, Any]) -> str:
    """Lay out the model's figures on the held-out split, the baselines' below."""
    held_out = metrics.get("held_out")
    figures: Mapping[str, float] = metrics[held_out or "training"]
    rows = {"this model": figures, **metrics.get("baselines", {})}
    lines = [
        f"On the {held_out or 'training'} split:\n",
        "| | " + " | ".join(name.replace("_", " ") for name in figures) + " |",
        "| --- " * (len(figures) + 1) + "|",
        *(
            f"| {name} | "
            + " | ".join(f"{row[key]:.4g}" if key in row else "" for key in figures)
            + " |"
            for name, row in rows.items()
        ),
    ]
    if note := metrics.get("note"):
        lines.append(f"\n{note}")
    if target := metrics.get("target"):
        said = "reached" if target["reached"] else "not reached"
        lines.append(
            f"\nTarget: {target['metric'].replace('_', ' ')} {target['target']} on the "
            f"{target['split']} split, {said}."
        )
    return "\n".join(lines) + "\n"


def _settings(settings: Settings) -> str:
    rows = [
        f"| {field} | {value} |"
        for group in GROUPS
        for field, value in getattr(settings, group).model_dump(exclude_none=True).items()
        if field not in ("source", "split")
    ]
    return "\n".join(["| setting | value |", "| --- | --- |", *rows]) + "\n"
