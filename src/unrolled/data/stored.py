"""Many texts or arrays, one after the other: in memory while they are few, else in a file that goes away.

So data larger than memory is read once and looked up by number. N items.
"""

import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from mmap import ACCESS_READ, mmap
from typing import Any, Generic, TypeVar, overload

import numpy as np

from unrolled.data.cache import cache_dir, writing_to

KEPT = 64 << 20
"""Bytes that stay in memory; of more all are in a file of the cache, which ends with the process."""

T = TypeVar("T")
Rows = slice | Sequence[int] | np.ndarray


class Stored(Sequence[T], Generic[T]):
    """Items by number, made by :class:`Store`; some of them are a view.

    Args:
        content: The bytes of all, a buffer.
        starts: Where each begins (N,).
        sizes: Bytes of each (N,).
        decode: Bytes -> item.
    """

    def __init__(
        self,
        content: memoryview,
        starts: np.ndarray,
        sizes: np.ndarray,
        decode: Callable[[memoryview], T],
    ) -> None:
        self._content, self._starts, self.sizes, self._decode = content, starts, sizes, decode

    def __len__(self) -> int:
        """N."""
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: Rows) -> "Stored[T]": ...
    def __getitem__(self, index: int | Rows) -> "T | Stored[T]":
        """Give an item, or a view of several."""
        if isinstance(index, int | np.integer):
            start = self._starts[index]
            return self._decode(self._content[start : start + self.sizes[index]])
        return Stored(self._content, self._starts[index], self.sizes[index], self._decode)

    def __iter__(self) -> Iterator[T]:
        """Give all, one after the other."""
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds the same."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))


class Store(Generic[T]):
    """Takes items one by one.

    Args:
        encode: Item -> bytes.
        decode: The other way.
    """

    def __init__(self, encode: Callable[[T], bytes], decode: Callable[[memoryview], T]) -> None:
        self._encode, self._decode = encode, decode
        self._sizes = array("q")
        self._waiting = bytearray()
        self._file: Any = None

    def __len__(self) -> int:
        """Count the items so far."""
        return len(self._sizes)

    def add(self, item: T) -> None:
        """Take one more.

        Raises:
            RunError: If there is no space left for it.
        """
        content = self._encode(item)
        self._sizes.append(len(content))
        self._waiting += content
        if len(self._waiting) > KEPT:
            self._write()

    def _write(self) -> None:
        room = cache_dir() / "spool"
        with writing_to(room):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=room)  # noqa: SIM115 - closed below
                weakref.finalize(self, self._file.close)
            self._file.write(self._waiting)
            self._file.flush()
        self._waiting = bytearray()

    def done(self) -> Stored[T]:
        """Give all that was taken."""
        content = memoryview(self._waiting)
        if self._file is not None:
            self._write()
            content = memoryview(mmap(self._file.fileno(), 0, access=ACCESS_READ))
            self._file.close()  # the map stays
        sizes = np.array(self._sizes, np.int64)
        return Stored(content, np.cumsum(sizes) - sizes, sizes, self._decode)

    def of(self, items: Iterable[T]) -> Stored[T]:
        """Take all of some items, and give them."""
        for item in items:
            self.add(item)
        return self.done()


def texts() -> Store[str]:
    """Give a store of texts."""
    return Store(
        lambda text: text.encode("utf-8", "surrogatepass"),
        lambda content: str(content, "utf-8", "surrogatepass"),
    )


def numbers(dtype: np.dtype) -> Store[np.ndarray]:
    """Give a store of arrays of one axis."""
    return Store(lambda values: values.tobytes(), lambda content: np.frombuffer(content, dtype))


def anything() -> Store[Any]:
    """Give a store of whatever can be pickled."""
    return Store(lambda item: pickle.dumps(item, pickle.HIGHEST_PROTOCOL), pickle.loads)
