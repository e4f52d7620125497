"""How layers stand upon one another: connections, dropout between them, learned initial states."""

import pytest
import torch

import unrolled as ur
from unrolled import cells
from unrolled.engine import randomness


def make(**options):
    torch.manual_seed(0)
    return ur.Recurrent(cells.GRU(3, 4), num_layers=3, **options).double()


def layers(net, x):
    """The outputs of each layer's cells on an input, run alone."""

    def layer(number, x):
        return ur.Recurrent(net.cells[number])(x)[0]

    return layer


@pytest.fixture
def x():
    return torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_residual(x):
    net = make(connection="residual")
    run = layers(net, x)
    a = run(0, x)
    b = a + run(1, a)
    torch.testing.assert_close(net(x)[0], b + run(2, b))


def test_highway(x):
    net = make(connection="highway")
    run = layers(net, x)
    y = run(0, x)
    for number, carry in enumerate(net.carry, 1):
        assert (carry.weigh.bias == -1).all()
        g = torch.sigmoid(carry.weigh(y))
        y = g * run(number, y) + (1 - g) * y
    torch.testing.assert_close(net(x)[0], y)


def test_dense(x):
    net = make(connection="dense")
    assert [cell.input_size for cell in net.cells] == [3, 7, 11]
    run = layers(net, x)
    a = run(0, x)
    b = run(1, torch.cat([x, a], -1))
    torch.testing.assert_close(net(x)[0], run(2, torch.cat([x, a, b], -1)))


@pytest.mark.parametrize("connection", ["plain", "residual", "highway", "dense"])
def test_a_row_alone_equals_the_row_in_a_batch(connection):
    net = make(connection=connection, bidirectional=True)
    x = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 6, 0, 1])
    given = torch.where(torch.arange(6)[:, None, None] < lengths[:, None], x, torch.nan)
    y, states = net(given, lengths=lengths)
    weights = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    for row, length in enumerate(lengths.tolist()):
        if not length:
            assert (gradient[:, row] == 0).all()
            continue
        alone = x[:length, row : row + 1]
        y_alone, states_alone = net(alone)
        assert torch.equal(y_alone[:, 0], y[:length, row])
        assert torch.equal(states_alone["h"][:, 0], states["h"][:, row])
        loss = (y_alone[:, 0] * weights[:length, row]).sum()
        (own,) = torch.autograd.grad(loss, x)
        assert torch.equal(own[:, row], gradient[:, row])


def test_learned_initial_states(x):
    net = ur.Recurrent(cells.LSTM(3, 4), num_layers=2, learned_states=True).double()
    assert {n: tuple(p.shape) for n, p in net.initial.items()} == {"h": (2, 4), "c": (2, 4)}
    plain = ur.Recurrent(net.cells[0]).double()
    torch.testing.assert_close(net(x)[0].shape, (5, 2, 4))
    with torch.no_grad():
        for state in net.initial.values():
            state.normal_()
    states = {n: p[0].expand(1, 2, 4) for n, p in net.initial.items()}
    below, _ = plain(x, states)
    upper = ur.Recurrent(net.cells[1]).double()
    wanted, _ = upper(below, {n: p[1].expand(1, 2, 4) for n, p in net.initial.items()})
    y, _ = net(x)
    torch.testing.assert_close(y, wanted)
    y.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.initial.values())
    given = {"h": torch.zeros(2, 2, 4, dtype=torch.float64)}
    changed, _ = net(x, given)
    assert not torch.equal(changed, y)


def test_fixed_dropout_drops_the_same_at_all_steps():
    net = ur.Recurrent(cells.GRU(3, 50), num_layers=2, dropout=0.5, fixed_dropout=True)
    seen = []
    net.cells[1].noise = lambda x, layer: (seen.append(x), ({}, {}))[1]
    net(torch.randn(6, 4, 3))
    dropped = seen[0] == 0
    assert (dropped == dropped[0]).all()
    assert 0.3 < float(dropped.float().mean()) < 0.7
    assert not torch.equal(dropped[0, 0], dropped[0, 1])


def test_dropout_leaves_the_way_past_a_layer_alone(x):
    net = make(connection="residual", dropout=0.5)
    net.cells[2].noise = net.cells[1].noise
    with randomness.counter(0), torch.no_grad():
        for parameter in [*net.cells[1].parameters(), *net.cells[2].parameters()]:
            parameter.zero_()
        torch.testing.assert_close(net(x)[0], ur.Recurrent(net.cells[0])(x)[0])


def test_an_unknown_connection():
    with pytest.raises(ValueError, match="connection must be one of plain, residual"):
        ur.Recurrent(cells.GRU(3, 4), connection="sparse")


def test_both_directions_of_a_convolutional_cell_lie_side_by_side():
    net = ur.Recurrent(cells.ConvLSTM(2, 3, (5,)), num_layers=2, bidirectional=True)
    y, states = net(torch.randn(4, 2, 2, 5))
    assert y.shape == (4, 2, 6, 5)
    assert states["c"].shape == (4, 2, 3, 5)


def test_a_cell_without_parameters_keeps_its_dtype():
    net = ur.Recurrent(cells.EchoState(3, 10).double(), num_layers=2, bidirectional=True)
    assert {t.dtype for t in net.buffers()} == {torch.float64}
    assert ur.explain(net.cell).engine == "native"


@pytest.mark.parametrize("kind", [cells.ConvLSTM, cells.ConvGRU])
def test_the_convolution_of_the_input_is_computed_once_for_all_steps(kind):
    cell = kind(2, 3, (5,)).double()
    x = torch.randn(4, 3, 2, 5, dtype=torch.float64)
    x[2:, 0] = torch.nan
    calls = []
    cell.x.register_forward_hook(lambda module, given, result: calls.append(len(result)))
    y, _ = ur.Recurrent(cell)(x, lengths=torch.tensor([2, 4, 4]))
    assert calls == [12]
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in cell.parameters() if p.grad is not None)
    states = [torch.zeros(3, 3, 5, dtype=torch.float64)] * len(cell.state_names)
    for t in range(2):
        new = cell.step(x[t], *states)
        states = [*new] if isinstance(new, tuple) else [new]
        torch.testing.assert_close(y[t], states[0])


def test_nets_of_a_model_draw_from_streams_of_their_own():
    members = [ur.Recurrent(cells.GRU(50, 50), 2, dropout=0.5) for _ in range(2)]
    stack = ur.Mixed(*members, ur.GRU(50, 50, 2, dropout=0.5))
    assert len({member.stream for member in stack.members}) == 3
    seen = []
    for net in members:
        net.cells[1].noise = lambda x, layer: (seen.append(x == 0), ({}, {}))[1]
    with randomness.counter(0, 1):
        stack(torch.randn(3, 2, 50))
    assert 0.3 < float((seen[0] == seen[1]).float().mean()) < 0.7
