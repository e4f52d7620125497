"""Ctrl-C and SIGTERM as a wish: the step at hand is finished and a checkpoint written.

Before the first step there is nothing to finish: then both act at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from unrolled.errors import Interrupted

WISHES = (signal.SIGINT, signal.SIGTERM)


BEFORE = "interrupted before the first step; nothing was written"


@contextmanager
def before_the_first_step() -> Iterator[None]:
    """Say of Ctrl-C and SIGTERM meanwhile that nothing was written.

    Raises:
        Interrupted: After either.
    """
    try:
        with terminable():
            yield
    except KeyboardInterrupt:
        raise Interrupted(BEFORE) from None


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM act as Ctrl-C does, where nobody has a handler for it.

    Only the main thread can do this. Of many processes each still ends at once: one that waits for
    another would not come to its handler.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    main = threading.current_thread() is threading.main_thread()
    if not (alone and main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
