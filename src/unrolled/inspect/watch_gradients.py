"""The flow of gradients, looked at while a model learns: ``unrolled train --watch gradients``."""

import math
import time
from typing import Any

import torch

from unrolled import console
from unrolled.checkpoint import files
from unrolled.inspect.flow import lags, unroll
from unrolled.inspect.flow_page import falling
from unrolled.inspect.flow_report import Verdict, advice, judge, loss_of, noted
from unrolled.inspect.units import evaluating
from unrolled.train.callbacks import Callback, End, Start, Step

SHARE = 0.03
"""Of the time of training that looking may take."""
PICTURE = "gradients.png"


class GradientWatch(Callback):
    """Says now and then how far the gradient of the last step's error reaches, and what to try.

    One row of the batch of the update just made is read from its start, in evaluation mode; the run does not
    notice. After each look so long is waited that all looks together take 3 % of the time.

    Args:
        json: Print lines of JSON instead of words.
        share: Of the time of training that looking may take.
    """

    def __init__(self, *, json: bool = False, share: float = SHARE) -> None:
        self.json, self.share = json, share
        self.seen: list[tuple[int, dict[str, list[float]]]] = []
        self.clipped, self.updates, self.next = 0, 0, 0.0
        self.advised: set[str] = set()
        self.gated = False

    def on_start(self, event: Start) -> None:
        """Remember the model."""
        self.start = event
        self.bound = event.settings.training.clip_norm or math.inf

    def on_step(self, event: Step) -> None:
        """Look, if it is time."""
        self.updates += 1
        self.clipped += event.gradient_norm is not None and event.gradient_norm > self.bound
        began = time.perf_counter()
        if began < self.next:
            return
        falls = self._look(event.step)
        if falls:
            self._say(event.step, falls)
        now = time.perf_counter()
        self.next = now + (now - began) * (1 / self.share - 1) if falls else math.inf

    def on_end(self, event: End) -> None:
        """Draw what was left of the gradients at the first look, half-way, and at the last."""
        chosen = sorted({0, len(self.seen) // 2, len(self.seen) - 1}) if self.seen else []
        curves = {
            f"{name}, step {step:,}": falls
            for step, layers in (self.seen[i] for i in chosen)
            for name, falls in layers.items()
        }
        if curves:
            files.write(event.directory / PICTURE, falling(curves), durable=False)

    def _look(self, step: int) -> dict[str, list[float]]:
        """Give for each layer what is left of the last error's gradient 0, 1, 2, ... steps before."""
        model, task = self.start.model, self.start.task
        if model is None or task.closed_form:
            return {}
        found: dict[str, list[float]] = {}
        with evaluating(model), torch.random.fork_rng(devices=[]):
            for call, seeds in noted(model, loss_of(task, model, 1, step - 1)):
                unrolled = unroll(call, seeds, rows=1, gates=True)
                last = unrolled.times[-1:]
                if not last:
                    continue
                self.gated |= any(layer.gates for layer in unrolled.layers)
                for layer, norms in zip(unrolled.layers, unrolled.norms(last), strict=True):
                    name = f"{call.name}: {layer.name}".removeprefix(": ")
                    # Of a layer that reads from the end the first steps have the longest way.
                    found[name] = lags(layer, norms, last)[: len(norms[0]) - 1].tolist()
        if found:
            self.seen.append((step, found))
        return found

    def _say(self, step: int, falls: dict[str, list[float]]) -> None:
        verdicts = {name: judge(values) for name, values in falls.items()}
        clipped = self.clipped / self.updates if self.bound < math.inf else None
        tips = self._tips(verdicts)
        if self.json:
            layers: dict[str, Any] = {
                name: {"verdict": v.kind, "power": v.power, "steps": v.steps}
                for name, v in verdicts.items()
            }
            event = {"event": "gradients", "step": step, "layers": layers}
            console.print_json({**event, "clipped": clipped, "advice": tips})
            return
        words = "; ".join(f"{name}: {verdict}" for name, verdict in verdicts.items())
        more = "" if clipped is None else f"; clipped in {clipped:.0%} of the steps"
        console.logs().print(f"step {step:,}  {words}{more}", soft_wrap=True, markup=False)
        for tip in tips:
            console.logs().print(f"  try {tip}", style="dim", soft_wrap=True, markup=False)

    def _tips(self, verdicts: dict[str, Verdict]) -> list[str]:
        """Say what to try, once for each thing that is wrong."""
        kinds = {verdict.kind for verdict in verdicts.values()} - self.advised
        self.advised |= kinds
        return [tip for kind in sorted(kinds) for tip in advice(kind, gated=self.gated)]
