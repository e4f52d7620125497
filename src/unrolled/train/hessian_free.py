"""Hessian-free optimisation: Newton's method by conjugate gradients on the Gauss-Newton matrix.

Martens 2010, "Deep learning via Hessian-free optimization"; Martens & Sutskever 2011, "Learning recurrent
neural networks with Hessian-free optimization". The matrix G = J' H J is never formed: J v comes of
forward mode, J' u of a backward pass, and H is that of the loss by the outputs alone.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.autograd import forward_ad
from torch.func import functional_call

from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.standard import StandardLayers
from unrolled.settings import TrainingSettings
from unrolled.tasks.task import Objective, Task
from unrolled.train.conjugate import Iterate, conjugate_gradients

ARMIJO = 1e-2
"""Share of the slope by which a step must lower the loss."""
SHRINK = 0.8
"""What a step that does not is multiplied by."""
TRIALS = 60
DRAWS = 8
"""Of random signs, from which the diagonal of G is estimated."""
RAISE, LOWER = 3 / 2, 2 / 3
"""What the damping is multiplied by where the quadratic model is bad, or good."""


@dataclass(frozen=True)
class Report:
    """What one update did.

    Attributes:
        loss: Before the update.
        after: After it.
        iterations: Of conjugate gradients.
        damping: lambda, as the update had it.
        ratio: rho: how much the loss fell, by how much the quadratic model said it would.
        step: What the direction was multiplied by; 0 where no step lowered the loss.
        gradient_norm: The L2 norm of the gradient.
    """

    loss: float
    after: float
    iterations: int
    damping: float
    ratio: float
    step: float
    gradient_norm: float


class HessianFree(optim.Optimizer):
    """Hessian-free optimisation of a model (Martens 2010).

    Args:
        model: Its parameters are updated.
        damping: lambda at the start, of the Tikhonov damping lambda ||d||^2 / 2; it then follows the rule
            of Levenberg and Marquardt.
        structural: mu of the structural damping, mu lambda times the squared distance of the states
            of `recurrent` (Martens & Sutskever 2011, section 3.2); 0 for none.
        recurrent: The modules whose outputs are the hidden states, for `structural`.
        iterations: Most steps of conjugate gradients in an update.
        decay: What the last direction is multiplied by where the next search begins.
        exponent: Of the preconditioner, (diagonal of G + lambda)^exponent; 0 for none.

    Raises:
        ValueError: If a number is out of its range, or there is structural damping without modules.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        damping: float = 1.0,
        structural: float = 0.0,
        recurrent: Sequence[nn.Module] = (),
        iterations: int = 100,
        decay: float = 0.95,
        exponent: float = 0.75,
    ) -> None:
        if not damping > 0:
            raise ValueError(f"the damping must be positive, not {damping}")
        if structural < 0 or not 0 <= decay <= 1 or iterations < 1:
            raise ValueError(
                "structural damping must not be negative, the decay lie in [0, 1], the iterations be "
                f"positive: not {structural}, {decay}, {iterations}"
            )
        if structural and not recurrent:
            raise ValueError("structural damping needs the modules whose states it holds")
        with warnings.catch_warnings(), suppress(ImportError):
            # What torch loads at its first forward mode warns of torch.
            warnings.simplefilter("ignore", DeprecationWarning)
            import_module("torch._decomp.decompositions_for_jvp")
        self.model = model
        self.named = {name: w for name, w in model.named_parameters() if w.requires_grad}
        self.weights = [*self.named.values()]
        self.structural, self.recurrent = structural, recurrent
        self.iterations, self.decay, self.exponent = iterations, decay, exponent
        super().__init__([{"params": self.weights}], {"lr": 1.0})
        for w in self.weights:
            self.state[w] = {"direction": torch.zeros_like(w)}
        self.state[self.weights[0]]["damping"] = self.weights[0].new_tensor(damping)

    @property
    def damping(self) -> float:
        """lambda, as it is now."""
        return float(self.state[self.weights[0]]["damping"])

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        problem: Objective,
        curvature: Objective | None = None,
    ) -> Report:
        """Make one update.

        Args:
            problem: Whose loss is made small.
            curvature: On whose examples the curvature is measured, fewer or the same.

        Returns:
            What was done.
        """
        damping = self.damping
        before, gradient = self._gradient(problem)
        start = self.decay * _flat([self.state[w]["direction"] for w in self.weights])
        with self._curvature(curvature or problem, damping) as (product, diagonal):
            start = self._scaled(start, gradient, product)
            precondition = (diagonal + damping) ** self.exponent
            found = conjugate_gradients(product, -gradient, start, precondition, self.iterations)
            chosen, after = self._best(problem, found.kept)
            step = chosen.x
            # The model: q(d) = g'd + d'(G + lambda I)d / 2, the damping included.
            told = float(gradient @ step + 0.5 * step @ product(step))
        ratio = (after - before) / told if told else 0.0
        for w, direction in zip(self.weights, self._unflat(found.x), strict=True):
            self.state[w]["direction"].copy_(direction)
        factor = RAISE if not ratio >= 0.25 else LOWER if ratio > 0.75 else 1.0
        self.state[self.weights[0]]["damping"].mul_(factor)
        rate, after = self._search(problem, step, float(gradient @ step), before, after)
        self._move(rate * step)
        return Report(
            loss=before,
            after=after,
            iterations=found.iterations,
            damping=damping,
            ratio=ratio,
            step=rate,
            gradient_norm=float(gradient.norm()),
        )

    @staticmethod
    def _scaled(start: Tensor, gradient: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        """Go along the last direction as far as the quadratic model falls; nowhere if it rises.

        Every iterate from there on is then below where the update begins, so the step is one of descent.
        """
        slope = gradient @ start
        if not slope < 0:
            return torch.zeros_like(start)
        return start * (-slope / (start @ product(start))).clamp(max=1)

    # ------------------------------------------------------------ derivatives

    def _gradient(self, problem: Objective) -> tuple[float, Tensor]:
        with torch.enable_grad():
            loss = problem.loss(problem.outputs(self.model))
            found = torch.autograd.grad(loss, self.weights, materialize_grads=True)
        return float(loss.detach()), _flat(found)

    @contextmanager
    def _curvature(
        self, problem: Objective, damping: float
    ) -> Iterator[tuple[Callable[[Tensor], Tensor], Tensor]]:
        """Give the function v -> (G + lambda I) v, with what both passes share kept meanwhile.

        And an estimate of the diagonal of G: the mean of (J' sqrt(h) r)^2 over random signs r, h being the
        diagonal of H (Chapelle & Erhan 2011, "Improved preconditioner for Hessian-free optimization").
        """
        with torch.enable_grad(), _listening(self.recurrent) as heard:
            outputs = problem.outputs(self.model)
            hidden = [*heard]
        at = outputs.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(problem.loss(at), at, create_graph=True)
        # As many as the loss takes the mean over: hidden states are held as the loss is measured.
        weight = self.structural * damping / max(1, outputs.shape[1] if outputs.dim() > 1 else 1)
        hidden = hidden if self.structural else []

        def product(v: Tensor) -> Tensor:
            moved, states = self._forward(problem, v)
            (bent,) = torch.autograd.grad(slope, at, moved, retain_graph=True)
            pairs = [
                (outputs, bent),
                *((h, weight * d) for h, d in zip(hidden, states, strict=True)),
            ]
            found = torch.autograd.grad(
                [a for a, _ in pairs],
                self.weights,
                [b for _, b in pairs],
                retain_graph=True,
                materialize_grads=True,
            )
            return _flat(found) + damping * v

        random = torch.Generator().manual_seed(0)
        signs = [
            2.0 * torch.randint(2, at.shape, generator=random).to(at) - 1 for _ in range(DRAWS)
        ]
        bends = [r * torch.autograd.grad(slope, at, r, retain_graph=True)[0] for r in signs]
        root = torch.stack(bends).mean(0).clamp(min=0).sqrt()
        diagonal = torch.zeros(sum(w.numel() for w in self.weights)).to(self.weights[0])
        for r in signs:
            found = torch.autograd.grad(
                outputs, self.weights, root * r, retain_graph=True, materialize_grads=True
            )
            diagonal += _flat(found).square() / DRAWS
        yield product, diagonal

    def _forward(self, problem: Objective, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give J v of the outputs and, for structural damping, of the hidden states."""
        directions = self._unflat(v)
        with torch.no_grad(), forward_ad.dual_level(), _listening(self.recurrent) as heard:
            moving = {
                name: forward_ad.make_dual(w, d)
                for (name, w), d in zip(self.named.items(), directions, strict=True)
            }
            outputs = problem.outputs(_With(self.model, moving))
            states = heard if self.structural else []
            return _dot(outputs), [_dot(state) for state in states]

    # ------------------------------------------------------------ how far to go

    @torch.no_grad()
    def _loss(self, problem: Objective, step: Tensor) -> float:
        weights = {
            name: w + d for (name, w), d in zip(self.named.items(), self._unflat(step), strict=True)
        }
        loss = float(problem.loss(problem.outputs(_With(self.model, weights))))
        return loss if loss == loss else float("inf")

    def _best(self, problem: Objective, kept: Sequence[Iterate]) -> tuple[Iterate, float]:
        """Go back over the iterates as long as that lowers the loss (Martens 2010, section 4.6)."""
        chosen, lowest = kept[-1], self._loss(problem, kept[-1].x)
        for iterate in reversed(kept[:-1]):
            loss = self._loss(problem, iterate.x)
            if loss >= lowest:
                break
            chosen, lowest = iterate, loss
        return chosen, lowest

    def _search(
        self, problem: Objective, step: Tensor, slope: float, before: float, after: float
    ) -> tuple[float, float]:
        """Shorten the step until it lowers the loss enough; give its length and the loss there."""
        rate = 1.0
        for _ in range(TRIALS):
            if after <= before + ARMIJO * rate * min(slope, 0.0):
                return rate, after
            rate *= SHRINK
            after = self._loss(problem, rate * step)
        return 0.0, before

    @torch.no_grad()
    def _move(self, step: Tensor) -> None:
        for w, d in zip(self.weights, self._unflat(step), strict=True):
            w.add_(d)

    def _unflat(self, flat: Tensor) -> list[Tensor]:
        sizes = [w.numel() for w in self.weights]
        return [part.view_as(w) for part, w in zip(flat.split(sizes), self.weights, strict=True)]


class _With(nn.Module):
    """A model with other tensors in place of its parameters."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.model, self.tensors = model, tensors

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return functional_call(self.model, self.tensors, args, kwargs)


@contextmanager
def _listening(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs of recurrent modules, (T, B, H) each."""
    heard: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _args, found: heard.append(found[0]))
        for module in modules
    ]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _dot(tensor: Tensor) -> Tensor:
    value, dot = forward_ad.unpack_dual(tensor)
    return torch.zeros_like(value) if dot is None else dot


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def hessian_free(model: nn.Module, training: TrainingSettings) -> HessianFree:
    """Build the optimiser of the settings; structural damping holds every recurrent net in the model.

    Raises:
        InputError: If structural damping is asked for and nothing in the model is recurrent.
    """
    nets = [m for m in model.modules() if isinstance(m, Recurrent | StandardLayers)]
    if training.structural_damping and not nets:
        raise InputError("--structural-damping: nothing in this model is recurrent; leave it out")
    return HessianFree(
        model,
        damping=training.damping,
        structural=training.structural_damping,
        recurrent=nets,
        iterations=training.cg_iterations,
    )


def hessian_free_update(
    optimizer: HessianFree, task: Task, step: int, rows: slice, training: TrainingSettings
) -> Report:
    """Make update number `step` of a task; its batch is drawn by the step, as always.

    Curvature is measured on the first rows of the batch.
    """

    def objective(first: int, last: int) -> Objective:
        some = slice(first, last)
        whole = task.objective(task.batch(step, some))

        def outputs(model: nn.Module) -> Tensor:
            with counter(training.seed, step, first):  # the same noise at every call
                return whole.outputs(model)

        return Objective(outputs, whole.loss)

    first, last = rows.start, rows.stop
    share = max(1, round((last - first) * training.curvature))
    return optimizer.step(objective(first, last), objective(first, first + share))
