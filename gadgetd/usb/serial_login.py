"""The root login on the serial console that goes over the USB cable (`usb.acm`)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from gadgetd.eventloop import Loop, Timer

TTY = "ttyGS0"
GETTY = ("/sbin/getty", "-L", "-w", "115200", TTY, "vt100")
"""It says nothing until Enter is pressed: a host echoes whatever comes before it has set its end
up, and getty would take its own prompt for somebody's name."""
_DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores or handles these, and a shell would hand that on to what it runs."""
PAUSE_S = 1.0
"""Between the end of one login and the next, so that one that cannot start does not spin."""


class Login:
    """Keeps a getty on ttyGS0 while it is wanted, from the loop.

    init cannot: the terminal comes and goes with the gadget. The host's going ends a login too,
    since the kernel hangs the terminal up.
    """

    def __init__(
        self,
        loop: Loop,
        command: tuple[str, ...] = GETTY,
        proc: Path = Path("/proc"),
        tty: Path = Path("/dev", TTY),
    ) -> None:
        self._loop = loop
        self._command = command
        self._proc = proc
        self._tty = tty
        self._pid = 0
        self._pidfd = -1
        self._wanted = False
        self._pause: Timer | None = None

    @property
    def tty(self) -> str:
        """Name of the terminal, while there is one with a login on it; empty otherwise."""
        return TTY if self._wanted and self._tty.exists() else ""

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
        for pid in self._users():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._pid:
            self._reap()

    def _start(self) -> None:
        self._pause = None
        if not self._wanted:
            return
        self.end()  # A login of an earlier daemon, which was killed.
        try:
            self._pid = os.posix_spawn(
                self._command[0], self._command, os.environ, setsigdef=_DEFAULT_SIGNALS
            )
        except OSError:
            self._later()  # No getty here, or no memory for it.
            return
        # Imported here: it is asked for by few, and after the disks.
        from gadgetd import oom

        # What a person starts there is no daemon.
        oom.set_score(oom.ORDINARY, self._proc / str(self._pid))
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

    def _users(self) -> set[int]:
        """List our login and every process that has the terminal open, whoever started it."""
        users = {self._pid} - {0}
        if not self._tty.exists():
            return users
        for process in self._proc.glob("[0-9]*"):
            with suppress(OSError):  # It has ended meanwhile.
                if any(fd.readlink() == self._tty for fd in (process / "fd").iterdir()):
                    users.add(int(process.name))
        return users - {os.getpid()}  # A daemon started by hand, from that very login.
