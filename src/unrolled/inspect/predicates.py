"""What units of a language model might track (Karpathy, Johnson & Li 2015, section 4.1), and whether they do.

N places, U units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OPEN, CLOSE = "([{", ")]}"


def predicates(symbols: Sequence[str], quoted: int = 0) -> dict[str, np.ndarray]:
    """Say of each symbol, of one or more characters, what holds right after it.

    Args:
        symbols: From the start of a line.
        quoted: Whether that lies inside quotes.

    Returns:
        Name -> (N,): 0 or 1 of what holds or not, numbers of what is counted.
    """
    depth = column = indent = letters = 0
    leading = True
    rows = []
    for symbol in symbols:
        for c in symbol:
            if c == "\n":
                column, indent, leading = 0, 0, True
            else:
                column += 1
                leading &= c in " \t"
                indent += leading
            quoted ^= c == '"'
            depth = max(0, depth + (c in OPEN) - (c in CLOSE))
            letters = letters + 1 if c.isalnum() else 0
        last = symbol[-1:]
        rows.append(
            (
                quoted,
                depth > 0,
                depth,
                column,
                indent,
                letters,
                last.isspace(),
                last.isupper(),
                last.isdigit(),
                last in set(".!?"),
            )
        )
    names = (
        *("inside quotes", "inside brackets", "depth of brackets", "position in line"),
        *("indentation", "position in word", "after a space", "after a capital"),
        *("after a digit", "at the end of a sentence"),
    )
    return dict(zip(names, np.asarray(rows, float).T, strict=True))


def kinds(symbols: Sequence[str]) -> list[str]:
    """Name the kind of each symbol, by its first character and the one before."""
    found, before = [], " "
    for symbol in symbols:
        c = symbol[:1]
        if c == "\n":
            kind = "line end"
        elif c.isspace():
            kind = "space"
        elif c.isdigit():
            kind = "digit"
        elif c.isalpha():
            kind = "inside a word" if before.isalnum() else "start of a word"
        elif c in OPEN + CLOSE or c == '"':
            kind = "quote or bracket"
        else:
            kind = "other signs" if c else "part of a character"
        found.append(kind)
        before = symbol[-1:] or before
    return found


def correlations(values: np.ndarray, facts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Correlate units (N, U) with predicates: name -> (U,); those that never change are left out."""
    z = _standardised(values)
    found = {}
    for name, fact in facts.items():
        if fact.std() > 0:
            found[name] = z.T @ _standardised(fact.reshape(-1, 1))[:, 0] / len(z)
    return found


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(0)
    scale = centred.std(0)
    return centred / np.where(scale > 1e-12, scale, np.inf)


@dataclass(frozen=True)
class Probe:
    """How well a predicate can be read, from one unit and from all."""

    predicate: str
    measure: str
    """``AUC`` of what holds or not, ``R2`` of what is counted; on the second half of the text."""
    unit: int
    single: float
    """Of the unit that is best on the first half."""
    linear: float
    """Of a linear probe of all units, fitted on the first half."""

    @property
    def local(self) -> bool:
        """Whether one unit says nearly as much as all."""
        floor = 0.5 if self.measure == "AUC" else 0.0
        return self.single - floor > 0.9 * (self.linear - floor) > 0


def probe(values: np.ndarray, facts: dict[str, np.ndarray]) -> list[Probe]:
    """Set the best single unit beside a linear probe, for each predicate that occurs in both halves."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import r2_score, roc_auc_score

    half = len(values) // 2
    z = _standardised(values)
    best = correlations(values[:half], {n: f.reshape(-1)[:half] for n, f in facts.items()})
    found = []
    for name, each in facts.items():
        first, second = each.reshape(-1)[:half], each.reshape(-1)[half:]
        if name not in best or first.std() == 0 or second.std() == 0:
            continue
        unit = int(np.abs(best[name]).argmax())
        own = z[:, [unit]]
        if set(np.unique(each)) <= {0.0, 1.0}:
            measure, judge = "AUC", roc_auc_score
            fits = [LogisticRegression(C=0.1, max_iter=200).fit(x[:half], first) for x in (own, z)]
            scores = [
                fit.decision_function(x[half:]) for fit, x in zip(fits, (own, z), strict=True)
            ]
        else:
            measure, judge = "R2", r2_score
            fits = [Ridge(10.0).fit(x[:half], first) for x in (own, z)]
            scores = [fit.predict(x[half:]) for fit, x in zip(fits, (own, z), strict=True)]
        single, linear = (float(judge(second, score)) for score in scores)
        found.append(Probe(name, measure, unit, single, linear))
    return found
