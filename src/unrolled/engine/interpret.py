"""A traced step, evaluated node by node with torch: slow, but any derivative of it exists."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.engine.graph import Node

ATEN: dict[str, Callable[..., Tensor]] = {
    **{
        name: getattr(torch, name)
        for name in (
            *(
                "neg",
                "abs",
                "exp",
                "expm1",
                "log",
                "log1p",
                "sqrt",
                "rsqrt",
                "reciprocal",
                "sigmoid",
            ),
            *("tanh", "relu", "erf", "sin", "cos", "sign", "floor", "ceil", "round", "trunc"),
            *("add", "sub", "mul", "div", "pow", "detach"),
        )
    },
    "softplus": lambda a: functional.softplus(a, threshold=1e9),
    "min": torch.minimum,
    "max": torch.maximum,
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "sigmoid_grad": lambda g, y: g * y * (1 - y),
    "tanh_grad": lambda g, y: g * (1 - y * y),
}
COMPARISONS = {name: getattr(torch, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


def evaluate(
    nodes: Sequence[Node], leaves: Mapping[Node, Tensor], like: Tensor
) -> dict[Node, Tensor]:
    """Compute nodes, inputs first, for rows like those of `like` (rows, width)."""
    values = dict(leaves)
    for node in nodes:
        if node not in values:
            values[node] = compute(node, [values[source] for source in node.inputs], like)
    return values


def compute(node: Node, a: Sequence[Tensor], like: Tensor) -> Tensor:
    """Compute one node from its inputs `a`."""
    rows = like.shape[0]
    if node.op == "const":
        return like.new_full((1,), node.attrs[0])
    if node.op == "matmul":
        return a[0] @ (a[1].T if node.attrs[0] else a[1])
    if node.op == "part":
        first, last, transposed, _ = node.attrs
        return a[0][:, first:last] if transposed else a[0][first:last]
    if node.op == "slice":
        return a[0][..., slice(*node.attrs)]
    if node.op == "concat":
        return torch.cat([p.expand(rows, p.shape[-1]) if node.rows else p for p in a], -1)
    if node.op == "expand":
        return a[0].expand(*a[0].shape[:-1], node.width)
    if node.op in ("sum", "amax"):
        return getattr(torch, node.op)(a[0], -1, keepdim=True)
    if node.op in COMPARISONS:
        return COMPARISONS[node.op](*a).to(like.dtype)
    return ATEN[node.op](*a)
