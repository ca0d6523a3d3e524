"""What ends a process from outside, taken in an order that leaves nothing behind."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STATUS = 128
"""Added to a signal's number it is the exit status, as shells have it."""
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit, as SIGINT raises KeyboardInterrupt."""
    before = {}

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # the tidying up is not to be ended half way
        raise SystemExit(STATUS + number)

    for number in _numbers():
        if signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Have what would raise an exception raise it at the end of this, not in the middle.

    A mask would do it too, but a program that is started here would have it for ever.
    """
    came: list[int] = []
    handlers = {}
    for number in _numbers():
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, lambda got, _: came.append(got))
            handlers[number] = handler
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for got in came:
        handlers[signal.Signals(got)](got, None)


def _numbers() -> list[signal.Signals]:
    """The signals; none outside of the main thread, where Python lets nobody set a handler."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in signal.Signals if number.name in _ENDING]
