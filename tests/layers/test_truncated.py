"""Truncated back-propagation against full back-propagation with the states detached by hand."""

import pytest
import torch
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.layers import Mixed, WindowReadout
from unrolled.layers.truncated import truncated

STEPS, BATCH, INPUTS, HIDDEN = 11, 3, 2, 4
PAIRS = [
    (1, 1),
    (1, 4),
    (2, 2),
    (2, 3),
    (3, 6),
    (3, 7),
    (4, 5),
    (5, 11),
    (11, 11),
    (2, 40),
    (20, 30),
]

NETS = {
    "cell": lambda: ur.Recurrent(cells.LayerNormLSTM(INPUTS, HIDDEN), 2),
    "torch's lstm": lambda: ur.LSTM(INPUTS, HIDDEN, 2),
    "torch's gru": lambda: ur.GRU(INPUTS, HIDDEN),
    "delays": lambda: ur.Recurrent(cells.Skip(INPUTS, HIDDEN, (1, 3))),
    "mixed": lambda: Mixed(
        nn.Linear(INPUTS, 3), ur.RNN(3, HIDDEN), WindowReadout(HIDDEN, HIDDEN, 2)
    ),
    "nn": lambda: nn.LSTM(INPUTS, HIDDEN),
}


def data():
    generator = torch.Generator().manual_seed(1)
    shape = (STEPS, BATCH, INPUTS), (STEPS, BATCH, HIDDEN)
    return [torch.randn(s, dtype=torch.float64, generator=generator) for s in shape]


def make(name="cell"):
    torch.manual_seed(0)
    return NETS[name]().double()


@pytest.mark.parametrize(("k1", "k2"), PAIRS)
def test_each_update_is_full_back_propagation_with_the_state_detached(k1, k2):
    """Elman's network with plain tensors, the weights moving after each part."""
    x, target = data()
    net = ur.Recurrent(cells.Elman(INPUTS, HIDDEN)).double()
    cell = net.cell
    start = torch.randn(BATCH, HIDDEN, dtype=torch.float64)
    before = {0: start}  # step -> the state ahead of it, as it was found
    for part in truncated(net, x, k1, k2, states={"h": start[None]}):
        loss = (part.y - target[part.steps]).square().sum()
        net.zero_grad()
        loss.backward()

        weights = [p.detach().clone().requires_grad_() for p in cell.parameters()]
        named = dict(zip([n for n, _ in cell.named_parameters()], weights, strict=True))
        first = max(0, part.start - (k2 - k1))
        assert part.reach == first
        h, by_hand = before[first], torch.zeros((), dtype=torch.float64)
        for t in range(first, part.stop):
            a = x[t] @ named["x.weight"].T + named["x.bias"] + h @ named["h.weight"].T
            h = a.tanh()
            before[t + 1] = h.detach()
            if t >= part.start:
                by_hand = by_hand + (h - target[t]).square().sum()
        torch.testing.assert_close(loss, by_hand, rtol=1e-13, atol=0)
        torch.testing.assert_close(part.states["h"][0], h.detach(), rtol=0, atol=1e-14)
        grads = torch.autograd.grad(by_hand, weights)
        for parameter, grad in zip(cell.parameters(), grads, strict=True):
            torch.testing.assert_close(parameter.grad, grad, rtol=1e-12, atol=1e-13)
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter -= 0.05 * parameter.grad


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("k1", "k2"), PAIRS)
def test_every_error_counts_once_and_flows_back_as_far_as_is_said(name, k1, k2):
    net, (x, _) = make(name), data()
    whole, last = net(x)
    parts = [*truncated(net, x.requires_grad_(), k1, k2)]
    assert [part.start for part in parts] == [*range(0, STEPS, k1)]
    assert [part.stop for part in parts[:-1]] == [*range(k1, STEPS, k1)]
    assert parts[-1].stop == STEPS
    torch.testing.assert_close(torch.cat([part.y for part in parts]), whole, rtol=0, atol=1e-13)
    flat, expected = (
        torch.utils._pytree.tree_leaves(parts[-1].states),
        torch.utils._pytree.tree_leaves(last),
    )
    torch.testing.assert_close(flat, [state.detach() for state in expected], rtol=0, atol=1e-13)
    assert not any(state.requires_grad for state in flat)
    for part in parts:
        reach = max(0, part.start - (k2 - k1))
        assert part.stop - reach <= k2
        for place, t in enumerate(range(part.start, part.stop)):
            (grad,) = torch.autograd.grad(part.y[place].sin().sum(), x, retain_graph=True)
            seen = grad.abs().sum((1, 2)) > 0
            assert seen.nonzero().flatten().tolist() == [*range(reach, t + 1)]


@pytest.mark.parametrize("name", NETS)
def test_far_enough_it_is_the_full_gradient(name):
    """With weights that stay, the gradients of all parts add up to that of the whole."""
    net, (x, target) = make(name), data()
    (net(x)[0] - target).square().sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for part in truncated(net, x, 3, STEPS + 3):
        (part.y - target[part.steps]).square().sum().backward()
    for parameter, grad in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["cell", "torch's lstm", "delays", "mixed"])
@pytest.mark.parametrize(("k1", "k2"), [(2, 5), (4, 4), (3, 9)])
def test_rows_of_their_own_lengths(name, k1, k2):
    net, (x, _) = make(name), data()
    lengths = torch.tensor([7, 0, 11])
    x[torch.arange(STEPS)[:, None] >= lengths] = float("nan")
    whole, last = net(x, lengths=lengths)
    parts = [*truncated(net, x, k1, k2, lengths=lengths)]
    torch.testing.assert_close(torch.cat([part.y for part in parts]), whole, rtol=0, atol=1e-13)
    leaves = torch.utils._pytree.tree_leaves
    torch.testing.assert_close(
        leaves(parts[-1].states), [state.detach() for state in leaves(last)], rtol=0, atol=1e-13
    )


def test_batch_first_and_states_carried_to_the_next_sequence():
    net, (x, _) = make("torch's gru"), data()
    first = ur.GRU(INPUTS, HIDDEN, batch_first=True).double()
    first.load_state_dict(net.state_dict())
    whole, _ = net(x)
    *_, part = truncated(first, x[:5].transpose(0, 1), 2, 3)
    rest = [p.y for p in truncated(first, x[5:].transpose(0, 1), 4, 5, states=part.states)]
    torch.testing.assert_close(torch.cat(rest, 1), whole[5:].transpose(0, 1), rtol=0, atol=1e-13)


def test_further_inputs_are_cut():
    net = ur.Recurrent(cells.Jordan(INPUTS, 5, HIDDEN, teacher=True)).double()
    x, target = data()
    extras = cells.teacher(target, 1.0)
    whole, _ = net(x, extras=extras)
    parts = truncated(net, x, 3, 5, extras=extras)
    torch.testing.assert_close(torch.cat([p.y for p in parts]), whole, rtol=0, atol=1e-14)


def test_nothing_is_run_twice_without_need():
    runs = []

    class Counted(nn.RNN):
        def forward(self, x, h=None):
            runs.append(len(x))
            return super().forward(x, h)

    net, x = Counted(INPUTS, HIDDEN), torch.randn(12, 1, INPUTS)
    assert len([*truncated(net, x, 4)]) == 3
    assert runs == [4, 4, 4]
    runs.clear()
    assert len([*truncated(net, x, 4, 8)]) == 3
    assert runs == [4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("make", "given", "match"),
    [
        (lambda: ur.GRU(2, 3), {"k1": 0}, "k1 must be at least 1 step, not 0"),
        (lambda: ur.GRU(2, 3), {"k1": 3, "k2": 2}, "k2 must be at least k1 = 3 steps, not 2"),
        (lambda: ur.GRU(2, 3, bidirectional=True), {"k1": 3}, "needs the whole sequence"),
        (lambda: ur.GRU(2, 3), {"k1": 3, "lengths": torch.tensor([6])}, "between 0 and 5"),
    ],
)
def test_what_is_refused(make, given, match):
    with pytest.raises(ValueError, match=match):
        truncated(make(), torch.zeros(5, 1, 2), **given)
