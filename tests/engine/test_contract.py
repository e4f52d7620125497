"""What a cell may be given and give back, and the sentences when it may not."""

import copy
import pickle

import pytest
import torch
from cases import LayerNormLSTM, Masked, SkipRNN
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.errors import InputError


class Broken(ur.Cell):
    state_names = ("h", "c")

    def __init__(self, results):
        super().__init__(3, 4)
        self.results = results

    def step(self, x, h, c):
        return self.results(h, c)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (lambda h, c: h, "Broken.step returned 1 values; it declares 2: h, c"),
        (lambda h, c: (h, c, c), "returned 3 values"),
        (lambda h, c: (h, c[:, :2]), r"state 'c' of shape \(2, 2\); state_sizes makes it \(2, 4\)"),
        (lambda h, c: (h, None), "returned NoneType for 'c'"),
    ],
)
def test_wrong_results(results, words):
    with pytest.raises(RuntimeError, match=words):
        ur.Recurrent(Broken(results))(torch.zeros(5, 2, 3))


@pytest.mark.parametrize(
    ("x", "states", "kwargs", "error", "words"),
    [
        (torch.zeros(5, 2, 4), None, {}, ValueError, "LSTM: input_size is 3, but the input is"),
        (torch.zeros(5, 3), None, {}, ValueError, r"input must be \(steps, rows, 3\)"),
        (torch.zeros(0, 2, 3), None, {}, ValueError, "no steps"),
        (
            torch.zeros(5, 2, 3, dtype=torch.long),
            None,
            {},
            TypeError,
            "floating point, not torch.int64",
        ),
        (
            torch.zeros(5, 2, 3),
            {"h": torch.zeros(1, 3, 4)},
            {},
            ValueError,
            r"'h' must be \(2, 4\).*not \(3, 4\)",
        ),
        (
            torch.zeros(5, 2, 3),
            {"h": torch.zeros(2, 4)},
            {},
            ValueError,
            "layers x directions first",
        ),
        (
            torch.zeros(5, 2, 3),
            {"k": torch.zeros(1, 2, 4)},
            {},
            ValueError,
            "has no state 'k'; its states are h, c",
        ),
        (torch.zeros(5, 2, 3), {"h": torch.zeros(1, 2, 4).double()}, {}, ValueError, "float64"),
        (
            torch.zeros(5, 2, 3),
            None,
            {"lengths": torch.tensor([6, 1])},
            ValueError,
            "between 0 and 5.*1 to 6",
        ),
        (
            torch.zeros(5, 2, 3),
            None,
            {"lengths": torch.tensor([-1, 1])},
            ValueError,
            "from -1 to 1",
        ),
        (torch.zeros(5, 2, 3), None, {"lengths": torch.tensor([1])}, ValueError, "2 integers"),
        (torch.zeros(5, 2, 3), None, {"lengths": torch.tensor([1.0, 2.0])}, ValueError, "integers"),
        (
            torch.zeros(5, 2, 3),
            None,
            {"extras": {"m": torch.zeros(2, 4)}},
            ValueError,
            "takes no further input 'm'",
        ),
    ],
)
def test_wrong_inputs(x, states, kwargs, error, words):
    with pytest.raises(error, match=words):
        ur.Recurrent(cells.LSTM(3, 4))(x, states, **kwargs)


def test_missing_and_misshapen_extras():
    net = ur.Recurrent(Masked(3, 4))
    with pytest.raises(ValueError, match="Masked needs the further input 'mask'"):
        net(torch.zeros(5, 2, 3))
    with pytest.raises(ValueError, match=r"'mask' must be \(5, 2, n\).*not \(3, 4\)"):
        net(torch.zeros(5, 2, 3), extras={"mask": torch.zeros(3, 4)})


def test_delays_reach_before_the_start_as_zeros():
    cell = SkipRNN(3, 4)
    x, h0 = torch.randn(2, 1, 3), torch.randn(1, 1, 4)
    y, states = ur.Recurrent(cell)(x, {"h": h0})
    h1 = (cell.x(x[0]) + cell.near(h0[0])).tanh()
    h2 = (cell.x(x[1]) + cell.near(h1)).tanh()
    torch.testing.assert_close(y, torch.stack([h1, h2]))
    torch.testing.assert_close(states["h.past"][0], torch.stack([h1, h0[0]]))


def test_layers_are_clones_with_their_own_weights():
    net = ur.Recurrent(LayerNormLSTM(65, 16), num_layers=2, bidirectional=True)
    assert [cell.input_size for cell in net.cells] == [65, 65, 32, 32]
    assert len({id(p) for p in net.parameters()}) == 4 * len(list(net.cell.parameters()))
    assert not torch.equal(net.cells[0].x.weight, net.cells[1].x.weight)
    y, states = net(torch.randn(9, 3, 65))
    assert y.shape == (9, 3, 32)
    assert states["c"].shape == (4, 3, 16)


def test_a_cell_that_cannot_be_cloned_says_why():
    class Fixed(ur.Cell):
        def __init__(self):
            super().__init__(3, 4)

        def step(self, x, h):
            return h

    assert ur.Recurrent(Fixed(), 1)(torch.zeros(1, 1, 3))[0].shape == (1, 1, 4)
    with pytest.raises(TypeError, match=r"Fixed.__init__ takes no 'input_size'.*is 4"):
        ur.Recurrent(Fixed(), 2)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_keep_the_constructor(copier):
    net = copier(ur.Recurrent(cells.Elman(3, 4, nonlinearity="relu"), 2))
    assert net.cell.clone(input_size=7).phi is torch.relu


def test_batch_first_and_argument_errors():
    net = ur.Recurrent(cells.GRU(3, 4), batch_first=True)
    x = torch.randn(5, 2, 3)
    y, _ = net(x.transpose(0, 1))
    net.batch_first = False
    torch.testing.assert_close(y.transpose(0, 1), net(x)[0])
    with pytest.raises(ValueError, match="num_layers must be at least 1"):
        ur.Recurrent(cells.GRU(3, 4), 0)
    with pytest.raises(ValueError, match="dropout must lie between"):
        ur.Recurrent(cells.GRU(3, 4), dropout=1.5)
    with pytest.raises(ValueError, match="cannot run step by step"):
        ur.Recurrent(cells.GRU(3, 4), bidirectional=True).step(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope", "no cell 'nope'; give one of rnn, lstm, gru"),
        ("nope.py:Cell", "no file nope.py"),
        ("no_such_module:Cell", "loading no_such_module failed"),
        ("cases:Missing", "cases has no class 'Missing'"),
        ("cases:CASES", "not a subclass of unrolled.Cell"),
    ],
)
def test_names_that_are_no_cell(name, words):
    with pytest.raises(InputError, match=words):
        cells.resolve(name)


def test_a_cell_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    source = "import unrolled as ur\nclass Mine(ur.Cell):\n    def step(self, x, h):\n        return h + 1\n"
    path.write_text(source)
    first = cells.resolve(f"{path}:Mine")
    mark = cells.fingerprint(first)
    y, _ = ur.Recurrent(first(3, 4))(torch.zeros(2, 1, 3))
    assert y[:, 0, 0].tolist() == [1, 2]
    path.write_text(source.replace("h + 1", "h + 1  # a comment"))
    assert cells.fingerprint(cells.resolve(f"{path}:Mine")) == mark
    path.write_text(source.replace("h + 1", "h + 2"))
    assert cells.fingerprint(cells.resolve(f"{path}:Mine")) != mark
    path.write_text("class Mine(:\n")
    with pytest.raises(InputError, match="line 1: SyntaxError"):
        cells.resolve(f"{path}:Mine")


def test_gates_cost_nothing_unless_asked_for():
    cell = cells.LSTM(3, 4)
    value = torch.ones(2, 4)
    assert cell.gate("i", value) is value
    assert isinstance(cell, nn.Module)
    _, _, history = ur.Recurrent(cell)(torch.zeros(5, 2, 3), return_states=True)
    assert set(history) == {"h", "c", "i", "f", "g", "o"}
    assert history["i"].shape == (1, 5, 2, 4)
