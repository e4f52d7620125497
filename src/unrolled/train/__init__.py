"""The training loop, its optimisers and schedules, many processes, and what a run tells of itself.

`run` puts the parts together: `plan` settles the settings, `loop` makes the updates, `state` and
`log` are what a checkpoint holds of them, `results` judges the end. The package itself can be called:
``unrolled.train(...)`` is :func:`unrolled.train.run.train`, though ``unrolled.train`` is this room.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unrolled.lazy import lazily

if TYPE_CHECKING:
    from unrolled.train.run import train

__all__ = ["train"]

__getattr__, __dir__ = lazily(__name__, {"train": "unrolled.train.run"}, __all__)


class _Room(ModuleType):
    """A package that is also its one function, whichever of the two is imported first."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - see `train`
        from unrolled.train.run import train

        return train(*arguments, **keywords)


sys.modules[__name__].__class__ = _Room
