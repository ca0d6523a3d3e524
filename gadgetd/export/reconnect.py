"""Whether the host may be disconnected for a moment, to change what cannot be changed otherwise.

Only if it has let go of every disk. A host keeps what it was told to write, sends no command
meanwhile and does not say so: a quiet disk is not a free one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gadgetd.eventloop import Clock
from gadgetd.export.drive import Drive
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.usb.activity import Activity

LET_GO_S = 35.0
"""A host that has sent no command for so long has no unwritten data of its own any more: Linux
keeps it for 30 s and looks each 5 s (Documentation/admin-guide/sysctl/vm.rst:
dirty_expire_centisecs, dirty_writeback_centisecs)."""


class Reconnect:
    """Follows for how long the host has left the disks alone. Call `look` while a host is there."""

    def __init__(self, clock: Clock, gadget: OwnGadget, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._gadget = gadget
        self._activity = Activity(proc)
        self._used_at = clock()
        self.attach = False
        """A person wants it now, whatever the host may lose."""
        self.locked: tuple[str, ...] = ()
        """The disks that the host had locked when it was last looked for that."""
        self._known: tuple[str, ...] = ()

    def look(self, drives: Sequence[Drive], *, awake: bool) -> None:
        """Note whether the host has used a disk since the last look, or could not have."""
        if not awake or self._in_use(drives):
            self.used()
        self._activity.look()

    def used(self) -> None:
        """Take it that the host uses the disks at this moment."""
        self._used_at = self._clock()

    def done(self) -> None:
        """Begin anew with a gadget whose functions may be others."""
        self._activity.forget()

    def allowed(self, drives: Sequence[Drive], *, awake: bool) -> bool:
        """Tell whether a host that is there has let go of every disk, or may be disconnected.

        One that is not `awake` says nothing by its silence, nor does the lock: it sleeps with its
        data, or resets the bus, at which the kernel forgets the lock (source: handle_exception in
        drivers/usb/gadget/function/f_mass_storage.c).
        """
        self.locked = ()
        if self.attach:
            return True
        if self._in_use(drives):
            return False
        if not any(drive.inserted for drive in drives):
            return True  # All are ejected.
        if not awake:
            self.used()
            return False
        if self._clock() - self._used_at < LET_GO_S:
            return False
        # Last, for the kernel is asked: a host that has a disk open locks it.
        # One that was locked first: the kernel notes each question about an open one in its log.
        inserted = [drive for drive in drives if drive.inserted]
        known = [drive for drive in inserted if drive.name in self._known]
        self.locked = self._locked(known) or self._locked(inserted)
        self._known = self.locked
        return not self.locked

    def _locked(self, drives: Sequence[Drive]) -> tuple[str, ...]:
        return tuple(e.name for e in drives if self._gadget.is_locked(e.number))

    def _in_use(self, drives: Sequence[Drive]) -> bool:
        calm = all(drive.calm for drive in drives)
        return not calm or self._activity.busy(len(drives))
