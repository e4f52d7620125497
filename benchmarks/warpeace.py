"""Updates of recipes/warpeace-lstm.toml, without its noise, beside the same loop with torch.nn.LSTM in turns.

    UNROLLED_DATA_DIR=... python benchmarks/warpeace.py --threads 2

Ours is the package's own training loop; torch's looks the symbols up as one-hot rows, runs nn.LSTM with the
state carried on, a linear read-out and the cross-entropy, clips to the global norm and updates by fused Adam.
Prints milliseconds an update, medians, for 1 x 256, 2 x 256 and 1 x 512.
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import gettempdir

import torch
from torch import Tensor, nn
from torch.nn import functional

import unrolled as ur
from unrolled.checkpoint.directory import ModelDirectory
from unrolled.tasks.generate import Generate
from unrolled.tasks.language_texts import Running
from unrolled.train import plan
from unrolled.train.distributed import Group
from unrolled.train.loop import Loop

RECIPE = Path(__file__).resolve().parent.parent / "recipes/warpeace-lstm.toml"
SHAPES = (1, 256), (2, 256), (1, 512)
ROUNDS, UPDATES = 8, 3


class Ours:
    """The training loop of the package, without files and listeners."""

    def __init__(self, task: Generate, settings: ur.Settings) -> None:
        directory = ModelDirectory(Path(gettempdir()))
        self.loop = Loop(plan.complete(settings, task), task, directory, Group(), None, {})

    def updates(self, count: int) -> None:
        """Make some updates."""
        self.loop.steps = self.loop.position.step + count
        self.loop.run(None, ())


class Torch:
    """The loop that one writes with torch.nn."""

    def __init__(self, task: Generate, settings: ur.Settings) -> None:
        self.task, self.training = task, settings.training
        self.symbols, model = len(task.vocabulary), settings.model
        self.lstm = nn.LSTM(self.symbols, model.hidden, model.layers)
        self.out = nn.Linear(model.hidden, self.symbols)
        self.weights = [*self.lstm.parameters(), *self.out.parameters()]
        self.optimizer = torch.optim.Adam(self.weights, lr=self.training.lr or 0.0, fused=True)
        self.state: tuple[Tensor, Tensor] | None = None
        self.step = 0

    def updates(self, count: int) -> None:
        """Make some updates."""
        for _ in range(count):
            self._update()

    def _update(self) -> None:
        x, y, _, _ = self.task.symbols(
            self.task.batch(self.step, slice(0, self.training.batch_size)), {}
        )
        h, state = self.lstm(functional.one_hot(x.long(), self.symbols).float(), self.state)
        logits = self.out(h)
        loss = functional.cross_entropy(logits.flatten(0, 1), y.long().flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.training.clip_norm or 0.0)
        self.optimizer.step()
        self.state, self.step = (state[0].detach(), state[1].detach()), self.step + 1
        loss.item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    recipe = ur.Settings.from_toml(RECIPE)
    text = Running.prepare(recipe)
    print(f"{'':8} {'torch.nn':>10} {'unrolled':>10} {'ratio':>7}")
    for layers, hidden in SHAPES:
        flags = {
            **{"layers": layers, "hidden": hidden, "dropout": 0.0, "zoneout": ()},
            **{"sample_length": 0, "split": (0.9, 0.0, 0.1)},
        }
        settings = ur.Settings.from_flags("generate", flags, recipe)
        task = Generate(settings, Running(settings, text.vocabulary, text.ngram, text.corpus))
        sides = Ours(task, settings), Torch(task, settings)
        taken: list[list[float]] = [[], []]
        for turn in range(ROUNDS + 1):
            for side, times in zip(sides, taken, strict=True):
                began = time.perf_counter()
                side.updates(UPDATES)
                if turn:  # the first turn allocates and compiles
                    times.append((time.perf_counter() - began) / UPDATES * 1e3)
        ours, theirs = map(statistics.median, taken)
        ratio = statistics.median(b / a for a, b in zip(*taken, strict=True))
        print(f"{layers} x {hidden:4} {theirs:10.1f} {ours:10.1f} {ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
