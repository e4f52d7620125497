"""The sides of NumPy, its derivatives written by hand, and of JAX's scan."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from unrolled.inspect.bench.equations import EQUATIONS, layers, product, sigmoid, split, widths
from unrolled.inspect.bench.side import Case, Results, Side, Skipped, float32_only, no_lengths
from unrolled.inspect.bench.workloads import Workload

Layer = dict[str, np.ndarray]
Gradients = dict[str, np.ndarray]
States = list[np.ndarray]
Derivative = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Pull = Callable[[np.ndarray, np.ndarray], tuple[Gradients, np.ndarray]]


def _check(case: Case) -> None:
    """Skip what has no equations here.

    Raises:
        Skipped: If the workload is such.
    """
    float32_only(case)
    no_lengths(case)
    if case.workload.cell not in EQUATIONS or case.workload.own:
        raise Skipped("has no equations of this cell")


def numpy_loop(case: Case) -> Side:
    """Give the equations in NumPy.

    Raises:
        Skipped: If nobody wrote down the equations or the derivative.
    """
    _check(case)
    workload = case.workload
    if workload.mode != "infer" and (workload.cell not in FORWARD or workload.projection):
        raise Skipped("has no derivative of this cell written by hand")
    return NumpySide(case)


class NumpySide(Side):
    """Steps in a Python loop; the products of the input and of the gradients made once for all steps."""

    spins = 0.15  # OpenBLAS waits 2^28 cycles

    def __init__(self, case: Case) -> None:
        self.case = case
        self.layers = layers(case.workload, {**case.constants, **case.weights})

    def once(self) -> None:
        """Compute the outputs, and the gradients where the workload asks for them."""
        self.results()

    def results(self) -> Results:
        """Give y and the gradients."""
        if self.case.workload.mode == "infer":
            return Results(self._outputs(), {})
        cell, x, passes = self.case.workload.cell, self.case.x, []
        for w in self.layers:
            y, _, pull = forward(cell, w, x @ w["x.weight"].T + w["x.bias"])
            passes.append((w, x, pull))
            x = y
        dy, gradients = 2 * x, {}
        for layer, (w, below, pull) in reversed([*enumerate(passes)]):
            found, da = pull(dy, below)
            gradients |= {f"{name}_l{layer}": value for name, value in found.items()}
            dy = da @ w["x.weight"] if layer else dy
        return Results(x, gradients)

    def _outputs(self) -> np.ndarray:
        workload, y = self.case.workload, self.case.x
        for w in self.layers:
            a = product(w, y)
            states: Any = [np.zeros((a.shape[1], n), np.float32) for n in widths(workload)]
            y = np.empty((*a.shape[:2], states[0].shape[1]), np.float32)
            for t in range(len(a)):
                states = EQUATIONS[workload.cell](np, w, a[t], states)
                y[t] = states[0]
        return y


def forward(
    cell: str, w: Layer, a: np.ndarray, start: States | None = None
) -> tuple[np.ndarray, States, Pull]:
    """Run a layer, with what its derivative needs kept.

    Args:
        cell: ``rnn``, ``lstm`` or ``gru``.
        w: Weights of the layer.
        a: The product of its input (T, B, G * H).
        start: States before the first step, each (B, H); zeros if left out.

    Returns:
        y (T, B, H), the last states, and a function of y's gradient and the input x (T, B, I) that
        gives the gradients of the weights, by torch's names without the layer's number, and of `a`.
    """
    h, last, derive = FORWARD[cell](w, a, start)

    def pull(dy: np.ndarray, x: np.ndarray) -> tuple[Gradients, np.ndarray]:
        da, dp = derive(dy)
        flat_a, flat_p = da.reshape(-1, da.shape[-1]), dp.reshape(-1, dp.shape[-1])
        gradients = {
            "weight_ih": flat_a.T @ x.reshape(-1, x.shape[-1]),
            "weight_hh": flat_p.T @ h[:-1].reshape(-1, h.shape[-1]),
            "bias_ih": flat_a.sum(0),
            "bias_hh": flat_p.sum(0),
        }
        return gradients, da

    return h[1:], last, pull


def _states(a: np.ndarray, width: int, start: np.ndarray | None) -> np.ndarray:
    """Make room for T + 1 states, the first of them given."""
    states = np.zeros((len(a) + 1, a.shape[1], width), np.float32)
    states[0] = 0 if start is None else start
    return states


def _rnn(w: Layer, a: np.ndarray, start: States | None) -> tuple[np.ndarray, States, Derivative]:
    h = _states(a, a.shape[-1], start[0] if start else None)
    for t in range(len(a)):
        h[t + 1] = np.tanh(a[t] + h[t] @ w["weight_hh"].T + w["bias_hh"])

    def derive(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d, dh = np.empty_like(a), np.zeros_like(dy[0])
        for t in reversed(range(len(a))):
            d[t] = (dy[t] + dh) * (1 - h[t + 1] ** 2)
            dh = d[t] @ w["weight_hh"]
        return d, d

    return h, [h[-1]], derive


def _lstm(w: Layer, a: np.ndarray, start: States | None) -> tuple[np.ndarray, States, Derivative]:
    h, c = (_states(a, a.shape[-1] // 4, start[k] if start else None) for k in range(2))
    kept = []
    for t in range(len(a)):
        i, f, g, o = split(a[t] + h[t] @ w["weight_hh"].T + w["bias_hh"], 4)
        i, f, g, o = sigmoid(np, i), sigmoid(np, f), np.tanh(g), sigmoid(np, o)
        c[t + 1] = f * c[t] + i * g
        tanh_c = np.tanh(c[t + 1])
        h[t + 1] = o * tanh_c
        kept.append((i, f, g, o, tanh_c))

    def derive(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d, dh, dc = np.empty_like(a), np.zeros_like(dy[0]), np.zeros_like(dy[0])
        for t in reversed(range(len(a))):
            i, f, g, o, tanh_c = kept[t]
            dh = dy[t] + dh
            dc = dc + dh * o * (1 - tanh_c**2)
            parts = dc * g * i * (1 - i), dc * c[t] * f * (1 - f)
            d[t] = np.concatenate([*parts, dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)], -1)
            dc, dh = dc * f, d[t] @ w["weight_hh"]
        return d, d

    return h, [h[-1], c[-1]], derive


def _gru(w: Layer, a: np.ndarray, start: States | None) -> tuple[np.ndarray, States, Derivative]:
    h, kept = _states(a, a.shape[-1] // 3, start[0] if start else None), []
    for t in range(len(a)):
        x_r, x_z, x_n = split(a[t], 3)
        h_r, h_z, h_n = split(h[t] @ w["weight_hh"].T + w["bias_hh"], 3)
        r, z = sigmoid(np, x_r + h_r), sigmoid(np, x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        h[t + 1] = (1 - z) * n + z * h[t]
        kept.append((r, z, n, h_n))

    def derive(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        da, dp, dh = np.empty_like(a), np.empty_like(a), np.zeros_like(dy[0])
        for t in reversed(range(len(a))):
            r, z, n, h_n = kept[t]
            dh = dy[t] + dh
            d_n = dh * (1 - z) * (1 - n**2)
            d_z, d_r = dh * (h[t] - n) * z * (1 - z), d_n * h_n * r * (1 - r)
            da[t] = np.concatenate([d_r, d_z, d_n], -1)
            dp[t] = np.concatenate([d_r, d_z, d_n * r], -1)
            dh = dh * z + dp[t] @ w["weight_hh"]
        return da, dp

    return h, [h[-1]], derive


FORWARD = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}
"""Cell -> h before each step and after the last, the last states, and the derivative: the gradient
of y -> those of the results of the input's product and of the state's, (T, B, G * H) each."""


def load_jax() -> Any:  # noqa: ANN401 - the module, if it is installed
    """Import JAX, for as many threads as torch has: it asks once, when it starts."""
    settings = {"NPROC": str(torch.get_num_threads()), "JAX_PLATFORMS": "cpu"}
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        jax = import_module("jax")
        jax.devices()
    finally:
        for name in added:
            del os.environ[name]
    return jax


def jax_outputs(jax: Any, workload: Workload, weights: Any, x: Any, start: Any = None) -> Any:  # noqa: ANN401
    """Run a net by ``jax.lax.scan``: x (T, B, I) -> y (T, B, H), the last states of the top layer."""
    step = EQUATIONS[workload.cell]
    zeros = tuple(jax.numpy.zeros((x.shape[1], width)) for width in widths(workload))
    last = zeros
    for w in layers(workload, weights):

        def advance(states: Any, a: Any, w: Any = w) -> Any:  # noqa: ANN401
            new = step(jax.numpy, w, a, states)
            return new, new[0]

        a = product(w, x)
        last, x = jax.lax.scan(advance, zeros if start is None else start, a)
    return x, last


class JaxSide(Side):
    """The equations in ``jax.lax.scan``, compiled as one.

    Raises:
        Skipped: If the workload is not float32, its rows have unequal lengths, or nobody wrote down
            the equations.
    """

    def __init__(self, case: Case) -> None:
        _check(case)
        self.jax = jax = load_jax()
        self.trains = case.workload.mode == "train"
        self.weights = {name: jax.numpy.asarray(value) for name, value in case.weights.items()}
        self.x = jax.numpy.asarray(case.x)

        def outputs(weights: Any, x: Any) -> Any:  # noqa: ANN401
            return jax_outputs(jax, case.workload, {**case.constants, **weights}, x)[0]

        def loss(weights: Any, x: Any) -> Any:  # noqa: ANN401
            y = outputs(weights, x)
            return (y**2).sum(), y

        self.run = jax.jit(jax.grad(loss, has_aux=True) if self.trains else outputs)

    def once(self) -> None:
        """Compute, and wait for it."""
        self.jax.block_until_ready(self.run(self.weights, self.x))

    def results(self) -> Results:
        """Give y and the gradients."""
        found = self.run(self.weights, self.x)
        gradients, y = found if self.trains else ({}, found)
        return Results(np.asarray(y), {k: np.asarray(v) for k, v in gradients.items()})
