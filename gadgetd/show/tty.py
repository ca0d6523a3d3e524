"""Opening a terminal without owning it, and seeing who has it: a login, a shell, a program.

The kernel tells the foreground process group of a terminal (tcgetpgrp) only to the session that
it belongs to, so it is read from /proc/PID/stat. Source: proc(5), tty_nr and tpgid.
"""

from __future__ import annotations

import os
import stat
from enum import Enum, auto
from pathlib import Path

from gadgetd import sysfs
from gadgetd.frozen import Frozen


def open_terminal(path: str, proc: Path = Path("/proc")) -> int:
    """Open a terminal for writing, never waiting and never making it the daemon's own.

    Raises OSError; also if the path is no terminal: a mistyped /dev/mmcblk0 must not be written
    to, and a /dev/watchdog not even opened, which would start it. Without O_NOCTTY a daemon
    without a terminal would get this one, and its Ctrl-C.
    """
    status = os.stat(path)
    if not stat.S_ISCHR(status.st_mode) or not has_tty_driver(status.st_rdev, proc):
        raise OSError(f"{path} is not a terminal")
    fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not os.isatty(fd):
        os.close(fd)
        raise OSError(f"{path} is not a terminal")
    return fd


def has_tty_driver(device: int, proc: Path) -> bool:
    """Say whether a device number is a terminal's; True where the kernel does not tell.

    Source: show_tty_driver in the kernel's fs/proc/proc_tty.c: name, node, major, minors, type.
    """
    try:
        lines = (proc / "tty" / "drivers").read_text("utf-8", "replace").splitlines()
    except OSError:
        return True
    for line in lines:
        *_, major, minors, _ = ["", "", *line.split()]
        first, _, last = minors.partition("-")
        if not (major.isdecimal() and first.isdecimal() and (last or first).isdecimal()):
            continue
        if os.major(device) == int(major) and int(first) <= os.minor(device) <= int(last or first):
            return True
    return False


def is_terminal(path: str) -> bool:
    """Say whether `open_terminal` would succeed."""
    try:
        os.close(open_terminal(path))
    except OSError:
        return False
    return True


_LOGIN = frozenset(("getty", "agetty", "login", "init", "linuxrc"))
"""What runs before somebody is logged in; `init` is BusyBox' askfirst."""
_SHELLS = frozenset(("sh", "ash", "bash", "busybox", "dash", "hush", "ksh", "mksh", "zsh"))


class Owner(Enum):
    """Who a terminal's foreground belongs to."""

    NOBODY = auto()
    LOGIN = auto()
    """A login prompt, or a login that asks for a password."""
    SHELL = auto()
    """A shell. Whether it is at its prompt, the terminal's mode tells."""
    PROGRAM = auto()


class Foreground(Frozen):
    """Who has the terminal, and the process that leads its foreground group (0: none)."""

    owner: Owner
    pid: int = 0
    waits: bool = False
    """That process sleeps, as a shell does that waits for a key."""


NOBODY = Foreground(Owner.NOBODY)


class _Stat(Frozen):
    comm: str
    state: str
    device: int
    group: int
    """Foreground process group of the controlling terminal; -1 without one."""


class Watch:
    """Looks who has the terminal with one device number.

    It remembers one process of the session, so that looking again costs two small reads and not
    a walk over /proc. `own_group` is the daemon's own process group: started by hand from that
    terminal, it is in the foreground itself and disturbs nobody.
    """

    def __init__(self, device: int, proc: Path, own_group: int) -> None:
        self._device = device
        # Strings, not paths: a hundred of them are put together for a walk.
        self._proc = str(proc)
        self._own_group = own_group
        self._member = ""

    def look(self) -> Foreground:
        """Give who has the terminal now."""
        member = self._session_member()
        if member is None or member.group <= 0 or member.group == self._own_group:
            return NOBODY
        leader = _read_stat(f"{self._proc}/{member.group}")
        if leader is None:
            # The first of a pipeline ended, the others run on.
            return Foreground(Owner.PROGRAM)
        name = leader.comm.removeprefix("-")
        if name in _LOGIN:
            return Foreground(Owner.LOGIN, member.group)
        if name in _SHELLS:
            return Foreground(Owner.SHELL, member.group, leader.state == "S")
        return Foreground(Owner.PROGRAM, member.group)

    def _session_member(self) -> _Stat | None:
        if self._member:
            known = _read_stat(f"{self._proc}/{self._member}")
            if known is not None and known.device == self._device:
                return known
        self._member = ""
        try:
            names = [entry.name for entry in os.scandir(self._proc) if entry.name.isdigit()]
        except OSError:
            return None
        # Kernel threads have the low numbers, so a session is found sooner from above.
        for name in sorted(names, key=int, reverse=True):
            found = _read_stat(f"{self._proc}/{name}")
            if found is not None and found.device == self._device:
                self._member = name
                return found
        return None


def _read_stat(process: str) -> _Stat | None:
    """Read a process' stat; None if it is gone or makes no sense."""
    try:
        content = sysfs.read(f"{process}/stat")
    except OSError:
        return None
    # The name stands in parentheses and may itself contain some, and spaces.
    start, end = content.find("("), content.rfind(")")
    fields = content[end + 1 :].split()
    if start < 0 or end < start or len(fields) < 6:
        return None
    try:
        number, group = int(fields[4]) & 0xFFFFFFFF, int(fields[5])
    except ValueError:
        return None
    # include/linux/kdev_t.h, new_encode_dev().
    device = os.makedev(number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00)
    if number == 0:
        device = -1
    return _Stat(content[start + 1 : end], fields[0], device, group)
