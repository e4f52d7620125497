"""Cut a traced step, and its derivative, by when each value can be computed.

====================  ===========================================================================
before the loop       what depends on the input and parameters only: once for all steps
in the loop           what the next state needs
after the loop        what nothing in the loop needs: read-outs
backward, before      gradients that do not depend on those of later steps
backward, in          what the gradient of the state one step earlier needs
backward, after       gradients of the input and of parameters: once for all steps
====================  ===========================================================================

What the backward pass needs of the forward values is kept, or computed again where that is cheap.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unrolled.engine.derive import derive
from unrolled.engine.graph import CHEAP, COSTLY, GATHERED, Node, depending, reachable
from unrolled.engine.trace import Step

SHAPES = {"slice", "concat", "expand"}
"""Operations that only say where a value lies."""


@dataclass
class Section:
    """What is computed at one of the times.

    Attributes:
        nodes: What is computed, inputs first; leaves and what is already there left out.
        stored: Those of them that something later reads.
    """

    nodes: list[Node] = field(default_factory=list)
    stored: list[Node] = field(default_factory=list)


@dataclass
class Partition:
    """A step cut by time.

    Attributes:
        states: State name -> its new value.
        leaves: What states enter by: leaves with the name and how many steps back.
        wanted: Name of a result -> its value at every step.
        before, loop, after: The forward pass.
        kept: Forward values that the backward pass reads, leaves aside.
        back_before, back_loop, back_after: The backward pass; empty without a derivative.
        gradients: Leaf -> gradient with respect to it.
    """

    states: dict[str, Node]
    leaves: list[Node]
    wanted: dict[str, Node]
    before: Section
    loop: Section
    after: Section
    kept: list[Node] = field(default_factory=list)
    back_before: Section = field(default_factory=Section)
    back_loop: Section = field(default_factory=Section)
    back_after: Section = field(default_factory=Section)
    gradients: dict[Node, Node] = field(default_factory=dict)


def partition(
    step: Step,
    wanted: Sequence[str],
    *,
    differentiate: bool,
    needs: Collection[str | int] | None = None,
) -> Partition:
    """Cut a step.

    Args:
        step: A traced step.
        wanted: States, outputs or gates whose values at every step are results.
        differentiate: Whether the backward pass is wanted too.
        needs: Inputs (by name) and constants (by number) whose gradient is wanted; all by default.
    """
    named = step.states | step.outputs | step.gates
    results = {name: named[name] for name in wanted}
    leaves = [
        step.graph.leaf("state", name, lag, width=node.width)
        for name, node in step.states.items()
        for lag in step.lags[name]
    ]
    roots = [*step.states.values(), *results.values()]
    nodes = reachable(roots)
    looping = depending(nodes, leaves)
    in_loop = [n for n in reachable(step.states.values()) if n in looping and n.inputs]
    afterwards = [n for n in nodes if n in looping and n not in set(in_loop) and n.inputs]
    before = [n for n in nodes if n not in looping and n.inputs]
    cut = Partition(
        step.states, leaves, results, Section(before), Section(in_loop), Section(afterwards)
    )
    if differentiate:
        _backwards(cut, step, needs)
    _store(cut)
    return cut


def _backwards(cut: Partition, step: Step, needs: Collection[str | int] | None) -> None:
    graph = step.graph
    forward = set(reachable([*step.states.values(), *step.outputs.values(), *step.gates.values()]))
    carried = {
        name: graph.leaf("carried", name, width=new.width) for name, new in cut.states.items()
    }
    cut.gradients = _gradients(cut, step, carried, needs)
    roots, loop_nodes = _back_loop(cut, carried)
    # What comes after the loop finds of what was carried no more than its last value: hold it.
    # A state that is read from further back has its gradients of all steps at hand.
    looping = set(loop_nodes)
    read = {base(g) for leaf, g in cut.gradients.items() if leaf.op != "state"} | {
        base(source)
        for node in reachable(cut.gradients.values())
        if node not in looping and node.op not in ("slice", "expand")
        for source in node.inputs
    }
    held = {
        name: graph.apply("detach", leaf)
        for name, leaf in carried.items()
        if max(step.lags[name]) == 1 and leaf in read
    }
    if held:
        cut.gradients = _gradients(cut, step, carried | held, needs)
        roots, loop_nodes = _back_loop(cut, carried, held.values())
    everything = reachable(cut.gradients.values())
    sums = depending(everything, [n for n in everything if n.op in GATHERED])
    looped = set(loop_nodes)
    others = [n for n in everything if n.inputs and n not in forward and n not in looped]
    others = [n for n in others if n not in sums or n.op in GATHERED]
    # What the loop reads of the gradients that do not depend on later steps comes before it.
    ahead = set(others)
    early = [n for n in reachable([*loop_nodes, *roots]) if n in ahead]
    # Of these, what also needs nothing but element-wise work stays in the loop, which is at hand.
    light = _light(early)
    first = [n for n in early if n not in light]
    loop_nodes = sorted({*loop_nodes, *light}, key=lambda n: n.number)
    last = [n for n in others if n not in set(early)]
    needed = [i for n in (*first, *loop_nodes, *last) for i in n.inputs if i in forward]
    kept = _keep(cut, needed, forward)
    available = {*kept, *cut.states.values()}
    cut.kept = sorted(kept, key=lambda n: n.number)
    cut.back_before = Section(_with_recomputed(first, available, forward | light))
    cut.back_loop = Section(_with_recomputed(loop_nodes, available, forward))
    done = {*cut.back_before.nodes, *cut.back_loop.nodes}
    cut.back_after = Section(
        [n for n in _with_recomputed(last, available, forward) if n in forward or n not in done]
    )
    cut.kept = _narrowed(cut)


def _gradients(
    cut: Partition,
    step: Step,
    carried: Mapping[str, Node],
    needs: Collection[str | int] | None,
) -> dict[Node, Node]:
    """Gradients of what is given, from those of the new states and of the results."""
    seeds: dict[Node, Node] = {}
    for name, new in cut.states.items():
        _seed(step, seeds, new, carried[name])
    for name, node in cut.wanted.items():
        _seed(step, seeds, node, step.graph.leaf("grad", name, width=node.width))
    return {
        leaf: gradient
        for leaf, gradient in derive(step.graph, seeds).items()
        if needs is None or leaf.op == "state" or leaf.attrs[0] in needs
    }


def _back_loop(
    cut: Partition, carried: Mapping[str, Node], further: Iterable[Node] = ()
) -> tuple[list[Node], list[Node]]:
    """The gradients of the states one step earlier, and what of them depends on those carried."""
    gradients = [cut.gradients.get(leaf) for leaf in cut.leaves]
    roots = [*(node for node in gradients if node is not None), *further]
    nodes = reachable(roots)
    later = depending(nodes, carried.values())
    return roots, [n for n in nodes if n in later and n.inputs]


def _seed(step: Step, seeds: dict[Node, Node], node: Node, seed: Node) -> None:
    seeds[node] = step.graph.apply("add", seeds[node], seed) if node in seeds else seed


def _light(nodes: Sequence[Node]) -> set[Node]:
    """Those that are element-wise all the way down from what is at hand."""
    light: set[Node] = set()
    for node in nodes:
        plain = node.op in CHEAP or node.op in COSTLY or node.op in SHAPES
        if plain and all(i in light or i not in nodes for i in node.inputs):
            light.add(node)
    return light


def _keep(cut: Partition, needed: Iterable[Node], forward: set[Node]) -> set[Node]:
    """Choose the forward values to keep: as few numbers as let the rest be computed again cheaply."""
    free = set(cut.states.values())
    kept: set[Node] = set()
    known: dict[Node, set[Node]] = {}

    def lacking(node: Node) -> set[Node]:
        """What would have to be kept so that `node` is at hand in the backward pass."""
        if node not in known:
            known[node] = find(node)
        return known[node]

    def find(node: Node) -> set[Node]:
        if not node.inputs or not node.rows or node in free or node in kept:
            return set()
        if node.op in ("slice", "expand"):
            return lacking(node.inputs[0])
        if node.op in SHAPES or node.op in CHEAP:
            more = set().union(*map(lacking, node.inputs))
            if node.op in SHAPES or sum(n.width for n in more) < node.width:
                return more
        elif node.op in COSTLY and not any(map(lacking, node.inputs)):
            return set()
        return {node}

    for node in sorted(set(needed), key=lambda n: n.number):
        more = lacking(node)
        if more:
            kept |= more
            known.clear()
    return kept


def _narrowed(cut: Partition) -> list[Node]:
    """Keep of a value made in the loop only the slices that are read, where they are its lesser part."""
    back = [*cut.back_before.nodes, *cut.back_loop.nodes, *cut.back_after.nodes]
    results = {base(node) for node in (*cut.wanted.values(), *cut.states.values())}
    results |= {base(source) for node in cut.after.nodes for source in node.inputs}
    kept: set[Node] = set()
    for node in cut.kept:
        readers = {reader for reader in back if node in reader.inputs}
        slices = {reader for reader in readers if reader.op == "slice"}
        narrow = readers == slices and 2 * sum(part.width for part in slices) <= node.width
        apart = node in set(cut.loop.nodes) and node not in results and node.op != "concat"
        kept |= slices if slices and narrow and apart else {node}
    return sorted(kept, key=lambda n: n.number)


def _with_recomputed(nodes: Sequence[Node], available: set[Node], again: set[Node]) -> list[Node]:
    """Add to backward nodes those that are computed again for them."""
    found: dict[int, Node] = {}
    waiting = list(nodes)
    own = set(nodes)
    while waiting:
        node = waiting.pop()
        if node.number in found or not node.inputs:
            continue
        if node not in own and (node not in again or node in available):
            continue
        found[node.number] = node
        waiting += node.inputs
    return [found[number] for number in sorted(found)]


def _store(cut: Partition) -> None:
    """Say of each section what others read."""
    forward = [cut.before, cut.loop, cut.after]
    backward = [cut.back_before, cut.back_loop, cut.back_after]
    kept = set(cut.kept)
    results = {*cut.wanted.values(), *cut.states.values(), *cut.kept}
    # The gradient of a state is handed on at once, unless it was there before the loop.
    ahead = set(cut.back_before.nodes)
    gradients = {g for leaf, g in cut.gradients.items() if leaf.op != "state" or g in ahead}
    for sections, ends in ((forward, results), (backward, gradients)):
        for place, section in enumerate(sections):
            read = {
                *(base(end, kept) for end in ends),
                *(base(i, kept) for n in section.nodes if n.op in GATHERED for i in n.inputs),
            }
            for other in sections[place + 1 :]:
                own = set(other.nodes)
                read |= {base(i, kept) for n in other.nodes for i in n.inputs if i not in own}
            section.stored = [n for n in section.nodes if n in read]


def base(node: Node, kept: Collection[Node] = ()) -> Node:
    """The value that a slice or repetition is of, unless it is itself among the kept."""
    while node.op in ("slice", "expand") and node not in kept:
        node = node.inputs[0]
    return node
