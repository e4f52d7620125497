"""What is wrong with an input, a state, a weight or a step is said alike by both engines; nothing crashes."""

import pytest
import torch
from test_native import needs_core
from torch import nn

import unrolled as ur
from unrolled import cells
from unrolled.engine import reference
from unrolled.engine.choose import run

ENGINES = [
    pytest.param(run, marks=needs_core, id="native"),
    pytest.param(reference.run, id="reference"),
]
engines = pytest.mark.parametrize("engine", ENGINES)


class Plain(ur.Cell):
    """Whose step is given, else an ordinary one."""

    state_names = ("h", "c")

    def __init__(self, results=None):
        super().__init__(3, 4)
        self.results = results
        self.x, self.h = nn.Linear(3, 4), nn.Linear(4, 4)

    def step(self, x, h, c):
        if self.results is not None:
            return self.results(self, x, h, c)
        h = (self.x(x) + self.h(h)).tanh()
        return h, c + h


class Extra(ur.Cell):
    """Multiplies what it keeps by a mask."""

    extra_names = ("mask",)

    def step(self, x, h, mask):
        return h * mask + x


def good(*shape):
    return torch.zeros(*(shape or (5, 2, 3)))


WRONG = {
    "no tensor": ([[1.0]], {}, TypeError, "Plain: input must be a tensor, not list"),
    "two dimensions": (good(5, 3), {}, ValueError, r"Plain: input must be .* not \(5, 3\)"),
    "four dimensions": (good(5, 2, 3, 1), {}, ValueError, r"must be .* not \(5, 2, 3, 1\)"),
    "no steps": (good(0, 2, 3), {}, ValueError, r"no steps; its shape is \(0, 2, 3\)"),
    "integers": (good().long(), {}, TypeError, "floating point, not torch.int64"),
    "width": (good(5, 2, 4), {}, ValueError, r"input_size is 3, but the input is \(5, 2, 4\)"),
    "double": (good().double(), {}, RuntimeError, "Plain: parameter 'x.weight' is torch.float32"),
    "half": (good().half(), {}, RuntimeError, "parameter 'x.weight' .* input is torch.float16"),
    "meta": (good().to("meta"), {}, RuntimeError, "'x.weight' is on cpu, but the input is on meta"),
    "states without names": (good(), {"states": good(2, 4)}, TypeError, "given by name"),
    "a list as a state": (
        good(),
        {"states": {"h": [0]}},
        TypeError,
        r"Plain: state 'h' must be a tensor of \(2, 4\), not list",
    ),
    "a state's shape": (
        good(),
        {"states": {"c": good(1, 2, 4)}},
        ValueError,
        r"Plain: state 'c' must be \(2, 4\) for this input, not \(1, 2, 4\)",
    ),
    "a state's device": (
        good(),
        {"states": {"h": good(2, 4).to("meta")}},
        ValueError,
        "Plain: state 'h' is torch.float32 on meta, but",
    ),
    "a state's dtype": (
        good(),
        {"states": {"h": good(2, 4).int()}},
        ValueError,
        "'h' is torch.int32",
    ),
}


@engines
@pytest.mark.parametrize("name", WRONG)
def test_wrong_inputs(name, engine):
    x, call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        engine(Plain(), x, **call)


STEPS = {
    "one": (lambda self, x, h, c: h, "Plain.step returned 1 values; it declares 2: h, c"),
    "three": (lambda self, x, h, c: (h, c, c), "returned 3 values; it declares 2: h, c"),
    "narrow": (
        lambda self, x, h, c: (h, c[:, :1]),
        r"state 'c' of shape \(2, 1\); state_sizes makes it \(2, 4\)",
    ),
    "a row": (lambda self, x, h, c: (h, c[0]), r"state 'c' of shape \(4,\)"),
    "nothing": (lambda self, x, h, c: (h, None), "returned NoneType for 'c', not a tensor"),
}


@engines
@pytest.mark.parametrize("name", STEPS)
def test_wrong_results(name, engine):
    results, words = STEPS[name]
    with pytest.raises(RuntimeError, match=words):
        engine(Plain(results), good())


@engines
def test_weights_unlike_the_input(engine):
    cell = Plain()
    cell.h.double()
    with pytest.raises(
        RuntimeError, match=r"Plain: parameter 'h.weight' is torch.float64, but the"
    ):
        engine(cell, good())
    with pytest.raises(
        RuntimeError, match=r"Plain: parameter 'x.weight' is on meta, but the input"
    ):
        engine(Plain().to("meta"), good())


@engines
def test_what_step_was_given_stands_beside_its_own_error(engine):
    cell = Plain(lambda self, x, h, c: (self.h(x), c))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        engine(cell, good())
    assert caught.value.__notes__ == ["Plain.step was given x (2, 3), h (2, 4), c (2, 4)"]


@needs_core
def test_weights_of_another_shape_are_not_read():
    cell = cells.LSTM(3, 4)
    run(cell, good())
    wrong = {name: torch.zeros(2, 2) for name, _ in cell.named_parameters()}
    with pytest.raises(ValueError, match=r"LSTM: 'x.weight' must be \(16, 3\), not \(2, 2\)"):
        run(cell, good(), parameters=wrong)


@needs_core
@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.bool, torch.Tensor.long])
def test_further_inputs_of_another_dtype(change):
    cell, x, mask = Extra(3, 3), torch.randn(5, 2, 3), change(torch.ones(5, 2, 3))
    found = run(cell, x, extras={"mask": mask}).y
    torch.testing.assert_close(found, reference.run(cell, x, extras={"mask": mask}).y)


@engines
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_states_that_are_no_numbers_go_through(engine, value):
    cell, x = cells.LSTM(3, 4), torch.randn(5, 2, 3)
    start = {"h": torch.zeros(2, 4), "c": torch.full((2, 4), value)}
    start["c"][1] = 0
    outputs = engine(cell, x, start)
    assert not outputs.states["c"][0].isfinite().any()
    torch.testing.assert_close(outputs.y[:, 1], engine(cell, x).y[:, 1])
