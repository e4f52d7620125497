"""What the flow of gradients through a trained model says: figures, a verdict, and what to try."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.checkpoint.directory import ModelDirectory
from unrolled.checkpoint.load import Trained
from unrolled.engine import Cell
from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.inspect.calls import Call, noting_calls
from unrolled.inspect.cells import cells_of
from unrolled.inspect.flow import (
    Layer,
    jacobians,
    lags,
    products,
    recurrent_matrices,
    unroll,
)
from unrolled.inspect.model_data import with_data
from unrolled.tasks.task import Task

STEPS = 64
"""Most steps t whose E_t are followed back one by one."""
VANISHES, EXPLODES = 1e-2, 1e2
LEFT, RIGHT = 0.1, 0.9
"""Below and above a gate is left- and right-saturated (Karpathy, Johnson & Li 2015, section 4.2)."""


@dataclass(frozen=True)
class Verdict:
    """How far gradients reach, in words."""

    kind: Literal["vanishes", "explodes", "flows"]
    power: float
    """log10 of what is left of a gradient."""
    steps: int
    """After so many steps."""

    def __str__(self) -> str:
        """Give it as one sentence."""
        if self.kind == "flows":
            return f"the gradient flows: 10^{self.power:+.1f} of it after {self.steps} steps"
        return f"the gradient {self.kind} by 10^{self.power:+.1f} in {self.steps} steps"


def judge(falls: Sequence[float]) -> Verdict:
    """Judge what is left of a gradient after 0, 1, 2, ... steps, as a share of what it was."""
    values = [v for v in falls if v > 0] or [1.0]
    largest = max(range(len(values)), key=values.__getitem__)
    if values[largest] > EXPLODES:
        return Verdict("explodes", math.log10(values[largest]), largest)
    # Where a gradient is too small to be a number at all, no more is known than that.
    gone = len(values) < len(falls)
    at, left = (len(values), 1e-38) if gone else (len(values) - 1, values[-1])
    return Verdict("vanishes" if left < VANISHES else "flows", math.log10(left), at)


def advice(kind: str, *, gated: bool) -> list[str]:
    """Say what to try."""
    if kind == "vanishes":
        first = [] if gated else ["a gated cell: --cell lstm or gru"]
        return [
            *first,
            "an identity or orthogonal start: --recurrent-start identity",
            "gates open at first: --forget-bias 1, or --chrono T" if gated else "--cell irnn",
            "skip connections: --connection residual, or a cell with delays",
            "a shorter window: what lies further back teaches nothing as it is",
        ]
    if kind == "explodes":
        return [
            "gradients that are clipped: --clip-norm 1",
            "an orthogonal start: --recurrent-start orthogonal",
            "a shorter window, or a lower --lr",
        ]
    return []


@dataclass(frozen=True)
class LayerFlow:
    """One layer and direction."""

    name: str
    times: list[int]
    """The t of :attr:`norms`; T stands for the last states."""
    norms: np.ndarray = field(repr=False)
    """||dE_t/dh_k||, (len(times), T + 1), k in the order in which the layer reads."""
    totals: np.ndarray = field(repr=False)
    """||dE/dh_k||, (T + 1,)."""
    falls: list[float]
    """What is left after 0, 1, 2, ... steps."""
    verdict: Verdict
    singular: list[float]
    """Largest singular value of the product of the last 1, 2, ... Jacobians."""
    bound: list[float]
    """(gamma_W gamma_phi)^n where the Jacobian is diag(f') W, else the product of each one's norm."""
    half_life: list[float]
    """Of each number of the states, in steps, from the diagonal of the Jacobians."""
    gates: dict[str, dict[str, list[float]]]
    """Name -> mean, and shares left- and right-saturated, of each unit."""
    saturated: float
    """Share of states within 0.05 of -1 or 1; 0 where states go beyond."""
    matrices: dict[str, dict[str, float]]
    """Recurrent matrix -> spectral radius, largest and smallest singular value, before and after training."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        return asdict(self) | {
            "norms": self.norms.tolist(),
            "totals": self.totals.tolist(),
            "verdict": {**asdict(self.verdict), "words": str(self.verdict)},
        }


@dataclass(frozen=True)
class Flow:
    """The flow of gradients in a model."""

    model: str
    cell: str
    layers: list[LayerFlow]
    clipped: float | None
    """Share of the noted updates in which the gradients were clipped; ``None`` if they are not."""
    advice: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        own = {n: getattr(self, n) for n in ("model", "cell", "clipped", "advice", "notes")}
        return {**own, "layers": [layer.to_dict() for layer in self.layers]}

    def __str__(self) -> str:
        """Give it in words."""
        lines = [f"{self.model}: gradients through time, cell {self.cell}"]
        for layer in self.layers:
            lines += ["", f"{layer.name}: {layer.verdict}", *_told(layer)]
        if self.clipped is not None:
            lines += ["", f"gradients were clipped in {self.clipped:.0%} of the noted updates"]
        if self.advice:
            lines += ["", "to try:", *(f"- {one}" for one in self.advice)]
        return "\n".join([*lines, *(f"\nNote: {note}" for note in self.notes)])


def _told(layer: LayerFlow) -> list[str]:
    lines = []
    for name, m in layer.matrices.items():
        before = f", before training {m['radius_before']:.3g}" if "radius_before" in m else ""
        lines.append(
            f"  {name}: spectral radius {m['radius']:.3g}{before}; "
            f"singular values {m['smallest']:.3g} to {m['largest']:.3g}"
        )
    if layer.singular:
        n = len(layer.singular)
        lines.append(
            f"  product of {n} Jacobians: largest singular value {layer.singular[-1]:.3g}, "
            f"at most {layer.bound[-1]:.3g}"
        )
    for name, gate in layer.gates.items():
        left, right = np.mean(gate["left"]), np.mean(gate["right"])
        lines.append(
            f"  gate {name}: open {np.mean(gate['mean']):.2f}, saturated {left:.0%} shut, {right:.0%} open"
        )
    if layer.half_life:
        known = np.asarray(layer.half_life)
        lines.append(
            f"  memory half-life: median {np.median(known):.3g} steps, longest {known.max():.3g}"
        )
    if layer.saturated:
        lines.append(f"  states saturated: {layer.saturated:.0%}")
    return lines


def noted(model: nn.Module, loss: Callable[[], Tensor]) -> list[tuple[Call, list[Tensor | None]]]:
    """Compute a loss once, and give each recurrent net's last call and dE by each of its results."""
    with torch.enable_grad(), noting_calls(model) as calls:
        error = loss()
    latest = [*{call.name: call for call in calls}.values()]
    if not latest or not error.requires_grad:
        return []
    results = [result for call in latest for result in call.results]
    differentiable = [result for result in results if result.requires_grad]
    found = iter(torch.autograd.grad(error, differentiable, allow_unused=True))
    given = iter([next(found) if result.requires_grad else None for result in results])
    return [(call, [next(given) for _ in call.results]) for call in latest]


def gradient_flow(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    before: nn.Module | None = None,
    rows: int = 4,
    steps: int = STEPS,
) -> Flow:
    """Follow the gradients of a loss back through time in every recurrent net of a model.

    Of a net that is called several times the last call is looked at, on rows as long as its longest.

    Args:
        model: A :class:`Recurrent`, an :class:`RNN`, :class:`LSTM` or :class:`GRU`, or a module that has
            such inside.
        loss: Runs the model and gives a scalar.
        before: The model with other weights to compare recurrent matrices with, as those of its start.
        rows: Most rows to take.
        steps: Most steps t to follow back one by one, spread over all.

    Returns:
        What was found: ``layers`` with the figures of each layer and direction, ``advice``, and ``str()``
        that says it in words.

    Raises:
        InputError: If no recurrent net inside runs over a sequence, or the loss does not depend on one.
    """
    calls = noted(model, loss)
    if not calls:
        has = ", ".join(dict.fromkeys(type(m).__name__ for m in model.modules() if m is not model))
        raise InputError(
            f"{type(model).__name__} runs no recurrent net over a sequence that its loss depends on, so no "
            f"gradient flows through time; it has {has or 'no layers'}"
        )
    layers: list[LayerFlow] = []
    notes: list[str] = []
    for call, seeds in calls:
        unrolled = unroll(call, seeds, rows=rows, gates=True)
        times = unrolled.times
        if not times:
            notes.append(f"the loss reads nothing of {call.name}")
            continue
        if len(times) > steps:
            notes.append(f"{call.name}: {steps} of {len(times)} steps were followed back")
            times = [times[i] for i in np.linspace(0, len(times) - 1, steps).round().astype(int)]
        other = before and before.get_submodule(call.name)
        starts = [cell for _, cell in cells_of(other)] if other else [None] * len(call.cells)
        found = zip(unrolled.layers, starts, unrolled.norms(times), unrolled.totals(), strict=True)
        layers += [
            layer_flow(call.name, layer, norms, totals, times, start)
            for layer, start, norms, totals in found
        ]
    kinds = {layer.verdict.kind for layer in layers}
    gated = any(layer.gates for layer in layers)
    told = [
        line
        for kind in ("explodes", "vanishes")
        if kind in kinds
        for line in advice(kind, gated=gated)
    ]
    cells = dict.fromkeys(type(cell).__name__ for call, _ in calls for _, cell in call.cells)
    return Flow(type(model).__name__, ", ".join(cells), layers, None, told, notes)


def flow_of(trained: Trained, source: str, *, rows: int = 4, steps: int = STEPS) -> Flow:
    """Follow the gradients of a trained model's loss back through time, see :func:`gradient_flow`.

    Args:
        trained: A model of any task with a recurrent net inside.
        source: Data such as it was trained on; the first rows of its first batch are looked at.
        rows: Most rows to take.
        steps: Most steps t to follow back one by one, spread over all.

    Raises:
        InputError: If the data does not fit, or the model has no recurrent net.
    """
    task = with_data(trained, source)
    if task.closed_form:
        raise InputError(
            f"{trained.directory} is fitted in closed form; no gradient flows through it"
        )
    model = trained.model.eval()
    found = gradient_flow(
        model, loss_of(task, model, rows), before=task.build(), rows=rows, steps=steps
    )
    return replace(
        found,
        model=trained.directory.resolve().name,
        cell=trained.settings.model.cell,
        clipped=_clipped(trained),
    )


def loss_of(task: Task, model: nn.Module, rows: int, step: int = 0) -> Callable[[], Tensor]:
    """Give the loss of a task on the first rows of one of its batches."""

    def loss() -> Tensor:
        with counter(task.settings.training.seed, step):
            return task.loss(model, task.batch(step, task.few(rows)), {})[0]

    return loss


def layer_flow(
    net: str,
    layer: Layer,
    norms: Tensor,
    totals: Tensor,
    times: list[int],
    start: Cell | None = None,
) -> LayerFlow:
    """Sum a layer up.

    Args:
        net: Where its net is in the model.
        layer: The layer, unrolled.
        norms: Of :meth:`~unrolled.inspect.flow.Unrolled.norms`, (len(times), T + 1).
        totals: (T + 1,).
        times: The steps t.
        start: Its cell before training.
    """
    falls = lags(layer, norms, times)
    reach = int((torch.tensor([_reach(layer, t) for t in times])).max())
    kept = falls[:reach].tolist()
    found = jacobians(layer)
    matrices = {name: _spectrum(w) for name, w in recurrent_matrices(layer.cell).items()}
    if start is not None:
        for name, w in recurrent_matrices(start).items():
            matrices[name] |= {f"{k}_before": v for k, v in _spectrum(w).items()}
    state = torch.cat([s[0] for s in ([*one.values()] for one in layer.states[1:])]).detach()
    bounded = bool((state.abs() <= 1).all())
    return LayerFlow(
        f"{net}: {layer.name}".removeprefix(": "),
        times,
        norms.numpy(),
        totals.numpy(),
        kept,
        judge(kept),
        [] if found is None else products(found).tolist(),
        [] if found is None else _bound(found, recurrent_matrices(layer.cell)),
        [] if found is None else _half_lives(found),
        {name: _gate(value) for name, value in layer.gates.items() if _is_share(value)},
        float((state.abs() > 0.95).float().mean()) if bounded else 0.0,
        matrices,
    )


def _reach(layer: Layer, t: int) -> int:
    """How many states lie between the first and those after step t, with both."""
    steps = len(layer.states) - 1
    return steps if t == steps else steps - t if layer.backwards else t + 1


def _spectrum(w: Tensor) -> dict[str, float]:
    values = torch.linalg.svdvals(w)
    return {
        "radius": float(torch.linalg.eigvals(w).abs().max()),
        "largest": float(values[0]),
        "smallest": float(values[-1]),
    }


def _bound(found: Tensor, matrices: dict[str, Tensor]) -> list[float]:
    """Bound the products: by (gamma_W gamma_phi)^n where J = diag(f') W, else by the single norms."""
    found = found.cpu()
    if len(matrices) == 1:
        (w,) = matrices.values()
        if w.shape == found.shape[1:]:
            # f' is what a row of J is of the row of W.
            slopes = (found * w).sum(2) / w.square().sum(1).clamp(min=1e-300)
            if torch.allclose(slopes[:, :, None] * w, found, rtol=1e-3, atol=1e-6):
                gamma = float(torch.linalg.matrix_norm(w, 2) * slopes.abs().max())
                return [gamma ** (n + 1) for n in range(len(found))]
    return torch.linalg.matrix_norm(found, 2).flip(0).cumprod(0).tolist()


def _half_lives(found: Tensor) -> list[float]:
    """Give ln 2 / -ln m of each number, m the geometric mean of dh_t,i/dh_{t-1},i."""
    kept = found.diagonal(dim1=1, dim2=2).abs().clamp(1e-12, 1 - 1e-6).log().mean(0)
    return (math.log(0.5) / kept).tolist()


def _is_share(value: Tensor) -> bool:
    return bool((value >= 0).all() and (value <= 1).all())


def _gate(value: Tensor) -> dict[str, list[float]]:
    units = value.flatten(0, 1).float()
    return {
        "mean": units.mean(0).flatten().tolist(),
        "left": (units < LEFT).float().mean(0).flatten().tolist(),
        "right": (units > RIGHT).float().mean(0).flatten().tolist(),
    }


def _clipped(trained: Trained) -> float | None:
    bound = trained.settings.training.clip_norm
    norms = [
        line["gradient_norm"]
        for line in ModelDirectory(trained.directory).metrics()
        if "gradient_norm" in line
    ]
    return float(np.mean([norm > bound for norm in norms])) if bound and norms else None
