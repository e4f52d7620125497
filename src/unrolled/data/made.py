"""Problems that are made by a formula: adding, copying, and the Mackey-Glass equation.

T steps, B rows.
"""

import numpy as np
from numpy.random import Generator

COPIED = 10
"""Symbols to remember in the copying problem."""
SYMBOLS = 8
"""Different symbols that may have to be remembered; 8 is the blank, 9 asks for the answer."""


def adding(steps: int, rows: int, random: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make the adding problem, as Le, Jaitly & Hinton 2015, section 4.1, have it.

    Args:
        steps: T, at least 2.
        rows: B.
        random: What to draw from.

    Returns:
        x (T, B, 2), a number from U(0, 1) and a mark, which one step in each half has; and the sum of
        the two marked numbers (B,). Always 1 is wrong by 1/6 in the mean square.
    """
    numbers = random.random((steps, rows))
    marks = np.zeros_like(numbers)
    marks[random.integers(0, steps // 2, rows), np.arange(rows)] = 1
    marks[random.integers(steps // 2, steps, rows), np.arange(rows)] = 1
    return np.stack([numbers, marks], -1), (numbers * marks).sum(0)


def copying(steps: int, rows: int, random: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make the copying memory problem of Arjovsky, Shah & Bengio 2016, section 5.1.

    Args:
        steps: T, from the last symbol to the first that is wanted, at least 1.
        rows: B.
        random: What to draw from.

    Returns:
        Inputs and targets (T + 20, B). The input is 10 symbols of 0 ... 7, T - 1 blanks (8), a 9, and 10
        blanks; the target T + 10 blanks and the 10 symbols. Knowing all but the symbols leaves
        10 ln 8 / (T + 20) nats a step.
    """
    x = np.full((steps + 2 * COPIED, rows), SYMBOLS)
    x[:COPIED] = random.integers(0, SYMBOLS, (COPIED, rows))
    x[COPIED + steps - 1] = SYMBOLS + 1
    y = np.full_like(x, SYMBOLS)
    y[-COPIED:] = x[:COPIED]
    return x, y


def mackey_glass(
    steps: int,
    delay: float = 17.0,
    seed: int = 0,
    *,
    substeps: int = 10,
    transient: int = 1000,
) -> np.ndarray:
    """Integrate dx/dt = 0.2 x(t - delay) / (1 + x(t - delay)^10) - 0.1 x (Mackey & Glass 1977, eq. 4b).

    By the classic Runge-Kutta method of fourth order; between its steps the past is known from the
    cubic through values and slopes, which is of the same order.

    Args:
        steps: Values to give, one a unit of time.
        delay: A multiple of 1 / substeps, which 17 makes mildly chaotic.
        seed: Draws the constant past, within 0.1 of 1.2.
        substeps: Runge-Kutta steps in a unit of time.
        transient: Units of time to pass before the first value.

    Returns:
        The values (steps,).

    Raises:
        ValueError: If the delay is not a positive multiple of 1 / substeps.
    """
    back = round(delay * substeps)
    if back < 1 or abs(back - delay * substeps) > 1e-9:
        raise ValueError(f"the delay must be a positive multiple of 1/{substeps}, not {delay}")
    h = 1 / substeps
    start = 1.2 + np.random.default_rng([seed]).uniform(-0.1, 0.1)
    count = (transient + steps) * substeps
    x = [start] * (back + 1)  # x[n] is at time (n - back) h
    slope = [0.0] * (back + 1)

    def f(now: float, past: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * now

    slope[-1] = f(start, start)
    for n in range(count):
        now, past, later = x[-1], x[n], x[n + 1]
        # Where the past ends, its slope jumps: what lies before zero is flat.
        into = slope[n] if n >= back else 0.0
        out = slope[n + 1] if n + 1 > back else 0.0
        middle = (past + later) / 2 + h / 8 * (into - out)
        k1 = f(now, past)
        k2 = f(now + h / 2 * k1, middle)
        k3 = f(now + h / 2 * k2, middle)
        k4 = f(now + h * k3, later)
        x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        slope.append(f(x[-1], later))
    return np.array(x[back + transient * substeps : back + count : substeps])
