"""Holds the disks, keeps the gadget as the plan wants it, and follows what the host does to it.

The gadget is compared with the plan and changed by the mildest means that will do: a LUN in place,
then more LUNs, then all of it anew. So starting, adopting what a killed daemon left, hot-plug and
a new configuration are one and the same step.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gadgetd.config.settings import Config
from gadgetd.configfs import ConfigFs
from gadgetd.disks.counters import read_counters
from gadgetd.disks.disk import Disk, Verdict
from gadgetd.disks.hold import Hold, hold
from gadgetd.errors import GadgetdError, GadgetError
from gadgetd.eventloop import Clock
from gadgetd.export import choosing
from gadgetd.export.drive import Drive, Signal, Waits
from gadgetd.export.lun_memory import FILE, LunMemory
from gadgetd.export.own_gadget import NAME, OwnGadget
from gadgetd.export.plan import Row, gadget, inquiry
from gadgetd.export.retry import RefusedChange, Unusable, identify
from gadgetd.status import Board, Life
from gadgetd.usb import controllers
from gadgetd.usb.gadget import Changes, Gadget, Lun, UsbIdentity, compare


class Exporter:
    """All that is exported. Methods raise GadgetError where the kernel refuses a step."""

    def __init__(
        self,
        board: Board,
        revision: str,
        clock: Clock,
        *,
        configfs: ConfigFs | None = None,
        sys: Path = Path("/sys"),
        numbers: Path = FILE,
        hold: Callable[[Disk], Hold] = hold,
    ) -> None:
        self._board = board
        self._revision = revision
        self._clock = clock
        self._sys = sys
        self._hold = hold
        self.gadget = OwnGadget(configfs or ConfigFs(), sys)
        self.lun_memory = LunMemory(numbers)
        self._numbers: Mapping[str, int] = self.lun_memory.numbers
        self._slots: int | None = None
        self._unusable = Unusable()
        self.refused = RefusedChange(clock)
        self.turned_down = False
        """The last `take` could not hold a disk that is to be exported."""
        self.drives: dict[int, Drive] = {}
        """By LUN number. A disk that left stays here, so that its LUN waits for it."""
        self.visible: frozenset[int] = frozenset()
        """The LUNs that the host can see, empty ones included."""
        self.wants_gadget = False
        """The last `apply` found something to export: a disk, an empty slot, a serial console."""
        self.locked: tuple[str, ...] = ()
        """The disks whose LUN is to change and cannot, for the host has locked the medium."""
        self._torn: set[tuple[object, ...]] = set()
        """Disks that are not exported any more and that the host had open when they were taken."""
        self.reconnected = False
        """The host was disconnected for a moment by the last `apply`."""

    @property
    def udc(self) -> str:
        """The controller the gadget is bound to; empty if it is not."""
        return self.gadget.udc

    @property
    def written(self) -> bool:
        """All that the host wrote is on the disks, those of an earlier run included."""
        return not self.lun_memory.unproved and all(drive.written for drive in self.drives.values())

    @property
    def torn(self) -> bool:
        """A disk was taken from a host that had it open, which may have held data for it."""
        return bool(self._torn) or any(drive.torn for drive in self.drives.values())

    @property
    def with_the_host(self) -> list[Drive]:
        """The exports, without those that the kernel keeps out of the gadget."""
        out = self.refused.error is not None
        return [e for n, e in self.drives.items() if e.was_shown or n in self.visible or not out]

    def prepare(self) -> None:
        """Take over the gadget that an earlier run left, if it still serves a host."""
        standing = self.gadget.take_over()
        if standing is not None:
            self.lun_memory.adopt(lun.number for lun in standing.luns if not lun.file)

    @property
    def refuses(self) -> bool:
        """A change, or a disk, is not tried again until `forgive`."""
        return self.refused.error is not None or bool(self._unusable)

    def forgive(self) -> None:
        """Try again what was refused, though it may be again."""
        self.refused.clear()
        self._unusable.clear()

    def take(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """Hold every disk that is to be exported, and let go of those that are not any more.

        Returns the verdicts anew: a disk that cannot be held is not exported, and says why.
        """
        verdicts = self._unusable.judge(verdicts)
        self._part_from(verdicts)
        self.turned_down = False
        held = {drive.name: drive for drive in self.drives.values() if drive.hold}
        taken: dict[str, Hold] = {}
        judged = []
        for verdict in verdicts:
            name = verdict.disk.name
            if verdict.exported and name not in held:
                try:
                    taken[name] = self._hold(verdict.disk)
                except GadgetdError as error:
                    self.turned_down = True
                    judged.append(verdict._replace(exported=False, reason=error.message))
                    continue
            judged.append(verdict)
        exported = [verdict for verdict in judged if verdict.exported]
        known = self._numbers
        self._numbers = choosing.assign(exported, known)
        self.lun_memory.displace(known, self._numbers, self.drives)
        for verdict in exported:
            if verdict.disk.name in held:
                drive = held[verdict.disk.name]
                drive.verdict, drive.inquiry = verdict, self._inquiry(verdict)
            else:
                self._admit(verdict, taken[verdict.disk.name], known)
        self._remember()
        self.lun_memory.adopting = False
        return tuple(judged)

    def apply(self, config: Config, *, may_disconnect: bool) -> Waits:
        """Bring the gadget to what the plan wants, bind it, and say what has to wait.

        `may_disconnect` allows steps that disconnect all disks for a moment.
        """
        self.locked, self.reconnected = (), False
        self.gadget.look_at_controller()
        standing = self.gadget.read_back()
        # What the host has ejected up to here must not be put back by what follows.
        empty = {lun.number for lun in standing.luns if not lun.file} if standing else frozenset()
        for drive in self.drives.values():
            if drive.inserted and drive.number in empty:
                self._mark_ejected(drive, by_host=True)
        wanted = self._wanted(config, standing)
        changes = compare(standing, wanted)
        elsewhere = config.usb.udc not in (controllers.AUTO, self.udc)
        self.wants_gadget = bool(wanted.functions)
        if not self.wants_gadget:
            self._remove()
            return Waits.NOTHING
        disconnects = bool(self.udc) and (changes.extend or changes.rebuild or elsewhere)
        refused = self.refused.covers(wanted)
        if disconnects and (refused or not may_disconnect):
            if changes.rebuild:
                self._take_out_strangers(standing)
            else:
                self._set_luns(changes.luns)
                self._note_visible(self.gadget.read_back())
            return Waits.IDLE if not refused else Waits.LOCK if self.locked else Waits.NOTHING
        self.reconnected = disconnects
        try:
            self._change(wanted, changes)
        except GadgetError as error:
            if disconnects:
                self.refused.refuse(wanted, error)
            self._set_aside(error)
            raise
        self.refused.changed(wanted, self.gadget.read_back())
        self._slots = config.slots
        if self.udc and elsewhere:
            self.gadget.disconnect()
        if not self.udc and not self.gadget.bind(config.usb.udc):
            return Waits.CONTROLLER
        return Waits.LOCK if self.locked else Waits.NOTHING

    def look(self) -> list[Drive]:
        """Read all counters and LUNs; returns the exports whose eject by the host is new."""
        for drive in self.drives.values():
            self.count(drive)
        ejected = []
        for drive in self.drives.values():
            if drive.inserted and self.gadget.is_empty(drive.number):
                self._mark_ejected(drive, by_host=True)
                ejected.append(drive)
        return ejected

    def count(self, drive: Drive) -> None:
        """Read the counters of one disk, if it is there."""
        if drive.hold:
            drive.observe(read_counters(drive.name, self._sys), self._clock())

    def eject(self, drive: Drive, *, force: bool) -> None:
        """Take the disk out of its LUN. GadgetError if the host has locked it and not `force`."""
        if not self.gadget.eject(drive.number):
            if not force:
                raise GadgetError(
                    f"{drive.name} is in use: the host has locked the medium",
                    hint=f"eject it on the host, or force it: gadgetd eject --force {drive.name}",
                    errno=errno.EBUSY,
                )
            drive.torn = True
            self._remember()  # Before it: we may be killed in between.
            self.gadget.take_out(drive.number)
        self._mark_ejected(drive, by_host=False)

    def insert(self, drive: Drive) -> None:
        """Have an ejected disk put back by the next `apply`."""
        drive.signal(Signal.INSERT)
        self._remember()
        drive.start_counting(read_counters(drive.name, self._sys), self._clock())

    def end_flush(self, drive: Drive) -> int:
        """Collect a flush that is over; returns 0 or an errno."""
        error = drive.end_flush(read_counters(drive.name, self._sys), self._clock())
        self._remember()
        return error

    def withdraw(self) -> None:
        """Remove what an earlier run exported, and do not say that all is well with it."""
        self.lun_memory.adopting = False
        self._remove()

    def close(self) -> None:
        """Remove the gadget and let go of all disks, even if the kernel refuses a step."""
        try:
            self._remove()
        finally:
            self.visible = frozenset()
            # What is in doubt stays so for a daemon that init starts next; a person ends it.
            self.lun_memory.leave(self._numbers, self.drives.values())
            for drive in self.drives.values():
                drive.release()
            self.drives.clear()
            self._torn.clear()
            self._numbers, self._slots = {}, None

    def identities(self, config: Config) -> frozenset[UsbIdentity]:
        """Say how our gadget looks from the host, and how it will with this configuration."""
        new = gadget(config, self._board, (), self._revision).identity
        return frozenset((self.gadget.identity or new, new))

    def _set_aside(self, error: GadgetError) -> None:
        """Leave out a disk that the gadget cannot open, so that it keeps no other from the host."""
        drive = self.drives.get(error.lun)
        alone = sum(each.hold is not None for each in self.drives.values()) == 1
        gone = error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV)
        if drive is None or drive.was_shown or alone or gone:
            return
        if self._unusable.refuse(drive.verdict.disk, error.message):
            drive.release()
            del self.drives[error.lun]
            if not drive.written:
                self.lun_memory.unproved.add(error.lun)

    def _part_from(self, verdicts: Sequence[Verdict]) -> None:
        wanted = {identify(v.disk) for v in verdicts if v.exported}
        unwanted = {identify(v.disk) for v in verdicts if not v.exported}
        for number, drive in list(self.drives.items()):
            who = identify(drive.verdict.disk)
            if who in unwanted:
                self._dismiss(number, drive)
            elif drive.hold and (who not in wanted or not drive.hold.still(drive.verdict.disk)):
                self._leave(drive)
            elif drive.leaving and drive.life is not Life.EJECTING:
                drive.leaving = False  # Not before the flush has told its result.
                if drive.life is Life.EJECTED:
                    self.insert(drive)

    def _dismiss(self, number: int, drive: Drive) -> None:
        """Take a disk that is there from the host, and let go of it once it is flushed."""
        drive.leaving = True
        if drive.hold and not drive.ejected:
            drive.torn |= drive.inserted and self.gadget.is_locked(number)
            self._remember()
            self.gadget.take_out(number)
            self._mark_ejected(drive, by_host=False)
        if drive.life in (Life.EJECTED, Life.GONE):
            drive.release()
            del self.drives[number]
            if drive.torn:
                self._torn.add(identify(drive.verdict.disk))
            if not drive.written:
                self.lun_memory.unproved.add(number)

    def _admit(self, verdict: Verdict, held: Hold, known: Mapping[str, int]) -> None:
        number = choosing.lun_number(verdict.disk, self._numbers)
        assert number is not None, "assign() numbers every exported disk"
        inquiry, now = self._inquiry(verdict), self._clock()
        drive = Drive(number, verdict, inquiry, held, now, read_only=verdict.read_only)
        drive.start_counting(read_counters(drive.name, self._sys), now)
        was_known = choosing.lun_number(verdict.disk, known) is not None
        name = choosing.key(verdict.disk, self._numbers)
        self.lun_memory.settle(drive, name, was_known=was_known)
        self.drives[number] = drive
        self._torn.discard(identify(verdict.disk))

    def _inquiry(self, verdict: Verdict) -> str:
        text = inquiry(self._board, verdict.disk, verdict.label, self._revision)
        return f"{text[:8].strip()} {text[8:24].strip()}"

    def _leave(self, drive: Drive) -> None:
        drive.inserted = False
        self._remember()
        self.gadget.take_out(drive.number)
        # A write that has not moved the counters yet may be lost as well.
        if drive.hold is not None and not drive.hold.still(drive.verdict.disk):
            drive.lost |= drive.hold.lost_data()
        drive.signal(Signal.LEFT)
        drive.release()
        self._remember()

    def _wanted(self, config: Config, standing: Gadget | None) -> Gadget:
        rows = [
            Row(
                drive.number,
                drive.verdict.disk,
                drive.verdict.read_only,
                drive.verdict.label,
                gone=not drive.has_medium,
            )
            for drive in self.drives.values()
        ]
        # Slots that are used up come back with the next start, not by disconnecting the host now.
        same_slots = standing is not None and self._slots in (None, config.slots)
        luns = len(standing.luns) if standing is not None and same_slots else None
        return gadget(config, self._board, rows, self._revision, luns=luns, name=NAME)

    def _change(self, wanted: Gadget, changes: Changes) -> None:
        if changes.rebuild:
            self._remove()
            self.gadget.build(wanted)
        else:
            self._set_luns(changes.luns)
            if changes.extend:
                self.gadget.extend(wanted)
        self._note_visible(self.gadget.read_back() if self.locked else wanted)

    def _take_out_strangers(self, standing: Gadget | None) -> None:
        """Empty the LUNs of disks that are not ours: that does not wait for an idle host."""
        ours = {each.verdict.disk.node for each in self.drives.values() if each.has_medium}
        for lun in standing.luns if standing else ():
            if lun.file is not None and lun.file not in ours:
                self.gadget.take_out(lun.number)
        self._note_visible(self.gadget.read_back())

    def _set_luns(self, luns: Sequence[Lun]) -> None:
        if not luns:
            return
        locked = set()
        try:
            for lun in luns:
                if lun.number in self.drives:
                    # Emptied for a moment, as the kernel wants it, and not by the host.
                    self.drives[lun.number].inserted = False
                    self._remember()
                if not self.gadget.set_lun(lun):
                    locked.add(lun.number)  # It is asked again later.
        finally:
            names = {number: drive.name for number, drive in self.drives.items()}
            self.locked = tuple(names.get(number, f"LUN {number}") for number in sorted(locked))
            self._note_visible(self.gadget.read_back())

    def _remove(self) -> None:
        self.gadget.remove()
        self.visible = frozenset()
        for drive in self.drives.values():
            drive.inserted = False

    def _note_visible(self, gadget: Gadget | None) -> None:
        luns = {lun.number: lun for lun in gadget.luns} if gadget else {}
        self.visible = frozenset(luns)
        for number, drive in self.drives.items():
            if number in luns:
                drive.read_only = luns[number].read_only
            there = number in luns and luns[number].file == drive.verdict.disk.node
            drive.inserted = drive.has_medium and there
            drive.was_shown |= drive.inserted
        self._remember()

    def _mark_ejected(self, drive: Drive, *, by_host: bool) -> None:
        drive.inserted, drive.ejected_by_host = False, by_host
        drive.signal(Signal.EJECT)
        self._remember()

    def _remember(self) -> None:
        self.lun_memory.remember(self._numbers, self.drives.values())
