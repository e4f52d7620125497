"""Our RNN, LSTM and GRU give what torch.nn's give: outputs, states and every gradient."""

import pytest
import torch
from peers import GRID, gradients, pair, parts, states_for
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unrolled as ur
from unrolled.engine import native
from unrolled.engine.packing import Packed
from unrolled.engine.randomness import counter

pytestmark = pytest.mark.usefixtures("engine")
STEPS, BATCH, INPUTS, HIDDEN = 5, 4, 3, 4


def options(layers, both, first, bias, proj):
    given = {"num_layers": layers, "bidirectional": both, "batch_first": first, "bias": bias}
    return given | ({"proj_size": proj} if proj else {})


def the_same(ours, theirs, tolerance=1e-12):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def compare(theirs, ours, x, states=None, tolerance=1e-12):
    """Compare results and gradients, the gradients to input and states among them."""
    given = states if isinstance(states, tuple) else () if states is None else (states,)
    outcomes = []
    for layer in (theirs, ours):
        results = parts(layer(x) if states is None else layer(x, states))
        source = x.data if isinstance(x, nn.utils.rnn.PackedSequence) else x
        wanted = [source, *given, *layer.parameters()]
        outcomes.append((results, gradients(results, wanted)))
    for a, b in zip(*outcomes, strict=True):
        the_same(b, a, tolerance)


@pytest.mark.parametrize(("kind", "layers", "both", "first", "bias", "proj"), GRID)
def test_values_and_gradients(kind, layers, both, first, bias, proj):
    theirs, ours = pair(kind, INPUTS, HIDDEN, **options(layers, both, first, bias, proj))
    shape = (BATCH, STEPS, INPUTS) if first else (STEPS, BATCH, INPUTS)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    compare(theirs, ours, x)
    compare(theirs, ours, x, states_for(theirs, BATCH, requires_grad=True))


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize(("kind", "layers", "both", "first", "bias", "proj"), GRID[1::3])
def test_packed(kind, layers, both, first, bias, proj, sort):
    theirs, ours = pair(kind, INPUTS, HIDDEN, **options(layers, both, first, bias, proj))
    lengths = torch.tensor([5, 3, 3, 1] if sort else [3, 5, 1, 3])
    padded = torch.randn(BATCH, STEPS, INPUTS, dtype=torch.float64, requires_grad=True)
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=sort)
    compare(theirs, ours, packed)
    compare(theirs, ours, packed, states_for(theirs, BATCH, requires_grad=True))
    y, expected = ours(packed)[0], theirs(packed)[0]
    for ours_now, theirs_now in zip(y[1:], expected[1:], strict=True):
        assert (ours_now is None) == (theirs_now is None)
        assert ours_now is None or torch.equal(ours_now, theirs_now)


@pytest.mark.skipif(not native.available(), reason="the core is not built")
def test_packed_rows_are_never_padded(kind, monkeypatch):
    _, ours = pair(kind, INPUTS, HIDDEN, 2, bidirectional=True, dropout=0.5)
    padded = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64)
    packed = pack_padded_sequence(padded, torch.tensor([3, 5, 1, 3]), enforce_sorted=False)
    expected = ours.eval()(packed)[0].data

    def refuse(*_):
        raise AssertionError("rows were padded")

    monkeypatch.setattr(Packed, "pad", refuse)
    with ur.engine("native"):
        torch.testing.assert_close(ours(packed)[0].data, expected)
        with pytest.raises(AssertionError, match="padded"):  # dropout draws for each row and step
            ours.train()(packed)


@pytest.mark.parametrize("first", [False, True])
def test_lengths_are_packing_without_the_packing(kind, first):
    theirs, ours = pair(kind, INPUTS, HIDDEN, 2, bidirectional=True, batch_first=first)
    lengths = torch.tensor([3, 5, 1, 3])
    x = torch.randn(BATCH, STEPS, INPUTS, dtype=torch.float64)
    x = x if first else x.transpose(0, 1)
    packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
    states = states_for(theirs, BATCH)
    y, *last = parts(theirs(packed, states))
    y, _ = pad_packed_sequence(theirs(packed, states)[0], batch_first=first, total_length=STEPS)
    the_same(parts(ours(x, states, lengths=lengths)), [y, *last])


def test_rows_of_length_zero_keep_their_state(kind):
    _, ours = pair(kind, INPUTS, HIDDEN)
    x, states = torch.randn(STEPS, 2, INPUTS, dtype=torch.float64), states_for(ours, 2)
    y, *last = parts(ours(x, states, lengths=torch.tensor([0, 2])))
    assert not y[:, 0].any()
    first = states if isinstance(states, tuple) else (states,)
    the_same([state[:, 0] for state in last], [state[:, 0] for state in first])


@pytest.mark.parametrize("lengths", [None, [0, 0]])
def test_gradients_exist_even_of_nothing(kind, lengths):
    theirs, ours = pair(kind, INPUTS, HIDDEN, 2)
    batch = 0 if lengths is None else 2
    x = torch.randn(STEPS, batch, INPUTS, dtype=torch.float64, requires_grad=True)
    if lengths is None:
        compare(theirs, ours, x)
    else:
        results = parts(ours(x, lengths=torch.tensor(lengths)))
        for gradient in gradients(results, [x, *ours.parameters()]):
            assert not gradient.any()


@pytest.mark.parametrize("first", [False, True])
def test_a_row_alone(kind, first):
    theirs, ours = pair(kind, INPUTS, HIDDEN, 2, bidirectional=True, batch_first=first)
    x = torch.randn(STEPS, INPUTS, dtype=torch.float64, requires_grad=True)
    compare(theirs, ours, x)
    compare(theirs, ours, x, states_for(theirs, requires_grad=True))


def test_one_step_and_inputs_that_are_not_contiguous(kind):
    theirs, ours = pair(kind, INPUTS, HIDDEN, 2)
    compare(theirs, ours, torch.randn(1, BATCH, INPUTS, dtype=torch.float64, requires_grad=True))
    wide = torch.randn(INPUTS, STEPS, 2 * BATCH, dtype=torch.float64, requires_grad=True)
    x = wide.permute(1, 2, 0)[:, ::2]
    assert not x.is_contiguous()
    compare(theirs, ours, x)
    still = torch.randn(1, 1, INPUTS, dtype=torch.float64).expand(STEPS, BATCH, INPUTS)
    the_same(parts(ours(still)), parts(theirs(still)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_other_dtypes(kind, dtype, tolerance):
    theirs, ours = pair(kind, INPUTS, HIDDEN, 2, dtype=dtype)
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=dtype)
    for a, b in zip(parts(ours(x)), parts(theirs(x)), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_relu_and_positional_arguments():
    theirs, ours = (
        home.RNN(INPUTS, HIDDEN, 2, "relu", True, False, 0.0, True).double() for home in (nn, ur)
    )
    ours.load_state_dict(theirs.state_dict())
    compare(
        theirs, ours, torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_gives_the_input_dtype(kind, dtype):
    layer = getattr(ur, kind)(INPUTS, HIDDEN, 2)
    x = torch.randn(STEPS, BATCH, INPUTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = parts(layer(x.to(dtype), states := states_for(layer, BATCH)))
        sum(result.float().sum() for result in results).backward()
    for a, b in zip(results, parts(layer(x, states)), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=0, atol=0.03)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_frozen_parameters_get_no_gradient(kind):
    theirs, ours = pair(kind, INPUTS, HIDDEN, 2)
    for layer in (theirs, ours):
        layer.weight_hh_l0.requires_grad_(False)
        layer.bias_ih_l1.requires_grad_(False)
        sum(
            part.square().sum() for part in parts(layer(torch.ones(STEPS, BATCH, INPUTS).double()))
        ).backward()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=0, atol=1e-12)
    for parameter in ours.parameters():
        parameter.requires_grad_(False)
    assert not ours(torch.ones(STEPS, BATCH, INPUTS).double())[0].requires_grad


def test_dropout(kind):
    layer = getattr(ur, kind)(INPUTS, 16, 2, dropout=0.5)
    x = torch.randn(STEPS, 6, INPUTS)
    torch.manual_seed(1)
    first = layer(x)[0]
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x)[0], first, rtol=0, atol=0)
    assert not torch.equal(layer(x)[0], first)
    with counter(seed=3, step=2):
        whole = layer(x)[0]
    with counter(seed=3, step=2, first_row=4):
        torch.testing.assert_close(layer(x[:, 4:])[0], whole[:, 4:])
    lengths = torch.tensor([2, 5, 1, 5, 3, 4])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    with counter(seed=3, step=2):
        torch.testing.assert_close(
            pad_packed_sequence(layer(packed)[0])[0], layer(x, lengths=lengths)[0]
        )
    layer.eval()
    torch.testing.assert_close(layer(x)[0], layer(x)[0], rtol=0, atol=0)
    theirs = getattr(nn, kind)(INPUTS, 16, 2, dropout=1.0)
    ours = getattr(ur, kind)(INPUTS, 16, 2, dropout=1.0)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(name, bias):
    theirs, ours = pair(name, INPUTS, HIDDEN, bias=bias)
    assert repr(theirs) == repr(ours)
    for rows in ((), (BATCH,)):
        x = torch.randn(*rows, INPUTS, dtype=torch.float64, requires_grad=True)
        state = torch.randn(2, *rows, HIDDEN, dtype=torch.float64, requires_grad=True)
        for given in ((), (tuple(state) if name == "LSTMCell" else state[0],)):
            outcomes = []
            for cell in (theirs, ours):
                result = cell(x, *given)
                results = [*result] if name == "LSTMCell" else [result]
                wanted = [x, *cell.parameters()] + ([state] if given else [])
                outcomes.append((results, gradients(results, wanted)))
            for a, b in zip(*outcomes, strict=True):
                the_same(b, a)


def test_a_cell_of_torch_is_a_cell_of_ours():
    cell = ur.LSTMCell(INPUTS, HIDDEN, proj_size=2).double()
    net = ur.Recurrent(cell, 2, bidirectional=True)
    theirs = nn.LSTM(INPUTS, HIDDEN, 2, bidirectional=True, proj_size=2).double()
    for place, one in enumerate(net.cells):
        suffix = f"_l{place // 2}" + ("_reverse" if place % 2 else "")
        for role, parameter in one.named_parameters():
            parameter.data = getattr(theirs, role + suffix).data
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64)
    y, states = net(x)
    the_same([y, states["h"], states["c"]], parts(theirs(x)))
