"""The few calls that configfs is worked with, each wrapped once.

`Kernel` is the seam of the tests: a fake with the same methods keeps the kernel's rules in memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from gadgetd import sysfs
from gadgetd.child import Child
from gadgetd.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8


WAITING = ("file", "forced_eject", "ro", "cdrom", "UDC")
"""Attributes that wait for a command of the host's, and behind each other, in the order in which
they are asked. Those of a LUN take its function's filesem, which the command holds (source:
drivers/usb/gadget/function/storage_common.c); UDC waits for the threads of all functions, with the
lock of the gadget (source: drivers/usb/gadget/configfs.c)."""
_IN_ANY_CASE = ("forced_eject", "UDC")
"""Those that are begun behind others: the one before the host's next command, the other since it
takes the disks from the host before it waits."""


ANSWER_S = 0.3
"""A command that reads or writes a disk which is well is over sooner."""
UNBIND_S = 1.0
"""The threads of all functions end, and the disks are gone from the host meanwhile in any case."""


class Write(Frozen):
    """One that has not come to its end."""

    path: Path
    text: str
    child: Child


class Kernel:
    """The running kernel. Every method raises OSError with the kernel's own errno.

    None waits for a command of the host's: what would raises ETIMEDOUT at once, as long as a write
    that `write_apart` began is under way.
    """

    def __init__(self) -> None:
        self._under_way: dict[Path, list[Write]] = {}
        self.late: Callable[[int], None] = lambda _fd: None
        """Called with a descriptor for each write that goes on; it is readable at the end of it,
        and is closed soon after that."""

    def mkdir(self, path: Path) -> None:
        """Make a configfs item; the kernel fills it with attributes and default groups.

        EEXIST: it is there. ENOENT: no such USB function. ERANGE, EINVAL: the name is not taken.
        EBUSY: the function is linked.
        """
        self._keep_from_waiting(path, item=True)
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        """Remove an item. EBUSY: it is linked. ENOTEMPTY: items below. EPERM: a default group."""
        self._keep_from_waiting(path, item=True)
        path.rmdir()

    def symlink(self, target: Path, path: Path) -> None:
        """Link an item: a function into a configuration. EEXIST: it is linked already."""
        self._keep_from_waiting(path, item=True)
        path.symlink_to(target)

    def unlink(self, path: Path) -> None:
        """Remove a link. A gadget that is bound is unbound by that."""
        self._keep_from_waiting(path, item=True)
        path.unlink()

    def directories(self, path: Path) -> list[str]:
        """List the items and groups in a directory, in no particular order."""
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def links(self, path: Path) -> list[str]:
        """List the symbolic links in a directory, in no particular order."""
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_symlink()]

    def read(self, path: Path) -> str:
        """Read an attribute whole, with the newline that the kernel ends it with."""
        self._keep_from_waiting(path)
        return sysfs.read(path)

    def write(self, path: Path, text: str) -> None:
        """Set an attribute with a single system call. ENOENT: this kernel has no such attribute.

        One that may wait for the host is for `write_apart`.
        """
        self._keep_from_waiting(path)
        sysfs.write(path, text)

    def write_apart(self, path: Path, text: str, wait_s: float = 0.0) -> None:
        """Set an attribute in a process of its own, and wait no longer for the answer.

        Without `wait_s` it is ANSWER_S, or UNBIND_S.

        ETIMEDOUT: there is none yet, since a gadget's thread is busy with a command of the host.
        The write goes on, what came of it has to be looked at after it, and nothing that would
        wait behind it is begun before, but for what takes a disk from the host.
        """
        place = _place(path)
        there = self._under_way[place] if place in self.under_way else ()
        if any((each.path, each.text) == (path, text) for each in there):
            _time_out()  # It is asked for already.
        if path.name not in _IN_ANY_CASE:
            self._keep_from_waiting(path)
        write = Write(path, text, self._begin(path, text))
        wait_s = wait_s or (UNBIND_S if path.name == "UDC" else ANSWER_S)
        if number := self._answer(place, write, wait_s):
            raise OSError(number, os.strerror(number))

    def read_apart(self, gadget: Path, paths: Iterable[Path], wait_s: float = ANSWER_S) -> None:
        """See whether attributes of a gadget can be read without waiting; ETIMEDOUT: they cannot.

        An earlier daemon may have begun a write of which nobody here knows.
        """
        if gadget in self.under_way:
            _time_out()
        self._answer(gadget, Write(gadget, "", self._begin_reading(paths)), wait_s)

    @property
    def under_way(self) -> frozenset[Path]:
        """The functions, or gadgets, of which a write has not come to its end."""
        for place, writes in list(self._under_way.items()):
            left = [each for each in writes if not _is_over(each.child)]
            self._under_way[place] = left
            if not left:
                del self._under_way[place]
        return frozenset(self._under_way)

    def _begin(self, path: Path, text: str) -> Child:
        return Child(partial(sysfs.write, path, text))

    def _begin_reading(self, paths: Iterable[Path]) -> Child:
        return Child(partial(_read_all, tuple(paths)))

    def _answer(self, place: Path, write: Write, wait_s: float) -> int:
        """Wait so long for 0 or an errno. ETIMEDOUT: it goes on, noted as under way at `place`."""
        if not write.child.over(wait_s):
            self._under_way.setdefault(place, []).append(write)
            self.late(write.child.fileno())
            _time_out()
        return write.child.result()

    def _keep_from_waiting(self, path: Path, *, item: bool = False) -> None:
        """Raise ETIMEDOUT if it would wait; `item`: what is to be made or removed, else read."""
        waits = self._under_way and (item or path.name in WAITING)
        if waits and any(path.is_relative_to(place) for place in self.under_way):
            _time_out()

    def mount_configfs(self, path: Path) -> None:
        """Mount configfs. EBUSY: it is mounted there. ENODEV: the kernel has none.

        Source: mount(2).
        """
        # Imported here because a board's init has mounted it as a rule. Where it has not, this is
        # still cheaper than a mount program, and pyudev asks for ctypes anyway.
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        arguments = (b"configfs", os.fsencode(path), b"configfs")
        if libc.mount(*arguments, ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC), None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))


def _place(path: Path) -> Path:
    """Give what waits with an attribute: the function of a LUN, or the gadget."""
    return path.parent if path.name == "UDC" else path.parent.parent


def _is_over(child: Child) -> bool:
    if child.over():
        child.result()  # Whoever asked for it has gone on without.
        return True
    return False


def _read_all(paths: Iterable[Path]) -> None:
    for path in paths:
        sysfs.read(path)


def _time_out() -> NoReturn:
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
