"""One table of cells: each is run through the same tests. Small enough to check by finite differences."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import unrolled as ur
from unrolled import cells


class LayerNormLSTM(ur.Cell):
    """Ba, Kiros & Hinton 2016, eqs. 20-22. States: h, c, each (B, H)."""

    state_names = ("h", "c")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, 4 * hidden_size)
        self.h = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.norm, self.norm_c = nn.LayerNorm(4 * hidden_size), nn.LayerNorm(hidden_size)

    def step(self, x, h, c):
        i, f, g, o = (self.x(x) + self.norm(self.h(h))).chunk(4, -1)
        c = self.gate("f", f.sigmoid()) * c + self.gate("i", i.sigmoid()) * g.tanh()
        return self.gate("o", o.sigmoid()) * self.norm_c(c).tanh(), c


class SkipRNN(ur.Cell):
    """h_t = tanh(W_x x_t + W_1 h_{t-1} + W_3 h_{t-3}): sees itself three steps ago."""

    delays = {"h": (1, 3)}

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.near = nn.Linear(hidden_size, hidden_size, bias=False)
        self.far = nn.Linear(hidden_size, hidden_size, bias=False)

    def step(self, x, h):
        near, far = h
        return (self.x(x) + self.near(near) + self.far(far)).tanh()


class Projected(ur.Cell):
    """A wide memory m, a narrow state h, and an output of a third width."""

    state_names = ("h", "m")
    output_names = ("y",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.write = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        self.read = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.show = nn.Linear(hidden_size, 5)

    @property
    def state_sizes(self):
        return {"h": self.hidden_size, "m": 2 * self.hidden_size}

    @property
    def output_size(self):
        return 5

    def step(self, x, h, m):
        m = 0.5 * m + self.write(torch.cat([x, h], -1)).tanh()
        h = self.read(m).sigmoid()
        return h, m, self.show(h)


class Masked(ur.Cell):
    """Recurrent dropout by a mask a row, an input gate a step, and a clock."""

    extra_names = ("mask", "gain", "t")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)

    def step(self, x, h, mask, gain, t):
        return (gain * self.x(x) + self.h(h * mask) + 0.1 * t).tanh()


class Ranked(ur.Cell):
    """h_t = tanh(W_x x_t + W_h sort(h_{t-1})): the compiler has no instruction for sorting."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.x = nn.Linear(input_size, hidden_size)
        self.h = nn.Linear(hidden_size, hidden_size, bias=False)

    def step(self, x, h):
        return (self.x(x) + self.h(h.sort(-1).values)).tanh()


Extras = Callable[[int, int, int], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """A cell, how it is built, and what it needs besides x."""

    name: str
    make: Callable[[int, int], ur.Cell]
    extras: Extras = lambda steps, batch, hidden: {}
    grid: tuple[int, ...] = ()
    """What x is wide behind its channels, for a convolutional cell."""

    def build(self, inputs: int = 3, hidden: int = 4, seed: int = 0) -> ur.Cell:
        torch.manual_seed(seed)
        cell = self.make(inputs, hidden).double()
        with torch.no_grad():
            for name, parameter in cell.named_parameters():
                if "parametrizations" in name:
                    # Householder's signs are what is whole of its diagonal, which stays so beside it.
                    parameter.mul_(1.5)
                else:
                    parameter.uniform_(-0.8, 0.8)
        return cell


def _masks(steps, batch, hidden):
    generator = torch.Generator().manual_seed(1)
    return {
        "mask": torch.rand(batch, hidden, generator=generator, dtype=torch.float64),
        "gain": torch.rand(steps, batch, 1, generator=generator, dtype=torch.float64),
    }


def _taught(steps, batch, hidden):
    generator = torch.Generator().manual_seed(1)
    return {
        "target": torch.randn(steps, batch, hidden, generator=generator, dtype=torch.float64),
        "forced": torch.randint(2, (steps, batch, 1), generator=generator).double(),
    }


BASIC = [
    Case("rnn", cells.Elman),
    Case("rnn relu", lambda i, h: cells.Elman(i, h, "relu")),
    Case("rnn sigmoid", lambda i, h: cells.Elman(i, h, "sigmoid")),
    Case("lstm", cells.LSTM),
    Case("gru", cells.GRU),
    Case("layer-norm lstm", LayerNormLSTM),
    Case("delays", SkipRNN),
    Case("outputs and widths", Projected),
    Case("extras", Masked, _masks),
    Case("not compiled", Ranked),
]
"""One of each kind: what cells may ask of the engines."""
ELSEWHERE = ("rnn", "lstm", "gru", "lstm-batchnorm")
"""In the list above, or with rows that depend on each other."""
CASES = [
    *BASIC,
    *(Case(name, make) for name, make in cells.CELLS.items() if name not in ELSEWHERE),
    Case("rnn sin", lambda i, h: cells.Elman(i, h, torch.sin)),
    Case("learned leaks", lambda i, h: cells.Leaky(i, h, [0.5] * h, learned=True)),
    Case("householder", lambda i, h: cells.Orthogonal(i, h, "householder")),
    Case("matrix exponential", lambda i, h: cells.Orthogonal(i, h, "matrix_exp")),
    Case("teacher", lambda i, h: cells.Jordan(i, h, teacher=True), _taught),
    Case("lstm identity", lambda i, h: cells.LSTM(i, h, 1.0, "identity")),
    Case("slstm heads", lambda i, h: cells.SLSTM(i, h, h if h % 2 else 2)),
    Case("topdown lstm", lambda i, h: cells.TopDown(i, h, 3, cells.LSTM)),
    Case("dilated lstm", lambda i, h: cells.Dilated(i, h, 3, cells.LSTM)),
]
TRACED = [case for case in CASES if case.make is not Ranked]
"""What the compiler does not decline."""
UNDELAYED = [case for case in TRACED if not case.make(3, 4).delays]
"""What sees nothing but the last states."""
PLAIN = [case for case in CASES if not case.make(3, 4).extra_names]
"""What needs no further input."""
CONVOLUTIONAL = [
    Case("conv lstm 1-d", lambda i, h: cells.ConvLSTM(i, h, (5,)), grid=(5,)),
    Case("conv lstm 2-d", lambda i, h: cells.ConvLSTM(i, h, (2, 3)), grid=(2, 3)),
    Case("conv gru 1-d", lambda i, h: cells.ConvGRU(i, h, (5,)), grid=(5,)),
    Case("conv gru 2-d", lambda i, h: cells.ConvGRU(i, h, (2, 3), 1), grid=(2, 3)),
]
