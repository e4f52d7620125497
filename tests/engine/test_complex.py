"""Complex numbers and Fourier transforms inside a step, which compile to pairs of real numbers."""

from functools import partial

import pytest
import torch
from looped import check
from torch import nn

import unrolled as ur
from unrolled.engine import native
from unrolled.engine.choose import run

pytestmark = pytest.mark.skipif(not native.available(), reason="the core is not built")
WIDTH = 6


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("UNROLLED_STRICT", "1")


class Turning(ur.Cell):
    """h' = f(x, h, weights), of which some are complex."""

    def __init__(self, formula, dtype=torch.complex128):
        super().__init__(WIDTH, WIDTH)
        self.formula = formula
        torch.manual_seed(3)
        self.q = nn.Parameter(torch.randn(WIDTH, dtype=dtype))
        self.m = nn.Parameter(0.4 * torch.randn(WIDTH, WIDTH, dtype=dtype))
        self.r = nn.Parameter(torch.randn(WIDTH, dtype=dtype.to_real()))

    def step(self, x, h):
        return self.formula(self, x, h)


def turned(x, h):
    return torch.complex(h, x)


FORMULAS = {
    "complex": lambda c, x, h: (turned(x, h) * turned(h, x)).real,
    "of a vector": lambda c, x, h: torch.complex(h, c.r).imag * h,
    "view_as_complex": lambda c, x, h: torch.view_as_complex(torch.stack([h, x], -1)).imag + h,
    "pairs side by side": lambda c, x, h: torch.view_as_complex(x.view(-1, 3, 2)).abs().repeat(1, 2) + h,
    "a parameter": lambda c, x, h: (turned(x, h) * c.q).imag,
    "a parameter of size one": lambda c, x, h: (turned(x, h) * (c.q / c.q.abs())).real,
    "polar": lambda c, x, h: (torch.polar(c.r.exp(), c.r) * turned(x, h)).real,
    "polar of rows": lambda c, x, h: torch.polar(x.exp(), h).imag + h,
    "a matrix": lambda c, x, h: (turned(x, h) @ c.m).real,
    "a matrix turned round": lambda c, x, h: nn.functional.linear(turned(x, h), c.m).imag,
    "linear": lambda c, x, h: nn.functional.linear(turned(x, h), c.m, c.q).imag,
    "conj": lambda c, x, h: (turned(x, h).conj() * c.q).imag,
    "imag of conj": lambda c, x, h: turned(x, h).conj().imag * h,
    "imag of conj twice": lambda c, x, h: turned(x, h).conj().conj().imag * h,
    "an adjoint": lambda c, x, h: (turned(x, h) @ c.m.mH).real,
    "times a row": lambda c, x, h: (h * (x * c.q)).imag,
    "times i": lambda c, x, h: (1j * turned(x, h) + (2 - 3j)).real,
    "sums": lambda c, x, h: (turned(x, h) + x - 0.5 * c.q - h * (1 + 2j)).imag,
    "one less": lambda c, x, h: (1 - turned(x, h)).imag * h,
    "divided": lambda c, x, h: (turned(x, h) / (c.q + 2j)).real,
    "divided by rows": lambda c, x, h: (x / (turned(x, h) + 3)).imag,
    "inverse": lambda c, x, h: (1 / (turned(x, h) + 3j)).real,
    "divided by a number": lambda c, x, h: (turned(x, h) / 3).real,
    "square": lambda c, x, h: (turned(x, h) ** 2).real,
    "exp": lambda c, x, h: torch.exp(1j * h + x).imag,
    "negative": lambda c, x, h: (-turned(x, h)).imag + h,
    "size": lambda c, x, h: turned(x, h).abs(),
    "total": lambda c, x, h: turned(x, h).sum(1, keepdim=True).real * h,
    "mean": lambda c, x, h: (turned(x, h).mean(-1, keepdim=True) * turned(h, x)).imag,
    "parts": lambda c, x, h: torch.cat([p.imag for p in turned(x, h).chunk(2, -1)], -1) + h,
    "joined": lambda c, x, h: torch.cat([turned(x, h)[:, 2:], turned(h, x)[:, :2]], 1).imag,
    "turned round": lambda c, x, h: turned(x, h).flip(1).imag + h,
    "chosen": lambda c, x, h: torch.where(h > 0, turned(x, h), turned(h, x) * 1j).real,
    "modrelu": lambda c, x, h: (
        turned(x, h) * (turned(x, h).abs() + c.r).relu() / (turned(x, h).abs() + 1e-3)
    ).real,
    "detached": lambda c, x, h: (turned(x, h).detach() * c.q).imag + h,
    "as real": lambda c, x, h: torch.view_as_real(turned(x, h) * c.q)[..., 1],
}  # fmt: skip
TRANSFORMS = {
    "convolved with a row": lambda c, x, h: torch.fft.ifft(torch.fft.fft(h) * torch.fft.fft(x)).real,
    "convolved with a parameter": lambda c, x, h: (
        torch.fft.irfft(torch.fft.rfft(h) * torch.fft.rfft(c.r), n=WIDTH)
    ),
    "correlated": lambda c, x, h: (
        torch.fft.irfft(torch.fft.rfft(h).conj() * torch.fft.rfft(x), n=WIDTH)
    ),
    "of complex rows": lambda c, x, h: torch.fft.fft(turned(x, h), norm="ortho").imag,
    "forward": lambda c, x, h: torch.fft.rfft(h, norm="forward").abs().repeat(1, 2)[:, :WIDTH],
    "backward": lambda c, x, h: torch.fft.ifft(turned(x, h), norm="forward").real,
    "odd": lambda c, x, h: torch.fft.irfft(torch.fft.rfft(h[:, :5]) * 1j, n=5).repeat(1, 2)[:, :WIDTH],
    "cut": lambda c, x, h: torch.fft.fft(h, n=4).real.repeat(1, 2)[:, :WIDTH] + x,
    "longer": lambda c, x, h: torch.fft.rfft(x, n=10).real + h,
    "a unitary step": lambda c, x, h: (
        torch.fft.ifft(torch.polar(torch.ones_like(c.r), c.r) * torch.fft.fft(turned(x, h))).imag
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS | TRANSFORMS)
def test_a_step_of_complex_numbers(name):
    torch.manual_seed(0)
    cell = Turning((FORMULAS | TRANSFORMS)[name])
    x = 0.7 * torch.randn(4, 3, WIDTH, dtype=torch.float64)
    check(cell, x, 0.5 * torch.randn(3, WIDTH, dtype=torch.float64))


def test_the_size_of_nothing():
    x = torch.zeros(3, 2, WIDTH, dtype=torch.float64)
    check(Turning(FORMULAS["size"]), x, torch.zeros(2, WIDTH, dtype=torch.float64))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_division_neither_overflows_nor_vanishes(size):
    cell = Turning(lambda c, x, h: (x / turned(x, 2 * x)).real + h, torch.complex64)
    x = torch.full((1, 2, WIDTH), size)
    y = run(cell, x).y
    torch.testing.assert_close(y, torch.full((1, 2, WIDTH), 0.4))


@pytest.mark.parametrize("compiler", [lambda net: net, partial(torch.compile, backend="aot_eager")])
def test_autocast_keeps_imaginary_parts(compiler):
    torch.compiler.reset()
    net = ur.Recurrent(Turning(FORMULAS["a matrix"], torch.complex64))
    x, states = torch.randn(3, 2, WIDTH), {"h": torch.ones(1, 2, WIDTH)}
    plain, _ = net(x, states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = compiler(net)(x, states)
    torch.testing.assert_close(rounded.float(), plain, rtol=5e-2, atol=5e-2)


@pytest.mark.filterwarnings("ignore:Torchinductor does not support")
@pytest.mark.parametrize("name", ["a matrix", "convolved with a parameter", "modrelu"])
def test_torch_compile_keeps_it_whole(name):
    torch.compiler.reset()
    net = ur.Recurrent(Turning((FORMULAS | TRANSFORMS)[name], torch.complex64))
    x = torch.randn(3, 2, WIDTH)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], net(x)[0])


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (lambda c, x, h: turned(x, h).angle(), "it computes angle of complex numbers"),
        (lambda c, x, h: turned(x, h).tanh().real, "it computes tanh of complex numbers"),
        (lambda c, x, h: (turned(x, h) ** 3).real, "powers of complex numbers other than squares"),
        (
            lambda c, x, h: torch.view_as_real(turned(x, h)).flatten(1)[:, :WIDTH],
            "lays both parts of complex numbers side by side",
        ),
        (lambda c, x, h: torch.fft.fft(h, dim=0).real, "more than the features of its rows"),
        (
            lambda c, x, h: h + (turned(x, h) @ turned(x, h).mH).abs().sum(),
            "it turns rows into columns",
        ),
    ],
)
def test_what_is_declined_says_why(formula, reason, monkeypatch):
    monkeypatch.delenv("UNROLLED_STRICT")
    told = str(ur.explain(Turning(formula, torch.complex64)))
    assert reason in told
