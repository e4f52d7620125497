"""Programs, run by a few lines of torch, against the reference engine and autograd."""

import pytest
import torch
from cases import UNDELAYED
from test_graph import FORMULAS, Formula, GateByGate

import unrolled as ur
from unrolled import cells
from unrolled.engine import run
from unrolled.engine.compile import Program, build
from unrolled.engine.interpret import ATEN, COMPARISONS
from unrolled.engine.program import Gather, Kernel, Product, Ref, Temp
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace

OPS = ATEN | {
    "copy": lambda a: a,
    **{name: lambda a, b, f=f: f(a, b).double() for name, f in COMPARISONS.items()},
}


class Machine:
    """Runs a program on equal lengths, in float64; NaN marks what was never written."""

    def __init__(self, program: Program, steps: int, batch: int) -> None:
        self.program, self.steps, self.batch = program, steps, batch
        count = {
            "rows": steps * batch,
            "scratch": steps * batch,
            "batch": batch,
            "once": 1,
            "previous": 0,
        }
        self.arrays = [
            torch.full((count[a.kind], a.width), float("nan"), dtype=torch.float64)
            for a in program.memory.arrays
        ]
        self.initial = {}

    def section(self, name: str) -> None:
        for instruction in self.program.sections[name]:
            self.execute(instruction, slice(None), None)

    def loop(self, name: str, reverse: bool) -> None:
        for t in reversed(range(self.steps)) if reverse else range(self.steps):
            for instruction in self.program.sections[name]:
                self.execute(instruction, slice(t * self.batch, (t + 1) * self.batch), t)

    def rows(self, index: int, block: slice, t: int | None) -> torch.Tensor:
        array = self.program.memory.arrays[index]
        if array.kind == "previous":
            name = next(k for (k, _), v in self.program.previous.items() if v == index)
            states = torch.cat([self.initial[name], self.arrays[self.program.states[name]]])
            return states[: -self.batch][block]
        if array.kind == "batch":
            return self.arrays[index]
        if array.kind == "once":
            return self.arrays[index]
        return self.arrays[index][block]

    def read(self, operand, width, block, t, temps):
        if isinstance(operand, Temp):
            return temps[operand]
        if isinstance(operand, Ref):
            width = 1 if operand.spread else width
            return self.rows(operand.array, block, t)[:, operand.column : operand.column + width]
        return torch.tensor(operand, dtype=torch.float64)

    def execute(self, i, block, t) -> None:
        if isinstance(i, Kernel):
            temps = {}
            for op in i.ops:
                value = OPS[op.name](*(self.read(a, i.width, block, t, temps) for a in op.inputs))
                if isinstance(op.out, Temp):
                    temps[op.out] = value
                else:
                    out = self.rows(op.out.array, block, t)
                    out[:, op.out.column : op.out.column + i.width] = value
        elif isinstance(i, Gather):
            a = self.read(i.a, i.width, block, t, {})
            b = (
                torch.ones(a.shape[0], 1).double()
                if i.b is None
                else self.read(i.b, i.b_width, block, t, {})
            )
            out = self.arrays[i.out.array][0]
            for row, values in enumerate(a.T @ b):
                start = i.out.column + row * (i.stride if i.b is not None else 1)
                out[start : start + len(values)] += values
        elif isinstance(i, Product):
            a = self.read(i.a, i.k, block, t, {})
            shape = (i.n, i.k) if i.transposed else (i.k, i.n)
            weight = self.arrays[i.weight][0].as_strided(shape, (i.stride, 1), i.offset)
            value = a @ (weight.T if i.transposed else weight)
            value = value if i.bias is None else value + self.read(i.bias, i.n, block, t, {})
            self.rows(i.out.array, block, t)[:, i.out.column : i.out.column + i.n] = value
        else:
            a = self.read(i.a, i.width, block, t, {})
            value = getattr(torch, i.name)(a, -1, keepdim=True)
            self.rows(i.out.array, block, t)[:, i.out.column : i.out.column + 1] = value


def check(cell: ur.Cell, extras: dict[str, torch.Tensor] | None = None) -> None:
    """Compare all results and gradients over four steps."""
    steps, batch = 4, 3
    extras = extras or {}
    x = torch.randn(steps, batch, cell.input_size, dtype=torch.float64, requires_grad=True)
    states = {
        name: torch.randn(batch, width, dtype=torch.float64, requires_grad=True)
        for name, width in cell.state_sizes.items()
    }
    expected = run(cell, x, states, extras=extras)
    step = rewrite(trace(cell, {k: v.shape[2] for k, v in extras.items()}, torch.float64))
    once = step.constants(cell)
    result = (cell.output_names or cell.state_names)[0]
    program = build(step, [result], differentiate=True)
    machine = Machine(program, steps, batch)
    given = {"x": x, **extras}
    for name, index in program.inputs.items():
        machine.arrays[index] = given[name].detach().reshape(steps * batch, -1)
    for leaf, index in program.once.items():
        machine.arrays[index] = once[leaf].detach().reshape(1, -1).clone()
    machine.initial = {name: state.detach() for name, state in states.items()}
    machine.section("before")
    machine.loop("loop", reverse=False)
    machine.section("after")

    def close(found, wanted):
        torch.testing.assert_close(found.reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-7)

    close(machine.arrays[program.results[result]], expected.y.detach())
    for name, index in program.states.items():
        close(machine.arrays[index][-batch:], expected.states[name].detach())
    weights = torch.randn_like(expected.y)
    last = {name: torch.randn_like(state) for name, state in expected.states.items()}
    loss = (expected.y * weights).sum() + sum(
        (expected.states[k] * w).sum() for k, w in last.items()
    )
    for index in program.grads.values():
        machine.arrays[index] = weights.reshape(steps * batch, -1)
    for name, index in program.carried.items():
        machine.arrays[index] = last[name].clone()
    for index in program.once_gradients.values():
        machine.arrays[index].zero_()
    machine.section("back_before")
    machine.loop("back_loop", reverse=True)
    machine.section("back_after")
    named = dict(cell.named_parameters())
    wanted = torch.autograd.grad(loss, [x, *states.values(), *named.values()], allow_unused=True)
    close(machine.arrays[program.input_gradients["x"]], wanted[0])
    for name, gradient in zip(states, wanted[1:], strict=False):
        close(machine.arrays[program.carried[name]], gradient)
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    for leaf, index in program.once_gradients.items():
        if not once[leaf].requires_grad:
            continue
        share = machine.arrays[index].reshape(once[leaf].shape)
        inputs = list(named.values())
        grads = torch.autograd.grad(once[leaf], inputs, share, allow_unused=True, retain_graph=True)
        for name, gradient in zip(named, grads, strict=True):
            total[name] += 0 if gradient is None else gradient
    for name, gradient in zip(named, wanted[1 + len(states) :], strict=True):
        close(total[name], torch.zeros_like(total[name]) if gradient is None else gradient)


@pytest.mark.parametrize("case", UNDELAYED, ids=lambda case: case.name)
def test_cells_of_the_table(case):
    cell = case.build()
    extras = {
        k: v if v.dim() == 3 else v.expand(4, *v.shape) for k, v in case.extras(4, 3, 4).items()
    }
    if "t" in cell.extra_names:
        extras["t"] = torch.arange(4.0).double().view(4, 1, 1).expand(4, 3, 1)
    check(cell, {name: extras[name] for name in cell.extra_names})


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name):
    torch.manual_seed(1)
    check(Formula(FORMULAS[name]).double())


def test_gate_by_gate():
    check(GateByGate(3, 4).double())


class Apart(ur.Cell):
    """States that are not read, or not by states: no gradient goes from step to step."""

    state_names = ("h", "c", "m", "n")
    output_names = ("y",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.a, self.b = (torch.nn.Linear(input_size, hidden_size) for _ in range(2))
        self.c = torch.nn.Linear(hidden_size, hidden_size)

    def step(self, x, h, c, m, n):
        y = self.c(h) * c + m[:, :1] + torch.cat([m[:, 1:], n[:, :1]], -1)
        return self.a(x).tanh(), self.b(x), x[:, :1] * self.b.weight[:, 0], x[:, :1] + 0 * y, y


class Last(ur.Cell):
    """What is given back is the state, which never sees itself."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = torch.nn.Linear(input_size, hidden_size)

    def step(self, x, h):
        return self.x(x).tanh()


class Summed(ur.Cell):
    """A state that is read as its sum: the gradient handed on is one number, repeated."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = torch.nn.Linear(1, hidden_size)

    def step(self, x, h):
        return self.x(h.sum(-1, keepdim=True).tanh()).tanh() * x[:, :1]


class Sliced(ur.Cell):
    """A result and a state that are slices of what is computed before the loop."""

    output_names = ("y",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = torch.nn.Linear(input_size, 2 * hidden_size)

    def step(self, x, h):
        h, y = self.x(x).chunk(2, -1)
        return h, y


class Alike(ur.Cell):
    """Two states with one new value."""

    state_names = ("h", "c")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = torch.nn.Linear(input_size, hidden_size)

    def step(self, x, h, c):
        h = (self.x(x) * c + 0.5 * h).tanh()
        return h, h


class CutTwice(ur.Cell):
    """The gradient of a slice of rows side by side is itself side by side with another."""

    state_names = ("h", "c")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.a, self.b = (torch.nn.Linear(input_size, 2 * hidden_size) for _ in range(2))
        self.c = torch.nn.Linear(2 * hidden_size, hidden_size)

    def step(self, x, h, c):
        both = torch.cat([x, x, self.a(x)], -1)[:, : 2 * self.hidden_size]
        return self.c(both).tanh(), self.b(x)[:, : self.hidden_size].tanh()


class Shown(ur.Cell):
    """An output that is the slice of a product which the backward pass reads."""

    output_names = ("y",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.h, self.a = (torch.nn.Linear(hidden_size, 2 * hidden_size) for _ in range(2))

    def step(self, x, h):
        y, _ = self.h(h).chunk(2, -1)
        return (self.a(y)[:, : self.hidden_size] + x[:, :1]).tanh(), y


class Again(ur.Cell):
    """A product that is kept, and a sum of it that is computed again."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.a = torch.nn.Linear(hidden_size, hidden_size, bias=False)
        self.b, self.c = (torch.nn.Linear(hidden_size, hidden_size) for _ in range(2))

    def step(self, x, h):
        a = self.a(h)
        return (self.b(a) * self.c(a + self.b.bias) * x[:, :1]).tanh()


class Numbers(ur.Cell):
    """Numbers side by side, and rows of which a part is read twice, once past what anyone needs."""

    extra_names = ("e",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.h = torch.nn.Linear(8, hidden_size)

    def step(self, x, h, e):
        inner = torch.cat([e, h, e[:, :1], e], -1)
        numbers = torch.cat([torch.zeros_like(h[:, :1]), torch.ones_like(h[:, :1])], -1)
        return self.h(torch.cat([h, inner[:, :6]], -1)[:, :8]).tanh() * x[:, :1] + numbers.repeat(
            1, 2
        )


class Nested(ur.Cell):
    """Rows side by side, in which the same rows stand as in those that are a part of them."""

    output_names = ("y",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.a, self.b = (torch.nn.Linear(6, hidden_size) for _ in range(2))

    def step(self, x, h):
        inner = torch.cat([x, h], -1)[:, :6]
        outer = torch.cat([h, inner], -1)[:, :6]
        return self.a(inner).tanh(), self.b(outer)


class Cut(ur.Cell):
    """Rows side by side, of which less is read than stands there, and across what stood apart."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.h = torch.nn.Linear(2 * hidden_size, hidden_size)

    def step(self, x, h):
        both = torch.cat([h, 1 - 0.3 * torch.cat([x, h], -1)], -1)
        return self.h(both[:, : 2 * self.hidden_size]).tanh()


@pytest.mark.parametrize(
    "make", [Apart, Last, Summed, Sliced, Alike, Cut, CutTwice, Nested, Shown, Again]
)
def test_states_that_carry_no_gradient_or_a_part(make):
    check(make(3, 4).double())


def test_numbers_side_by_side():
    check(Numbers(3, 4).double(), {"e": torch.randn(4, 3, 2, dtype=torch.float64)})


def copies(cell):
    """How often values are copied in the backward loop: in kernels of nothing else, and in all."""
    step = rewrite(trace(cell, {}, torch.float32))
    program = build(step, [cell.state_names[0]], differentiate=True)
    kernels = [
        [op.name == "copy" for op in i.ops]
        for i in program.sections["back_loop"]
        if isinstance(i, Kernel)
    ]
    return sum(all(kernel) for kernel in kernels), sum(map(sum, kernels))


def test_values_are_written_where_they_are_read():
    assert copies(GateByGate(3, 4)) == (0, 0)  # r and z stand side by side, and beside n
    assert copies(cells.LSTM(3, 4)) == (0, 0)
    assert copies(cells.GRU(3, 4)) == (0, 2)  # n r stands in the place of n, beside r and z again
