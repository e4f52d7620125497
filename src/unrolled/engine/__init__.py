"""The contract of a cell, and the engines that run one over a sequence.

`cell` is what a user writes; `reference` runs it as it stands. `trace` writes its step into a `graph`
(`lower` knows torch's operations), `derive` adds the gradient, `rewrite` and `partition` move out of
the loop what need not be there, `program` schedules the rest, `encode` hands it to the C++ core, and
`native` runs it. `choose` decides between the engines, `operators` and `capture` let torch's compilers
keep the loop whole, `frozen` packs weights once for many calls, and `chain` has the core make whole
training steps. The package itself can be called:
``with unrolled.engine("reference"):`` is :func:`unrolled.engine.choose.engine`.
"""

import sys
from contextlib import AbstractContextManager
from types import ModuleType

from unrolled.engine.cell import Cell, States
from unrolled.engine.chain import Chain
from unrolled.engine.choose import engine, run
from unrolled.engine.lower import Declined
from unrolled.engine.reference import Outputs

__all__ = ["Cell", "Chain", "Declined", "Outputs", "States", "engine", "run"]


class _Room(ModuleType):
    """A package that is also the choice of an engine."""

    def __call__(self, name: str) -> AbstractContextManager[None]:
        return engine(name)


sys.modules[__name__].__class__ = _Room
