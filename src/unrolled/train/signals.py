"""Ctrl-C and SIGTERM as a wish: the step at hand is finished and a checkpoint written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

WISHES = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Whether somebody asked the run to stop."""

    requested: bool = False


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """Note the first signal; a second acts at once, as it would have before.

    Only the main thread can do this; elsewhere signals are left alone.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {wish: signal.getsignal(wish) for wish in WISHES}

    def put_back() -> None:
        for wish, handler in before.items():
            signal.signal(wish, handler if handler is not None else signal.SIG_DFL)

    def note(_number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        put_back()

    for wish in WISHES:
        signal.signal(wish, note)
    try:
        yield stop
    finally:
        put_back()
