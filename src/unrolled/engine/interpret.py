"""A traced step, evaluated node by node with torch: slow, but any derivative of it exists."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from unrolled.engine.graph import POINTWISE, Node, reachable
from unrolled.engine.packing import Packing

if TYPE_CHECKING:
    from unrolled.engine.native import Compiled

COMPARISONS = {name: getattr(torch, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
NAMED_OTHERWISE: dict[str, Callable[..., Tensor]] = {
    "softplus": lambda a: functional.softplus(a, threshold=1e9),
    "min": torch.minimum,
    "max": torch.maximum,
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "sigmoid_grad": lambda g, y: g * y * (1 - y),
    "tanh_grad": lambda g, y: g * (1 - y * y),
}
ATEN: dict[str, Callable[..., Tensor]] = NAMED_OTHERWISE | {
    name: getattr(torch, name)
    for name in sorted(POINTWISE - COMPARISONS.keys() - NAMED_OTHERWISE.keys())
}


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
    if node.op == "pow" and node.inputs[1].op == "const":
        return a[0] ** node.inputs[1].attrs[0]  # whose derivative takes the root of minus infinity
    return ATEN[node.op](*a)


def unroll(
    compiled: "Compiled", packing: Packing, given: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """Compute what a compiled run gives, with torch operations, of which any derivative exists."""
    graph = compiled.step
    first = given[0]
    assert first is not None
    rows = {
        name: tensor.reshape(packing.rows, -1)
        for name, tensor in zip(compiled.inputs, given, strict=False)
        if tensor is not None
    }
    trails = {
        name: [
            *(
                first.new_zeros(depth, packing.batch, width)
                if state is None
                else state.view(depth, packing.batch, width)
            )
        ]
        for name, depth, width, state in zip(
            compiled.state_names,
            compiled.depths,
            compiled.widths,
            given[len(compiled.inputs) :],
            strict=False,
        )
    }
    constants = given[len(compiled.inputs) + len(compiled.state_names) :]
    named = graph.states | graph.outputs | graph.gates
    roots = [*graph.states.values(), *(named[name] for name in compiled.wanted)]
    nodes = reachable(roots)
    results: dict[str, list[Tensor]] = {name: [] for name in compiled.wanted}
    for t in range(packing.steps):
        start, n = int(packing.offsets[t]), int(packing.running[t])
        leaves: dict[Any, Any] = {}
        for node in nodes:
            if node.op in ("x", "extra"):
                leaves[node] = rows[node.attrs[0]][start : start + n]
            elif node.op == "state":
                name, lag = node.attrs
                leaves[node] = trails[name][-lag][:n]
            elif node.op == "once":
                leaves[node] = constants[node.attrs[0]]
        values = evaluate(nodes, leaves, rows["x"][start : start + n])
        for name in compiled.wanted:
            results[name].append(values[named[name]].expand(n, named[name].width))
        for name, node in graph.states.items():
            # Rows that have ended keep what they had; of those that look further back, all of it.
            new, trail = values[node].expand(n, node.width), trails[name]
            trails[name] = [
                torch.cat([later[:n], earlier[n:]])
                for earlier, later in zip(trail, [*trail[1:], new], strict=True)
            ]
    wanted = (torch.cat(results[name]) for name in compiled.wanted)
    last = (torch.cat(trail) for trail in trails.values())
    return (*(w.view(*packing.shape, w.shape[1]) for w in wanted), *last)


def in_dual_level() -> bool:
    """Whether torch's forward mode is on."""
    return forward_ad._current_level >= 0


def differentiate(
    compute: Callable[[Sequence[Tensor | None]], Sequence[Tensor]],
    given: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Give the gradients of `given`, with gradients of their own if grad mode is on; ``None`` for none.

    Args:
        compute: The results from what is given.
        given: What they are computed from; one may be computed from another, or stand twice.
        grads: Of each result.
    """
    wanted = [k for k, tensor in enumerate(given) if tensor is not None and tensor.requires_grad]
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        # Through others of them no gradient goes back: that is for who called.
        apart = [None if t is None else t.view_as(t) for t in given]
        both = zip(compute(apart), grads, strict=True)
        pairs = [(r, g) for r, g in both if g is not None and r.requires_grad]
        found = torch.autograd.grad(  # pyright: ignore
            [r for r, _ in pairs],
            [apart[k] for k in wanted],  # pyright: ignore
            [g for _, g in pairs],
            create_graph=further,
            allow_unused=True,
        )
    gradients: list[Tensor | None] = [None] * len(given)
    for k, gradient in zip(wanted, found, strict=True):
        gradients[k] = gradient
    return gradients
