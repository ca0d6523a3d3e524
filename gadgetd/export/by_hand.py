"""What a person asks for: a disk taken from the host, given back to it, or read on the board."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from gadgetd.errors import GadgetError
from gadgetd.eventloop import Alarms, Loop
from gadgetd.export.drive import Drive, Signal
from gadgetd.export.drives import Drives
from gadgetd.usb.link import Host

EJECT_S = 10.0
"""How long a person who ejects a disk waits for it to answer. It is taken out all the same."""


class ByHand:
    """Ejects disks and inserts them. `changed` and `inserted` are called after each of the two."""

    def __init__(
        self,
        alarms: Alarms,
        drives: Drives,
        host: Host,
        changed: Callable[[], None],
        inserted: Callable[[], None],
    ) -> None:
        self._alarms = alarms
        self._drives = drives
        self._host = host
        self._changed = changed
        self._inserted = inserted
        self._under_way: dict[str, tuple[Drive, Callable[[GadgetError | None], None]]] = {}
        """Ejects that have not come to their end, by the name of their alarm."""

    def eject(
        self,
        drive: Drive,
        *,
        force: bool,
        then: Callable[[GadgetError | None], None] = lambda _error: None,
    ) -> None:
        """Take one disk from the host, as its own eject would. GadgetError if it has locked it.

        `then` is called once it is out, or with the reason why it is not, or not yet.
        """
        if self._drives.eject(drive, force=force):
            then(None)
        else:
            alarm = f"eject {drive.number}"
            self._answer(alarm)  # Somebody has asked for the same.
            self._under_way[alarm] = (drive, then)
            self._alarms.set(alarm, EJECT_S, partial(self._answer, alarm))
        self._changed()

    def answer(self) -> None:
        """Answer those whose disks have come out, or have turned out to be locked."""
        for alarm, (drive, _) in list(self._under_way.items()):
            if not drive.waits:
                self._answer(alarm)

    def insert(self, drive: Drive, *, anew: bool = True) -> None:
        """Give an ejected disk back to the host; `anew`: a person does, who has been told."""
        self._drives.insert(drive, anew=anew)
        if self._host.ready:
            drive.signal(Signal.HOST_READY)
        self._changed()  # The word is taken back before the disk is with the host.
        self._inserted()

    def _answer(self, alarm: str) -> None:
        if alarm in self._under_way:
            drive, then = self._under_way.pop(alarm)
            then(None if drive.ejected else drive.no_answer if drive.waits else drive.in_use)


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
