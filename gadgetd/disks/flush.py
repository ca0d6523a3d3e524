"""fsync of a whole disk beside the poll loop, in a process of its own."""

from __future__ import annotations

import os
import signal


class Flush:
    """An fsync under way. Its descriptor is readable when it is over.

    It runs in a forked child, since an fsync takes as long as the medium does and the loop must
    go on: the screen, the LED, the other disks. The child keeps this descriptor alone and does
    nothing else; if the daemon is killed, it finishes by itself.
    """

    def __init__(self, fd: int) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            _fsync_and_exit(fd)
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except OSError:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            raise

    def fileno(self) -> int:
        """Give the pidfd (source: pidfd_open(2))."""
        return self._pidfd

    def result(self) -> int:
        """Wait for the end, release everything and return 0 or the errno of the fsync."""
        _, status = os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        return os.waitstatus_to_exitcode(status)


def _fsync_and_exit(fd: int) -> None:
    code = 255
    try:
        # A daemon that is killed now must find its lock and its disks free when it starts again.
        os.closerange(3, fd)
        os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
        os.fsync(fd)
        code = 0
    except OSError as error:
        code = error.errno or code
    finally:
        # Without the interpreter's own end: the parent's buffers and handlers are not ours.
        os._exit(code)
