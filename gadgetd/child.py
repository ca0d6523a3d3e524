"""Work that may take long, beside the poll loop, in a process of its own."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable


class Child:
    """Work under way. Its descriptor is readable when it is over.

    It runs in a forked child, since it takes as long as a medium does and the loop must go on:
    the screen, the LED, the other disks. The child keeps the descriptor `kept` alone, if any; if
    the daemon is killed, it finishes by itself. Raises OSError if there is no room for a process.
    """

    def __init__(self, work: Callable[[], None], kept: int = 2) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            _work_and_exit(work, kept)
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except OSError:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            raise

    def fileno(self) -> int:
        """Give the pidfd (source: pidfd_open(2))."""
        return self._pidfd

    def over(self, wait_s: float = 0.0) -> bool:
        """Wait for the end no longer than that, and tell whether it is there."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def result(self) -> int:
        """Wait for the end, release everything and return 0 or the errno that the work met."""
        _, status = os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        return os.waitstatus_to_exitcode(status)


def _work_and_exit(work: Callable[[], None], kept: int) -> None:
    code = 255
    try:
        # A daemon that is killed now must find its lock and its disks free when it starts again.
        os.closerange(3, kept)
        os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
        work()
        code = 0
    except OSError as error:
        code = error.errno or code
    finally:
        # Without the interpreter's own end: the parent's buffers and handlers are not ours.
        os._exit(code)
