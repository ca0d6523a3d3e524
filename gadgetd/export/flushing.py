"""Flushes each disk when it is time, beside the loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gadgetd.disks.kernel_log import KernelLog
from gadgetd.eventloop import Alarms, Loop
from gadgetd.export.drive import Drive, Signal
from gadgetd.export.drives import Drives
from gadgetd.export.ending import Shutdown
from gadgetd.usb.link import Host

RETRY_S = 5.0
"""How long after there was no room for a process another is tried for."""


class Flushing:
    """Begins a flush of each disk that wants one, and calls `over` with the disk when it ends."""

    def __init__(
        self,
        loop: Loop,
        drives: Drives,
        host: Host,
        shutdown: Shutdown,
        log: KernelLog,
        over: Callable[[Drive], None],
    ) -> None:
        self._loop = loop
        self._alarms = Alarms(loop)
        self._drives = drives
        self._host = host
        self._shutdown = shutdown
        self._log = log
        self._over = over

    def begin_due(self) -> None:
        """Begin with those for which it is time."""
        for drive in self._drives.in_order:
            if drive.wants_flush(self._loop.clock(), self._host.ready):
                self._begin(drive)

    def begin_all(self) -> None:
        """Begin with all that are held and not being flushed."""
        for drive in self._drives.in_order:
            if drive.hold and drive.flush is None:
                self._begin(drive)

    def _begin(self, drive: Drive) -> None:
        try:
            fd = drive.start_flush().fileno()
        except OSError:
            # No room for another process. A stop does not wait for some, and says so.
            drive.lost |= self._shutdown.stop.begun
            self._alarms.set("flush", RETRY_S, self.begin_due)
            return
        self._loop.watch(fd, partial(self._end, drive, fd))

    def _end(self, drive: Drive, fd: int) -> None:
        self._loop.unwatch(fd)
        self._drives.note_errors(self._log.io_errors())  # Before the result, which adds to them.
        self._drives.end_flush(drive)
        if not self._host.ready:
            drive.signal(Signal.HOST_GONE)
        self._over(drive)
