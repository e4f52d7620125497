"""One step of the cells of the named workloads in the letters of NumPy, which are JAX's as well.

`xp` is ``numpy`` or ``jax.numpy``; `w` holds a layer's weights and constants by torch's names; `a`
(B, G * H) is the product of the input, made for all steps at once; states are (B, H). The new states
are given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unrolled.inspect.bench.workloads import Workload

Weights = Mapping[str, Any]
Step = Callable[[Any, Weights, Any, Sequence[Any]], tuple[Any, ...]]


def layers(workload: Workload, weights: Weights) -> list[dict[str, Any]]:
    """Give the weights of each layer, those of the input as ``x.weight`` and ``x.bias``."""
    if not workload.standard:
        return [dict(weights)]
    stack: list[dict[str, Any]] = [{} for _ in range(workload.layers)]
    for name, value in weights.items():
        short, _, layer = name.rpartition("_l")
        short = {"weight_ih": "x.weight", "bias_ih": "x.bias"}.get(short, short)
        stack[int(layer)][short] = value
    return stack


def widths(workload: Workload) -> list[int]:
    """Give the width of each state."""
    first = workload.projection or workload.hidden
    pair = workload.cell.startswith("lstm")
    return [first, workload.hidden] if pair else [first]


def product(w: Weights, x: Any) -> Any:  # noqa: ANN401
    """Multiply the input of all steps (T, B, I) by its weights, and add their bias if there is one."""
    a = x @ w["x.weight"].T
    return a + w["x.bias"] if "x.bias" in w else a


def split(a: Any, parts: int) -> list[Any]:  # noqa: ANN401
    """Cut the last axis into equal parts."""
    width = a.shape[-1] // parts
    return [a[..., k * width : (k + 1) * width] for k in range(parts)]


def sigmoid(xp: Any, a: Any) -> Any:  # noqa: ANN401
    """1 / (1 + exp(-a)), which never overflows so."""
    return 0.5 * xp.tanh(0.5 * a) + 0.5


def _rnn(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    (h,) = states
    return (xp.tanh(a + h @ w["weight_hh"].T + w["bias_hh"]),)


def _lstm(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    h, c = states
    i, f, g, o = split(a + h @ w["weight_hh"].T + w["bias_hh"], 4)
    c = sigmoid(xp, f) * c + sigmoid(xp, i) * xp.tanh(g)
    h = sigmoid(xp, o) * xp.tanh(c)
    return (h @ w["weight_hr"].T if "weight_hr" in w else h), c


def _gru(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    (h,) = states
    x_r, x_z, x_n = split(a, 3)
    h_r, h_z, h_n = split(h @ w["weight_hh"].T + w["bias_hh"], 3)
    r, z = sigmoid(xp, x_r + h_r), sigmoid(xp, x_z + h_z)
    return ((1 - z) * xp.tanh(x_n + r * h_n) + z * h,)


def _layer_norm(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    h, c = states

    def normed(v: Any, name: str) -> Any:  # noqa: ANN401
        centred = v - v.mean(-1, keepdims=True)
        scale = xp.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]

    i, f, g, o = split(normed(a, "norm_x") + normed(h @ w["h.weight"].T, "norm_h"), 4)
    c = sigmoid(xp, f) * c + sigmoid(xp, i) * xp.tanh(g)
    return sigmoid(xp, o) * xp.tanh(normed(c, "norm_c")), c


def _leaky(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    (h,) = states
    return ((1 - w["leak"]) * h + w["leak"] * xp.tanh(a + h @ w["h.weight"].T),)


def _peephole(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    h, c = states
    i, f, g, o = split(a + h @ w["h.weight"].T, 4)
    c = sigmoid(xp, f + w["w_f"] * c) * c + sigmoid(xp, i + w["w_i"] * c) * xp.tanh(g)
    return sigmoid(xp, o + w["w_o"] * c) * xp.tanh(c), c


def _gru_before(xp: Any, w: Weights, a: Any, states: Sequence[Any]) -> tuple[Any, ...]:  # noqa: ANN401
    (h,) = states
    x_r, x_z, x_n = split(a, 3)
    width = h.shape[-1]
    gates, candidate = w["h.weight"][: 2 * width], w["h.weight"][2 * width :]
    h_r, h_z = split(h @ gates.T, 2)
    r, z = sigmoid(xp, x_r + h_r), sigmoid(xp, x_z + h_z)
    return ((1 - z) * xp.tanh(x_n + (r * h) @ candidate.T) + z * h,)


EQUATIONS: dict[str, Step] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "gru": _gru,
    "lstm-layernorm": _layer_norm,
    "leaky": _leaky,
    "lstm-peephole": _peephole,
    "gru-before": _gru_before,
}
