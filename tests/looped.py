"""Compare what is compiled with a plain loop over ``step`` that torch differentiates."""

import torch

import unrolled as ur
from unrolled.engine.choose import run
from unrolled.engine.interpret import unroll
from unrolled.engine.packing import alike
from unrolled.engine.programs import compiled


class Plain(ur.Cell):
    """h' = f(x, h): a formula without weights."""

    def __init__(self, formula, width):
        super().__init__(width, width)
        self.formula = formula

    def step(self, x, h):
        return self.formula(x, h)


class PlainWithOutput(Plain):
    """h', y = f(x, h)."""

    output_names = ("y",)


def by_hand(cell, x, h):
    """The outputs, and the last state, of a loop over ``step``."""
    outputs = []
    for row in x:
        found = cell.step(row, h)
        h, y = found if isinstance(found, tuple) else (found, found)
        outputs.append(y)
    return torch.stack(outputs), h


def by_core(cell, x, h):
    outputs = run(cell, x, {"h": h})
    return outputs.y, outputs.states["h"]


def by_graph(cell, x, h):
    plan = compiled(cell, {}, x.dtype)
    constants = plan.step.constants(cell)
    return unroll(plan, alike(*x.shape[:2]), [x, h, *constants])


def gradients(engine, cell, x, h, weights):
    """Results, then gradients of the input, the state and the parameters."""
    x, h = x.detach().requires_grad_(), h.detach().requires_grad_()
    y, last = engine(cell, x, h)
    sources = [x, h, *cell.parameters()]
    goals = [
        (t, w.expand_as(t)) for t, w in zip((y, last), weights, strict=True) if t.requires_grad
    ]
    found = [None] * len(sources)
    if goals:
        found = torch.autograd.grad(
            [t for t, _ in goals], sources, [w for _, w in goals], allow_unused=True
        )
    pairs = zip(found, sources, strict=True)
    filled = [torch.zeros_like(source) if g is None else g for g, source in pairs]
    return [y.detach(), last.detach(), *filled]


def check(cell, x, h, **allowed):
    """Compare the core and the graph with the loop."""
    allowed = {"rtol": 1e-11, "atol": 1e-11, "equal_nan": True} | allowed
    if any(w.dtype != x.dtype for w in cell.parameters() if w.is_floating_point()):
        cell = cell.to(x.dtype)
    for weights in ((1.0, 0.0), (0.3, -1.7)):
        weights = [torch.tensor(w, dtype=x.dtype) for w in weights]
        wanted = gradients(by_hand, cell, x, h, weights)
        for engine in (by_core, by_graph):
            found = gradients(engine, cell, x, h, weights)
            for place, (a, b) in enumerate(zip(found, wanted, strict=True)):
                what = f"{engine.__name__}, result {place} of y, h, x', h', weights':"
                torch.testing.assert_close(
                    a, b, **allowed, msg=lambda told, what=what: f"{what}\n{told}"
                )
