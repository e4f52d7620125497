"""Several tags for each step, and how they become arrays.

T steps, B rows, N tags of a step.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from unrolled.data.tagged import Labels, Tagged
from unrolled.errors import InputError


@dataclass(frozen=True)
class Heads:
    """What there is to tell: of each task its name, and its tags by number."""

    names: list[str]
    labels: list[Labels]

    @classmethod
    def fit(cls, names: Sequence[str], sequences: Iterable[Tagged]) -> Self:
        """Collect the tags of all sequences."""
        seen: list[set[str]] = [set() for _ in names]
        for one in sequences:
            for step in one.tags:
                for known, tag in zip(seen, step, strict=True):
                    known.add(tag)
        return cls(list(names), [Labels(sorted(known)) for known in seen])

    @classmethod
    def restore(cls, table: Mapping[str, Any]) -> Self:
        """Rebuild what :meth:`to_json` gave."""
        return cls([*table], [Labels(names) for names in table.values()])

    def to_json(self) -> dict[str, list[str]]:
        """Give the tags of each task."""
        return {name: labels.names for name, labels in zip(self.names, self.labels, strict=True)}

    def targets(self, rows: Sequence[Sequence[tuple[str, ...]]]) -> np.ndarray:
        """Put tags side by side (T, B, N).

        Raises:
            InputError: If there is an unknown one, or a step has another number of tags.
        """
        for row in rows:
            if len(row[0]) != len(self.names):
                raise InputError(
                    f"a word has {len(row[0])} tags, but the model learned {', '.join(self.names)}; name the "
                    "columns with --columns"
                )
        each = [
            labels.targets([[step[n] for step in row] for row in rows])
            for n, labels in enumerate(self.labels)
        ]
        return np.stack(each, -1)


def head_names(columns: Sequence[str], count: int, *, usual: Sequence[str]) -> list[str]:
    """Name the tasks.

    Args:
        columns: Those of the words and the tags, if they are given: ``feats.Number`` is ``number``.
        count: How many tasks there are.
        usual: What they are called if there are as many and no columns are given.
    """
    if columns:
        names = [column.rpartition(".")[2].lower() for column in columns[1:]]
        names = [f"column {name}" if name.lstrip("-").isdigit() else name for name in names]
    elif len(usual) == count:
        names = list(usual)
    else:
        names = [f"column {n + 2}" for n in range(count)]
    if len(set(names)) < len(names):
        raise InputError(f"--columns {','.join(columns)} names a task twice")
    return names
