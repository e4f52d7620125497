"""Trace a cell's step into a graph, with the batch symbolic: one trace serves every batch and length.

torch's ``make_fx`` records the ATen operations of one step on fake tensors whose only symbolic size
is the batch. What needs parameters alone stays a torch graph, evaluated once a call with its
derivative left to autograd; the rest is written into a :class:`~unrolled.engine.graph.Graph`. What
cannot be said there is declined with a reason, and the reference engine runs the cell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch._guards import Source
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
)

from unrolled.engine import lower_complex, lower_pointwise, lower_rows  # noqa: F401 (the rules)
from unrolled.engine.cell import Cell, bind, recording_gates, tensors_of
from unrolled.engine.check import check_results
from unrolled.engine.graph import Graph, Node
from unrolled.engine.lower import Declined, Lowering
from unrolled.engine.plainer import PLAINER
from unrolled.engine.spell import Spelled
from unrolled.engine.undisturbed import ONCE, undisturbed
from unrolled.engine.watch import Watch, check_hooks, check_writes

_Leaf = tuple[Any, ...]
"""What rows enter by: ``("x", "x")``, ``("state", name, steps back)`` or ``("extra", name)``."""
BATCH_HINT = 7919
"""A batch nobody has, so that a size that equals it by chance is not taken for it."""


class Piece(NamedTuple):
    """A ``once`` leaf, or of a matrix what lies between `first` and `last` along an axis."""

    leaf: int
    axis: int = 0
    first: int = 0
    last: int | None = None


class Joined(NamedTuple):
    """Matrices put side by side along an axis."""

    axis: int
    pieces: tuple[Piece, ...]

    def make(self, values: Sequence[Tensor]) -> Tensor:
        """Join them, given what the leaves hold."""
        parts = []
        for leaf, axis, first, last in self.pieces:
            whole = values[leaf]
            stop = whole.shape[axis] if last is None else last
            parts.append(whole.narrow(axis, first, stop - first))
        return torch.cat(parts, self.axis)


@dataclass
class Step:
    """A traced step.

    Attributes:
        graph: All nodes.
        states: The new states, by name, in order.
        outputs: The outputs, by name, in order.
        gates: What ``step`` named for the inspectors.
        lags: Name of a state -> how many steps back it is read.
        once: From all parameters and buffers (in the order of ``named``), what the graph's
            ``once`` leaves hold: leaf k its k-th result.
        named: Names of the parameters and buffers.
    """

    graph: Graph
    states: dict[str, Node]
    outputs: dict[str, Node]
    gates: dict[str, Node]
    lags: dict[str, tuple[int, ...]]
    once: fx.GraphModule
    named: list[str]
    joined: list[Joined] = field(default_factory=list)
    """Further ``once`` leaves, each made of those before it."""

    @property
    def count(self) -> int:
        """How many ``once`` leaves there are."""
        return len(self.plain) + len(self.joined)

    @cached_property
    def plain(self) -> list[str | None]:
        """Of each leaf that is not joined, the parameter it is, or ``None`` if it is computed."""
        names = dict(
            zip(
                (n for n in self.once.graph.nodes if n.op == "placeholder"), self.named, strict=True
            )
        )
        (output,) = (n for n in self.once.graph.nodes if n.op == "output")
        return [names.get(node) for node in output.args[0]]

    @cached_property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Leaf -> the shape of what it holds."""
        return {node.attrs[0]: node.attrs[1] for node in self.graph.nodes if node.op == "once"}

    def constants(
        self, cell: Cell, given: Mapping[str, Tensor] | None = None, *, widen: bool = False
    ) -> list[Tensor]:
        """Compute what the ``once`` leaves hold, autograd following.

        Args:
            cell: Whose parameters and buffers count.
            given: Tensors in place of some of them.
            widen: Whether to compute in float32, whatever they are.

        Raises:
            ValueError: If one has not the shape it was traced with.
        """
        values: list[Tensor]
        if given and None not in self.plain and given.keys() >= set(self.plain):
            values = [given[name] for name in self.plain if name]
        else:
            tensors = {**tensors_of(cell), **(given or {})}
            if None in self.plain:
                sources = (tensors[name] for name in self.named)
                wide = (t.float() if widen and not t.is_complex() else t for t in sources)
                values = list(self.once(*wide))
            else:
                values = [tensors[name] for name in self.plain if name]
        if widen:
            values = [value.float() for value in values]
        for matrices in self.joined:
            values.append(matrices.make(values))
        for leaf, shape in self.shapes.items():
            if values[leaf].shape != shape:
                name = self.plain[leaf] if leaf < len(self.plain) else None
                raise ValueError(
                    f"{type(cell).__name__}: {repr(name) if name else 'what it computes of its parameters'} "
                    f"must be {shape}, not {tuple(values[leaf].shape)}"
                )
        return values


class _Lifted(nn.Module):
    """A cell whose ``step`` is called through ``forward``, so that its parameters can be replaced."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        given = tensors_of(self.cell)
        results = self.cell.step(*args, **kwargs)
        for name, tensor in tensors_of(self.cell).items():
            if tensor is not given.get(name):
                raise Declined(f"its step changes its attribute {name!r}, {ONCE}")
        return results


class _Name(str):
    """A name that may also be called for: torch 2.13 reads a source's name, torch 2.10 calls it."""

    def __call__(self) -> str:
        return str(self)


class _Batch(Source):
    """Where the batch size comes from, as torch's symbolic shapes want to know."""

    @property
    def name(self) -> str:  # pyright: ignore
        return _Name("batch")


def trace(cell: Cell, extras: Mapping[str, int], dtype: torch.dtype) -> Step:
    """Trace a cell's step.

    Args:
        cell: The cell.
        extras: Width of each further input.
        dtype: Of inputs and states.

    Raises:
        Declined: If the step does what a compiled loop cannot; the sentence says what.
        RuntimeError: If ``step`` returns the wrong number or shape of results.
    """
    if any(not isinstance(width, int) for width in cell.state_sizes.values()):
        raise Declined("its states have several dimensions")
    if not cell.rows_apart:
        raise Declined("its rows depend on each other, as it normalises over the batch")
    check_hooks(cell)
    cell = bind(
        cell, {}
    )  # tracing puts other tensors into its modules; another thread may be using them
    tensors = tensors_of(cell)
    shapes = ShapeEnv(duck_shape=False)
    fake = FakeTensorMode(shape_env=shapes)
    symbol = shapes.create_symbol(BATCH_HINT, _Batch(), dynamic_dim=DimDynamic.DYNAMIC)
    batch = shapes.create_symintnode(symbol, hint=BATCH_HINT, source=_Batch())
    leaves: dict[_Leaf, Any] = {("x", "x"): cell.input_size}
    for name in cell.state_names:
        leaves |= {("state", name, lag): cell.state_sizes[name] for lag in cell.lags(name)}
    leaves |= {("extra", name): width for name, width in extras.items()}
    with fake:
        rows = {leaf: torch.empty(batch, width, dtype=dtype) for leaf, width in leaves.items()}
        # A cell whose weights are handed over at each call has no more than their shapes; weights
        # in bfloat16 are computed with in float32.
        shaped = {
            name: torch.empty(t.shape, dtype=dtype)
            for name, t in tensors.items()
            if (t.is_meta and not t.is_complex()) or t.dtype == torch.bfloat16
        }
    given = [
        shaped[name] if name in shaped else fake.from_tensor(t.detach(), static_shapes=True)
        for name, t in tensors.items()
    ]
    lifted = _Lifted(cell)
    found: dict[str, list[str]] = {}

    def step(rows: dict[_Leaf, Tensor], given: list[Tensor]) -> list[Tensor]:
        values = {f"cell.{name}": value for name, value in zip(tensors, given, strict=True)}
        positional: list[Any] = [rows["x", "x"]]
        for name in cell.state_names:
            older = tuple(rows["state", name, lag] for lag in cell.delays.get(name, (1,)))
            positional.append(older if name in cell.delays else older[0])
        further = {name: rows["extra", name] for name in extras}
        with recording_gates() as gates, Watch(), Spelled():
            results = torch.func.functional_call(
                lifted, values, tuple(positional), further, tie_weights=False
            )
        found["gates"] = list(gates)
        return [*check_results(cell, results, batch), *gates.values()]  # pyright: ignore

    def record() -> fx.GraphModule:
        with fake, torch.inference_mode(False), torch.enable_grad():
            return make_fx(step, decomposition_table=PLAINER)(rows, given)

    try:
        traced = undisturbed(cell, record)
    except GuardOnDataDependentSymNode:
        raise Declined("it branches on the value of a tensor") from None
    if shapes.guards:
        raise Declined("it branches on the size of the batch")
    return _write(cell, traced, [*leaves], list(tensors), found["gates"], batch)


def _write(
    cell: Cell,
    traced: fx.GraphModule,
    leaves: Sequence[_Leaf],
    named: list[str],
    gates: list[str],
    batch: torch.SymInt | int,
) -> Step:
    check_writes(traced.graph)
    graph = Graph()
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    kept = _Once(graph, traced, inputs[len(leaves) :], inputs[0].meta["val"].dtype)
    lowering = Lowering(graph, batch, kept.leaf)
    for leaf, node in zip(leaves, inputs, strict=False):
        lowering.known[node] = graph.leaf(*leaf, width=node.meta["val"].shape[1])
    for node in traced.graph.nodes:
        if node.op == "call_function" and _has_rows(node, lowering.known, batch):
            lowering.lower(node)
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    names = [*cell.state_names, *cell.output_names, *gates]
    values = [
        graph.expand(
            lowering.row(node), node.meta["val"].shape[1] if node.meta["val"].dim() == 2 else 1
        )
        for node in output.args[0]
    ]
    for name, node in zip(names[: len(names) - len(gates)], output.args[0], strict=False):
        value = node.meta["val"]
        if value.dim() != 2 or not value.is_floating_point():
            raise Declined(f"{name} is {value.dtype} of {value.dim() - 1} dimensions a row")
    results = dict(zip(names[: len(names) - len(gates)], values, strict=False))
    return Step(
        graph=graph,
        states={name: results[name] for name in cell.state_names},
        outputs={name: results[name] for name in cell.output_names},
        gates=dict(zip(gates, values[len(values) - len(gates) :], strict=True)),
        lags={name: cell.lags(name) for name in cell.state_names},
        once=kept.module(),
        named=named,
    )


def _has_rows(node: fx.Node, known: Mapping[fx.Node, Any], batch: Any) -> bool:  # noqa: ANN401
    """Whether an operation's result depends on the rows, or is as long as the batch."""
    if node.target is torch.ops.aten.sym_size.int:
        return False
    if any(source in known for source in node.all_input_nodes):
        return True
    value = node.meta.get("val")
    return isinstance(value, Tensor) and any(size is batch or size == batch for size in value.shape)


def _turns(node: fx.Node) -> bool:
    """Whether an operation is the transposition of a matrix."""
    aten = torch.ops.aten
    if node.target is aten.t.default:
        return True
    return node.target is aten.permute.default and node.args[1] == [1, 0]


class _Once:
    """The torch graph of what depends on parameters alone."""

    def __init__(
        self,
        graph: Graph,
        traced: fx.GraphModule,
        parameters: list[fx.Node],
        dtype: torch.dtype,
    ) -> None:
        self.graph = graph
        self.traced = traced
        self.parameters = parameters
        self.kept: dict[tuple[fx.Node, str], Node] = {}
        self.dtype = dtype

    def leaf(self, node: fx.Node, side: str = "real") -> tuple[Node, bool]:
        """Give the leaf that stands for a value, and whether it holds it transposed.

        Args:
            node: The value.
            side: Of complex numbers, which part: ``real`` or ``imag``.
        """
        transposed = False
        while _turns(node):
            node, transposed = node.args[0], not transposed  # pyright: ignore
        key = node, side
        if key not in self.kept:
            shape = tuple(int(size) for size in node.meta["val"].shape)
            width = node.meta["val"].numel()
            self.kept[key] = self.graph.leaf("once", len(self.kept), shape, width=width, rows=False)
        return self.kept[key], transposed

    def _alike(self, graph: fx.Graph, node: fx.Node, side: str, value: fx.Node) -> fx.Node:
        """Give a value the kind of the rows, where torch lets the rows decide."""
        kind, found = self.dtype, node.meta["val"]
        if found.is_complex():
            value = graph.call_function(getattr(torch, side), (value,))
            if found.dim():
                return value
        elif found.dtype == kind or (found.is_floating_point() and found.dim()):
            return value
        return graph.call_method("to", (value, kind))

    def module(self) -> fx.GraphModule:
        """Build the torch graph: parameters -> the kept values."""
        graph = fx.Graph()
        copied = {node: graph.placeholder(node.name) for node in self.parameters}
        for node in self.traced.graph.nodes:
            if node.op in ("get_attr", "call_function") and all(
                n in copied for n in node.all_input_nodes
            ):
                copied[node] = graph.node_copy(node, copied.__getitem__)
        graph.output([self._alike(graph, node, side, copied[node]) for node, side in self.kept])
        graph.eliminate_dead_code()
        return fx.GraphModule(self.traced, graph)
