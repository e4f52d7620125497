"""States that are read from further back than one step, in the compiled loop."""

import pytest
import torch
from cases import SkipRNN
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unrolled as ur
from unrolled.engine import native, reference, run

pytestmark = pytest.mark.skipif(not native.available(), reason="the core is not built")


class Delayed(ur.Cell):
    """h sees itself, and m sees h and itself, from any steps ago."""

    state_names = ("h", "m")

    def __init__(self, lags_h, lags_m):
        super().__init__(3, 5)
        self.delays = {"h": lags_h, "m": lags_m}
        self.x = nn.Linear(3, 5)
        self.own = nn.ModuleList(nn.Linear(5, 5) for _ in lags_h)
        self.other = nn.Linear(5, 4)

    @property
    def state_sizes(self):
        return {"h": 5, "m": 4}

    def step(self, x, h, m):
        a = self.x(x)
        for weight, older in zip(self.own, h, strict=True):
            a = a + weight(older)
        new = 0.5 * m[0] + self.other(h[-1] * a.sigmoid()).tanh()
        return a.tanh() + m[-1].sum(-1, keepdim=True), new


def outcome(engine, cell, x, states, **call):
    """Everything that comes of a run: results, last states, and the gradient of all that is given."""
    x = x.clone().requires_grad_()
    states = {name: state.clone().requires_grad_() for name, state in states.items()}
    found = engine(cell, x, states, **call)
    results = {"y": found.y, **found.states}
    loss = sum(
        (value * torch.linspace(-1, 2, value.numel(), dtype=x.dtype).view_as(value)).sum()
        for value in results.values()
    )
    given = {"x": x, **states, **dict(cell.named_parameters())}
    gradients = torch.autograd.grad(loss, [*given.values()])
    return results | {f"d{n}": g for n, g in zip(given, gradients, strict=True)}


def alike(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-11, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}"
        )


def start(cell, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    states = {}
    for name, width in cell.state_sizes.items():
        older = max(cell.delays[name]) - 1
        shape = (batch, width)
        states[name] = torch.randn(shape, dtype=torch.float64, generator=generator)
        if older:
            states[f"{name}.past"] = torch.randn(
                (older, *shape), dtype=torch.float64, generator=generator
            )
    return states


LAGS = [((1,), (1,)), ((1, 4), (1,)), ((2,), (3,)), ((5, 1, 2), (2, 1)), ((3, 3), (1, 2))]


@pytest.mark.parametrize("lags", LAGS, ids=str)
@settings(max_examples=8, deadline=None)
@given(
    steps=st.integers(1, 8),
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=9),
    reverse=st.booleans(),
    from_zero=st.booleans(),
)
def test_equal_to_the_reference(lags, steps, lengths, reverse, from_zero):
    torch.manual_seed(3)
    cell = Delayed(*lags).double()
    x = torch.randn(steps, len(lengths), 3, dtype=torch.float64)
    states = {} if from_zero else start(cell, len(lengths))
    call = {"lengths": torch.tensor(lengths).clamp(max=steps), "reverse": reverse}
    with ur.engine("native"):
        alike(
            outcome(run, cell, x, states, **call), outcome(reference.run, cell, x, states, **call)
        )
        call.pop("lengths")
        alike(
            outcome(run, cell, x, states, **call), outcome(reference.run, cell, x, states, **call)
        )


def test_parts_of_a_sequence_go_on_from_one_another():
    net = ur.Recurrent(SkipRNN(3, 4), num_layers=2).double()
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    whole, states = net(x)
    parts, carried = [], None
    for part in x.split([1, 1, 4, 3]):
        y, carried = net(part, carried)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
    for name, state in states.items():
        torch.testing.assert_close(carried[name], state, rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_for_any_number_of_threads(threads):
    torch.manual_seed(0)
    cell = SkipRNN(20, 48)
    x = torch.randn(12, 13, 20)
    before = torch.get_num_threads()
    wanted = run(cell, x)
    try:
        torch.set_num_threads(threads)
        found = run(cell, x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.y, wanted.y)
    assert torch.equal(found.states["h.past"], wanted.states["h.past"])


def test_only_what_is_needed_is_differentiated():
    cell = Delayed((1, 3), (2,)).double()
    states = start(cell, 2)
    for tensor in (*states.values(), *cell.parameters()):
        tensor.requires_grad_(False)
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for engine in (run, reference.run):
        x.grad = None
        engine(cell, x, states).y.square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_second_derivatives():
    cell = Delayed((1, 3), (2,)).double()
    lengths = torch.tensor([5, 2])
    names = [*start(cell, 2)]

    def loop(x, *states):
        found = run(cell, x, dict(zip(names, states, strict=True)), lengths=lengths)
        return found.y, *found.states.values()

    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    given = [state.requires_grad_() for state in start(cell, 2).values()]
    assert torch.autograd.gradcheck(loop, (x, *given), fast_mode=True)
    assert torch.autograd.gradgradcheck(loop, (x, *given), fast_mode=True)


@torch.no_grad()
def test_compiled_by_torch():
    torch._dynamo.reset()  # other tests may have come to the limit of recompilations
    net = ur.Recurrent(SkipRNN(3, 4), num_layers=2).double()
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    for lengths in (None, torch.tensor([2, 6, 1])):
        wanted, states = net(x, lengths=lengths)
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        found, carried = compiled(x, lengths=lengths)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(carried["h.past"], states["h.past"])
        wanted, _ = net(x, states, lengths=lengths)
        found, _ = compiled(x, carried, lengths=lengths)
        torch.testing.assert_close(found, wanted)


def test_the_listing_says_how_far_back():
    listing = str(ur.explain(SkipRNN(3, 4)))
    assert "h[t-1]" in listing
    assert "h[t-3]" in listing
    assert "dh[t-3]" in listing


@pytest.mark.parametrize(
    ("delays", "said"),
    [
        ({"h": (0, 1)}, "delays of 'h' must be at least 1 step, not 0"),
        ({"h": ()}, "delays of 'h' name no step"),
        ({"q": (1,)}, "delays name 'q'"),
    ],
)
def test_delays_that_make_no_sense(delays, said):
    cell = SkipRNN(3, 4)
    cell.delays = delays
    with pytest.raises(ValueError, match=said):
        run(cell, torch.randn(2, 2, 3))
