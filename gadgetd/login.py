"""The root login on the serial console that goes over the USB cable (`usb.acm`)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from gadgetd.loop import Loop, Timer

TTY = "ttyGS0"
GETTY = ("/sbin/getty", "-L", "115200", TTY, "vt100")
PAUSE_S = 1.0
"""Between the end of one login and the next, so that one that cannot start does not spin."""


class Login:
    """Keeps a getty on ttyGS0 while it is wanted, from the loop.

    init cannot: the terminal comes and goes with the gadget. The host's going ends a login too,
    since the kernel hangs the terminal up.
    """

    def __init__(
        self, loop: Loop, command: tuple[str, ...] = GETTY, proc: Path = Path("/proc")
    ) -> None:
        self._loop = loop
        self._command = command
        self._proc = proc
        self._pid = 0
        self._pidfd = -1
        self._wanted = False
        self._pause: Timer | None = None

    def keep(self, *, wanted: bool) -> None:
        """Have a login, or none, from now on."""
        self._wanted = wanted
        if not wanted:
            self.end()
        elif not self._pid and self._pause is None:
            self._start()

    def end(self) -> None:
        """End the login and all that was started from it, and wait until it has ended.

        The kernel waits for the terminal to be closed before it removes the function, without a
        limit, so this comes first.
        """
        if not self._pid:
            return
        for pid in self._session():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._reap()

    def _start(self) -> None:
        self._pause = None
        if not self._wanted:
            return
        try:
            self._pid = os.posix_spawn(
                self._command[0], self._command, os.environ, setsigdef=[signal.SIGTERM]
            )
        except OSError:
            self._later()  # No getty here, or no memory for it.
            return
        self._pidfd = os.pidfd_open(self._pid)
        self._loop.watch(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self._reap()
        if self._wanted:
            self._later()

    def _later(self) -> None:
        self._pause = self._loop.call_later(PAUSE_S, self._start)

    def _reap(self) -> None:
        self._loop.unwatch(self._pidfd)
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _session(self) -> set[int]:
        """List the login and every process of its session; getty is the leader of it."""
        processes = (entry for entry in self._proc.iterdir() if entry.name.isdigit())
        members = {int(p.name) for p in processes if _session_of(p / "stat") == self._pid}
        return members | {self._pid}


def _session_of(stat: Path) -> int:
    """Read a process's session; 0 if it has ended. Source: proc(5), field 6 of stat."""
    try:
        # The name in parentheses may hold anything, so count from the last one.
        return int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[3])
    except (OSError, ValueError, IndexError):
        return 0
