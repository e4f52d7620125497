"""How gradients flow back through time in a recurrent net, whatever its cell.

T steps, B rows, D directions. E_t is the part of the loss that reaches the net through its output at step
t: E = sum_t E_t, of which g_t = dE/dy_t is known, so that dE_t/dh_k = g_t dy_t/dh_k (Pascanu, Mikolov &
Bengio 2013, eqs. 3-5). h_k stands for all states after step k, side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unrolled.engine import Cell, States
from unrolled.engine.cell import bind
from unrolled.engine.check import PAST, complete_extras, complete_states
from unrolled.engine.reference import run
from unrolled.inspect.calls import Call

WIDEST = 1024
"""States wider than this have no Jacobians computed."""


@dataclass
class Layer:
    """One cell, unrolled by hand.

    Attributes:
        name: ``layer 0``, ``layer 1, backwards``.
        cell: The cell.
        backwards: Whether it reads from the end.
        x: What it read (T, B, I).
        extras: Its further inputs, name -> (T, B, n).
        states: At place k the states after step k of those that were read before, at 0 the initial ones;
            T + 1 of them in the order of reading.
        weights: The parameters each step used, where they were taken apart.
        gates: Name -> (T, B, n), in the order of reading.
    """

    name: str
    cell: Cell
    backwards: bool
    x: Tensor
    extras: dict[str, Tensor]
    states: list[States]
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    gates: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Unrolled:
    """A net unrolled over a sequence, on the graph of autograd.

    Attributes:
        layers: Its cells.
        y: (T, B, D * H).
        seeds: dE/dy (T, B, D * H).
        last: dE by the last states of each cell, name -> (places, B, width); empty where the loss does not
            read them.
    """

    layers: list[Layer]
    y: Tensor
    seeds: Tensor
    last: dict[str, Tensor]

    @property
    def times(self) -> list[int]:
        """The steps whose output the loss reads; T stands for the last states."""
        read = self.seeds.flatten(1).abs().sum(1).nonzero()[:, 0].tolist()
        return read + [len(self.y)] * bool(self.last)

    def error(self, t: int) -> Tensor:
        """Give a scalar whose gradient is that of E_t."""
        if t < len(self.y):
            return (self.y[t] * self.seeds[t]).sum()
        return torch.stack(
            [
                (layer.states[-1][name] * seed[place]).sum()
                for name, seed in self.last.items()
                for place, layer in enumerate(self.layers)
            ]
        ).sum()

    def norms(self, times: Sequence[int] | None = None) -> list[Tensor]:
        """Compute ||dE_t/dh_k|| for all pairs.

        Args:
            times: The steps t; those of :attr:`times` if left out.

        Returns:
            For each layer (len(times), T + 1), over k in the order of reading; 0 where h_k does not reach t.
        """
        times = self.times if times is None else times
        found = [self._norms(self.error(t)) for t in times]
        return [*torch.stack(found, 1)] if found else []

    def totals(self) -> Tensor:
        """Compute ||dE/dh_k||, (layers, T + 1), over k in the order of reading."""
        return self._norms(torch.stack([self.error(t) for t in self.times]).sum())

    def _norms(self, error: Tensor) -> Tensor:
        """Give the norm of the gradient of a scalar by the states of each layer and step."""
        places = [
            (place, k, state)
            for place, layer in enumerate(self.layers)
            for k, states in enumerate(layer.states)
            for state in states.values()
        ]
        found = torch.zeros(len(self.layers), len(self.y) + 1, dtype=torch.float64)
        gradients = _gradients(error, [state for *_, state in places])
        for (place, k, _), gradient in zip(places, gradients, strict=True):
            if gradient is not None:
                found[place, k] += gradient.double().square().sum().cpu()
        return found.sqrt()

    def terms(self, t: int, place: int, parameter: str) -> list[Tensor]:
        """Give for each step k the term dE_t/dh_k d+h_k/dW of a parameter W; their sum is dE_t/dW.

        Only of a net that was unrolled with its weights taken apart.
        """
        own = [weights[parameter] for weights in self.layers[place].weights]
        gradients = _gradients(self.error(t), own)
        return [
            torch.zeros_like(w) if gradient is None else gradient
            for w, gradient in zip(own, gradients, strict=True)
        ]


def _gradients(error: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Differentiate, ``None`` for what has no part in it, as a state that only counts."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    if not error.requires_grad or not wanted:
        return [None] * len(inputs)
    found = iter(torch.autograd.grad(error, wanted, retain_graph=True, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def unroll(
    call: Call,
    seeds: Sequence[Tensor | None],
    *,
    rows: int = 4,
    apart: bool = False,
    gates: bool = False,
) -> Unrolled:
    """Run a call of a net again, step by step, so that every state has a place in the graph.

    Rows that are shorter than the longest are left out.

    Args:
        call: The call.
        seeds: The loss's gradients by each of its results.
        rows: Most rows to take.
        apart: Whether each step has weights of its own, so that its part of a gradient is seen.
        gates: Whether to keep what cells name as gates.
    """
    x, longest = call.x, call.x.shape[0]
    chosen = torch.arange(x.shape[1])[:rows]
    if call.lengths is not None:
        longest = max(1, int(call.lengths.max()))
        chosen = (call.lengths.cpu() == call.lengths.max().cpu()).nonzero()[:rows, 0]
    x = x[:longest, chosen]
    narrowed = Call(
        call.name,
        call.net,
        x,
        {n: s[:, :, chosen] if n.endswith(PAST) else s[:, chosen] for n, s in call.states.items()},
        None,
        {n: e[chosen] if e.dim() == 2 else e[:longest, chosen] for n, e in call.extras.items()},
        [],
        None,
    )
    layers: list[Layer] = []
    seen, heard = x, []
    with torch.enable_grad():
        for place, (name, cell) in enumerate(call.cells):
            level, direction = divmod(place, call.directions)
            seen = x if direction == 0 else seen
            layer, y = _layer(narrowed, place, name, cell, seen, direction == 1, apart, gates)
            layers.append(layer)
            heard.append(y)
            if direction == call.directions - 1:
                outputs = heard[-call.directions :]
                x = narrowed.join(
                    level, x, outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
                )
    first, *others = seeds
    direct = (
        torch.zeros_like(x) if first is None else call.by_step(first)[:longest, chosen].to(x.dtype)
    )
    names = call.cells[0][1].state_names
    last = {
        name: seed[:, chosen] for name, seed in zip(names, others, strict=False) if seed is not None
    }
    return Unrolled(layers, x, direct, last)


def _layer(
    call: Call,
    place: int,
    name: str,
    cell: Cell,
    x: Tensor,
    backwards: bool,
    apart: bool,
    gates: bool,
) -> tuple[Layer, Tensor]:
    """Unroll one cell: its layer, and its outputs (T, B, H)."""
    drawn, _ = cell.noise(x, call.net.stream + place)
    extras = complete_extras(cell, x, {**call.extras, **drawn})
    given = {key: state[place] for key, state in call.states.items()}
    states = complete_states(cell, x, given)
    states = {key: state.detach().requires_grad_() for key, state in states.items()}
    layer = Layer(name, cell, backwards, x, extras, [states])
    outputs: list[Tensor] = []
    kept: dict[str, list[Tensor]] = {}
    order = range(len(x))
    for t in reversed(order) if backwards else order:
        used = cell
        if apart:
            own = {n: p.detach().clone().requires_grad_() for n, p in cell.named_parameters()}
            layer.weights.append(own)
            used = bind(cell, own)
        done = run(
            used,
            x[t : t + 1],
            layer.states[-1],
            extras={key: extra[t : t + 1] for key, extra in extras.items()},
            keep=gates,
        )
        layer.states.append(done.states)
        outputs.append(done.y[0])
        for key, value in done.history.items():
            if key not in cell.state_names:
                kept.setdefault(key, []).append(value[0].detach())
    layer.gates = {key: torch.stack(values) for key, values in kept.items()}
    return layer, torch.stack(outputs[::-1] if backwards else outputs)


def lags(layer: Layer, norms: Tensor, times: Sequence[int]) -> Tensor:
    """Give sum_t ||dE_t/dh_{t-n}|| / sum_t ||dE_t/dh_t|| for each lag n (T,), over the t that reach so far.

    Args:
        layer: A layer, which says in which direction time goes.
        norms: Of that layer (len(times), T + 1).
        times: The steps t.
    """
    steps = norms.shape[1] - 1
    far, near = torch.zeros(steps), torch.zeros(steps)
    for row, t in zip(norms, times, strict=True):
        # The place at which the states after step t stand; the last ones stand at the end.
        place = steps if t == steps else steps - t if layer.backwards else t + 1
        back = row[1 : place + 1].flip(0).float()
        far[:place] += back
        near[:place] += back[0]
    return torch.where(near > 0, far / near, 0)


@torch.no_grad()
def jacobians(layer: Layer, steps: int = 32) -> Tensor | None:
    """Compute dh_k/dh_{k-1} of the first row for the last steps: (steps, n, n), all states side by side.

    Returns:
        ``None`` where states are too wide.
    """
    first = [_flat(_row(states)) for states in layer.states]
    n = first[0].numel()
    if n > WIDEST or not n:
        return None
    found = []
    eye = torch.eye(n, dtype=first[0].dtype, device=first[0].device)
    count = len(first) - 1
    for k in range(max(0, count - steps), count):
        t = count - 1 - k if layer.backwards else k
        with torch.enable_grad():
            copies = first[k].detach().expand(n, n).clone().requires_grad_()
            done = run(
                layer.cell,
                layer.x[t : t + 1, :1].detach().expand(1, n, -1),
                _unflat(copies, layer.states[0]),
                extras={
                    key: extra[t : t + 1, :1].expand(1, n, *extra.shape[2:])
                    for key, extra in layer.extras.items()
                },
            )
            new = torch.cat([_by_row(key, state) for key, state in done.states.items()], 1)
            (jacobian,) = torch.autograd.grad((new * eye).sum(), copies)
        found.append(jacobian)
    return torch.stack(found).double()


def _by_row(name: str, state: Tensor) -> Tensor:
    return (state.movedim(0, 1) if name.endswith(PAST) else state).flatten(1)


def _row(states: States) -> dict[str, Tensor]:
    return {n: s[:, :1] if n.endswith(PAST) else s[:1] for n, s in states.items()}


def _flat(states: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([_by_row(name, state).flatten() for name, state in states.items()])


def _unflat(rows: Tensor, like: States) -> States:
    """Cut (N, n) into states of N rows."""
    found, start = {}, 0
    for name, state in like.items():
        older = name.endswith(PAST)
        shape = (state.shape[0], *state.shape[2:]) if older else state.shape[1:]
        size = shape.numel() if isinstance(shape, torch.Size) else int(torch.Size(shape).numel())
        part = rows[:, start : start + size].unflatten(1, tuple(shape))
        found[name] = part.movedim(0, 1) if older else part
        start += size
    return found


def products(found: Tensor) -> Tensor:
    """Give the largest singular value of J_T J_{T-1} ... J_{T-n+1} for n = 1, 2, ...: (steps,)."""
    product, values = torch.eye(found.shape[1], dtype=found.dtype), []
    for jacobian in found.flip(0):
        product = product @ jacobian.cpu()
        values.append(torch.linalg.matrix_norm(product, 2))
    return torch.stack(values)


def recurrent_matrices(cell: Cell) -> dict[str, Tensor]:
    """Find the weights that states are multiplied by, as square blocks: name -> (H, H).

    They are the columns of matrices whose gradient is none without states, whatever is read, and some with
    states while nothing is read; those of a matrix of [x, h] are cut out.
    """
    weights = {n: p for n, p in cell.named_parameters() if p.dim() == 2 and p.requires_grad}
    if not weights:
        return {}
    like = next(iter(weights.values()))
    read = torch.randn(1, 2, cell.input_size, generator=torch.Generator().manual_seed(0)).to(like)
    extras = {name: read.new_ones(1, 2, 1) for name in cell.extra_names if name != "t"}
    reached: list[list[Tensor]] = []
    for x, fill in ((read, 0.0), (torch.zeros_like(read), 0.5)):
        states = {n: torch.full_like(s, fill) for n, s in complete_states(cell, x, {}).items()}
        with torch.enable_grad():
            done = run(cell, x, states, extras=extras)
            total = torch.stack([(s * s).sum() + s.sum() for s in done.states.values()]).sum()
        found = _gradients(total, [*weights.values()])
        reached.append(
            [
                w.new_zeros(w.shape[1], dtype=torch.bool) if g is None else g.ne(0).any(0)
                for w, g in zip(weights.values(), found, strict=True)
            ]
        )
    blocks: dict[str, Tensor] = {}
    for (name, w), without, having in zip(weights.items(), *reached, strict=True):
        own = w.detach()[:, having & ~without].double().cpu()
        height, width = own.shape
        if width and height % width == 0:
            parts = own.split(width)
            several = {f"{name} [{n}]": part for n, part in enumerate(parts)}
            blocks |= several if len(parts) > 1 else {name: parts[0]}
    return blocks
