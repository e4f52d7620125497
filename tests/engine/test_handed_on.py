"""States that are handed on, outputs that are no rows, and gradients that are what a loop carries."""

import pytest
import torch
from test_native import needs_core
from torch import nn

import unrolled as ur
from unrolled.engine import reference
from unrolled.engine.choose import decide, run

pytestmark = needs_core
H = 3


class _Handed(ur.Cell):
    state_names = ("h", "p", "q")
    state_sizes = dict.fromkeys(state_names, H)
    output_names = ("y",)

    def __init__(self):
        super().__init__(H, H)
        torch.manual_seed(0)
        self.a, self.u = nn.Linear(H, H), nn.Linear(H, H)
        self.b = nn.Parameter(torch.randn(H))


def cell(step, states=("h", "p", "q"), outputs=()):
    """A cell of a step; its further states stay as they are."""
    names = {"state_names": states, "output_names": outputs, "step": step}
    sizes = {"state_sizes": dict.fromkeys(states, H)}
    return type("Handed", (_Handed,), names | sizes)().double()


CELLS = {
    "to another": cell(lambda s, x, h, p: (x + p.tanh(), h), ("h", "p")),
    "to another, through a product": cell(
        lambda s, x, h, p: ((s.a(x) + s.u(p)).tanh(), h), ("h", "p")
    ),
    "a memory": cell(lambda s, x, h, p: (p.tanh() + s.a(x), h), ("h", "p")),
    "a shift": cell(lambda s, x, h, p, q: (x + s.u(q), h, p)),
    "round": cell(lambda s, x, h, p, q: (q, h, p + x.tanh())),
    "swapped": cell(lambda s, x, h, p: (p, h + x), ("h", "p")),
    "two alike": cell(lambda s, x, h, p: (x + (h + p).tanh(), (h + p).tanh()), ("h", "p")),
    "twice": cell(lambda s, x, h, p: (x + h * p, h), ("h", "p")),
    "a part of itself": cell(
        lambda s, x, h: torch.cat([h.sum(1, keepdim=True), x[:, 1:]], 1), ("h",)
    ),
    "turned": cell(lambda s, x, h: h.flip(1) + x, ("h",)),
    "pushed along": cell(lambda s, x, h: torch.cat([x[:, :1], h[:, :-1]], 1), ("h",)),
    "input and state": cell(lambda s, x, h: (h + x, h.sigmoid()), ("h",), ("y",)),
    "a delay line": cell(lambda s, x, p: (x, p), ("p",), ("y",)),
    "a sum": cell(lambda s, x, h: h + x, ("h",)),
    "a part of the input": cell(
        lambda s, x, h: torch.cat([h[:, 1:] + x[:, 1:], x[:, :1]], 1), ("h",)
    ),
    "a vector": cell(lambda s, x, h: (x + h, s.b.expand_as(h)), ("h",), ("y",)),
    "of a vector": cell(lambda s, x, h: (x + h, s.b.expand_as(h).tanh()), ("h",), ("y",)),
    "a product of a constant": cell(
        lambda s, x, h: (s.u(torch.full_like(h, 0.3)) + h * x, torch.full_like(h, 0.3)),
        ("h",),
        ("y",),
    ),
    "a constant": cell(lambda s, x, h: (x * s.b + h, torch.ones_like(h)), ("h",), ("y",)),
}


def results(handed, how, lengths):
    torch.manual_seed(1)
    x = torch.randn(5, 2, H, dtype=torch.float64, requires_grad=True)
    states = {
        name: torch.randn(2, H, dtype=torch.float64, requires_grad=True)
        for name in handed.state_names
    }
    found = how(handed, x, states, lengths=lengths)
    values = [found.y, *found.states.values()]
    weights = [torch.rand_like(v) for v in values]
    wanted = [x, *states.values(), *handed.parameters()]
    alone = [
        torch.autograd.grad((v * w).sum(), wanted, allow_unused=True, retain_graph=True)
        if v.requires_grad
        else (None,) * len(wanted)
        for v, w in zip(values, weights, strict=True)
    ]
    weighed = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    together = torch.autograd.grad(weighed, wanted, allow_unused=True)
    gradients = [
        torch.zeros_like(w) if g is None else g
        for each in (*alone, together)
        for w, g in zip(wanted, each, strict=True)
    ]
    return [*values, *gradients]


@pytest.mark.parametrize("lengths", [None, [5, 3]], ids=["alike", "unequal"])
@pytest.mark.parametrize("name", CELLS)
def test_gradients(name, lengths):
    handed = CELLS[name]
    assert decide(handed, {}, torch.float64, "cpu")[1] is None
    lengths = None if lengths is None else torch.tensor(lengths)
    ours, theirs = (results(handed, how, lengths) for how in (run, reference.run))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_gate_may_not_have_the_name_of_a_state():
    wrong = cell(lambda s, x, h: s.gate("h", h.sigmoid()) + x, ("h",))
    with pytest.raises(ValueError, match="gate 'h' has the name of a state"):
        run(wrong, torch.zeros(2, 2, H, dtype=torch.float64), keep=True)


def test_a_long_step_is_compiled_at_once():
    """What is kept for the backward pass is found in one look at each value, not one at each path to it."""

    def step(self, x, h):
        z = self.a(x)
        for k in range(40):
            z = (z * 0.9 + 0.1 * (h + k * 0.01).sin()).tanh() + z * h.cos() * 0.01
        return z

    long = cell(step, ("h",))
    ours, theirs = (results(long, how, None) for how in (run, reference.run))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_nothing_to_run_is_no_failure(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")
    y = run(CELLS["a sum"], torch.zeros(2, 0, H, dtype=torch.float64)).y
    assert y.shape == (2, 0, H)
