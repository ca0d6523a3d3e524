"""The life of one LUN as a table: what it is doing, what happens, what it does then. Pure.

Two promises hang on it. `FLUSHED` and `EJECTED` are reached through a finished fsync alone, and
`FAILED` is never left for either: after an fsync that failed the kernel forgets the lost pages,
so the next one would succeed and prove nothing (source: Documentation/filesystems/vfs.rst).
"""

from __future__ import annotations

from enum import Enum, auto

from gadgetd.status import Life


class Signal(Enum):
    """What can happen to a LUN."""

    HOST_READY = auto()
    """A host configured the gadget."""
    HOST_GONE = auto()
    READ = auto()
    """The disk's counters moved since the last look."""
    WRITE = auto()
    QUIET = auto()
    """The counters have stood still for long enough."""
    FLUSH_STARTED = auto()
    FLUSH_DONE = auto()
    FLUSH_FAILED = auto()
    EJECT = auto()
    INSERT = auto()
    LEFT = auto()
    """The disk left the board."""


TRANSITIONS: dict[Life, dict[Signal, Life]] = {
    # Without a host the kernel may still be writing what an earlier one left in RAM.
    Life.WAITING: {
        Signal.HOST_READY: Life.IDLE,
        Signal.WRITE: Life.WRITING,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    Life.IDLE: {
        Signal.HOST_GONE: Life.WAITING,
        Signal.READ: Life.READING,
        Signal.WRITE: Life.WRITING,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    Life.READING: {
        Signal.HOST_GONE: Life.WAITING,
        Signal.WRITE: Life.WRITING,
        Signal.QUIET: Life.IDLE,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    # Neither a quiet moment nor a pulled cable ends it: the data is still in RAM.
    Life.WRITING: {
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    # The flush itself moves the counters, so WRITE says nothing here.
    Life.FLUSHING: {
        Signal.FLUSH_DONE: Life.FLUSHED,
        Signal.FLUSH_FAILED: Life.FAILED,
        Signal.EJECT: Life.EJECTING,
    },
    Life.FLUSHED: {
        Signal.HOST_GONE: Life.WAITING,
        Signal.READ: Life.READING,
        Signal.WRITE: Life.WRITING,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    Life.EJECTING: {
        Signal.FLUSH_DONE: Life.EJECTED,
        Signal.FLUSH_FAILED: Life.FAILED,
        Signal.INSERT: Life.WAITING,
    },
    # The word "safe" outlives the cable.
    Life.EJECTED: {Signal.INSERT: Life.WAITING},
    Life.FAILED: {Signal.INSERT: Life.WAITING},
    Life.GONE: {Signal.INSERT: Life.WAITING},
}


def after(life: Life, signal: Signal) -> Life:
    """Give what a LUN does after `signal`; what the table does not name changes nothing."""
    if signal is Signal.LEFT:
        return Life.GONE
    return TRANSITIONS[life].get(signal, life)


UNWRITTEN = frozenset((Life.WRITING, Life.FLUSHING, Life.EJECTING, Life.FAILED))
"""In these, bytes that the host wrote may not be on the medium."""
EMPTY = frozenset((Life.EJECTING, Life.EJECTED, Life.GONE))
"""In these, the host sees a drive without a medium."""
