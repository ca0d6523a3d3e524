"""All drives: which disks are held, the LUN of each, and what is to be remembered of them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from gadgetd.disks.counters import read_counters
from gadgetd.disks.disk import Disk, Verdict
from gadgetd.disks.hold import Hold
from gadgetd.disks.kernel_log import IoError
from gadgetd.errors import GadgetdError, GadgetError
from gadgetd.eventloop import Clock
from gadgetd.export import numbering
from gadgetd.export.drive import Drive, Signal, UnderWay
from gadgetd.export.lun_memory import LunMemory
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.export.retry import identify
from gadgetd.status import Life
from gadgetd.usb.gadget import Gadget

PATIENCE_S = 5.0
"""How long a disk may take to answer before a person is told: one that is slow takes a while."""
TICK_S = 0.5
"""How often counters and LUNs are looked at while a host is there: an eject raises no event."""


class Drives(dict[int, Drive]):
    """By LUN number. A disk that left stays here, so that its LUN waits for it.

    Methods raise GadgetError where the kernel refuses a step.
    """

    def __init__(
        self,
        gadget: OwnGadget,
        memory: LunMemory,
        clock: Clock,
        sys: Path,
        hold: Callable[[Disk], Hold],
        inquiry: Callable[[Verdict], str],
    ) -> None:
        super().__init__()
        self._gadget = gadget
        self.memory = memory
        self._clock = clock
        self._sys = sys
        self._hold = hold
        self._inquiry = inquiry
        self._silent_since: dict[int, float] = {}

    @property
    def in_order(self) -> list[Drive]:
        """All of them, by LUN."""
        return [drive for _, drive in sorted(self.items())]

    @property
    def written(self) -> bool:
        """All that the host wrote is on the disks, those of an earlier run included."""
        return not self.memory.unproved and all(drive.written for drive in self.values())

    @property
    def torn(self) -> bool:
        """A disk was taken from a host that had it open, which may have held data for it."""
        return bool(self.memory.torn) or any(drive.torn for drive in self.values())

    @property
    def calm(self) -> bool:
        """Nothing is read or written, and nothing waits to be flushed."""
        return all(drive.calm for drive in self.values())

    @property
    def leaving(self) -> bool:
        """A disk that is not to be exported any more is being taken out, or flushed."""
        return any(
            drive.leaving and (drive.life is Life.EJECTING or drive.under_way is UnderWay.OUT)
            for drive in self.values()
        )

    @property
    def silent(self) -> list[Drive]:
        """Those that have not answered for so long that a person ought to know."""
        self.note_silent()
        late = self._clock() - PATIENCE_S
        return [self[n] for n, since in self._silent_since.items() if n in self and since <= late]

    def hold_disks(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """Hold every disk that is to be exported, and let go of those that are not any more.

        Returns the verdicts anew: a disk that cannot be held is not exported, and says why.
        """
        self._part_from(verdicts)
        held = {drive.name: drive for drive in self.values() if drive.hold}
        taken: dict[str, Hold] = {}
        judged = []
        for verdict in verdicts:
            name = verdict.disk.name
            if verdict.exported and name not in held:
                try:
                    taken[name] = self._hold(verdict.disk)
                except GadgetdError as error:
                    judged.append(verdict._replace(exported=False, reason=error.message))
                    continue
            judged.append(verdict)
        exported = [verdict for verdict in judged if verdict.exported]
        known = self.memory.numbers
        self.memory.renumber(numbering.assign(exported, known), self)
        for verdict in exported:
            if verdict.disk.name in held:
                drive = held[verdict.disk.name]
                drive.verdict, drive.inquiry = verdict, self._inquiry(verdict)
            else:
                self._admit(verdict, taken[verdict.disk.name], known)
        self.remember()
        self.memory.adopting = False
        return tuple(judged)

    def look(self) -> list[Drive]:
        """Read all counters and LUNs; returns the drives whose eject by the host is new."""
        self._settle()
        for drive in self.values():
            self.count(drive)
        ejected = []
        for drive in self.values():
            if drive.inserted and self._gadget.is_empty(drive.number):
                self._mark_ejected(drive, by_host=True)
                ejected.append(drive)
        return ejected

    def note_ejected(self, gadget: Gadget | None) -> None:
        """Note what the host has ejected in the gadget that stands."""
        self._settle()
        empty = {lun.number for lun in gadget.luns if not lun.file} if gadget else ()
        for drive in self.values():
            if drive.inserted and drive.number in empty:
                self._mark_ejected(drive, by_host=True)

    def note_visible(self, gadget: Gadget | None) -> None:
        """Note which disks are in their LUNs in the gadget that stands."""
        luns = {lun.number: lun for lun in gadget.luns} if gadget else {}
        for number, drive in self.items():
            if number in luns:
                drive.read_only = luns[number].read_only
            there = number in luns and luns[number].file == drive.verdict.disk.node
            drive.inserted = drive.has_medium and there
            drive.was_shown |= drive.inserted
        self.remember()

    def note_removed(self) -> None:
        """Note that there is no gadget any more."""
        for drive in self.values():
            drive.inserted, drive.under_way = False, UnderWay.NOTHING

    def note_changing(self, number: int) -> None:
        """Note that a LUN is emptied for a moment, as the kernel wants it, and not by the host."""
        if number in self:
            self[number].inserted = False
            self.remember()

    def note_under_way(self, number: int) -> None:
        """Note that a LUN is being changed, and that the host may still have what was in it."""
        if number in self:
            self[number].under_way = UnderWay.CHANGE

    def note_silent(self) -> None:
        """Note since when a LUN has not answered."""
        now, silent = self._clock(), self._gadget.silent
        self._silent_since = {n: self._silent_since.get(n, now) for n in sorted(silent)}

    def note_unchanged(self, inserted: Collection[int]) -> None:
        """Note that these disks are in their LUNs after all, as far as is known."""
        for number in inserted:
            if number in self:
                self[number].inserted = self[number].has_medium
        self.remember()

    def note_errors(self, errors: Iterable[IoError]) -> bool:
        """Count what the kernel's log tells of the disks; returns whether there was anything.

        A disk that has lost data is taken from the host at once, so that what the host asks for
        next fails: a flush hears of it once at most (docs/slow-media.md).
        """
        errors = tuple(errors)
        for drive in self.values():
            if drive.note_errors(errors):
                self._take_failed(drive)
        return bool(errors)

    def note_host_ready(self) -> None:
        """Note that a host has set the gadget up."""
        for drive in self.values():
            drive.signal(Signal.HOST_READY)

    def note_host_left(self) -> None:
        """Note that none has it any more. What it wrote last may be in RAM, not counted yet."""
        for drive in self.values():
            if drive.inserted and drive.life is not Life.WAITING:
                drive.signal(Signal.WRITE)
            drive.signal(Signal.HOST_GONE)
            drive.outdate_flush()

    def insert_ejected(self) -> None:
        """Have all disks put back that are ejected and flushed."""
        for drive in self.in_order:
            if drive.life is Life.EJECTED:
                self.insert(drive, anew=False)

    def count(self, drive: Drive) -> None:
        """Read the counters of one disk, if it is there."""
        if drive.hold:
            drive.observe(read_counters(drive.name, self._sys), self._clock())

    def eject(self, drive: Drive, *, force: bool) -> bool:
        """Take the disk out of its LUN; False if it is out only later, or not: see `under_way`.

        GadgetError if the host has locked it and not `force`.
        """
        unsure = drive.reset  # Which has cleared the lock, if there was one.
        try:
            out = not unsure and self._gadget.eject(drive.number)
        except GadgetError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            if not force:
                drive.under_way = UnderWay.OUT
                return False
            out = False
        if not out:
            if not force:
                raise drive.in_use
            if not self._take_out(drive, torn=True):
                return False
        self._mark_ejected(drive, by_host=False)
        return True

    def insert(self, drive: Drive, *, anew: bool = True) -> None:
        """Have an ejected disk put back by the next `Exporter.reconcile`.

        `anew`: a person wants it, who has been told what is not known of its data.
        """
        if anew:
            drive.begin_anew()
        drive.signal(Signal.INSERT)
        self.remember()
        drive.start_counting(read_counters(drive.name, self._sys), self._clock())

    def end_flush(self, drive: Drive) -> int:
        """Collect a flush that is over; returns 0 or an errno.

        What the kernel could not write it forgets, so the host's own flush may succeed: the disk
        is taken from it here, too.
        """
        error = drive.end_flush(read_counters(drive.name, self._sys), self._clock())
        there = drive.hold is not None and drive.hold.still(drive.verdict.disk)
        if error and there and self._gadget.udc:
            self._take_failed(drive)
        self.remember()
        return error

    def drop(self, drive: Drive) -> None:
        """Let go of a disk for good; whether all is on it stays in doubt."""
        drive.release()
        del self[drive.number]
        self.memory.keep_doubts(drive)
        if not drive.written:
            self.memory.unproved.add(drive.number)

    def close(self) -> None:
        """Let go of all disks. What is in doubt stays so for the daemon that init starts next."""
        self.memory.leave(self.values())
        for drive in self.values():
            drive.release()
        self.clear()

    def remember(self) -> None:
        """Write down what a daemon needs that comes after us, if it has changed."""
        self.memory.remember(self.values())

    def _part_from(self, verdicts: Sequence[Verdict]) -> None:
        wanted = {identify(v.disk) for v in verdicts if v.exported}
        unwanted = {identify(v.disk) for v in verdicts if not v.exported}
        for drive in list(self.values()):
            who = identify(drive.verdict.disk)
            if who in unwanted:
                self._withdraw_disk(drive)
            elif drive.hold and (who not in wanted or not drive.hold.still(drive.verdict.disk)):
                self._mark_gone(drive)
            elif drive.leaving and drive.life is not Life.EJECTING and not drive.waits:
                drive.leaving = False  # Not before the flush has told its result.
                if drive.life is Life.EJECTED:
                    self.insert(drive, anew=False)

    def _withdraw_disk(self, drive: Drive) -> None:
        """Take a disk that is there from the host, and let go of it once it is flushed."""
        drive.leaving = True
        if drive.hold and not drive.ejected:
            known = not drive.opened and not drive.reset
            free = known and self._gadget.is_locked(drive.number) is False
            if self._take_out(drive, torn=drive.inserted and not free):
                self._mark_ejected(drive, by_host=False)
        if drive.life in (Life.EJECTED, Life.GONE):
            self.drop(drive)

    def _take_out(self, drive: Drive, *, torn: bool) -> bool:
        """Take a disk out of its LUN, whatever the host says; `torn`: it may have it open.

        Returns False if it is out only later.
        """
        before, drive.torn = drive.torn, drive.torn or torn
        self.remember()  # Before it: we may be killed in between.
        try:
            out = self._gadget.take_out(drive.number)
        except GadgetError:
            drive.torn = before  # It is still in.
            self.remember()
            raise
        drive.under_way = UnderWay.NOTHING if out else UnderWay.OUT
        return out

    def _settle(self) -> None:
        """Note what came of each write that has come to its end since."""
        waits = [drive for drive in self.values() if drive.waits]
        silent = self._gadget.silent if waits else ()
        for drive in waits:
            if drive.number in silent:
                continue
            what, drive.under_way = drive.under_way, UnderWay.NOTHING
            if drive.inserted and self._gadget.is_empty(drive.number):
                drive.inserted = False
                if what is UnderWay.OUT:
                    self._mark_ejected(drive, by_host=False)

    def _take_failed(self, drive: Drive) -> None:
        if drive.inserted:
            drive.lost = True
            self.remember()  # Before it: we may be killed in between.
            drive.refused = self._gadget.take_out_at_once(drive.number)
            if drive.refused:
                self._mark_ejected(drive, by_host=False)

    def _mark_gone(self, drive: Drive) -> None:
        drive.inserted = False
        self.remember()
        self._gadget.take_out(drive.number)
        # A write that has not moved the counters yet may be lost as well.
        if drive.hold is not None and not drive.hold.still(drive.verdict.disk):
            drive.lost |= drive.hold.lost_data()
        drive.signal(Signal.LEFT)
        drive.release()
        self.remember()

    def _admit(self, verdict: Verdict, held: Hold, known: Mapping[str, int]) -> None:
        number = numbering.lun_number(verdict.disk, self.memory.numbers)
        assert number is not None, "assign() numbers every exported disk"
        inquiry, now = self._inquiry(verdict), self._clock()
        drive = Drive(number, verdict, inquiry, held, now, read_only=verdict.read_only)
        drive.start_counting(read_counters(drive.name, self._sys), now)
        was_known = numbering.lun_number(verdict.disk, known) is not None
        name = numbering.key(verdict.disk, self.memory.numbers)
        if was_known and number in self:  # It has been away.
            self.memory.keep_doubts(self[number])
        self.memory.settle(drive, name, was_known=was_known)
        self[number] = drive
        if number in self._gadget.silent:
            self.note_under_way(number)  # What was there before is still being taken out.

    def _mark_ejected(self, drive: Drive, *, by_host: bool) -> None:
        drive.inserted, drive.ejected_by_host = False, by_host
        drive.under_way = UnderWay.NOTHING
        drive.signal(Signal.EJECT)
        self.remember()
