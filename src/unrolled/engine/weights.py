"""Which parameters of a cell meet its states, and which states do more than that."""

import torch
from torch import fx

from unrolled.engine.cell import Cell
from unrolled.engine.graph import Node, depending, reachable
from unrolled.engine.lower import Declined
from unrolled.engine.partition import SHAPES
from unrolled.engine.trace import Step, trace


def recurrent_weights(cell: Cell) -> list[str]:
    """Name the matrices that what depends on a state is multiplied by.

    Raises:
        ValueError: If the compiler declines the cell, or there are none, or they are parametrised.
    """
    name = type(cell).__name__
    try:
        step = trace(cell, dict.fromkeys(cell.extra_names, 1), torch.float32)
    except Declined as reason:
        raise ValueError(
            f"the recurrent weights of {name} cannot be found, since {reason}; name them"
        ) from None
    nodes = step.graph.nodes
    looping = depending(nodes, [node for node in nodes if node.op == "state"])
    leaves = {_leaf(node.inputs[1]) for node in nodes if node.op == "matmul" and node in looping}
    made_of = _parameters(step)
    names = dict.fromkeys(weight for leaf in sorted(leaves) for weight in made_of[leaf])
    parameters = dict(cell.named_parameters())
    found = [weight for weight in names if weight in parameters and parameters[weight].dim() > 1]
    if not found or any("parametrizations" in weight for weight in found):
        raise ValueError(f"{name} computes its recurrent weights from others; name what to drop")
    return found


def carried_states(cell: Cell) -> set[str]:
    """Name the states that reach anything but products with matrices, as memories do.

    Of a cell that the compiler declines, none is known.
    """
    try:
        step = trace(cell, dict.fromkeys(cell.extra_names, 1), torch.float32)
    except Declined:
        return set()
    where: dict[Node, set[str]] = {}
    carried: set[str] = set()
    for node in reachable([*step.states.values(), *step.outputs.values()]):
        if node.op == "state":
            where[node] = {node.attrs[0]}
            continue
        behind = set().union(*(where.get(source, set()) for source in node.inputs))
        if node.op in SHAPES:
            where[node] = behind
        elif node.op != "matmul":
            carried |= behind
    for result in (*step.states.values(), *step.outputs.values()):
        carried |= where.get(result, set())
    return carried


def _parameters(step: Step) -> list[set[str]]:
    """Of each ``once`` leaf, the parameters and buffers it is made of."""
    behind: dict[fx.Node, set[str]] = {}
    inputs = iter(step.named)
    for node in step.once.graph.nodes:
        sources = (behind[source] for source in node.all_input_nodes)
        behind[node] = {next(inputs)} if node.op == "placeholder" else set().union(*sources)
    (output,) = (node for node in step.once.graph.nodes if node.op == "output")
    return [behind[node] for node in output.args[0]]  # pyright: ignore


def _leaf(weight: Node) -> int:
    return weight.attrs[0] if weight.op == "once" else _leaf(weight.inputs[0])
