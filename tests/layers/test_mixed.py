"""Stacks of unlike layers: rows by themselves, lengths through strides, steps, and what is refused."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.engine.randomness import counter
from unrolled.layers import (
    AveragePool,
    Convolution1d,
    L2Pool,
    LogSumExpPool,
    MaxPool,
    WindowReadout,
    over_time,
)
from unrolled.layers.mixed import Mixed
from unrolled.layers.over_time import WINDOWED, filters_of, run_windows, steps_after

INPUTS, STEPS = 3, 17
LENGTHS = torch.tensor([9, 17, 0, 1, 12])

STACKS = {
    "torch's": lambda: [nn.Conv1d(3, 6, 3, stride=2, padding=1), nn.ReLU(), ur.LSTM(6, 4), nn.Linear(4, 2)],
    "deep": lambda: [
        nn.Linear(3, 4),
        ur.Recurrent(cells.GRU(4, 5), 2, bidirectional=True),
        Convolution1d(10, 3, 4, padding=[(3, 0)], dilation=2),
        nn.Sequential(nn.LayerNorm(3), nn.GELU()),
        ur.RNN(3, 4),
        WindowReadout(4, 3),
    ],
    "pooled": lambda: [nn.Conv1d(3, 4, 5, padding="same"), nn.MaxPool1d(2), ur.GRU(4, 4, 2)],
    "long kernel": lambda: [nn.Conv1d(3, 4, 17, padding=8), cells.Elman(4, 5)],
    "groups": lambda: [nn.Conv1d(3, 6, 3, groups=3, padding=1), nn.AvgPool1d(3, 2, 1), nn.Sigmoid()],
    "flipped": lambda: [Convolution1d(3, 4, 3, padding="full", flip=True), nn.Tanh()],
}  # fmt: skip


def make(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return Mixed(*STACKS[name](), **options).to(dtype)


def rows(dtype=torch.float64):
    torch.manual_seed(1)
    x = torch.randn(STEPS, len(LENGTHS), INPUTS, dtype=dtype)
    x[torch.arange(STEPS)[:, None] >= LENGTHS] = float("nan")
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STACKS)
def test_a_row_alone_is_the_row_in_a_batch_bit_for_bit(name, dtype):
    net, x = make(name, dtype), rows(dtype).requires_grad_()
    y, last = net(x, lengths=LENGTHS)
    after = net.lengths_after(LENGTHS)
    assert len(y) == net.lengths_after(torch.tensor(STEPS))
    assert y.shape[2] == net.output_size
    back = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, x, back)
    for row, (n, m) in enumerate(zip(LENGTHS.tolist(), after.tolist(), strict=True)):
        assert not y[m:, row].any()
        assert not grad[n:, row].any()
        assert n or not any(state.select(-2, row).any() for state in last.values())
        if not m:
            continue
        alone = x.detach()[:n, row : row + 1].clone().requires_grad_()
        found, states = net(alone)
        assert torch.equal(found, y[:m, row : row + 1])
        for key, state in states.items():
            assert torch.equal(state.select(-2, 0), last[key].select(-2, row))
        grads = torch.autograd.grad(found, alone, back[:m, row : row + 1])
        assert torch.equal(grads[0], grad[:n, row : row + 1])


def test_it_is_what_the_members_are_one_after_the_other():
    net, x = make("torch's"), torch.nan_to_num(rows())
    convolution, relu, lstm, linear = net.members
    h, (last_h, last_c) = lstm(relu(convolution(x.permute(1, 2, 0)).permute(2, 0, 1)))
    y, last = net(x)
    torch.testing.assert_close(y, linear(h), rtol=0, atol=1e-14)
    torch.testing.assert_close(last, {"2.h": last_h, "2.c": last_c}, rtol=0, atol=1e-14)


CONVOLUTIONS = [
    lambda: nn.Conv1d(3, 4, 3),
    lambda: nn.Conv1d(3, 4, 4, padding="same", dilation=3),
    lambda: nn.Conv1d(3, 4, 2, 3, 1, 2, bias=False),
    lambda: nn.Conv1d(3, 4, 5, padding=2, padding_mode="replicate"),
    lambda: Convolution1d(3, 4, 4, padding="same", dilation=2),
    lambda: Convolution1d(3, 4, 3, 2, [(1, 2)], flip=True),
    lambda: Convolution1d(3, 6, 20, padding="full", groups=3),
    lambda: nn.MaxPool1d(3, 2, 1, 2),
    lambda: nn.AvgPool1d(3, 1, 1, count_include_pad=False),
    lambda: MaxPool(2),
    lambda: AveragePool(3, 2, [(0, 2)]),
    lambda: L2Pool([2], [1]),
    lambda: LogSumExpPool(3, 1, 1),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("make", CONVOLUTIONS)
def test_windows_over_time_are_the_modules_own(make):
    torch.manual_seed(0)
    module = make().double()
    assert isinstance(module, WINDOWED)
    x = torch.nan_to_num(rows()).requires_grad_()
    expected = module(x.permute(1, 2, 0)).permute(2, 0, 1)
    found = run_windows(module, filters_of(module), x, None)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    weights = [x, *module.parameters()]
    back = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, weights, back),
        torch.autograd.grad(expected, weights, back),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    cut = run_windows(module, filters_of(module), rows(), LENGTHS)
    for row, n in enumerate(LENGTHS.tolist()):
        m = int(steps_after(module, torch.tensor(n)))
        if m:
            alone = module(x[:n, row].T[None])[0].T
            torch.testing.assert_close(cut[:m, row], alone, rtol=0, atol=1e-14)
        assert not cut[m:, row].any()


@settings(max_examples=60)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 4),
    dilation=st.integers(1, 3),
    n=st.integers(1, 30),
)
def test_steps_after(kernel, stride, padding, dilation, n):
    module = nn.Conv1d(1, 1, kernel, stride, padding, dilation)
    try:
        expected = module(torch.zeros(1, 1, n)).shape[2]
    except RuntimeError:  # larger than the padded input
        expected = 0
    assert int(steps_after(module, torch.tensor(n))) == expected


def test_batch_first():
    y, last = make("deep")(rows(), lengths=LENGTHS)
    found, states = make("deep", batch_first=True)(rows().transpose(0, 1), lengths=LENGTHS)
    assert torch.equal(found, y.transpose(0, 1))
    assert all(torch.equal(states[key], state) for key, state in last.items())


def test_step_by_step_and_in_parts():
    torch.manual_seed(0)
    net = Mixed(
        nn.Linear(3, 4), nn.Tanh(), ur.LSTM(4, 5, 2), cells.GRU(5, 4), ur.RNN(4, 3)
    ).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    y, last = net(x)
    assert {*last} == {"2.h", "2.c", "3.h", "4.h"}
    states, steps = None, []
    for x_t in x:
        y_t, states = net.step(x_t, states)
        steps.append(y_t)
    torch.testing.assert_close(torch.stack(steps), y, rtol=0, atol=1e-15)
    torch.testing.assert_close(states, last, rtol=0, atol=1e-15)
    _, states = net(x[:4])
    torch.testing.assert_close(net(x[4:], states)[0], y[4:], rtol=0, atol=1e-15)
    del states["3.h"]
    assert not torch.equal(net(x[4:], states)[0], y[4:])


@pytest.mark.parametrize("name", ["torch's", "deep"])
def test_gradients(name, engine):
    net = make(name)
    x = torch.randn(5, 2, INPUTS, dtype=torch.float64, requires_grad=True)
    names = [key for key, _ in net.named_parameters()]

    def call(x, *parameters):
        tensors = dict(zip(names, parameters, strict=True))
        given = {"lengths": torch.tensor([5, 3])}
        return torch.func.functional_call(net, tensors, (x,), given)[0]

    assert torch.autograd.gradcheck(call, (x, *net.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", STACKS)
def test_away_from_the_cpu_it_is_the_same(name, monkeypatch):
    net = make(name)

    def run():
        x = rows().requires_grad_()
        y, last = net(x, lengths=LENGTHS)
        loss = y.square().sum() + sum(state.sin().sum() for state in last.values())
        return y, *last.values(), *torch.autograd.grad(loss, [x, *net.parameters()])

    expected = run()
    monkeypatch.setattr(over_time, "_native_may_run", lambda x: False)
    for a, b in zip(run(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", STACKS)
def test_on_cuda(name):
    net = make(name)
    y, last = net(rows(), lengths=LENGTHS)
    net.cuda()
    for lengths in (LENGTHS, LENGTHS.cuda()):
        x = rows().cuda().requires_grad_()
        found, states = net(x, lengths=lengths)
        torch.testing.assert_close(found.cpu(), y, rtol=0, atol=1e-12)
        for key, state in states.items():
            torch.testing.assert_close(state.cpu(), last[key], rtol=0, atol=1e-12)
        found.square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_dropout_is_by_the_seed_and_the_row():
    net, x = Mixed(nn.Linear(3, 8), nn.Dropout(0.5), nn.ReLU()), torch.randn(6, 4, 3)
    with counter(seed=1):
        y, _ = net(x)
    with counter(seed=1):
        again, _ = net(x)
    with counter(seed=1, first_row=2):
        part, _ = net(x[:, 2:])
    with counter(seed=2):
        other, _ = net(x)
    assert torch.equal(y, again)
    assert torch.equal(part, y[:, 2:])
    assert not torch.equal(y, other)
    net.eval()
    torch.testing.assert_close(net(x)[0], net.members[0](x).relu())


@pytest.mark.parametrize("name", STACKS)
def test_no_rows(name):
    net = make(name)
    y, _ = net(rows()[:, :0])
    assert y.shape == (net.lengths_after(torch.tensor(STEPS)), 0, net.output_size)


def test_compiled_whole():
    net, x = make("torch's", torch.float32), torch.nan_to_num(rows(torch.float32))
    fast = torch.compile(net, fullgraph=True, backend="eager")
    assert torch.equal(fast(x)[0], net(x)[0])


def test_weights_are_the_members():
    net = make("torch's")
    assert {name.partition(".")[0] for name in net.state_dict()} == {"members"}
    copy = Mixed(*STACKS["torch's"]()).double()
    copy.load_state_dict(net.state_dict())
    x = torch.nan_to_num(rows())
    assert torch.equal(copy(x)[0], net(x)[0])
    other = deepcopy(net)
    with torch.no_grad():
        other.members[0].weight.zero_(), other.members[3].bias.zero_()
    assert torch.equal(copy(x)[0], net(x)[0])
    assert not torch.allclose(other(x)[0], net(x)[0])


REFUSED = [
    ([], ValueError, "a stack needs a member"),
    ([nn.ReLU()], ValueError, "ReLU takes any width: give the stack its input_size"),
    ([nn.Linear(3, 4), ur.LSTM(5, 2)], ValueError, r"\(LSTM\) takes 5 numbers a step, but is given 4"),
    ([nn.Linear(3, 4), nn.Bilinear(4, 4, 2)], ValueError, "does not take steps of 4 numbers"),
    ([nn.Linear(3, 4), nn.PReLU(3)], ValueError, r"member 1 \(PReLU\) does not take steps of 4 numbers"),
    ([ur.LSTM(3, 4, batch_first=True)], ValueError, "has batch_first"),
    ([nn.LSTM(3, 4)], TypeError, "it is not known which steps it gives"),
    ([nn.Linear(3, 4), nn.BatchNorm1d(4)], TypeError, "would let rows see each other; take LayerNorm"),
    ([nn.ConvTranspose1d(3, 4, 3)], TypeError, "holds ConvTranspose1d"),
    ([nn.Linear(3, 4), nn.MaxPool1d(2, ceil_mode=True)], ValueError, "leave ceil_mode out"),
    ([nn.Linear(3, 4), MaxPool([2, 2])], ValueError, "there is one dimension"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "error", "match"), REFUSED)
def test_members_that_are_refused(members, error, match):
    with pytest.raises(error, match=match):
        Mixed(*members)


def test_wrong_input():
    net, x = make("torch's"), torch.nan_to_num(rows())
    with pytest.raises(ValueError, match=r"member 0 \(Conv1d\) needs several steps at once"):
        net.step(x[0])
    with pytest.raises(ValueError, match="needs the whole sequence"):
        Mixed(ur.LSTM(3, 4, bidirectional=True)).step(torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"no state 'h'.*members with states are 2 \(LSTM\)"):
        net(x, {"h": x[:1]})
    with pytest.raises(ValueError, match="takes the states h and c together, not h"):
        net(x, {"2.h": x.new_zeros(1, 5, 4)})
    with pytest.raises(ValueError, match=r"input must be \(steps, rows, 3\)"):
        net(x[0])
    with pytest.raises(ValueError, match="with a step"):
        net(x[:0])
    with pytest.raises(ValueError, match="windows longer than the 17 steps"):
        Mixed(nn.Conv1d(3, 4, 18)).double()(x)
    with pytest.raises(ValueError, match="between 0 and 17"):
        net(x, lengths=torch.tensor([1, 2, 3, 4, 18]))
