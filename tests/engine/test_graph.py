"""The traced graph and its derivative, evaluated with torch, against the cell itself and autograd."""

import pytest
import torch
from cases import UNDELAYED
from torch.nn import functional

import unrolled as ur
from unrolled.engine.derive import derive
from unrolled.engine.graph import Node, depending, reachable
from unrolled.engine.interpret import compute
from unrolled.engine.lower import Declined
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace


def evaluate(nodes: list[Node], leaves: dict[Node, torch.Tensor]) -> dict[Node, torch.Tensor]:
    """Compute all nodes for one step of three rows, and what is gathered over them."""
    values = dict(leaves)
    like = torch.zeros(3, 1, dtype=torch.float64)
    for node in nodes:
        a = [values[source] for source in node.inputs]
        if node in values:
            continue
        if node.op == "place":
            first, last, transposed = node.attrs
            source = next(n for n in leaves if n.op == "once" and n.width == node.width)
            values[node] = torch.zeros(source.attrs[-1], dtype=torch.float64)
            (values[node][:, first:last] if transposed else values[node][first:last]).copy_(a[0])
        elif node.op == "outer":
            values[node] = a[0].T @ a[1]
        elif node.op == "total":
            values[node] = a[0].sum(0)
        else:
            values[node] = compute(node, a, like)
    return values


def check(
    cell: ur.Cell, extras: dict[str, torch.Tensor] | None = None, rewritten: bool = True
) -> None:
    """Compare one step and all its gradients."""
    extras = extras or {}
    step = trace(cell, {k: v.shape[1] for k, v in extras.items()}, torch.float64)
    step = rewrite(step) if rewritten else step
    rows = 3
    x = torch.randn(rows, cell.input_size, dtype=torch.float64, requires_grad=True)
    states = {
        k: torch.randn(rows, w, dtype=torch.float64, requires_grad=True)
        for k, w in cell.state_sizes.items()
    }
    results = cell.step(x, *states.values(), **extras)
    results = results if isinstance(results, tuple) else (results,)
    named = dict(cell.named_parameters())
    once = step.constants(cell)
    given = {"x": x, **states, **extras}
    wanted = {**step.states, **step.outputs}
    weights = {
        name: torch.randn(rows, node.width, dtype=torch.float64) for name, node in wanted.items()
    }
    seeds: dict[Node, Node] = {}
    leaves: dict[Node, torch.Tensor] = {}
    for name, node in wanted.items():
        seed = step.graph.leaf("grad", name, width=node.width)
        leaves[seed] = weights[name]
        seeds[node] = step.graph.apply("add", seeds[node], seed) if node in seeds else seed
    gradients = derive(step.graph, seeds)
    for node in step.graph.nodes:
        if node.op in ("x", "state", "extra"):
            leaves[node] = given[node.attrs[0]].detach()
        elif node.op == "once":
            leaves[node] = once[node.attrs[0]].detach()
    values = evaluate(reachable([*wanted.values(), *gradients.values()]), leaves)
    for node, result in zip(wanted.values(), results, strict=True):
        torch.testing.assert_close(values[node], result.detach(), rtol=1e-8, atol=1e-8)
    loss = sum((r * w).sum() for r, w in zip(results, weights.values(), strict=True))
    inputs = {"x": x, **states, **named}
    expected = torch.autograd.grad(
        loss, list(inputs.values()), allow_unused=True, retain_graph=True
    )
    found = {name: torch.zeros_like(tensor) for name, tensor in inputs.items()}
    for leaf, gradient in gradients.items():
        if leaf.op in ("x", "state"):
            found[leaf.attrs[0]] += values[gradient]
        elif leaf.op == "once":
            given = once[leaf.attrs[0]]
            if not given.requires_grad:
                continue
            shares = torch.autograd.grad(
                given,
                list(named.values()),
                values[gradient].reshape(given.shape),
                allow_unused=True,
                retain_graph=True,
            )
            for name, share in zip(named, shares, strict=True):
                found[name] += 0 if share is None else share
    for (name, gradient), wanted_gradient in zip(found.items(), expected, strict=True):
        wanted_gradient = torch.zeros_like(gradient) if wanted_gradient is None else wanted_gradient
        torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("case", UNDELAYED, ids=lambda case: case.name)
def test_cells_of_the_table(case):
    extras = {k: v[0] if v.dim() == 3 else v for k, v in case.extras(1, 3, 4).items()}
    cell = case.build()
    if "t" in cell.extra_names:
        extras["t"] = torch.full((3, 1), 2.0, dtype=torch.float64)
    check(cell, {name: extras[name] for name in cell.extra_names})


class Formula(ur.Cell):
    """h' = f(W_x x + W_h h, h, w): any formula of three rows."""

    def __init__(self, formula, width=4):
        super().__init__(3, width)
        self.formula = formula
        self.x = torch.nn.Linear(3, width)
        self.h = torch.nn.Linear(width, width, bias=False)
        self.w = torch.nn.Parameter(torch.rand(width) + 0.5)

    def step(self, x, h):
        return self.formula(self.x(x) + self.h(h), h, self.w)


FORMULAS = {
    "activations": lambda z, h, w: functional.gelu(z) + functional.silu(h) * functional.softplus(z),
    "more activations": lambda z, h, w: (
        functional.elu(z) + functional.leaky_relu(h) - functional.mish(z)
    ),
    "hard ones": lambda z, h, w: (
        functional.hardtanh(z) + functional.hardsigmoid(h) * functional.relu6(z)
    ),
    "still more": lambda z, h, w: (
        functional.selu(z) + functional.celu(h) + functional.logsigmoid(z)
    ),
    "gelu tanh": lambda z, h, w: functional.gelu(z, approximate="tanh") + functional.hardswish(h),
    "softsign": lambda z, h, w: functional.softsign(z) + functional.tanhshrink(h),
    "softmax": lambda z, h, w: z.softmax(-1) + h.log_softmax(-1) * w,
    "logsumexp": lambda z, h, w: h * z.logsumexp(-1, keepdim=True),
    "norms": lambda z, h, w: functional.layer_norm(z, (4,)) + functional.rms_norm(h, (4,), w),
    "statistics": lambda z, h, w: (
        z - z.mean(-1, keepdim=True) / (h.var(-1, keepdim=True) + 1).sqrt()
    ),
    "length one": lambda z, h, w: functional.normalize(z, dim=-1) * h.norm(dim=-1, keepdim=True),
    "extremes": lambda z, h, w: (
        torch.maximum(z, h) - torch.minimum(z, w) + z.amax(-1, keepdim=True)
    ),
    "bounds": lambda z, h, w: z.clamp(-0.5, 0.5) + h.clamp(min=0) + (z * h).clamp(max=0.1),
    "choices": lambda z, h, w: torch.where(z > h, z * w, h) + (z <= 0) * h + (z.abs() != h) * 0.5,
    "powers": lambda z, h, w: z**2 + h**3 + z.abs() ** 1.5 + (h.abs() + 0.1) ** w,
    "exponentials": lambda z, h, w: (
        (-z.abs()).exp() + torch.expm1(-h * h) + (z.abs() + 1).log() + torch.log1p(h * h)
    ),
    "roots": lambda z, h, w: (
        (z * z + 1).sqrt() + (h * h + 1).rsqrt() + 1 / (z * z + 2) + (z / 3).erf()
    ),
    "circle": lambda z, h, w: z.sin() * h.cos() + z.sign() * w,
    "logic": lambda z, h, w: torch.where((z > 0) & ~(h > 0) | (z > 1), z, h),
    "parts": lambda z, h, w: (
        torch.cat([z[:, 1:], h[:, :1]], -1) + z.flip(-1) * h[:, ::2].repeat(1, 1).sum(-1, True)
    ),
    "stack": lambda z, h, w: torch.cat(
        [z[:, :2] * h[:, 2:], torch.zeros(z.shape[0], 2, dtype=z.dtype)], -1
    ),
    "lerp of one": lambda z, h, w: torch.lerp(z, h, z[:, :1].sigmoid()),
    "one of them": lambda z, h, w: z * h[:, 1].unsqueeze(-1) + z.select(-1, 2)[:, None],
    "constants": lambda z, h, w: 1 - z + 2 * h - w / 3 + torch.ones_like(h) * 0.5,
    "alpha": lambda z, h, w: torch.add(z, h, alpha=0.3) - torch.sub(h, w, alpha=2),
    "lerp": lambda z, h, w: torch.lerp(h, z, z.sigmoid()) + torch.addcmul(z, h, z, value=0.5),
    "glu": lambda z, h, w: functional.glu(torch.cat([z, h], -1)),
    "matrix of parameters": lambda z, h, w: h @ torch.outer(w, w) + z @ torch.diag(w).T,
    "in place": lambda z, h, w: (z * h).add_(w).tanh_(),
    "stopped": lambda z, h, w: z * h.detach() + (z * h).tanh().detach()[:, 1:2] * h - z.detach(),
    "stopped by data": lambda z, h, w: z * h.data + w.data * h + z.sigmoid() * w.detach().exp(),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("rewritten", [False, True])
def test_formulas(name, rewritten):
    torch.manual_seed(1)
    check(Formula(FORMULAS[name]).double(), rewritten=rewritten)


class GateByGate(ur.Cell):
    """A GRU whose gates each have a matrix of their own, of x and h side by side."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        for gate in "rzn":
            setattr(self, gate, torch.nn.Linear(input_size + hidden_size, hidden_size))

    def step(self, x, h):
        both = torch.cat([x, h], -1)
        r, z = self.r(both).sigmoid(), self.z(both).sigmoid()
        n = self.n(torch.cat([x, r * h], -1)).tanh()
        return (1 - z) * n + z * h


def products(cell):
    """The products of a rewritten step: those that wait for the state, and the others."""
    step = rewrite(trace(cell, {}, torch.float32))
    nodes = reachable([*step.states.values(), *step.outputs.values()])
    found = [node for node in nodes if node.op == "matmul"]
    looping = depending(nodes, [n for n in step.graph.nodes if n.op == "state"])
    return [p for p in found if p in looping], [p for p in found if p not in looping]


def test_products_are_split_and_joined():
    check(GateByGate(3, 4).double())
    loop, before = products(GateByGate(3, 4))
    assert [p.width for p in loop] == [8, 4]  # r and z by one product; r * h is another input
    assert [p.width for p in before] == [12]
    assert all(p.inputs[0].op != "concat" for p in (*loop, *before))


class Mixed(GateByGate):
    """Gates of x and h side by side, of h and x side by side, and of h alone; one that is not used."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.o = torch.nn.Linear(hidden_size + input_size, 3)
        self.p = torch.nn.Linear(hidden_size, 3, bias=False)
        self.q = torch.nn.Parameter(torch.randn(hidden_size, hidden_size))
        self.s = torch.nn.Parameter(torch.randn(hidden_size, 2))

    def step(self, x, h):
        z = super().step(x, h)
        o = self.o(torch.cat([h, x], -1)) * self.p(h)
        h = z * o.sum(-1, keepdim=True) + (h @ self.q) * (h @ self.s).sum(-1, keepdim=True)
        self.z(torch.cat([x, h], -1))
        return h


def test_parts_of_matrices_are_joined_with_matrices():
    check(Mixed(3, 4).double())
    loop, before = products(Mixed(3, 4))
    assert sorted(p.width for p in loop) == [4, 6, 14]
    assert [p.width for p in before] == [15]


class Unused(ur.Cell):
    """Two products that are joined, and after them one that nothing reads."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.a, self.b, self.z = (torch.nn.Linear(hidden_size, hidden_size) for _ in range(3))

    def step(self, x, h):
        new = self.a(h).sigmoid() * self.b(h)
        self.z(h)
        return new


def test_a_product_that_nothing_reads():
    check(Unused(4, 4).double())


def branch(z, h, w):
    return z if z.sum() > 0 else h


DECLINED = {
    "a branch on a value": (branch, "branches on the value"),
    "a branch on the batch": (
        lambda z, h, w: z if z.shape[0] > 5 else h,
        "branches on the size of the batch",
    ),
    "random": (lambda z, h, w: z + torch.randn_like(h), "random numbers"),
    "dropout": (lambda z, h, w: functional.dropout(z), "random numbers"),
    "across rows": (lambda z, h, w: z - z.mean(0), "across the rows"),
    "all": (lambda z, h, w: z / z.sum(), "across the rows"),
    "reversed rows": (lambda z, h, w: z.flip(0), "across the rows"),
    "columns": (lambda z, h, w: (torch.outer(w, w) @ h.T).T, "rows into columns"),
    "in place of a state": (lambda z, h, w: h.mul_(0.5) + z, "in place that has another name"),
    "in place of a part": (
        lambda z, h, w: z.clone()[:, :2].mul_(2).sum(-1, True) + z,
        "in place that",
    ),
    "one row": (lambda z, h, w: z + h[:1], "a part of the batch|across the rows"),
    "cumulative": (lambda z, h, w: z.cumsum(-1), "cumsum, which the compiler does not know"),
    "rows by rows": (lambda z, h, w: z @ (h.T @ h), "rows into columns"),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined_with_a_reason(name):
    formula, words = DECLINED[name]
    with pytest.raises(Declined, match=words):
        trace(Formula(formula), {}, torch.float32)
