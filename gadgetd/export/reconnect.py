"""Whether the host may be disconnected for a moment, to change what cannot be changed otherwise.

Only if it has let go of every disk. A host keeps what it was told to write, sends no command
meanwhile and does not say so: a quiet disk is not a free one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gadgetd.eventloop import Clock
from gadgetd.export.drive import QUIET_S, Drive
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.usb.activity import Activity
from gadgetd.usb.link import GONE_S, INTERRUPTION_S

LET_GO_S = 35.0
"""A host that has sent no command for so long has no unwritten data of its own any more: Linux
keeps it for 30 s and looks each 5 s (Documentation/admin-guide/sysctl/vm.rst:
dirty_expire_centisecs, dirty_writeback_centisecs)."""
SURE_S = QUIET_S + 0.5
"""After which a few wake-ups of the gadget's thread, which may have been a host's question whether
there is a medium or a short write, have shown what they were: a write has moved the counters."""
ASK_S = 5.0
"""How long after the host's last use it is asked what it has open. Programs that merely look at a
new disk have closed it by then."""
ASK_AGAIN_S = 600.0
"""The kernel notes in its log each question about a disk that is not open."""
SET_UP_S = 60.0
"""No host takes longer to set up a gadget that it was disconnected from."""


class Reconnect:
    """Follows for how long the host has left the disks alone. Call `look` while a host is there."""

    def __init__(self, clock: Clock, gadget: OwnGadget, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._gadget = gadget
        self._activity = Activity(proc)
        self._used_at = clock()
        self._stirred_at = self._asked_at = float("-inf")
        self._unasked = True
        """The host has used a disk since it was asked what it has open."""
        self._wanted_at: float | None = None
        self._wanted = False
        self._ours_until = float("-inf")
        self.attach = False
        """A person wants it now, whatever the host may lose."""
        self.locked: tuple[str, ...] = ()
        """The disks that the host has open, as far as is known."""

    def look(self, drives: Sequence[Drive], *, awake: bool) -> None:
        """Note whether the host has used a disk since the last look, or could not have."""
        if self._activity.busy(0):
            self._stirred_at = self._clock()
        if not awake or self._in_use(drives):
            self.used()
        elif self._unasked and self._clock() - max(self._used_at + ASK_S, self._asked_at) >= 0:
            # A lock that is not seen before a reset clears it is never seen.
            self._asked_at, self._unasked = self._clock() + ASK_AGAIN_S, False
            self._ask(drives)
        if not self._wanted:
            self._wanted_at = None
        self._wanted = False
        self._activity.look()

    def used(self) -> None:
        """Take it that the host uses the disks at this moment."""
        self._used_at = self._clock()
        self._unasked = True

    def arrived(self, drives: Sequence[Drive], away_s: float) -> bool:
        """Note that a host has set the gadget up after `away_s` seconds without one.

        It is infinity for the first host that this daemon sees.
        Returns whether it gets back what was ejected: if somebody has plugged it in, and neither
        if it was we who disconnected it nor if it has only reset the bus.
        """
        self.used()
        ours = self._clock() < self._ours_until
        self._ours_until = float("-inf")
        for drive in drives:
            if ours or GONE_S <= away_s < float("inf"):  # An earlier daemon knew this host.
                drive.forget_host()
            elif drive.inserted and away_s < GONE_S:
                drive.reset = True
        return not ours and away_s >= INTERRUPTION_S

    def done(self, *, host: bool) -> None:
        """Begin anew with a gadget whose functions may be others; a `host` was disconnected."""
        self._activity.forget()
        if host:
            self._ours_until = self._clock() + SET_UP_S

    def allowed(self, drives: Sequence[Drive], *, awake: bool) -> bool:
        """Tell whether a host that is there has let go of every disk, or may be disconnected.

        One that is not `awake` says nothing by its silence, nor does the lock: it sleeps with its
        data, or resets the bus, at which the kernel forgets the lock (source: handle_exception in
        drivers/usb/gadget/function/f_mass_storage.c). So a disk that was seen locked, or has been
        through a reset, counts as open until the host ejects it or is another one.
        """
        self.locked = ()
        if self.attach:
            return True
        if self._in_use(drives):
            return False
        if not any(drive.inserted for drive in drives):
            return True  # All are ejected.
        now, self._wanted = self._clock(), True
        if self._wanted_at is None:
            self._wanted_at = now
        if not awake:
            self.used()
            return False
        if now - self._used_at < LET_GO_S:
            return False
        stirs = self._activity.busy(0) or now - self._stirred_at < SURE_S
        if stirs and now - self._wanted_at < SURE_S:
            return False  # It may have begun to write.
        # Last, for the kernel is asked: a host that has a disk open locks it.
        self.locked = _open(drives) or self._ask(drives)
        return not self.locked

    @contextmanager
    def forced(self, drives: Sequence[Drive]) -> Iterator[None]:
        """Allow it, whatever the host may lose, and note which disks may lack what it held."""
        doubted = self.take(drives)
        ours, self.attach = self._ours_until, True
        try:
            yield
        finally:
            self.attach = False
            if self._ours_until == ours:  # It was not disconnected.
                for drive in doubted:
                    drive.torn = False

    def take(self, drives: Sequence[Drive]) -> list[Drive]:
        """Note of which disks a host that is there may hold data, as they are taken from it now.

        It has them open, or has written to them, and used one lately. Returns those of which it
        was not noted yet.
        """
        locked = {*self._ask(drives), *_open(drives)}
        lately = self._clock() - self._used_at < LET_GO_S
        shown = sum(drive.was_shown for drive in drives)
        if self._activity.busy(shown):
            locked.update(drive.name for drive in drives)
        elif lately:
            locked.update(d.name for d in drives if d.total.written_bytes or not d.calm)
        taken = [d for d in drives if d.inserted and d.name in locked and not d.torn]
        for drive in taken:
            drive.torn = True
        return taken

    def _ask(self, drives: Sequence[Drive]) -> tuple[str, ...]:
        """Give the disks that the host has locked, or of which that cannot be told."""
        locked = []
        for drive in drives:
            if drive.inserted and not drive.opened:
                answer = self._gadget.is_locked(drive.number)
                drive.opened = answer is True
                if answer is not False:
                    locked.append(drive.name)
        return tuple(locked)

    def _in_use(self, drives: Sequence[Drive]) -> bool:
        calm = all(drive.calm for drive in drives)
        shown = sum(drive.was_shown for drive in drives)
        return not calm or self._activity.busy(shown)


def _open(drives: Sequence[Drive]) -> tuple[str, ...]:
    return tuple(e.name for e in drives if e.inserted and (e.opened or e.reset))
