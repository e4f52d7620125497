"""N-gram language models by counting: the baselines beside which a recurrent model is judged.

Two interpolated smoothings, both of the form

    P(w | h) = (max(c(h w) - d, 0) + a N1+(h •) P(w | h')) / (c(h •) + (a - d) N1+(h •)),

where c are counts, N1+(h •) is the number of different symbols seen after the context h, and h' is h
without its oldest symbol. Below the empty context stands the uniform P(w) = 1 / size; a context that
nothing followed hands over to the shorter one.

- ``witten-bell`` (Witten & Bell 1991; Chen & Goodman 1998, section 2.5): d = 0 and a = 1.
- ``kneser-ney`` (Kneser & Ney 1995; Chen & Goodman 1998, section 2.7): a = d = n1 / (n1 + 2 n2), n1
  and n2 the number of grams counted once and twice; below the longest gram, the number of different
  symbols seen before h w, N1+(• h w), stands for c(h w). On English and on source code it predicts
  better by 0.03 to 0.05 nats a character at order 4 and by 0.2 at order 7, hence the default.

Grams are kept as a trie in sorted arrays. Level k holds each k-gram that occurs under the key
``node of its first k-1 symbols * size + last symbol``; its place among the sorted keys is its node.
Arrays by node end with one entry more, all zero, for what was never seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self, get_args

import numpy as np

from unrolled.errors import InputError

Smoothing = Literal["kneser-ney", "witten-bell"]

CHUNK = 1 << 16
"""Symbols scored at a time, so that a text on disk may be longer than memory."""


@dataclass(frozen=True)
class _Level:
    """The grams of one length."""

    keys: np.ndarray
    """(grams + 1,) int64, increasing; the last is no gram's."""

    @classmethod
    def of(cls, keys: np.ndarray) -> Self:
        """Make the level of the increasing `keys` (grams,)."""
        return cls(np.append(keys, np.iinfo(np.int64).max))

    @property
    def never(self) -> int:
        """The node of whatever was never seen, which is also the number of grams."""
        return len(self.keys) - 1

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Give the node of each key."""
        nodes = np.searchsorted(self.keys, keys)
        return np.where(self.keys[nodes] == keys, nodes, self.never)


@dataclass(frozen=True)
class _Term:
    """One term of the recursion, for all grams h w of one length."""

    counts: np.ndarray
    """(grams + 1,): c(h w)."""
    followed: np.ndarray
    """(contexts + 1,): c(h •)."""
    kinds: np.ndarray
    """(contexts + 1,): N1+(h •)."""
    d: float
    a: float

    @classmethod
    def of(
        cls, counts: np.ndarray, context: np.ndarray, contexts: int, smoothing: Smoothing
    ) -> Self:
        """Sum up the `counts` (grams,) of grams whose h has node `context` (grams,) of `contexts`."""
        d, a = 0.0, 1.0
        if smoothing == "kneser-ney":
            n1, n2 = (int(np.count_nonzero(counts == n)) for n in (1, 2))
            d = a = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5  # a small alphabet has no rare grams
        followed = np.bincount(context, weights=counts, minlength=contexts + 1)
        kinds = np.bincount(context[counts > 0], minlength=contexts + 1)
        return cls(_compact(np.append(counts, 0)), _compact(followed), _compact(kinds), d, a)

    def probability(self, gram: np.ndarray, context: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Give P(w | h) by the nodes of h w and of h, and `shorter` = P(w | h'); all (n,)."""
        kinds = self.kinds[context]
        total = self.followed[context] + (self.a - self.d) * kinds
        share = np.maximum(self.counts[gram] - self.d, 0) + self.a * kinds * shorter
        return np.divide(share, total, out=shorter.copy(), where=total > 0)


class NGram:
    """Smoothed n-gram models of every order from 1 to `order`, over symbols 0 ... size-1.

    Made by :meth:`fit` or :meth:`from_arrays`. An order counts the predicted symbol: order 1 knows
    frequencies only, order 7 looks back over six symbols.
    """

    def __init__(
        self,
        size: int,
        smoothing: Smoothing,
        levels: Sequence[_Level],
        counts: Sequence[np.ndarray],
    ) -> None:
        """Take the grams of length 1, 2, ... and how often each occurs."""
        self.size = size
        self.order = len(levels)
        self.smoothing: Smoothing = smoothing
        self._levels = levels
        self._longest = self._terms(counts)
        self._inner = self._longest
        if smoothing == "kneser-ney":
            self._inner = self._terms(self._continuations())

    def _terms(self, counts: Sequence[np.ndarray]) -> list[_Term]:
        contexts = [1, *(level.never for level in self._levels)]
        return [
            _Term.of(of_level, level.keys[:-1] // self.size, below, self.smoothing)
            for of_level, level, below in zip(counts, self._levels, contexts, strict=False)
        ]

    def _continuations(self) -> list[np.ndarray]:
        """Count, for all grams but the longest, the different symbols seen before them."""
        counts = []
        tail = np.zeros(self._levels[0].never, np.int64)  # by a gram's node: it without its oldest
        for shorter, level in pairwise(self._levels):
            context, symbol = np.divmod(level.keys[:-1], self.size)
            tail = shorter.find(tail[context] * self.size + symbol)
            counts.append(_compact(np.bincount(tail, minlength=shorter.never)))
            if len(counts[-1]) > shorter.never:
                raise ValueError("a gram lacks its shorter one")
        return counts

    @classmethod
    def fit(
        cls,
        ids: np.ndarray,
        size: int,
        order: int = 7,
        cap: int = 5_000_000,
        smoothing: Smoothing = "kneser-ney",
    ) -> Self:
        """Count the grams of a text.

        Args:
            ids: Symbols (n,), any integer type, possibly memory-mapped.
            size: Number of different symbols there can be.
            order: Longest gram to count.
            cap: Count over at most so many symbols from the start.
            smoothing: See the head of this module.

        Raises:
            InputError: If a symbol is not in 0 ... size-1.
        """
        grams = _sorted_grams(_checked(ids[:cap], size), size, order)
        levels, counts = [], []
        node = np.zeros(grams.shape[1], np.int64)  # by row: of its first k-1 symbols
        begins = np.zeros(grams.shape[1], bool)
        begins[:1] = True
        for symbol in grams:
            begins[1:] |= symbol[1:] != symbol[:-1]
            whole = symbol < size
            first = np.flatnonzero(begins & whole)
            levels.append(_Level.of(node[first] * size + symbol[first]))
            node = np.cumsum(begins & whole) - 1
            counts.append(_compact(np.bincount(node[whole], minlength=len(first))))
        return cls(size, smoothing, levels, counts)

    def nats(
        self, ids: np.ndarray, order: int | None = None, context_from: np.ndarray | None = None
    ) -> np.ndarray:
        """Give the negative log probability, in nats, of every symbol of a text.

        Args:
            ids: Symbols (n,), possibly memory-mapped.
            order: From 1 to `self.order`, the default.
            context_from: Symbols (m,) that stand just before `ids`: looked back upon, not scored.
                Without them the first symbols are scored by lower orders.

        Returns:
            (n,) float64.

        Raises:
            InputError: If a symbol is not in 0 ... size-1.
        """
        place = (order or self.order) - 1
        chunks = [nats[place] for nats in self._stream(ids, context_from)]
        return np.concatenate([np.empty(0), *chunks])

    def cross_entropy(
        self, ids: np.ndarray, context_from: np.ndarray | None = None
    ) -> dict[int, float]:
        """Give order -> mean nats per symbol of a text, for every order in one pass over it.

        Arguments are those of :meth:`nats`. Memory does not grow with the text.

        Raises:
            InputError: If there is no text, or a symbol is not in 0 ... size-1.
        """
        if not len(ids):
            raise InputError("there is no text for the n-gram baselines to score")
        total = np.zeros(self.order)
        for nats in self._stream(ids, context_from):
            total += nats.sum(axis=1)
        return {k: float(nats) / len(ids) for k, nats in enumerate(total, 1)}

    def _stream(self, ids: np.ndarray, context_from: np.ndarray | None) -> Iterator[np.ndarray]:
        """Give nats (order, chunk) of one stretch of the text after the other."""
        before = np.empty(0, np.int64) if context_from is None else context_from
        for start in range(0, len(ids), CHUNK):
            before = before[max(0, len(before) - self.order + 1) :]
            block = np.concatenate([before, ids[start : start + CHUNK]])
            yield -np.log(self._probabilities(_checked(block, self.size))[:, len(before) :])
            before = block

    def _probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Give P (order, n) of each symbol of `ids` (n,) after those before it."""
        probabilities = np.empty((self.order, len(ids)))
        shorter = np.full(len(ids) + 1, 1 / self.size)
        gram = np.zeros(len(ids) + 1, np.int64)  # by place: node of the k symbols there
        for k, level in enumerate(self._levels):
            context, shorter = gram[:-1], shorter[1:]
            gram = level.find(context * self.size + ids[k:])
            # also for the longer ones: what they lack context for stays as it is set here
            probabilities[k:, k:] = self._longest[k].probability(gram, context, shorter)
            if k < self.order - 1:
                shorter = self._inner[k].probability(gram, context, shorter)
        return probabilities

    def distribution(self, context: np.ndarray, order: int | None = None) -> np.ndarray:
        """Give the probability of every symbol (size,) after `context` (m,), of which the end counts.

        Raises:
            InputError: If a symbol is not in 0 ... size-1.
        """
        context = _checked(context, self.size)
        longest = min(order or self.order, len(context) + 1) - 1
        p = np.full(self.size, 1 / self.size)
        for k in range(longest + 1):
            node = np.zeros(1, np.int64)
            for level, symbol in zip(self._levels, context[len(context) - k :], strict=False):
                node = level.find(node * self.size + symbol)
            gram = self._levels[k].find(node * self.size + np.arange(self.size))
            term = (self._longest if k == longest else self._inner)[k]
            p = term.probability(gram, node, p)
        return p

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give the counts as small unsigned arrays, which :meth:`from_arrays` takes back.

        ``head`` holds the size and the place of the smoothing in its list; for each level k there
        are the last symbol of its grams, their counts, and how many begin with each shorter gram.
        """
        arrays = {"head": np.array([self.size, get_args(Smoothing).index(self.smoothing)])}
        for k, (level, term) in enumerate(zip(self._levels, self._longest, strict=True), 1):
            arrays[f"symbols.{k}"] = _compact(level.keys[:-1] % self.size)
            arrays[f"counts.{k}"] = term.counts[:-1]
            arrays[f"kinds.{k}"] = term.kinds[:-1]
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild the models from what :meth:`to_arrays` gave.

        Raises:
            InputError: If an array is missing or does not fit the others.
        """
        try:
            size, smoothing = (int(number) for number in arrays["head"])
            if size < 1 or len(arrays) < 4:
                raise ValueError(f"size {size}, {len(arrays)} arrays")
            levels, counts, contexts = [], [], 1
            for k in range(1, len(arrays) // 3 + 1):
                symbols, count, kinds = (arrays[f"{part}.{k}"] for part in _PARTS)
                levels.append(_Level.of(_keys(symbols, count, kinds, contexts, size)))
                counts.append(count)
                contexts = len(symbols)
            return cls(size, get_args(Smoothing)[smoothing], levels, counts)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(
                f"the counts of the n-gram baselines are damaged ({error}); train the model again"
            ) from None


_PARTS = ("symbols", "counts", "kinds")


def _sorted_grams(symbols: np.ndarray, size: int, order: int) -> np.ndarray:
    """Sort the longest grams of a text, one from each place: (order, n), in the first symbols first.

    So all shorter ones lie sorted too, each with its copies side by side. Past the text's end stands `size`.
    """
    padded = np.append(symbols, np.full(order - 1, size)).astype(np.min_scalar_type(size))
    grams = np.stack([padded[k : len(symbols) + k] for k in range(order)])
    bits = size.bit_length()
    fitting = 63 // bits  # symbols in a number; sorting one number is much faster than several
    numbers = []
    for start in range(0, order, fitting):
        number = np.zeros(len(symbols), np.int64)
        for symbol in grams[start : start + fitting]:
            number = number << bits | symbol
        numbers.append(number)
    if len(numbers) > 1:
        return grams[:, np.lexsort(numbers[::-1])]
    (number,) = numbers
    number.sort()
    return np.stack(
        [
            (number >> bits * (order - 1 - k) & (1 << bits) - 1).astype(grams.dtype)
            for k in range(order)
        ]
    )


def _keys(
    symbols: np.ndarray, counts: np.ndarray, kinds: np.ndarray, contexts: int, size: int
) -> np.ndarray:
    """Keys of a level from its saved arrays; ValueError if they cannot belong together."""
    if any(array.dtype.kind != "u" or array.ndim != 1 for array in (symbols, counts, kinds)):
        raise ValueError("not unsigned numbers")
    if len(kinds) != contexts or len(counts) != len(symbols) or kinds.sum() != len(symbols):
        raise ValueError("arrays of different lengths")
    keys = np.repeat(np.arange(contexts), kinds) * size + symbols
    if not counts.all() or (symbols >= size).any() or (np.diff(keys) <= 0).any():
        raise ValueError("grams out of order")
    return keys


def _checked(ids: np.ndarray, size: int) -> np.ndarray:
    """`ids` as int64, all of them in 0 ... size-1."""
    symbols = np.asarray(ids, np.int64)
    wrong = (symbols < 0) | (symbols >= size)
    if wrong.any():
        raise InputError(
            f"symbol {symbols[wrong][0]} is none of the {size} symbols of the n-gram baselines"
        )
    return symbols


def _compact(numbers: np.ndarray) -> np.ndarray:
    """`numbers` in the smallest unsigned type that holds them."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))
