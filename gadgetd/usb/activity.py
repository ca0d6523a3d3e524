"""Whether the host uses the gadget at this moment, told by the kernel's threads that serve it.

A disk's counters tell it late, or never: a write stays in RAM for a second or two before it moves
them, and a read of what RAM remembers does not move them at all.
"""

from __future__ import annotations

from pathlib import Path

from gadgetd import sysfs

THREAD = "file-storage"
"""One a mass-storage function (source: f_mass_storage.c). It wakes for each command."""
POLLING = 3
"""Wake-ups a LUN between two looks that are no use: a host asks empty drives, and not only those,
each second or two whether there is a medium, which is one. The shortest read is three."""
_FIELD = "voluntary_ctxt_switches:"


class Activity:
    """Counts each thread's wake-ups from one `look` to the next; the busiest one tells."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._threads: list[str] = []
        self._seen: list[int] = []
        self._asked: list[int] = []

    def look(self) -> int:
        """Begin to count anew; returns the wake-ups since the last look."""
        counts = self._count()
        woken, self._seen = self._most(counts), counts
        return woken

    def stirs(self) -> bool:
        """Tell whether a thread has been woken since this was last asked, or none is known."""
        before, self._asked = self._asked, self._count()
        return not self._threads or self._asked != before

    def forget(self) -> None:
        """Look for the threads anew, since a function may have been added."""
        self._threads = []

    def busy(self, luns: int) -> bool:
        """Tell whether the host has read or written since the last look; see `is_use`."""
        return is_use(self._most(self._count()), luns)

    def _most(self, counts: list[int]) -> int:
        woken = (now - before for now, before in zip(counts, self._seen, strict=True))
        return max(woken, default=0)

    def _count(self) -> list[int]:
        try:
            if self._threads:
                return [_wake_ups(each) for each in self._threads]
        except OSError:
            pass  # The gadget was taken down; another one has threads of its own.
        comms = self._proc.glob("[0-9]*/comm")
        self._threads = [f"{each.parent}/status" for each in comms if _serves(each)]
        try:
            self._seen = [_wake_ups(each) for each in self._threads]
        except OSError:
            self._threads, self._seen = [], []
        return self._seen


def is_use(wake_ups: int, luns: int) -> bool:
    """Tell whether so many wake-ups of a thread between two looks are more than asking for media.

    `luns`: as many of one function as a host asks.
    """
    return wake_ups > POLLING * luns


def _serves(comm: Path) -> bool:
    try:
        return sysfs.read(comm).strip() == THREAD
    except OSError:
        return False


def _wake_ups(status: str) -> int:
    return int(sysfs.read(status).partition(_FIELD)[2].split(None, 1)[0])
