"""How weights follow gradients: the optimisers and the clipping of what they are given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn, optim
from torch.optim.optimizer import ParamsT

from unrolled.errors import InputError
from unrolled.settings import TrainingSettings

DEFAULT_RATES = {
    "sgd": 0.1,
    "momentum": 0.01,
    "nesterov": 0.01,
    "adagrad": 0.01,
    "rmsprop": 0.001,
    "adadelta": 1.0,
    "adam": 0.001,
    "adamw": 0.001,
    "hessian-free": 1.0,
}
"""Learning rate of each optimiser where none is set."""

WITHOUT_EPSILON = ("sgd", "momentum", "nesterov", "hessian-free")

WITHOUT_GRADIENTS: dict[str, Any] = {
    "clip_each": None,
    "l1": 0.0,
    "l2": 0.0,
    "elastic": 0.0,
    "activation_penalty": 0.0,
    "temporal_penalty": 0.0,
    "accumulate": 1,
    "precision": "full",
}
"""Settings of how gradients are made, which hessian-free does by itself: name -> what leaves it out."""


class Remembering(optim.Optimizer, ABC):
    """What keeps one tensor of each parameter, zero at the start, and changes both by the gradient."""

    kept: ClassVar[str]
    """What the tensor is called in a checkpoint."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; give what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                g = w.grad
                if group["weight_decay"]:
                    g = g.add(w, alpha=group["weight_decay"])
                state = self.state[w]
                if not state:
                    state[self.kept] = torch.zeros_like(w)
                self.update(w, g, state[self.kept], group)
        return loss

    @abstractmethod
    def update(self, w: Tensor, g: Tensor, kept: Tensor, options: Mapping[str, Any]) -> None:
        """Change a parameter and what is kept of it, in place, by its decayed gradient."""


class AdagradInside(Remembering):
    """Adagrad with epsilon inside the root: ``w -= lr * g / sqrt(sum(g^2) + epsilon)``.

    Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic
    optimization", as the classic minimal character RNN has it. ``torch.optim.Adagrad`` divides by
    ``sqrt(sum(g^2)) + epsilon``: with 1e-8 the two differ a hundredfold where gradients are near 1e-6.

    Args:
        params: Parameters to update.
        lr: Learning rate.
        eps: Added to the sum of squares.
        weight_decay: L2 penalty, added to the gradient.
    """

    kept = "sum"

    def __init__(
        self, params: ParamsT, lr: float = 0.01, eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def update(self, w: Tensor, g: Tensor, kept: Tensor, options: Mapping[str, Any]) -> None:
        """Add the squares, and divide by their root."""
        kept.addcmul_(g, g)
        w.addcdiv_(g, (kept + options["eps"]).sqrt_(), value=-options["lr"])


class Velocity(Remembering):
    """Momentum whose velocity holds the rate: ``v = mu v - lr g``, ``w += v``.

    (Polyak 1964; Sutskever, Martens, Dahl & Hinton 2013, "On the importance of initialization and
    momentum in deep learning", eqs. 1-2.) ``torch.optim.SGD`` has ``b = mu b + g``, ``w -= lr b``: the
    same while the rate stays, but a new rate at once changes there what all earlier gradients count.

    Args:
        params: Parameters to update.
        lr: Learning rate.
        momentum: mu.
        weight_decay: L2 penalty, added to the gradient.
        nesterov: Whether ``w += mu v - lr g`` after v is updated, which looks ahead.
    """

    kept = "velocity"

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov})

    def update(self, w: Tensor, g: Tensor, kept: Tensor, options: Mapping[str, Any]) -> None:
        """Change the velocity, and move by it."""
        lr, mu = options["lr"], options["momentum"]
        kept.mul_(mu).sub_(g, alpha=lr)
        if options["nesterov"]:
            w.add_(kept, alpha=mu).sub_(g, alpha=lr)
        else:
            w.add_(kept)


def check_optimizer(training: TrainingSettings) -> None:
    """Find settings that the chosen optimiser does not have, or cannot do with.

    Raises:
        InputError: If there is one.
    """
    if training.epsilon is not None and training.optimizer in WITHOUT_EPSILON:
        raise InputError(f"--epsilon: {training.optimizer} has none; leave it out")
    if training.optimizer == "nesterov" and not training.momentum:
        raise InputError("--momentum 0.0: nesterov needs a momentum above 0")
    if training.optimizer == "hessian-free" and (training.weight_decay or training.clip_value):
        raise InputError("hessian-free neither decays weights nor clips; leave that out")
    if training.optimizer == "hessian-free":
        if training.loss in ("hinge", "absolute"):
            raise InputError(f"--loss {training.loss} has no curvature for hessian-free to follow")
        for name, unset in WITHOUT_GRADIENTS.items():
            if getattr(training, name) != unset:
                raise InputError(f"--{name.replace('_', '-')}: hessian-free has no use for it")
    if training.momentum_form != "torch" and training.optimizer not in ("momentum", "nesterov"):
        raise InputError(f"--momentum-form is for momentum and nesterov, not {training.optimizer}")
    if training.epsilon_inside and training.optimizer != "adagrad":
        raise InputError(f"--epsilon-inside is for adagrad, not for {training.optimizer}")


def make_optimizer(
    parameters: Iterable[nn.Parameter], training: TrainingSettings
) -> optim.Optimizer:
    """Build the optimiser that the settings name, one that follows gradients.

    Args:
        parameters: What to update.
        training: ``optimizer``, ``lr`` (:data:`DEFAULT_RATES` where it is ``None``), ``momentum``,
            ``momentum_form``, ``weight_decay``, ``epsilon`` and ``epsilon_inside`` count.

    Raises:
        InputError: If a setting is given that the optimiser does not have.
    """
    check_optimizer(training)
    kind = training.optimizer
    # In a group, as torch refuses no parameters at all, which is what a model in closed form has.
    group = [{"params": list(parameters)}]
    rates: dict[str, Any] = {
        "lr": training.lr or DEFAULT_RATES[kind],
        "weight_decay": training.weight_decay,
    }
    eps: dict[str, Any] = {} if training.epsilon is None else {"eps": training.epsilon}
    match kind:
        case "sgd":
            return optim.SGD(group, **rates)
        case "momentum" | "nesterov" if training.momentum_form == "velocity":
            return Velocity(group, momentum=training.momentum, nesterov=kind == "nesterov", **rates)
        case "momentum":
            return optim.SGD(group, momentum=training.momentum, **rates)
        case "nesterov":
            return optim.SGD(group, momentum=training.momentum, nesterov=True, **rates)
        case "adagrad" if training.epsilon_inside:
            return AdagradInside(group, **rates, **eps)
        case "adagrad":
            return optim.Adagrad(group, **rates, **eps)
        case "rmsprop":
            return optim.RMSprop(group, **rates, **eps)
        case "adadelta":
            return optim.Adadelta(group, **rates, **eps)
        case "adam":
            return optim.Adam(group, **rates, **eps)
        case "adamw":
            return optim.AdamW(group, **rates, **eps)
    raise ValueError(f"{kind} is made of a model: see unrolled.train.hessian_free")


def clip(
    parameters: Sequence[nn.Parameter],
    norm: float | None,
    value: float | None,
    each: float | None = None,
) -> float | None:
    """Clip gradients in place: every entry to +-`value`, then each tensor, then all to a global norm.

    Args:
        parameters: Whose gradients.
        norm: Scale all gradients by the same factor, so that their joint L2 norm is at most this.
        value: Bound of every entry; entries within it stay bit for bit as they are.
        each: Scale each gradient, by its own factor, so that its L2 norm is at most this.

    Returns:
        The global norm before it was bounded, where `norm` is given.
    """
    gradients = [w.grad for w in parameters if w.grad is not None]
    if value is not None:
        for gradient in gradients:
            gradient.clamp_(-value, value)
    if each is not None:
        for gradient in gradients:
            own = float(torch.linalg.vector_norm(gradient))
            if own > each:
                gradient.mul_(each / own)
    if norm is None or not gradients:
        return None
    size = float(nn.utils.get_total_norm(gradients))
    # torch's own clipping divides by norm + 1e-6, which misses the bound in the seventh digit.
    if size > norm:
        for gradient in gradients:
            gradient.mul_(norm / size)
    return size
