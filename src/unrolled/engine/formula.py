"""Element-wise operations written as people write formulas, with no more parentheses than needed."""

from collections.abc import Sequence
from typing import NamedTuple

ATOM, POWER, SIGN, PRODUCT, SUM, COMPARISON = range(6)
"""How tightly a formula holds together, the tightest first."""


class Formula(NamedTuple):
    """A formula."""

    text: str
    binds: int = ATOM
    negated: "Formula | None" = None
    """What it is the negative of."""

    def within(self, binds: int) -> str:
        """Give the text as a part of something that binds so tightly."""
        return self.text if self.binds <= binds else f"({self.text})"


INFIX = {
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
    "eq": ("==", COMPARISON),
    "ne": ("!=", COMPARISON),
    "lt": ("<", COMPARISON),
    "le": ("<=", COMPARISON),
    "gt": (">", COMPARISON),
    "ge": (">=", COMPARISON),
}
TWICE = {"sigmoid_grad": 1, "tanh_grad": 1, "lerp": 0}
"""Operations whose formula names one of its inputs twice or more: which."""


def number(value: float) -> str:
    """Write a number: 1, 0.25, 1e-05."""
    return f"{value:.6g}"


def apply(op: str, inputs: Sequence[Formula | float]) -> Formula:
    """Write an operation; one that has no sign of its own as a function."""
    formulas = [i if isinstance(i, Formula) else _constant(i) for i in inputs]
    a, b, c = (*formulas, *formulas, *formulas)[:3]
    if op == "copy":
        return a
    if op == "neg":
        return Formula(f"-{a.within(POWER)}", SIGN, a)
    if op == "square" or (op == "mul" and a.text == b.text and a.binds == ATOM):
        return Formula(f"{a.within(ATOM)}**2", POWER)
    if op == "pow":
        return Formula(f"{a.within(ATOM)}**{b.within(ATOM)}", POWER)
    if op == "sigmoid_grad":  # a is the gradient, b the sigmoid
        return Formula(f"{a.within(PRODUCT)} * {b.within(ATOM)} * (1 - {b.within(ATOM)})", PRODUCT)
    if op == "tanh_grad":
        return Formula(f"{a.within(PRODUCT)} * (1 - {b.within(ATOM)}**2)", PRODUCT)
    if op == "multiply_add":
        return apply("add", [apply("mul", [a, b]), c])
    if op == "multiply_subtract":
        return apply("sub", [c, apply("mul", [a, b])])
    if op == "multiply_multiply":
        return apply("mul", [apply("mul", [a, b]), c])
    if op == "lerp":
        return apply("add", [a, apply("mul", [c, apply("sub", [b, a])])])
    if op == "mul" and (share := next(filter(_is_share, reversed(inputs)), None)) is not None:
        other = a if inputs[1] == share else b
        assert not isinstance(share, Formula)
        return Formula(f"{other.within(PRODUCT)} / {round(1 / share)}", PRODUCT)
    if op == "mul" and not isinstance(inputs[1], Formula) and isinstance(inputs[0], Formula):
        a, b = b, a  # a number stands first
    if op in INFIX:
        return _infix(op, a, b)
    return Formula(f"{op}({', '.join(formula.text for formula in formulas)})")


def _constant(value: float) -> Formula:
    return Formula(number(value), SIGN if value < 0 else ATOM)


def _is_share(value: Formula | float) -> bool:
    """Whether a number is better read as one over a whole number: a mean over 768 features."""
    if isinstance(value, Formula) or not 0 < value < 0.5 or len(number(value)) <= 5:
        return False
    return abs(1 / value - round(1 / value)) < 1e-6 / value


def _infix(op: str, a: Formula, b: Formula) -> Formula:
    if op == "add" and b.negated is not None:
        return _infix("sub", a, b.negated)
    if op == "add" and a.negated is not None:
        return _infix("sub", b, a.negated)
    sign, binds = INFIX[op]
    right = binds if op in ("add", "mul") else binds - 1
    left = binds - (binds == COMPARISON)
    return Formula(f"{a.within(left)} {sign} {b.within(right)}", binds)
