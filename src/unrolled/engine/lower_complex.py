"""ATen operations on complex numbers, which the graph has as pairs of real ones."""

from functools import partial
from typing import Any, NamedTuple

from torch import fx

from unrolled.engine import lower_pointwise  # noqa: F401 (its rules serve both parts)
from unrolled.engine.graph import Node
from unrolled.engine.lower import (
    COMPLEX,
    RULES,
    Complex,
    Declined,
    Lowering,
    Rule,
    argument,
    elementwise,
    rule,
)
from unrolled.engine.lower_rows import column


def _apart(to: Lowering, node: fx.Node, written: Rule) -> Any:  # noqa: ANN401
    """Write an operation once for the real parts and once for the imaginary ones."""
    try:
        sides = []
        for side in ("real", "imag"):
            to.side = side
            sides.append(written(to, node))
    finally:
        to.side = None
    if isinstance(sides[0], list):
        return [Complex(*pair) for pair in zip(*sides, strict=True)]
    return Complex(*sides)


for _name in (
    *("add", "sub", "rsub", "neg", "sum", "mean", "split", "split_with_sizes", "slice", "select"),
    *("cat", "repeat", "flip", "expand", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"),
    *("clone", "alias", "contiguous", "detach", "unbind"),
):
    COMPLEX[_name] = partial(_apart, written=RULES[_name])


class _Number(NamedTuple):
    """Rows, a vector or a number; real ones have no imaginary part."""

    real: Node
    imag: Node | None

    def complex(self, to: Lowering) -> Complex:
        return Complex(self.real, to.graph.const(0) if self.imag is None else self.imag)


def _number(to: Lowering, given: Any) -> _Number:  # noqa: ANN401
    """Give an argument."""
    if isinstance(given, fx.Node):
        real = not given.meta["val"].is_complex()
    else:
        real = not isinstance(given, complex)
    sides = _apart(to, given, lambda to, given: to.row(given))
    return _Number(sides.real, None if real else sides.imag)


def _times(to: Lowering, a: _Number, b: _Number) -> Complex:
    if b.imag is None:
        a, b = b, a
    if a.imag is None:
        assert b.imag is not None
        return Complex(to("mul", a.real, b.real), to("mul", a.real, b.imag))
    assert b.imag is not None
    return Complex(
        to("sub", to("mul", a.real, b.real), to("mul", a.imag, b.imag)),
        to("add", to("mul", a.real, b.imag), to("mul", a.imag, b.real)),
    )


def _inverse(to: Lowering, a: Complex) -> _Number:
    """1 / a, computed of a divided by its larger side, whose square neither vanishes nor overflows."""
    larger = to("detach", to("max", to("abs", a.real), to("abs", a.imag)))
    real, imag = to("div", a.real, larger), to("div", a.imag, larger)
    squares = to("mul", to("add", to("mul", real, real), to("mul", imag, imag)), larger)
    return _Number(to("div", real, squares), to("neg", to("div", imag, squares)))


@rule("mul", among=COMPLEX)
def _mul(to: Lowering, node: fx.Node) -> Complex:
    return _times(to, *(_number(to, given) for given in node.args))


@rule("div", among=COMPLEX)
def _div(to: Lowering, node: fx.Node) -> Complex:
    a, b = (_number(to, given) for given in node.args[:2])
    if b.imag is None:
        whole = a.complex(to)
        return Complex(to("div", whole.real, b.real), to("div", whole.imag, b.real))
    return _times(to, a, _inverse(to, b.complex(to)))


@rule("reciprocal", among=COMPLEX)
def _reciprocal(to: Lowering, node: fx.Node) -> Complex:
    return _inverse(to, _number(to, node.args[0]).complex(to)).complex(to)


@rule("pow", "square", among=COMPLEX)
def _pow(to: Lowering, node: fx.Node) -> Complex:
    if argument(node, 1, "exponent", 2) != 2:
        raise Declined("it computes powers of complex numbers other than squares")
    a = _number(to, node.args[0])
    return _times(to, a, a)


@rule("exp", among=COMPLEX)
def _exp(to: Lowering, node: fx.Node) -> Complex:
    a = _number(to, node.args[0]).complex(to)
    size = to("exp", a.real)
    return Complex(to("mul", size, to("cos", a.imag)), to("mul", size, to("sin", a.imag)))


@rule("_conj", "_conj_physical", "conj_physical", among=COMPLEX)
def _conj(to: Lowering, node: fx.Node) -> Complex:
    a = _number(to, node.args[0]).complex(to)
    return Complex(a.real, to("neg", a.imag))


@rule("abs", among=COMPLEX)
def _abs(to: Lowering, node: fx.Node) -> Node:
    a = _number(to, node.args[0]).complex(to)
    return to.norm(to("add", to("mul", a.real, a.real), to("mul", a.imag, a.imag)))


@rule("where", among=COMPLEX)
def _where(to: Lowering, node: fx.Node) -> Complex:
    condition, *given = node.args
    a, b = (_number(to, each).complex(to) for each in given)
    chosen = to.row(condition)
    return Complex(to("where", chosen, a.real, b.real), to("where", chosen, a.imag, b.imag))


@rule("mm", among=COMPLEX)
def _mm(to: Lowering, node: fx.Node) -> Complex:
    return _product(to, *node.args)


@rule("addmm", among=COMPLEX)
def _addmm(to: Lowering, node: fx.Node) -> Complex:
    bias, *given = node.args
    if node.kwargs:
        raise Declined("it scales a product of complex numbers")
    product, bias = _product(to, *given), _number(to, bias).complex(to)
    return Complex(to("add", product.real, bias.real), to("add", product.imag, bias.imag))


def _product(to: Lowering, a: Any, weight: Any) -> Complex:  # noqa: ANN401
    if weight in to.known or a not in to.known:
        raise Declined("it multiplies rows by rows")
    rows = _number(to, a).complex(to)
    (real, transposed), (imag, _) = (to.once(weight, side) for side in ("real", "imag"))

    def times(x: Node, leaf: Node) -> Node:
        return to.graph.matmul(x, leaf, transposed=transposed)

    return Complex(
        to("sub", times(rows.real, real), times(rows.imag, imag)),
        to("add", times(rows.real, imag), times(rows.imag, real)),
    )


# Complex numbers of real ones, and the other way.


@rule("view_as_complex", among=COMPLEX)
def _view_as_complex(to: Lowering, node: fx.Node) -> Complex:
    known = to.known[node.args[0]]  # pyright: ignore
    if isinstance(known, Complex):
        return known
    real, imag = (column(to, known.rows, k) for k in range(2))
    return Complex(real, imag)


@rule("view_as_real", among=COMPLEX)
def _view_as_real(to: Lowering, node: fx.Node) -> Complex:
    return to.known[node.args[0]]  # pyright: ignore


@elementwise("_neg_view")
def _negated(to: Lowering, node: fx.Node) -> Any:  # noqa: ANN401
    known = to.known[node.args[0]]  # pyright: ignore
    if isinstance(known, Complex):  # the imaginary part of a conjugate, before it is taken apart
        return Complex(*(to("neg", side) for side in known))
    return to.pointwise("neg", *node.args)
