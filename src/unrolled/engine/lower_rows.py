"""ATen operations that make rows of other rows: products, shapes, reductions."""

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx

from unrolled.engine.graph import Node
from unrolled.engine.lower import Complex, Declined, Lowering, Parts, argument, rule

MOST_PARTS = 64
"""Parts of rows of two dimensions; each is a value of its own."""

# Products.


@rule("mm")
def _mm(to: Lowering, node: fx.Node) -> Node:
    a, weight = node.args
    if weight in to.known or a not in to.known:
        raise Declined("it multiplies rows by rows")
    leaf, transposed = to.once(weight, "real")  # pyright: ignore
    return to.graph.matmul(to.row(a), leaf, transposed=transposed)


@rule("addmm")
def _addmm(to: Lowering, node: fx.Node) -> Node:
    bias, a, weight = node.args
    if weight in to.known or a not in to.known:
        raise Declined("it multiplies rows by rows")
    leaf, transposed = to.once(weight, "real")  # pyright: ignore
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


def _of_parts(node: fx.Node, dim: int, across: str | None = None) -> bool:
    """Whether a dimension of what is given counts parts rather than features.

    Raises:
        Declined: If it counts rows.
    """
    rank = node.args[0].meta["val"].dim()  # pyright: ignore
    if dim % rank == 0:
        raise Declined(across or f"{node.target} goes across the rows of the batch")
    return rank == 3 and dim % rank == 1


def _whole(value: Tensor, to: Lowering, parts: tuple[Node, ...]) -> Any:  # noqa: ANN401
    """Give parts as what torch has: rows of two dimensions, or the one row there is."""
    return Parts(parts) if value.dim() == 3 else to.graph.concat(parts)


@rule("split", "split_with_sizes")
def _split(to: Lowering, node: fx.Node) -> list[Any]:
    source, dim = node.args[0], argument(node, 2, "dim", 0)
    apart = _of_parts(node, dim)
    sizes = [part.shape[dim] for part in node.meta["val"]]
    bounds = [(sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(len(sizes))]
    rows = to.parts(source)  # pyright: ignore
    if apart:
        return [Parts(rows[first:last]) for first, last in bounds]
    return [
        _whole(value, to, tuple(to.graph.slice(row, *bound) for row in rows))
        for value, bound in zip(node.meta["val"], bounds, strict=True)
    ]


@rule("unbind")
def _unbind(to: Lowering, node: fx.Node) -> list[Node]:
    source, dim = node.args[0], argument(node, 1, "dim", 0)
    rows = to.parts(source)  # pyright: ignore
    if _of_parts(node, dim):  # pyright: ignore
        return [*rows]
    return [column(to, rows, k) for k in range(_few(rows[0].width))]


def column(to: Lowering, rows: tuple[Node, ...], place: int) -> Node:
    """Put one feature of each of several rows side by side."""
    return to.graph.concat(to.graph.slice(row, place, place + 1) for row in rows)


def _few(count: int) -> int:
    if count > MOST_PARTS:
        raise Declined(f"it has rows of 2 dimensions, {count} parts each")
    return count


@rule("slice")
def _slice(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    source = node.args[0]
    before = source.meta["val"]  # pyright: ignore
    dim, start, stop, step = (
        argument(node, place, name, default)
        for place, name, default in (
            (1, "dim", 0),
            (2, "start", 0),
            (3, "end", None),
            (4, "step", 1),
        )
    )
    rows, value = to.parts(source), node.meta["val"]  # pyright: ignore
    if value.shape == before.shape and step == 1:
        return _whole(value, to, rows)
    apart = _of_parts(node, dim, "it takes a part of the batch")
    places = range(*slice(start, stop, step).indices(before.shape[dim]))
    if apart:
        return Parts(tuple(rows[place] for place in places))
    if step == 1:
        return _whole(
            value, to, tuple(to.graph.slice(row, places.start, places.stop) for row in rows)
        )
    every = (to.graph.concat(to.graph.slice(row, k, k + 1) for k in places) for row in rows)
    return _whole(value, to, tuple(every))


@rule("select")
def _select(to: Lowering, node: fx.Node) -> Node:
    source, dim, place = node.args
    known = to.known.get(source)  # pyright: ignore
    if isinstance(known, Complex) and dim in (-1, 2):  # of torch.view_as_real
        return known[place]  # pyright: ignore
    rows = to.parts(source)  # pyright: ignore
    if _of_parts(node, dim):  # pyright: ignore
        return rows[place]  # pyright: ignore
    return column(to, rows, place % rows[0].width)  # pyright: ignore


@rule("stack")
def _stack(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    value = node.meta["val"]
    dim = argument(node, 1, "dim", 0) % value.dim()
    if dim == 0:
        raise Declined("it joins batches")
    rows = tuple(
        to.graph.expand(to.row(part), part.meta["val"].shape[-1] if value.dim() == 3 else 1)
        for part in node.args[0]  # pyright: ignore
    )
    if value.dim() == 2:
        return to.graph.concat(rows)
    if dim == 1:
        return Parts(rows)
    if {user.target for user in node.users} == {torch.ops.aten.view_as_complex.default}:
        return Complex(*rows)
    return Parts(tuple(column(to, rows, k) for k in range(_few(value.shape[1]))))


@rule("cat")
def _cat(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    given = node.args[0]
    dim = argument(node, 1, "dim", 0) % node.meta["val"].dim()
    if dim == 0:
        raise Declined("it joins batches")
    if node.meta["val"].dim() == 3 and dim == 1:
        return Parts(tuple(row for part in given for row in to.parts(part)))  # pyright: ignore
    if node.meta["val"].dim() == 3:
        side_by_side = zip(*(to.parts(part) for part in given), strict=True)  # pyright: ignore
        return Parts(tuple(map(to.graph.concat, side_by_side)))
    rows = []
    for part in given:  # pyright: ignore
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


@rule("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze")
def _shape(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    value = node.meta["val"]
    whole = to.graph.concat(to.parts(node.args[0]))  # pyright: ignore
    whole = to.graph.expand(whole, math.prod(value.shape[1:]))
    if value.dim() < 3:
        return whole
    count, width = value.shape[1:]
    return Parts(
        tuple(to.graph.slice(whole, k * width, (k + 1) * width) for k in range(_few(count)))
    )


@rule("expand")
def _expand(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    value, rows = node.meta["val"], to.parts(node.args[0])  # pyright: ignore
    if value.dim() < 3:
        return to.graph.expand(rows[0], value.shape[1] if value.dim() == 2 else 1)
    if node.args[0].meta["val"].dim() < 3:  # pyright: ignore
        raise Declined("expand goes across the rows of the batch")
    rows = tuple(to.graph.expand(row, value.shape[2]) for row in rows)
    return Parts(rows * value.shape[1] if len(rows) == 1 else rows)


@rule("clone", "alias", "contiguous", "lift_fresh_copy")
def _same(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    return _whole(node.meta["val"], to, to.parts(node.args[0]))  # pyright: ignore


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


@rule("sum", "mean", "amax", "amin")
def _reduce(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    name = node.target.overloadpacket.__name__  # pyright: ignore
    source, dims = node.args[0], argument(node, 1, "dim")
    to.features(node, dims)
    rows = to.parts(source)  # pyright: ignore
    rank = source.meta["val"].dim()  # pyright: ignore
    dims = [dims] if isinstance(dims, int) else dims
    dims = {dim % rank for dim in (dims or range(rank))}
    if rank - 1 in dims:
        rows = tuple(_reduced(to, name, row) for row in rows)
    if rank == 3 and 1 in dims:
        fold = {"amax": "max", "amin": "min"}.get(name, "add")
        if fold != "add" and len(rows) > 2:  # where several are equal they share the gradient
            raise Declined(f"it takes {name} over more than two parts of its rows")
        whole = reduce(lambda a, b: to(fold, a, b), rows)
        rows = (to("mul", whole, 1 / len(rows)) if name == "mean" else whole,)
    return _whole(node.meta["val"], to, rows)


def _reduced(to: Lowering, name: str, a: Node) -> Node:
    if name == "amin":
        return to("neg", to.graph.reduce("amax", to("neg", a)))
    return to.mean(a) if name == "mean" else to.graph.reduce(name, a)


@rule("logsumexp")
def _logsumexp(to: Lowering, node: fx.Node) -> Node:
    to.features(node, argument(node, 1, "dim"))
    a = to.row(node.args[0])
    top = to("detach", to.graph.reduce("amax", a))  # any shift gives the same gradient
    # Infinity less infinity is no number; unshifted, the sum is 0 or infinite, as it must be.
    top = to("where", to("eq", to("abs", top), math.inf), 0.0, top)
    return to("add", to("log", to.sum(to("exp", to("sub", a, top)))), top)


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
    return to.norm(to.sum(to("mul", a, a)))


@rule("_softmax", "_log_softmax")
def _softmax(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    to.features(node, node.args[1])
    source, dim = node.args[:2]
    rows = to.parts(source)  # pyright: ignore
    if node.meta["val"].dim() == 3 and dim % 3 == 1:  # pyright: ignore
        raise Declined("it takes a softmax over parts of its rows")
    log = node.target.overloadpacket.__name__ == "_log_softmax"  # pyright: ignore
    return _whole(node.meta["val"], to, tuple(_softmax_of(to, row, log) for row in rows))


def _softmax_of(to: Lowering, a: Node, log: bool) -> Node:
    shifted = to("sub", a, to("detach", to.graph.reduce("amax", a)))
    powers = to("exp", shifted)
    return (
        to("sub", shifted, to("log", to.sum(powers))) if log else to("div", powers, to.sum(powers))
    )


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
