"""Whether the host may be disconnected for a moment, to change what cannot be changed otherwise.

Only if it has let go of every disk. A host keeps what it was told to write, sends no command
meanwhile and does not say so: a quiet disk is not a free one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gadgetd.eventloop import Clock
from gadgetd.export.drive import Export
from gadgetd.usb.activity import Activity
from gadgetd.usb.own_gadget import Standing

LET_GO_S = 35.0
"""A host that has sent no command for so long has no unwritten data of its own any more: Linux
keeps it for 30 s and looks each 5 s (Documentation/admin-guide/sysctl/vm.rst:
dirty_expire_centisecs, dirty_writeback_centisecs)."""


class Reconnect:
    """Follows for how long the host has left the disks alone. Call `look` while a host is there."""

    def __init__(self, clock: Clock, gadget: Standing, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._gadget = gadget
        self._activity = Activity(proc)
        self._used_at = clock()
        self.attach = False
        """A person wants it now, whatever the host may lose."""
        self.locked: tuple[str, ...] = ()
        """The disks that the host had locked when it was last looked for that."""
        self._known: tuple[str, ...] = ()

    def look(self, exports: Sequence[Export], *, awake: bool) -> None:
        """Note whether the host has used a disk since the last look, or could not have."""
        if not awake or self._in_use(exports):
            self.used()
        self._activity.look()

    def used(self) -> None:
        """Take it that the host uses the disks at this moment."""
        self._used_at = self._clock()

    def done(self) -> None:
        """Begin anew with a gadget whose functions may be others."""
        self._activity.forget()

    def allowed(self, exports: Sequence[Export], *, awake: bool) -> bool:
        """Tell whether a host that is there has let go of every disk, or may be disconnected.

        One that is not `awake` says nothing by its silence, nor does the lock: it sleeps with its
        data, or resets the bus, at which the kernel forgets the lock (source: handle_exception in
        drivers/usb/gadget/function/f_mass_storage.c).
        """
        self.locked = ()
        if self.attach:
            return True
        if self._in_use(exports):
            return False
        if not any(export.inserted for export in exports):
            return True  # All are ejected.
        if not awake:
            self.used()
            return False
        if self._clock() - self._used_at < LET_GO_S:
            return False
        # Last, for the kernel is asked: a host that has a disk open locks it.
        # One that was locked first: the kernel notes each question about an open one in its log.
        inserted = [export for export in exports if export.inserted]
        known = [export for export in inserted if export.name in self._known]
        self.locked = self._locked(known) or self._locked(inserted)
        self._known = self.locked
        return not self.locked

    def _locked(self, exports: Sequence[Export]) -> tuple[str, ...]:
        return tuple(e.name for e in exports if self._gadget.is_locked(e.number))

    def _in_use(self, exports: Sequence[Export]) -> bool:
        calm = all(export.calm for export in exports)
        return not calm or self._activity.busy(len(exports))
