"""ATen operations that make rows of other rows: products, shapes, reductions."""

import math
from typing import Any

import torch
from torch import fx

from unrolled.engine.graph import Node
from unrolled.engine.lower import Declined, Lowering, argument, rule

# Products.


@rule("mm")
def _mm(to: Lowering, node: fx.Node) -> Node:
    a, weight = node.args
    if weight in to.known or a not in to.known:
        raise Declined("it multiplies rows by rows")
    leaf, transposed = to.once(weight)  # pyright: ignore
    return to.graph.matmul(to.row(a), leaf, transposed=transposed)


@rule("addmm")
def _addmm(to: Lowering, node: fx.Node) -> Node:
    bias, a, weight = node.args
    if weight in to.known or a not in to.known:
        raise Declined("it multiplies rows by rows")
    leaf, transposed = to.once(weight)  # pyright: ignore
    product = to.graph.matmul(to.row(a), leaf, transposed=transposed)
    beta, alpha = (float(node.kwargs.get(name, 1)) for name in ("beta", "alpha"))  # pyright: ignore
    product = to("mul", product, alpha)
    # Times zero, a bias does not count, whatever it is: NaN, too.
    return to("add", product, to("mul", to.row(bias), beta)) if beta else product


@rule("mv")
def _mv(to: Lowering, node: fx.Node) -> Node:
    a, vector = node.args
    return to.sum(to("mul", to.row(a), to.row(vector)))


# Parts of rows.


@rule("split", "split_with_sizes")
def _split(to: Lowering, node: fx.Node) -> list[Node]:
    to.features(node, argument(node, 2, "dim", 0))
    a, start, parts = to.row(node.args[0]), 0, []
    for part in node.meta["val"]:
        parts.append(to.graph.slice(a, start, start + part.shape[1]))
        start += part.shape[1]
    return parts


@rule("slice")
def _slice(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    dim, start, stop, step = (
        argument(node, place, name, default)
        for place, name, default in (
            (1, "dim", 0),
            (2, "start", 0),
            (3, "end", None),
            (4, "step", 1),
        )
    )
    if dim % node.args[0].meta["val"].dim() == 0:  # pyright: ignore
        if (start or 0) == 0 and node.meta["val"].shape == node.args[0].meta["val"].shape:  # pyright: ignore
            return a
        raise Declined("it takes a part of the batch")
    start, stop, _ = slice(start, stop).indices(a.width)
    if step != 1:
        return to.graph.concat(to.graph.slice(a, k, k + 1) for k in range(start, stop, step))
    return to.graph.slice(a, start, stop)


@rule("select")
def _select(to: Lowering, node: fx.Node) -> Node:
    a, dim, place = node.args
    to.features(node, dim)
    a = to.row(a)
    place = place % a.width  # pyright: ignore
    return to.graph.slice(a, place, place + 1)  # pyright: ignore


@rule("cat")
def _cat(to: Lowering, node: fx.Node) -> Node:
    parts = node.args[0]
    if argument(node, 1, "dim", 0) % node.meta["val"].dim() == 0:
        raise Declined("it joins batches")
    rows = []
    for part in parts:  # pyright: ignore
        row = to.row(part)
        rows.append(to.graph.expand(row, part.meta["val"].shape[1]))  # pyright: ignore
    return to.graph.concat(rows)


@rule("repeat")
def _repeat(to: Lowering, node: fx.Node) -> Node:
    a, times = to.row(node.args[0]), list(node.args[1])  # pyright: ignore
    if len(times) != 2 or times[0] != 1:
        raise Declined("it repeats the rows of the batch")
    return to.graph.concat([a] * times[1])


@rule("flip")
def _flip(to: Lowering, node: fx.Node) -> Node:
    to.features(node, node.args[1])
    a = to.row(node.args[0])
    return to.graph.concat(to.graph.slice(a, k, k + 1) for k in reversed(range(a.width)))


@rule("expand", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze")
def _shape(to: Lowering, node: fx.Node) -> Node:
    a = to.row(node.args[0])
    width = node.meta["val"].shape[1] if node.meta["val"].dim() == 2 else 1
    return to.graph.expand(a, width)


@rule("clone", "alias", "contiguous", "lift_fresh_copy")
def _same(to: Lowering, node: fx.Node) -> Node:
    return to.row(node.args[0])


@rule("detach")
def _detach(to: Lowering, node: fx.Node) -> Node:
    return to("detach", to.row(node.args[0]))


@rule("_to_copy")
def _convert(to: Lowering, node: fx.Node) -> Node:
    before, after = node.args[0].meta["val"].dtype, node.meta["val"].dtype  # pyright: ignore
    a = to.row(node.args[0])
    if after == torch.bool and before != torch.bool:
        return to("ne", a, 0.0)
    wider = not before.is_floating_point and (after.is_floating_point or after == torch.int64)
    if before not in (after, torch.bool) and not wider:
        raise Declined(f"it converts {before} to {after}")
    return a


@rule(
    "full",
    "zeros",
    "ones",
    "empty",
    "full_like",
    "empty_like",
    "zeros_like",
    "ones_like",
    "new_zeros",
    "new_ones",
)
def _full(to: Lowering, node: fx.Node) -> Node:
    name = node.target.overloadpacket.__name__  # pyright: ignore
    value: Any = node.args[1] if name.startswith("full") else float("ones" in name)
    kind = node.meta["val"].dtype
    value = bool(value) if kind == torch.bool else value if kind.is_floating_point else int(value)
    width = node.meta["val"].shape[1] if node.meta["val"].dim() == 2 else 1
    return to.graph.expand(to.graph.const(float(value)), width)


# Along the features.


@rule("sum", "mean", "amax", "amin", "logsumexp")
def _reduce(to: Lowering, node: fx.Node) -> Node:
    name = node.target.overloadpacket.__name__  # pyright: ignore
    to.features(node, argument(node, 1, "dim"))
    a = to.row(node.args[0])
    if name == "amin":
        return to("neg", to.graph.reduce("amax", to("neg", a)))
    if name == "logsumexp":
        top = to("detach", to.graph.reduce("amax", a))  # any shift gives the same gradient
        # Infinity less infinity is no number; unshifted, the sum is 0 or infinite, as it must be.
        top = to("where", to("eq", to("abs", top), math.inf), 0.0, top)
        return to("add", to("log", to.sum(to("exp", to("sub", a, top)))), top)
    return to.mean(a) if name == "mean" else to.graph.reduce(name, a)


@rule("var", "var_mean")
def _var(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    to.features(node, argument(node, 1, "dim"))
    a, correction = to.row(node.args[0]), node.kwargs.get("correction", 1)
    mean = to.mean(a)
    centred = to("sub", a, mean)
    var = to("mul", to.sum(to("mul", centred, centred)), 1 / (a.width - float(correction)))  # pyright: ignore
    return [var, mean] if "mean" in node.target.overloadpacket.__name__ else var  # pyright: ignore


@rule("linalg_vector_norm")
def _norm(to: Lowering, node: fx.Node) -> Node:
    to.features(node, argument(node, 2, "dim"))
    if argument(node, 1, "ord", 2) != 2:
        raise Declined("it takes a norm other than the Euclidean")
    a = to.row(node.args[0])
    squares = to.sum(to("mul", a, a))
    # At zero, where a norm has no gradient, torch's is zero: that of the choice.
    none = to("eq", squares, 0.0)
    return to("where", none, 0.0, to("sqrt", to("where", none, 1.0, squares)))


@rule("_softmax", "_log_softmax")
def _softmax(to: Lowering, node: fx.Node) -> Node:
    to.features(node, node.args[1])
    a = to.row(node.args[0])
    shifted = to("sub", a, to("detach", to.graph.reduce("amax", a)))
    powers = to("exp", shifted)
    if node.target.overloadpacket.__name__ == "_softmax":  # pyright: ignore
        return to("div", powers, to.sum(powers))
    return to("sub", shifted, to("log", to.sum(powers)))


@rule("native_layer_norm")
def _layer_norm(to: Lowering, node: fx.Node) -> list[Node]:
    a, shape, weight, bias, eps = node.args
    a = to.row(a)
    if list(shape) != [a.width]:  # pyright: ignore
        raise Declined("it normalises across the rows of the batch")
    mean = to.mean(a)
    centred = to("sub", a, mean)
    scale = to("rsqrt", to("add", to.mean(to("mul", centred, centred)), float(eps)))  # pyright: ignore
    y = to("mul", centred, scale)
    y = y if weight is None else to("mul", y, to.row(weight))
    y = y if bias is None else to("add", y, to.row(bias))
    return [y, mean, scale]


@rule("_fused_rms_norm", "rms_norm")
def _rms_norm(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    a, shape, weight, eps = (*node.args, None)[:4]
    a = to.row(a)
    if list(shape) != [a.width]:  # pyright: ignore
        raise Declined("it normalises across the rows of the batch")
    eps = torch.finfo(node.args[0].meta["val"].dtype).eps if eps is None else eps  # pyright: ignore
    scale = to("rsqrt", to("add", to.mean(to("mul", a, a)), float(eps)))  # pyright: ignore
    y = to("mul", a, scale)
    y = y if weight is None else to("mul", y, to.row(weight))
    return [y, scale] if isinstance(node.meta["val"], list | tuple) else y
