"""What programs of the board read of an exported disk, which is not the host's doing."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from gadgetd.eventloop import Loop
from gadgetd.export.drive import Drive
from gadgetd.export.drives import Drives


class BoardReads:
    """Leaves a disk's reads uncounted as long as a program of the board reads it.

    The kernel counts a disk's bytes and not who reads them, so such a program has to say that it
    will. `counted` is called after each look at its counters, which may tell of a host's writes.
    """

    def __init__(self, loop: Loop, drives: Drives, counted: Callable[[], None]) -> None:
        self._loop = loop
        self._drives = drives
        self._counted = counted

    def begin(self, drive: Drive, pid: int) -> None:
        """Count no reads of this disk until the process has ended; what was read so far counts.

        Raises OSError if there is no such process (any more).
        """
        fd = os.pidfd_open(pid)
        self._count(drive)
        drive.board_readers += 1
        self._loop.watch(fd, partial(self._on_end, drive, fd))

    def _on_end(self, drive: Drive, fd: int) -> None:
        self._loop.unwatch(fd)
        os.close(fd)
        self._count(drive)
        drive.board_readers -= 1

    def _count(self, drive: Drive) -> None:
        self._drives.count(drive)
        self._counted()
