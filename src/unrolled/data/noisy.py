"""Phrases as people mistype them, and as they meant them, from the English that comes with Python."""

import re
from functools import cache

import numpy as np
from numpy.random import Generator

from unrolled.data.builtin import english

COUNT = 60_000
RATE = 0.06
"""Mistakes a letter."""
LONGEST = 28
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    letter: "".join(
        other
        for far, line in enumerate(ROWS)
        for column, other in enumerate(line)
        if other != letter and abs(far - row) <= 1 and abs(column - place) <= 1
    )
    for row, keys in enumerate(ROWS)
    for place, letter in enumerate(keys)
}
"""Letter -> those beside it on a keyboard."""


def noisy_phrases(seed: int = 0, count: int = COUNT) -> list[tuple[str, str]]:
    """Mistype phrases of two to five words: a neighbouring key, a letter left out, twice, or two swapped.

    Args:
        seed: Of what is drawn.
        count: Most pairs; the same mistyped phrase never comes twice.

    Returns:
        Pairs of what was typed and what was meant, both in small letters.
    """
    random = np.random.default_rng([seed])
    phrases = _phrases()
    found: dict[str, str] = {}
    for number in random.integers(0, len(phrases), count):
        found[mistyped(phrases[number], random)] = phrases[number]
    return list(found.items())


def mistyped(text: str, random: Generator, rate: float = RATE) -> str:
    """Make mistakes in a text: at each letter one with probability `rate`, all kinds as often."""
    written, place = [], 0
    mistakes = random.random(len(text)) < rate
    while place < len(text):
        letter = text[place]
        after = text[place + 1 : place + 2]
        kind = random.integers(4) if mistakes[place] and letter in NEIGHBOURS else -1
        if kind == 0:
            written.append(NEIGHBOURS[letter][random.integers(len(NEIGHBOURS[letter]))])
        elif kind == 2:
            written.append(letter * 2)
        elif kind == 3 and after.isalpha():
            written.append(after + letter)
            place += 1
        elif kind != 1:
            written.append(letter)
        place += 1
    return "".join(written)


@cache
def _phrases() -> tuple[str, ...]:
    """All different runs of two to five plain words, at most `LONGEST` letters; no word is in two."""
    found: dict[str, None] = {}
    for run in re.findall(r"[A-Za-z]+(?: [a-z]+)+", english().replace("\n", " ")):
        words = run.lower().split()
        while words:
            phrase = [words.pop(0)]
            while words and len(phrase) < 5 and len(" ".join([*phrase, words[0]])) <= LONGEST:
                phrase.append(words.pop(0))
            if len(phrase) > 1:
                found[" ".join(phrase)] = None
    return tuple(found)
