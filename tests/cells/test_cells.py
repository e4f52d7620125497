"""Every cell of the table, by the same checks: values, gradients, lengths, directions, steps."""

import pytest
import torch
from cases import CASES, CONVOLUTIONAL, PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st

import unrolled as ur
from unrolled.engine import run

STEPS, BATCH, INPUTS, HIDDEN = 6, 4, 3, 4


def _input(steps=STEPS, batch=BATCH, grid=()):
    return torch.randn(
        steps, batch, INPUTS, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )


def _row(states, name, row):
    return states[name].narrow(2 if name.endswith(".past") else 1, row, 1)


def _rows(extras, rows):
    return {k: v[:, rows] if v.dim() == 3 else v[rows] for k, v in extras.items()}


@pytest.fixture(params=[*CASES, *CONVOLUTIONAL], ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def flat(request):
    """Without the convolutional cells."""
    return request.param


def test_a_row_alone_equals_the_row_in_a_batch(case):
    net = ur.Recurrent(case.build(), num_layers=1)
    x, extras = _input(grid=case.grid), case.extras(STEPS, BATCH, HIDDEN)
    y, states = net(x, extras=extras)
    for row in range(BATCH):
        rows = slice(row, row + 1)
        alone, alone_states = net(x[:, rows], extras=_rows(extras, rows))
        torch.testing.assert_close(alone, y[:, rows], rtol=0, atol=1e-14)
        for name, state in alone_states.items():
            torch.testing.assert_close(state, _row(states, name, row), rtol=0, atol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_padded_row_equals_the_row_cut_at_its_length(case, reverse):
    net = ur.Recurrent(case.build(), bidirectional=reverse)
    x, extras = _input(grid=case.grid), case.extras(STEPS, BATCH, HIDDEN)
    lengths = torch.tensor([4, 6, 0, 1])
    x[torch.arange(STEPS)[:, None] >= lengths] = float("nan")
    x.requires_grad_()
    y, states = net(x, lengths=lengths, extras=extras)
    assert y.isfinite().all()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    for row, length in enumerate(lengths.tolist()):
        assert (y[length:, row] == 0).all()
        rows = slice(row, row + 1)
        if length:
            cut = {k: v[:length] if v.dim() == 3 else v for k, v in _rows(extras, rows).items()}
            alone, alone_states = net(x[:length, rows], extras=cut)
            torch.testing.assert_close(y[:length, rows], alone, rtol=0, atol=1e-14)
            for name, state in alone_states.items():
                torch.testing.assert_close(_row(states, name, row), state, rtol=0, atol=1e-14)
        else:
            assert all((_row(states, name, row) == 0).all() for name in states)


def test_step_by_step_equals_the_sequence(case):
    net = ur.Recurrent(case.build())
    x, extras = _input(grid=case.grid), case.extras(STEPS, BATCH, HIDDEN)
    y, last = net(x, extras=extras)
    states = None
    for t in range(STEPS):
        now = {k: v[t] if v.dim() == 3 else v for k, v in extras.items()}
        if "t" in net.cell.extra_names:
            now["t"] = torch.full((BATCH, 1), float(t), dtype=torch.float64)
        y_t, states = net.step(x[t], states, **now)
        torch.testing.assert_close(y_t, y[t], rtol=0, atol=1e-14)
    assert states is not None
    for name, state in last.items():
        torch.testing.assert_close(states[name], state, rtol=0, atol=1e-14)


def test_two_windows_with_the_state_carried_equal_one(case):
    net = ur.Recurrent(case.build(), num_layers=1)
    x, extras = _input(grid=case.grid), case.extras(STEPS, BATCH, HIDDEN)
    if "t" in net.cell.extra_names:
        extras["t"] = torch.arange(STEPS, dtype=x.dtype).view(-1, 1, 1).expand(-1, BATCH, 1)
    y, last = net(x, extras=extras)

    def part(start, stop):
        return {k: v[start:stop] if v.dim() == 3 else v for k, v in extras.items()}

    for cut in (1, 2, 5):
        first, states = net(x[:cut], extras=part(0, cut))
        second, states = net(x[cut:], states, extras=part(cut, STEPS))
        torch.testing.assert_close(torch.cat([first, second]), y, rtol=0, atol=1e-14)
        for name, state in last.items():
            torch.testing.assert_close(states[name], state, rtol=0, atol=1e-14)


def test_the_second_direction_is_a_flipped_run(flat):
    both = ur.Recurrent(flat.build(), bidirectional=True)
    x, extras = _input(), flat.extras(STEPS, BATCH, HIDDEN)
    if "t" in both.cell.extra_names:
        extras["t"] = torch.rand(STEPS, BATCH, 1, dtype=x.dtype)
    y, states = both(x, extras=extras)
    flipped = {k: v.flip(0) if v.dim() == 3 else v for k, v in extras.items()}
    back, back_states = ur.Recurrent(both.cells[1])(x.flip(0), extras=flipped)
    torch.testing.assert_close(y[..., both.cell.output_size :], back.flip(0), rtol=0, atol=0)
    for name, state in back_states.items():
        torch.testing.assert_close(states[name][1:], state, rtol=0, atol=0)


@pytest.mark.parametrize("case", CONVOLUTIONAL, ids=lambda case: case.name)
def test_a_convolutional_cell_backwards_is_a_flipped_run(case):
    cell, x = case.build(), _input(grid=case.grid)
    back, forth = run(cell, x, reverse=True), run(cell, x.flip(0))
    torch.testing.assert_close(back.y, forth.y.flip(0), rtol=0, atol=0)
    assert all((state == forth.states[name]).all() for name, state in back.states.items())


def test_gradients_by_finite_differences(case):
    net = ur.Recurrent(case.build(INPUTS, 3), num_layers=1)
    x = _input(4, 2, case.grid).requires_grad_()
    extras = case.extras(4, 2, 3)
    names = [name for name, _ in net.named_parameters()]

    def run(x, *parameters):
        call = {"lengths": torch.tensor([4, 2]), "extras": extras}
        y, states = torch.func.functional_call(
            net, dict(zip(names, parameters, strict=True)), (x,), call
        )
        return y, *states.values()

    # Along random directions for the many weights of kernels.
    inputs = (x, *net.parameters())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=bool(case.grid))


def test_history_holds_states_outputs_and_gates(flat):
    net = ur.Recurrent(flat.build(), bidirectional=True)
    x, extras = _input(), flat.extras(STEPS, BATCH, HIDDEN)
    y, states, history = net(x, extras=extras, return_states=True)
    plain, _ = net(x, extras=extras)
    torch.testing.assert_close(y, plain, rtol=0, atol=0)
    first = (net.cell.output_names or net.cell.state_names)[0]
    torch.testing.assert_close(torch.cat([*history[first]], -1), y, rtol=0, atol=0)
    for name in net.cell.state_names:
        torch.testing.assert_close(history[name][0, -1], states[name][0], rtol=0, atol=0)
        torch.testing.assert_close(history[name][1, 0], states[name][1], rtol=0, atol=0)


@settings(max_examples=60)
@given(
    steps=st.integers(1, 7),
    batch=st.integers(0, 5),
    layers=st.integers(1, 3),
    both=st.booleans(),
    case=st.sampled_from(PLAIN),
)
def test_shapes(steps, batch, layers, both, case):
    cell = case.build()
    net = ur.Recurrent(cell, layers, bidirectional=both)
    y, states = net(_input(steps, batch))
    places = layers * (1 + both)
    assert y.shape == (steps, batch, (1 + both) * cell.output_size)
    for name, width in cell.state_sizes.items():
        assert states[name].shape == (places, batch, width)
