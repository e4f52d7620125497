"""Data that every Python carries, so that the first run needs no download."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Builtin:
    """A text that is always at hand, and the facts about it that the catalogue lists."""

    what: str
    task: str
    licence: str
    page: str
    text: Callable[[], str]


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
}
"""Name -> text."""
