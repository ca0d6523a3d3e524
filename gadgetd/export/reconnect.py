"""Whether the host may be disconnected for a moment, to change what cannot be changed otherwise.

Only if it has let go of every disk. A host keeps what it was told to write, sends no command
meanwhile and does not say so: a quiet disk is not a free one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gadgetd.eventloop import Clock
from gadgetd.export.drive import QUIET_S, Drive
from gadgetd.export.drives import Drives
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.usb.link import GONE_S, INTERRUPTION_S, Activity, Host, is_use

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
ASK_IN_USE_S = 60.0
"""One that makes no such pause is asked after so long: what it has open then is no mere look."""
ASK_AGAIN_S = 600.0
"""The kernel notes in its log each question about a disk that is not open."""
LOOK_S = 3.0
"""How often all is looked at though the host sends nothing: a suspend, for one, raises no event."""
SET_UP_S = 60.0
"""No host takes longer to set up a gadget that it was disconnected from."""


class Reconnect:
    """Follows for how long the host has left the disks alone. Call `look` while a host is there."""

    def __init__(
        self,
        clock: Clock,
        gadget: OwnGadget,
        drives: Drives,
        host: Host,
        proc: Path = Path("/proc"),
    ) -> None:
        self._clock = clock
        self._gadget = gadget
        self._drives = drives
        self._host = host
        self._activity = Activity(proc)
        self._used_at = clock()
        self._stirred_at = self._asked_at = float("-inf")
        self._looked_at = self._moved_at = float("-inf")
        self._unasked = True
        """The host has used a disk since it was asked what it has open."""
        self._unasked_since = clock()
        self._wanted_at: float | None = None
        self._wanted = False
        self._ours_until = float("-inf")
        self.attach = False
        """A person wants it now, whatever the host may lose."""
        self.locked: tuple[str, ...] = ()
        """The disks that the host has open, as far as is known."""

    def worth_a_look(self) -> bool:
        """Tell whether counters, LUNs or the link may be others than at the last look.

        Not if the host has sent nothing since, and before that for a while nothing but questions
        for media, one a disk: an eject is a command as well, and a write moves counters late.
        """
        # Without a disk there is no thread, and all processes would be looked through for it.
        now, stirs = self._clock(), self._shown > 0 and self._activity.stirs()
        late = now - self._moved_at < SURE_S or now - self._looked_at >= LOOK_S
        return stirs or late or not self._drives.calm or self._ask_is_due(now)

    def look(self) -> None:
        """Note whether the host has used a disk since the last look, or could not have."""
        wake_ups, now = self._activity.look() if self._shown else 0, self._clock()
        self._looked_at = now
        if wake_ups > 0:
            self._stirred_at = now
        if wake_ups > self._shown:
            self._moved_at = now
        if not self._host.up:
            self.used()
            self._unasked_since = now
        elif not self._drives.calm or is_use(wake_ups, self._shown):
            self.used()
        if self._ask_is_due(now) and self._host.up:
            # A lock that is not seen before a reset clears it is never seen.
            self._asked_at, self._unasked = now + ASK_AGAIN_S, False
            self._ask()
        if not self._wanted:
            self._wanted_at = None
        self._wanted = False

    def used(self) -> None:
        """Take it that the host uses the disks at this moment."""
        self._used_at = self._clock()
        if not self._unasked:
            self._unasked, self._unasked_since = True, self._used_at

    def arrived(self) -> bool:
        """Note that a host has set the gadget up.

        Returns whether it gets back what was ejected: if somebody has plugged it in, and neither
        if it was we who disconnected it nor if it has only reset the bus.
        """
        self.used()
        self._activity.forget()  # The functions may be others.
        self._unasked_since = self._used_at
        away_s = self._host.away_s  # Infinity for the first host that this daemon sees.
        ours = self._clock() < self._ours_until
        self._ours_until = float("-inf")
        for drive in self._drives.values():
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

    def allowed(self) -> bool:
        """Tell whether the host has let go of every disk, or may be disconnected, or there is none.

        One that is not awake says nothing by its silence, nor does the lock: it sleeps with its
        data, or resets the bus, at which the kernel forgets the lock (source: handle_exception in
        drivers/usb/gadget/function/f_mass_storage.c). So a disk that was seen locked, or has been
        through a reset, counts as open until the host ejects it or is another one.
        """
        if not self._host.follows(self._gadget.udc):
            return False  # Taken over from an earlier run: what its host does is not known.
        if self._host.gone:
            return True
        awake, self.locked = self._host.up, ()
        if self.attach:
            return True
        if self._in_use():
            return False
        if not any(drive.inserted for drive in self._drives.values()) and self._gadget.is_bare:
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
        self.locked = self._open() or self._ask()
        return not self.locked

    @contextmanager
    def forced(self) -> Iterator[None]:
        """Allow it, whatever the host may lose, and note which disks may lack what it held."""
        doubted = self.take()
        ours, self.attach = self._ours_until, True
        try:
            yield
        finally:
            self.attach = False
            if self._ours_until == ours:  # It was not disconnected.
                for drive in doubted:
                    drive.torn = False
                self._drives.remember()

    def take(self) -> list[Drive]:
        """Note of which disks a host that is there may hold data, as they are taken from it now.

        It has them open, or has written to them, and used one lately. Returns those of which it
        was not noted yet.
        """
        drives = self._drives.in_order
        locked = {*self._ask(), *self._open()}
        lately = self._clock() - self._used_at < LET_GO_S
        if self._activity.busy(self._shown):
            locked.update(drive.name for drive in drives)
        elif lately:
            # What it had an earlier run write is not known.
            written = [d for d in drives if d.total.written_bytes or d.adopted or not d.calm]
            locked.update(drive.name for drive in written)
        taken = [d for d in drives if d.inserted and d.name in locked and not d.torn]
        for drive in taken:
            drive.torn = True
        if taken:
            self._drives.remember()  # Before they are taken: we may be killed in between.
        return taken

    def _ask_is_due(self, now: float) -> bool:
        due = min(self._used_at + ASK_S, self._unasked_since + ASK_IN_USE_S)
        return self._unasked and now >= max(due, self._asked_at)

    def _ask(self) -> tuple[str, ...]:
        """Give the disks that the host has locked, or of which that cannot be told."""
        locked = []
        for drive in self._drives.in_order:
            if drive.inserted and not drive.opened:
                answer = self._gadget.is_locked(drive.number)
                drive.opened = answer is True
                if answer is not False:
                    locked.append(drive.name)
        if locked:
            self._drives.remember()
        return tuple(locked)

    def _in_use(self) -> bool:
        return not self._drives.calm or self._activity.busy(self._shown)

    @property
    def _shown(self) -> int:
        """How many LUNs of one function the host has had to ask for media, at most."""
        standing = self._gadget.standing
        shown = {n for n, drive in self._drives.items() if drive.was_shown}
        functions = standing.storage if standing else ()
        counts = (sum(lun.number in shown for lun in each.luns) for each in functions)
        return max(counts, default=len(shown))

    def _open(self) -> tuple[str, ...]:
        drives = self._drives.in_order
        return tuple(d.name for d in drives if d.inserted and (d.opened or d.reset))
