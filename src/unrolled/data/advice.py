"""What to do about input that cannot be used, where it depends on the command that reads it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from unrolled.errors import InputError

Topic = Literal["encoding", "missing", "short", "unknown"]


class Advised(InputError):
    """Input that cannot be used, with the advice that helps where a model is trained.

    Args:
        topic: What the advice is about.
        what: What is wrong, and where.
        advice: What to do.
    """

    def __init__(self, topic: Topic, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.topic: Topic = topic
        self.what = what


@contextmanager
def advising(advice: Mapping[Topic, str]) -> Iterator[None]:
    """Give other advice on some topics: a flag that a command lacks would only lead astray.

    Raises:
        InputError: In place of one that was advised otherwise.
    """
    try:
        yield
    except Advised as error:
        if error.topic not in advice:
            raise
        raise Advised(error.topic, error.what, advice[error.topic]) from None


UTF8: Mapping[Topic, str] = {"encoding": "convert it to utf-8, as by `iconv -f latin-1 -t utf-8`"}
"""For what has no ``--encoding``."""
WHOLE: Mapping[Topic, str] = {
    "missing": "fill the gap in the data, or train with --missing forward"
}
"""For what has no ``--missing``: a model reads data as it was trained to."""
ASKED: Mapping[Topic, str] = {**UTF8, **WHOLE, "unknown": "leave it out"}
"""For what is asked of a model, as by ``unrolled predict``."""
