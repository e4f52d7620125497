"""Data that every Python carries, so that the first run needs no download."""

from collections.abc import Callable
from dataclasses import dataclass

from unrolled.data.dna import dna


@dataclass(frozen=True)
class Builtin:
    """What is always at hand, and the facts about it that the catalogue lists."""

    what: str
    task: str
    licence: str
    page: str
    text: Callable[[], str] | None = None
    """Gives the text; ``None`` where the task makes numbers or sequences instead."""


def english() -> str:
    """Give the reference topics of Python's own help, sorted by name: English prose about a language.

    465,048 characters in Python 3.11; other versions of Python carry slightly other text.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


BUILTINS = {
    "english": Builtin(
        what="The reference topics of Python's own help, in English",
        task="generate",
        licence="Python Software Foundation License 2",
        page="https://docs.python.org/3/license.html",
        text=english,
    ),
    "digits": Builtin(
        what="1,797 handwritten digits of 8 x 8 pixels, from scikit-learn",
        task="classify, reconstruct, caption, embed",
        licence="BSD-3-Clause (scikit-learn), CC BY 4.0 (the digits)",
        page="https://archive.ics.uci.edu/dataset/80",
    ),
    "iris": Builtin(
        what="150 flowers of three kinds of iris, four measures each, from scikit-learn",
        task="classify",
        licence="CC BY 4.0",
        page="https://archive.ics.uci.edu/dataset/53",
    ),
    "wine": Builtin(
        what="178 wines of three growers, 13 measures each, from scikit-learn",
        task="classify",
        licence="CC BY 4.0",
        page="https://archive.ics.uci.edu/dataset/109",
    ),
    "dna": Builtin(
        what="4,000 sequences of DNA, half of them with the two boxes of a promoter",
        task="classify",
        licence="made as it is read",
        page="https://en.wikipedia.org/wiki/Promoter_(genetics)",
        text=dna,
    ),
    "python-tokens": Builtin(
        what="Sources of Python's own library, each character with the type of its token",
        task="tag, several",
        licence="Python Software Foundation License 2",
        page="https://docs.python.org/3/library/tokenize.html",
    ),
    "copying": Builtin(
        what="The copying memory problem: ten symbols to give back after a long pause",
        task="tag",
        licence="made as it is read",
        page="https://arxiv.org/abs/1511.06464",
    ),
    "dates": Builtin(
        what="Dates in 22 written forms, and the same in ISO 8601",
        task="translate",
        licence="made as it is read",
        page="https://www.iso.org/iso-8601-date-and-time-format.html",
    ),
    "noisy": Builtin(
        what="Phrases of Python's own help as people mistype them, and as they meant them",
        task="translate",
        licence="Python Software Foundation License 2",
        page="https://docs.python.org/3/license.html",
    ),
    "neighbours": Builtin(
        what="Canvases of two of scikit-learn's digits, and which is left of or above the other",
        task="caption",
        licence="BSD-3-Clause (scikit-learn), CC BY 4.0 (the digits)",
        page="https://archive.ics.uci.edu/dataset/80",
    ),
    "adding": Builtin(
        what="The adding problem: the sum of the two numbers that are marked in a sequence",
        task="forecast",
        licence="made as it is read",
        page="https://arxiv.org/abs/1504.00941",
    ),
    "mackey-glass": Builtin(
        what="The Mackey-Glass equation, a chaotic series with a delay of 17",
        task="forecast",
        licence="made as it is read",
        page="http://www.scholarpedia.org/article/Mackey-Glass_equation",
    ),
    "diabetes": Builtin(
        what="442 patients, ten measures each, and how far diabetes went in a year, from scikit-learn",
        task="forecast",
        licence="free for any use (scikit-learn: BSD-3-Clause)",
        page="https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html",
    ),
    "friedman": Builtin(
        what="Rows of ten numbers, five of which make a curved function of them, with noise",
        task="forecast",
        licence="made as it is read",
        page="https://doi.org/10.1214/aos/1176347963",
    ),
    "moving-digits": Builtin(
        what="Films of two digits of scikit-learn's that move and bounce",
        task="forecast",
        licence="BSD-3-Clause (scikit-learn), CC BY 4.0 (the digits)",
        page="https://archive.ics.uci.edu/dataset/80",
    ),
}
"""Name -> what it is."""
