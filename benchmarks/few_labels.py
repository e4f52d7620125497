"""Compare pretrained with fresh classifiers on 10, 100 and 1,000 labels: table and picture for the docs.

    python benchmarks/few_labels.py recipes/digits-few-labels.toml

Trains the recipe, a ``few-labels`` one, in three ways with each number of labels and each seed: from scratch,
with its layers pretrained and kept as they are, and with its layers pretrained and trained on. Writes
``benchmarks/results/NAME.json`` and ``docs/_static/NAME.png``, NAME being the recipe's.
"""

import argparse
import datetime
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import unrolled as ur

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "from scratch": "#888888",
    "pretrained, frozen": "#1f6fb4",
    "pretrained, fine-tuned": "#d9590b",
}


def accuracy(recipe: Path, way: str, labels: int, seed: int) -> tuple[float, float, float]:
    """Train once; give the accuracy on the test split, the baseline's, and the seconds it took."""
    found = ur.Settings.from_toml(recipe)
    own = found.autoencoder
    flags: dict[str, Any] = {"labelled": labels, "seed": seed, "sample_length": 0}
    if way == "from scratch":
        steps = (found.training.steps or 0) - own.layer_steps * len(own.widths)
        flags |= {"layer_steps": 0, "steps": steps}
    flags["freeze"] = way == "pretrained, frozen"
    with tempfile.TemporaryDirectory() as place:
        metrics = ur.train(recipe, out=Path(place) / "run", **flags).metrics
    (baseline,) = metrics["baselines"].values()
    return metrics["test"]["accuracy"], baseline["accuracy"], metrics["seconds"]


def measure(recipe: Path, numbers: list[int], seeds: int) -> dict[str, Any]:
    """Train in all ways; give what the table and the picture need."""
    rows = []
    for labels in numbers:
        for way in WAYS:
            runs = [accuracy(recipe, way, labels, seed) for seed in range(seeds)]
            values, baselines, seconds = zip(*runs, strict=True)
            rows.append(
                {
                    "labels": labels,
                    "way": way,
                    "accuracies": values,
                    "baselines": baselines,
                    "seconds": round(statistics.mean(seconds), 1),
                }
            )
            print(f"{labels:5} {way:24} {statistics.mean(values):.4f} of {values}", flush=True)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return {"recipe": f"recipes/{recipe.name}", "seeds": seeds, "date": today, "rows": rows}


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw accuracy by the number of labels: the mean, and every seed."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    panel = figure.subplots()
    for way, colour in WAYS.items():
        rows = [row for row in found["rows"] if row["way"] == way]
        labels = [row["labels"] for row in rows]
        panel.plot(
            labels, [statistics.mean(r["accuracies"]) for r in rows], color=colour, label=way
        )
        for row in rows:
            seeds = [row["labels"]] * found["seeds"]
            panel.scatter(seeds, row["accuracies"], color=colour, s=14, alpha=0.6)
    rows = [row for row in found["rows"] if row["way"] == "from scratch"]
    panel.plot(
        [row["labels"] for row in rows],
        [statistics.mean(row["baselines"]) for row in rows],
        color="#222222",
        linestyle=":",
        label="logistic regression on pixels",
    )
    panel.set_xscale("log")
    panel.set_xlabel("labelled pictures")
    panel.set_ylabel("accuracy on the test split")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    found = measure(given.recipe, given.labels, given.seeds)
    name = given.recipe.stem
    results = ROOT / "benchmarks" / "results" / f"{name}.json"
    results.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    draw(found, ROOT / "docs" / "_static" / f"{name}.png")


if __name__ == "__main__":
    main()
