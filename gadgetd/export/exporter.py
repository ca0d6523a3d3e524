"""Holds the disks, keeps the gadget as the plan wants it, and follows what the host does to it.

The gadget is compared with the plan and changed by the mildest means that will do: a LUN in place,
then more LUNs, then all of it anew. So starting, adopting what a killed daemon left, hot-plug and
a new configuration are one and the same step.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gadgetd.blockscan import OwnGadget
from gadgetd.config.settings import Config
from gadgetd.configfs import ConfigFs
from gadgetd.disks.counters import read_counters
from gadgetd.disks.disk import Disk, Verdict
from gadgetd.disks.hold import Hold, hold
from gadgetd.errors import GadgetdError, GadgetError
from gadgetd.eventloop import Clock
from gadgetd.export import choosing
from gadgetd.export.drive import Export, Signal, Waits
from gadgetd.export.lun_memory import FILE, Doubts
from gadgetd.export.plan import Row, gadget, inquiry
from gadgetd.export.retry import RefusedChange, Unusable, identify
from gadgetd.status import Board, Life
from gadgetd.usb import controllers
from gadgetd.usb.gadget import Changes, Gadget, Lun, compare
from gadgetd.usb.own_gadget import NAME, Standing, seen_as


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
        self.gadget = Standing(configfs or ConfigFs(), sys)
        self.doubts = Doubts(numbers)
        self._numbers: Mapping[str, int] = self.doubts.numbers
        self._slots: int | None = None
        self._unusable = Unusable()
        self.refused = RefusedChange(clock)
        self.turned_down = False
        """The last `take` could not hold a disk that is to be exported."""
        self.exports: dict[int, Export] = {}
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
        return not self.doubts.unproved and all(export.written for export in self.exports.values())

    @property
    def torn(self) -> bool:
        """A disk was taken from a host that had it open, which may have held data for it."""
        return bool(self._torn) or any(export.torn for export in self.exports.values())

    @property
    def with_the_host(self) -> list[Export]:
        """The exports, without those that the kernel keeps out of the gadget."""
        out = self.refused.error is not None
        return [e for n, e in self.exports.items() if e.was_shown or n in self.visible or not out]

    def prepare(self) -> None:
        """Take over the gadget that an earlier run left, if it still serves a host."""
        standing = self.gadget.take_over()
        if standing is not None:
            self.doubts.adopt(lun.number for lun in standing.luns if not lun.file)

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
        held = {export.name: export for export in self.exports.values() if export.hold}
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
        self.doubts.displace(known, self._numbers, self.exports)
        for verdict in exported:
            if verdict.disk.name in held:
                export = held[verdict.disk.name]
                export.verdict, export.inquiry = verdict, self._inquiry(verdict)
            else:
                self._admit(verdict, taken[verdict.disk.name], known)
        self._remember()
        self.doubts.adopting = False
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
        for export in self.exports.values():
            if export.inserted and export.number in empty:
                self._mark_ejected(export, by_host=True)
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

    def look(self) -> list[Export]:
        """Read all counters and LUNs; returns the exports whose eject by the host is new."""
        for export in self.exports.values():
            self.count(export)
        ejected = []
        for export in self.exports.values():
            if export.inserted and self.gadget.is_empty(export.number):
                self._mark_ejected(export, by_host=True)
                ejected.append(export)
        return ejected

    def count(self, export: Export) -> None:
        """Read the counters of one disk, if it is there."""
        if export.hold:
            export.observe(read_counters(export.name, self._sys), self._clock())

    def eject(self, export: Export, *, force: bool) -> None:
        """Take the disk out of its LUN. GadgetError if the host has locked it and not `force`."""
        if not self.gadget.eject(export.number):
            if not force:
                raise GadgetError(
                    f"{export.name} is in use: the host has locked the medium",
                    hint=f"eject it on the host, or force it: gadgetd eject --force {export.name}",
                    errno=errno.EBUSY,
                )
            export.torn = True
            self._remember()  # Before it: we may be killed in between.
            self.gadget.take_out(export.number)
        self._mark_ejected(export, by_host=False)

    def insert(self, export: Export) -> None:
        """Have an ejected disk put back by the next `apply`."""
        export.signal(Signal.INSERT)
        self._remember()
        export.start_counting(read_counters(export.name, self._sys), self._clock())

    def end_flush(self, export: Export) -> int:
        """Collect a flush that is over; returns 0 or an errno."""
        error = export.end_flush(read_counters(export.name, self._sys), self._clock())
        self._remember()
        return error

    def withdraw(self) -> None:
        """Remove what an earlier run exported, and do not say that all is well with it."""
        self.doubts.adopting = False
        self._remove()

    def close(self) -> None:
        """Remove the gadget and let go of all disks, even if the kernel refuses a step."""
        try:
            self._remove()
        finally:
            self.visible = frozenset()
            # What is in doubt stays so for a daemon that init starts next; a person ends it.
            self.doubts.leave(self._numbers, self.exports.values())
            for export in self.exports.values():
                export.release()
            self.exports.clear()
            self._torn.clear()
            self._numbers, self._slots = {}, None

    def seen_as(self, config: Config) -> frozenset[OwnGadget]:
        """Say how our gadget looks from the host, and how it will with this configuration."""
        new = seen_as(gadget(config, self._board, (), self._revision))
        return frozenset((self.gadget.seen_as or new, new))

    def _set_aside(self, error: GadgetError) -> None:
        """Leave out a disk that the gadget cannot open, so that it keeps no other from the host."""
        export = self.exports.get(error.lun)
        alone = sum(each.hold is not None for each in self.exports.values()) == 1
        gone = error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV)
        if export is None or export.was_shown or alone or gone:
            return
        if self._unusable.refuse(export.verdict.disk, error.message):
            export.release()
            del self.exports[error.lun]
            if not export.written:
                self.doubts.unproved.add(error.lun)

    def _part_from(self, verdicts: Sequence[Verdict]) -> None:
        wanted = {identify(v.disk) for v in verdicts if v.exported}
        unwanted = {identify(v.disk) for v in verdicts if not v.exported}
        for number, export in list(self.exports.items()):
            who = identify(export.verdict.disk)
            if who in unwanted:
                self._dismiss(number, export)
            elif export.hold and (who not in wanted or not export.hold.still(export.verdict.disk)):
                self._leave(export)
            elif export.leaving and export.life is not Life.EJECTING:
                export.leaving = False  # Not before the flush has told its result.
                if export.life is Life.EJECTED:
                    self.insert(export)

    def _dismiss(self, number: int, export: Export) -> None:
        """Take a disk that is there from the host, and let go of it once it is flushed."""
        export.leaving = True
        if export.hold and not export.ejected:
            export.torn |= export.inserted and self.gadget.is_locked(number)
            self._remember()
            self.gadget.take_out(number)
            self._mark_ejected(export, by_host=False)
        if export.life in (Life.EJECTED, Life.GONE):
            export.release()
            del self.exports[number]
            if export.torn:
                self._torn.add(identify(export.verdict.disk))
            if not export.written:
                self.doubts.unproved.add(number)

    def _admit(self, verdict: Verdict, held: Hold, known: Mapping[str, int]) -> None:
        number = choosing.lun_number(verdict.disk, self._numbers)
        assert number is not None, "assign() numbers every exported disk"
        inquiry, now = self._inquiry(verdict), self._clock()
        export = Export(number, verdict, inquiry, held, now, read_only=verdict.read_only)
        export.start_counting(read_counters(export.name, self._sys), now)
        was_known = choosing.lun_number(verdict.disk, known) is not None
        name = choosing.key(verdict.disk, self._numbers)
        self.doubts.settle(export, name, was_known=was_known)
        self.exports[number] = export
        self._torn.discard(identify(verdict.disk))

    def _inquiry(self, verdict: Verdict) -> str:
        text = inquiry(self._board, verdict.disk, verdict.label, self._revision)
        return f"{text[:8].strip()} {text[8:24].strip()}"

    def _leave(self, export: Export) -> None:
        export.inserted = False
        self._remember()
        self.gadget.take_out(export.number)
        # A write that has not moved the counters yet may be lost as well.
        if export.hold is not None and not export.hold.still(export.verdict.disk):
            export.lost |= export.hold.lost_data()
        export.signal(Signal.LEFT)
        export.release()
        self._remember()

    def _wanted(self, config: Config, standing: Gadget | None) -> Gadget:
        rows = [
            Row(
                export.number,
                export.verdict.disk,
                export.verdict.read_only,
                export.verdict.label,
                gone=not export.has_medium,
            )
            for export in self.exports.values()
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
        ours = {each.verdict.disk.node for each in self.exports.values() if each.has_medium}
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
                if lun.number in self.exports:
                    # Emptied for a moment, as the kernel wants it, and not by the host.
                    self.exports[lun.number].inserted = False
                    self._remember()
                if not self.gadget.set_lun(lun):
                    locked.add(lun.number)  # It is asked again later.
        finally:
            names = {number: export.name for number, export in self.exports.items()}
            self.locked = tuple(names.get(number, f"LUN {number}") for number in sorted(locked))
            self._note_visible(self.gadget.read_back())

    def _remove(self) -> None:
        self.gadget.remove()
        self.visible = frozenset()
        for export in self.exports.values():
            export.inserted = False

    def _note_visible(self, gadget: Gadget | None) -> None:
        luns = {lun.number: lun for lun in gadget.luns} if gadget else {}
        self.visible = frozenset(luns)
        for number, export in self.exports.items():
            if number in luns:
                export.read_only = luns[number].read_only
            there = number in luns and luns[number].file == export.verdict.disk.node
            export.inserted = export.has_medium and there
            export.was_shown |= export.inserted
        self._remember()

    def _mark_ejected(self, export: Export, *, by_host: bool) -> None:
        export.inserted, export.ejected_by_host = False, by_host
        export.signal(Signal.EJECT)
        self._remember()

    def _remember(self) -> None:
        self.doubts.remember(self._numbers, self.exports.values())
