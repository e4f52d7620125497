"""The sides of a whole training step: look symbols up, run the layer, read out, and learn.

The classic minimal character model: T symbols of one text a step, one row, the state handed on, summed
cross-entropy, every gradient clipped to +-5, Adagrad. One bias a gate is trained; torch.nn's second
is held at zero. Sides differ in nothing but who computes; ours is the package's own training loop,
in whichever way it takes.
"""

from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from unrolled.checkpoint.directory import ModelDirectory
from unrolled.data import Corpus, Part, fit_vocabulary
from unrolled.engine import Declined
from unrolled.inspect.bench.array_sides import forward, jax_outputs, load_jax
from unrolled.inspect.bench.equations import widths
from unrolled.inspect.bench.side import Arrays, Case, Results, Side
from unrolled.inspect.bench.workloads import Workload
from unrolled.settings import Settings
from unrolled.tasks.generate import Generate
from unrolled.tasks.language_texts import Running
from unrolled.tasks.ngram import NGram
from unrolled.train import plan
from unrolled.train.distributed import Group
from unrolled.train.loop import Loop

RATE, EPSILON, BOUND = 0.01, 1e-6, 5.0
"""The epsilon is large enough that rounding, where a gradient is nearly zero, makes no step of full size."""
UPDATES = 5
"""Updates after which weights are compared."""
WINDOWS = 64
"""Windows of the text."""
RECURRENT = {"x.weight": "weight_ih_l0", "x.bias": "bias_ih_l0", "h.weight": "weight_hh_l0"}
"""The names of this package's cells -> torch.nn's."""


def make_step_case(workload: Workload) -> Case:
    """Draw the weights and the text, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _model(workload)
    weights: Arrays = {name: w.detach().numpy().copy() for name, w in _trained(model).items()}
    text = np.random.default_rng(0).integers(workload.inputs, size=WINDOWS * workload.steps + 1)
    text[: workload.inputs] = np.arange(workload.inputs)  # every symbol occurs
    return Case(workload, text, weights)


class StepSide(Side):
    """What the sides share: windows of the text, one after the other, from the start again."""

    def __init__(self, case: Case) -> None:
        self.case, self.step, self.loss = case, 0, 0.0
        steps = case.workload.steps
        self.windows = [case.x[k * steps : (k + 1) * steps + 1] for k in range(WINDOWS)]

    def once(self) -> None:
        """Make one update."""
        place = self.step % WINDOWS
        self._update(self.windows[place], fresh=place == 0)
        self.step += 1

    def results(self) -> Results:
        """Make some updates; give their losses and the weights."""
        losses = []
        for _ in range(UPDATES):
            self.repeat(1)
            losses.append(float(self.loss))
        return Results(np.array(losses) / losses[0], self._weights())

    def _update(self, window: np.ndarray, *, fresh: bool) -> None:
        raise NotImplementedError

    def _weights(self) -> Arrays:
        raise NotImplementedError


class OurStep(StepSide):
    """The training loop of this package, without files and listeners."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        workload = case.workload
        settings = Settings.from_flags(
            "generate",
            {
                **{"cell": workload.cell, "hidden": workload.hidden, "layers": workload.layers},
                **{"embedding": 0, "unknown": False, "split": (1.0, 0.0, 0.0), "reduction": "sum"},
                **{"batch_size": workload.batch, "window": workload.steps, "sample_length": 0},
                **{"optimizer": "adagrad", "lr": RATE, "epsilon": EPSILON, "clip_value": BOUND},
                **{"clip_norm": 0.0, "steps": 1, "evaluate_every": 10**9, "source": ("bench",)},
            },
        )
        letters = "".join(chr(0x100 + k) for k in range(workload.inputs))
        vocabulary = fit_vocabulary([letters], settings.data)
        ids = case.x.astype(vocabulary.dtype)
        none = Part(ids[:0], 0)
        corpus = Corpus(Part(ids, len(ids)), none, none, "")
        ngram = NGram.fit(ids, len(vocabulary))
        task = Generate(settings, Running(settings, vocabulary, ngram, corpus))
        directory = ModelDirectory(Path(gettempdir()))  # without a log nothing is written
        with torch.random.fork_rng(devices=[]):
            self.loop = Loop(plan.complete(settings, task), task, directory, Group(), None, {})
        with torch.no_grad():
            for name, weight in self._named().items():
                weight.copy_(torch.tensor(case.weights[name]))

    @property
    def note(self) -> str:
        """Why the updates are not made in the core."""
        whole = self.loop.whole
        return f"no whole steps: {whole}" if isinstance(whole, Declined) else ""

    def once(self) -> None:
        """Let the loop make one update."""
        self.repeat(1)

    def repeat(self, times: int) -> None:
        """Let the loop make so many updates."""
        self.loop.steps = self.loop.position.step + times
        self.loop.run(None, ())
        self.loss = self.loop.position.loss

    def _named(self) -> dict[str, nn.Parameter]:
        found = dict(self.loop.model.named_parameters())
        return {_torch_name(name): weight for name, weight in found.items()}

    def _weights(self) -> Arrays:
        return {name: w.detach().numpy().copy() for name, w in self._named().items()}


class TorchStep(StepSide):
    """The loop that one writes with torch.nn and torch's own fused Adagrad."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.model = _model(case.workload)
        self.trained = _trained(self.model)
        with torch.no_grad():
            for name, weight in self.trained.items():
                weight.copy_(torch.tensor(case.weights[name]))
        parameters = self.parameters = [*self.trained.values()]
        self.optimizer = torch.optim.Adagrad(parameters, lr=RATE, eps=EPSILON, fused=True)
        self.state: Any = None

    def _update(self, window: np.ndarray, *, fresh: bool) -> None:
        ids = torch.from_numpy(window)
        x = functional.one_hot(ids[:-1, None], self.case.workload.inputs).float()  # (T, 1, V)
        y, state = self.model["layer"](x, None if fresh else self.state)
        logits = self.model["readout"](y[:, 0])
        loss = functional.cross_entropy(logits, ids[1:], reduction="sum")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_value_(self.parameters, BOUND)
        self.optimizer.step()
        pair = isinstance(state, tuple)
        self.state = tuple(part.detach() for part in state) if pair else state.detach()
        self.loss = loss.item()

    def _weights(self) -> Arrays:
        return {name: w.detach().numpy().copy() for name, w in self.trained.items()}


class NumpyStep(StepSide):
    """The same in NumPy, as the classic script has it."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.weights = {name: value.copy() for name, value in case.weights.items()}
        self.squares = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.state: list[np.ndarray] | None = None

    def _update(self, window: np.ndarray, *, fresh: bool) -> None:
        w, workload = self.weights, self.case.workload
        inputs, targets, steps = window[:-1], window[1:], np.arange(workload.steps)
        layer = {**_layer(w), "bias_hh": np.zeros_like(w["bias_ih_l0"])}
        a = layer["x.weight"].T[inputs][:, None] + layer["x.bias"]  # (T, 1, G * H)
        h, self.state, pull = forward(workload.cell, layer, a, None if fresh else self.state)
        y = h[:, 0]
        logits = y @ w["readout.weight"].T + w["readout.bias"]
        logits -= logits.max(-1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(-1, keepdims=True)
        self.loss = -np.log(p[steps, targets]).sum()
        p[steps, targets] -= 1
        dy = (p @ w["readout.weight"])[:, None]
        x = np.zeros((workload.steps, 1, workload.inputs), np.float32)
        x[steps, 0, inputs] = 1
        found, _ = pull(dy, x)
        gradients = {f"{name}_l0": value for name, value in found.items()}
        gradients |= {"readout.weight": p.T @ y, "readout.bias": p.sum(0)}
        for name, weight in w.items():
            g = np.clip(gradients[name], -BOUND, BOUND)
            self.squares[name] += g * g
            weight -= RATE * g / (np.sqrt(self.squares[name]) + EPSILON)

    def _weights(self) -> Arrays:
        return {name: value.copy() for name, value in self.weights.items()}


class JaxStep(StepSide):
    """The same as one function that JAX compiles."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.jax = jax = load_jax()
        workload, xp = case.workload, jax.numpy
        self.weights = {name: xp.asarray(value) for name, value in case.weights.items()}
        self.squares = {name: xp.zeros_like(value) for name, value in self.weights.items()}
        self.start = tuple(xp.zeros((1, width)) for width in widths(workload))
        zeros = np.zeros_like(case.weights["bias_ih_l0"])

        def loss(weights: Any, ids: Any, states: Any) -> Any:  # noqa: ANN401
            layer = {**weights, "bias_hh_l0": zeros}
            recurrent = {k: v for k, v in layer.items() if not k.startswith("readout")}
            x = jax.nn.one_hot(ids[:-1], workload.inputs)[:, None]
            y, last = jax_outputs(jax, workload, recurrent, x, states)
            logits = y[:, 0] @ weights["readout.weight"].T + weights["readout.bias"]
            scores = jax.nn.log_softmax(logits)
            return -scores[xp.arange(len(scores)), ids[1:]].sum(), last

        def update(weights: Any, squares: Any, ids: Any, states: Any) -> Any:  # noqa: ANN401
            (value, last), found = jax.value_and_grad(loss, has_aux=True)(weights, ids, states)
            new, sums = {}, {}
            for name, weight in weights.items():
                g = xp.clip(found[name], -BOUND, BOUND)
                sums[name] = squares[name] + g * g
                new[name] = weight - RATE * g / (xp.sqrt(sums[name]) + EPSILON)
            return new, sums, last, value

        self.run = jax.jit(update)

    def _update(self, window: np.ndarray, *, fresh: bool) -> None:
        states = self.start if fresh else self.states
        found = self.run(self.weights, self.squares, window, states)
        self.weights, self.squares, self.states, self.loss = self.jax.block_until_ready(found)

    def _weights(self) -> Arrays:
        return {name: np.asarray(value) for name, value in self.weights.items()}


def _model(workload: Workload) -> nn.ModuleDict:
    """Build the layer and the read-out in torch.nn, its second bias zero and not trained."""
    layer = getattr(nn, workload.cell.upper())(workload.inputs, workload.hidden)
    layer.bias_hh_l0.requires_grad_(False).zero_()
    return nn.ModuleDict({"layer": layer, "readout": nn.Linear(workload.hidden, workload.inputs)})


def _trained(model: nn.ModuleDict) -> dict[str, nn.Parameter]:
    return {
        name.removeprefix("layer."): weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _torch_name(name: str) -> str:
    """``net.cells.0.x.weight`` is ``weight_ih_l0``."""
    return RECURRENT.get(name.removeprefix("net.cells.0."), name)


def _layer(weights: Arrays) -> dict[str, np.ndarray]:
    """Give the weights of the layer by their names in the equations."""
    return {
        short: weights[name]
        for name, short in (
            ("weight_ih_l0", "x.weight"),
            ("bias_ih_l0", "x.bias"),
            ("weight_hh_l0", "weight_hh"),
        )
    }
