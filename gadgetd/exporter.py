"""Holds the disks, keeps the gadget as the plan wants it, and follows what the host does to it.

The gadget is compared with the plan and changed by the mildest means that will do: a LUN in place,
then more LUNs, then all of it anew. So starting, adopting what a killed daemon left, hot-plug and
a new configuration are one and the same step.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gadgetd import plan, udc
from gadgetd.blockscan import OwnGadget
from gadgetd.config import Config
from gadgetd.configfs import ConfigFs
from gadgetd.disk import Disk, Verdict
from gadgetd.errors import GadgetdError, GadgetError
from gadgetd.export import Export, Waits
from gadgetd.hold import Hold, hold
from gadgetd.life import Signal
from gadgetd.loop import Clock
from gadgetd.numbers import FILE, Numbers, load, save
from gadgetd.status import Board, Life
from gadgetd.traffic import read_counters

NAME = "gadgetd"


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
        self._configfs = configfs or ConfigFs()
        self._sys = sys
        self._numbers_file = numbers
        self._hold = hold
        self._remembered = load(numbers)
        self._numbers: Mapping[str, int] = self._remembered.luns
        self._adopting = False
        self._ejected_before: frozenset[int] = frozenset()
        self._slots: int | None = None
        self.exports: dict[int, Export] = {}
        """By LUN number. A disk that left stays here, so that its LUN waits for it."""
        self.visible: frozenset[int] = frozenset()
        """The LUNs that the host can see, empty ones included."""
        self.udc = ""
        """The controller the gadget is bound to; empty if it is not."""
        self.note = ""
        """Why this controller, or why none, in words."""
        self.wants_gadget = False
        """The last `apply` found something to export: a disk, an empty slot, a serial console."""
        self.locked: tuple[str, ...] = ()
        """The disks whose LUN is to change and cannot, for the host has locked the medium."""
        self.reconnected = False
        """The host was disconnected for a moment by the last `apply`."""
        self._standing_as: OwnGadget | None = None
        self.before_removal: Callable[[], None] = lambda: None
        """Called when a gadget is off the bus and about to be removed."""

    def prepare(self) -> None:
        """Mount configfs, and take down a leftover gadget that serves nobody."""
        self._configfs.mount()
        for name in self._configfs.leftovers(NAME):
            bound = self._configfs.bound_udc(name)
            standing = self._configfs.read_back(name)
            if name == NAME and bound and standing is not None:
                self.udc, self.note = bound, "taken over from an earlier run"
                self._adopting = True
                self._standing_as = _seen_as(standing)
                empty = frozenset(lun.number for lun in standing.luns if not lun.file)
                self._ejected_before = empty & self._remembered.shown
            else:
                self._configfs.unbind(name)
                self.before_removal()
                self._configfs.teardown(name)

    def take(self, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """Hold every disk that is to be exported, and let go of those that are not any more.

        Returns the verdicts anew: a disk that cannot be held is not exported, and says why.
        """
        self._part_from(verdicts)
        held = {export.name: export for export in self.exports.values() if export.hold}
        taken: dict[str, Hold] = {}
        judged = []
        for verdict in verdicts:
            name = verdict.disk.name
            if verdict.exported and name not in held:
                try:
                    taken[name] = self._hold(verdict.disk)
                except GadgetdError as error:
                    judged.append(replace(verdict, exported=False, reason=error.message))
                    continue
            judged.append(verdict)
        exported = [verdict for verdict in judged if verdict.exported]
        known = self._numbers
        self._numbers = plan.assign(exported, known)
        for verdict in exported:
            if verdict.disk.name in held:
                export = held[verdict.disk.name]
                export.verdict, export.inquiry = verdict, self._inquiry(verdict)
            else:
                self._admit(verdict, taken[verdict.disk.name], known)
        self._remember()
        self._adopting, self._ejected_before = False, frozenset()
        return tuple(judged)

    def apply(self, config: Config, *, may_disconnect: bool) -> Waits:
        """Bring the gadget to what the plan wants, bind it, and say what has to wait.

        `may_disconnect` allows steps that disconnect all disks for a moment.
        """
        self.locked, self.reconnected = (), False
        self._look_at_controller()
        standing = self._configfs.read_back(NAME)
        # What the host has ejected up to here must not be put back by what follows.
        empty = {lun.number for lun in standing.luns if not lun.file} if standing else _NONE
        for export in self.exports.values():
            if export.inserted and export.number in empty:
                self._mark_ejected(export, by_host=True)
        wanted = self._wanted(config, standing)
        changes = plan.compare(standing, wanted)
        elsewhere = config.usb.udc not in (udc.AUTO, self.udc)
        self.wants_gadget = bool(wanted.functions)
        if not self.wants_gadget:
            self._remove()
            return Waits.NOTHING
        if self.udc and not may_disconnect and (changes.extend or changes.rebuild or elsewhere):
            if not changes.rebuild:
                self._set_luns(changes.luns)
                self._note_visible(self._configfs.read_back(NAME))
            return Waits.IDLE
        self.reconnected = bool(self.udc) and (changes.rebuild or changes.extend or elsewhere)
        if changes.rebuild:
            self._remove()
            self._configfs.build(wanted)
        else:
            self._set_luns(changes.luns)
            if changes.extend:
                self._configfs.extend(wanted)
        self._standing_as = _seen_as(wanted)
        self._note_visible(self._configfs.read_back(NAME) if self.locked else wanted)
        self._slots = config.slots
        if self.udc and elsewhere:
            self.disconnect()
        if not self.udc and not self._bind(config):
            return Waits.CONTROLLER
        return Waits.LOCK if self.locked else Waits.NOTHING

    def look(self) -> list[Export]:
        """Read all counters and LUNs; returns the exports whose eject by the host is new."""
        now = self._clock()
        for export in self.exports.values():
            if export.hold:
                export.observe(read_counters(export.name, self._sys), now)
        return self.notice_ejects()

    def notice_ejects(self) -> list[Export]:
        """Find the LUNs that the host has emptied since the last look."""
        ejected = []
        for export in self.exports.values():
            if export.inserted and not self._configfs.lun_file(NAME, export.number):
                self._mark_ejected(export, by_host=True)
                ejected.append(export)
        return ejected

    def eject(self, export: Export, *, force: bool) -> None:
        """Take the disk out of its LUN. GadgetError if the host has locked it and not `force`."""
        if force:
            self._configfs.force_eject(NAME, export.number)
        else:
            try:
                self._configfs.set_file(NAME, export.number, None)
            except GadgetError as error:
                if error.errno == errno.EBUSY:
                    raise _locked(export) from error
                raise
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

    def disconnect(self) -> None:
        """Take the gadget from the host. The disks stay held, so that they can be flushed."""
        self._configfs.unbind(NAME)
        self.udc = ""

    def close(self) -> None:
        """Remove the gadget and let go of all disks, even if the kernel refuses a step."""
        try:
            self._remove()
        finally:
            self.udc, self.visible = "", _NONE
            for export in self.exports.values():
                export.release()
            self.exports.clear()
            self._numbers, self._slots = {}, None
            self._remember()

    def seen_as(self, config: Config) -> frozenset[OwnGadget]:
        """Say how our gadget looks from the host, and how it will with this configuration."""
        new = _seen_as(plan.gadget(config, self._board, (), self._revision))
        return frozenset((self._standing_as or new, new))

    def controllers(self) -> tuple[udc.Udc, ...]:
        """List the board's USB device controllers."""
        return udc.controllers(self._sys / "class" / "udc")

    def _part_from(self, verdicts: Sequence[Verdict]) -> None:
        wanted = {_who(v.disk) for v in verdicts if v.exported}
        unwanted = {_who(v.disk): v for v in verdicts if not v.exported}
        for number, export in list(self.exports.items()):
            who = _who(export.verdict.disk)
            if who in unwanted:
                self._dismiss(number, export, unwanted[who])
            elif export.hold and who not in wanted:
                self._leave(export)
            elif export.leaving and export.life is not Life.EJECTING:
                export.leaving = False  # Not before the flush has told its result.
                if export.life is Life.EJECTED:
                    self.insert(export)

    def _dismiss(self, number: int, export: Export, verdict: Verdict) -> None:
        """Take a disk that is there from the host, and let go of it once it is flushed."""
        export.verdict, export.leaving = verdict, True
        if export.hold and not export.ejected:
            self._force_out(number)
            self._mark_ejected(export, by_host=False)
        if export.life in (Life.EJECTED, Life.GONE):
            export.release()
            del self.exports[number]

    def _admit(self, verdict: Verdict, held: Hold, known: Mapping[str, int]) -> None:
        number = plan.lun_number(verdict.disk, self._numbers)
        assert number is not None, "assign() numbers every exported disk"
        export = Export(
            number, verdict, self._inquiry(verdict), held, self._clock(), verdict.read_only
        )
        export.start_counting(read_counters(export.name, self._sys), self._clock())
        was_known = plan.lun_number(verdict.disk, known) is not None
        if was_known and number in self._ejected_before:
            export.signal(Signal.EJECT)
        elif was_known and self._adopting:
            # An earlier daemon may have died before it flushed what the host wrote.
            export.adopted = True
            export.signal(Signal.WRITE)
        if was_known and self._adopting and number in self._remembered.failed:
            export.life = Life.FAILED
        self.exports[number] = export

    def _inquiry(self, verdict: Verdict) -> str:
        text = plan.inquiry(self._board, verdict.disk, verdict.label, self._revision)
        return f"{text[:8].strip()} {text[8:24].strip()}"

    def _leave(self, export: Export) -> None:
        export.inserted = False
        self._remember()
        self._force_out(export.number)
        export.signal(Signal.LEFT)
        export.release()

    def _force_out(self, number: int) -> None:
        try:
            self._configfs.force_eject(NAME, number)
        except GadgetError as error:
            if error.errno != errno.ENOENT:
                raise
            # A kernel without that attribute (it came with 6.0), or there is no such LUN.
            standing = self._configfs.read_back(NAME)
            if standing is not None and number in (lun.number for lun in standing.luns):
                self._configfs.set_file(NAME, number, None)

    def _wanted(self, config: Config, standing: plan.Gadget | None) -> plan.Gadget:
        rows = [
            plan.Row(
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
        return plan.gadget(config, self._board, rows, self._revision, luns=luns, name=NAME)

    def _look_at_controller(self) -> None:
        self.udc = self._configfs.bound_udc(NAME)
        if self.udc and self.udc not in {each.name for each in self.controllers()}:
            # It has left, but its name stands in the gadget until that is unbound.
            self.disconnect()

    def _set_luns(self, luns: Sequence[plan.Lun]) -> None:
        locked = set()
        for lun in luns:
            if lun.number in self.exports:
                # Emptied for a moment, as the kernel wants it, and not by the host.
                self.exports[lun.number].inserted = False
                self._remember()
            try:
                if lun.file is None:
                    # No word of the host's keeps a disk in that we do not hold any more.
                    self._force_out(lun.number)
                self._configfs.set_lun(NAME, lun)
            except GadgetError as error:
                if error.errno != errno.EBUSY:
                    raise
                locked.add(lun.number)  # It is asked again later.
        names = {number: export.name for number, export in self.exports.items()}
        self.locked = tuple(names.get(number, f"LUN {number}") for number in sorted(locked))

    def _bind(self, config: Config) -> bool:
        others = self._configfs.other_gadgets(NAME)
        busy = {controller: name for name, controller in others.items() if controller}
        chosen, self.note = udc.bind_first(
            lambda controller: self._configfs.bind(NAME, controller),
            config.usb.udc,
            self.controllers(),
            busy,
            NAME,
        )
        self.udc = chosen or ""
        return chosen is not None

    def _remove(self) -> None:
        self._configfs.unbind(NAME)
        self.before_removal()
        self._configfs.teardown(NAME)
        self.udc, self.visible = "", _NONE
        for export in self.exports.values():
            export.inserted = False

    def _note_visible(self, gadget: plan.Gadget | None) -> None:
        luns = {lun.number: lun for lun in gadget.luns} if gadget else {}
        self.visible = frozenset(luns)
        for number, export in self.exports.items():
            export.inserted = export.has_medium and number in luns
            if number in luns:
                export.read_only = luns[number].read_only
        self._remember()

    def _mark_ejected(self, export: Export, *, by_host: bool) -> None:
        export.inserted, export.ejected_by_host = False, by_host
        export.signal(Signal.EJECT)

    def _remember(self) -> None:
        exports = self.exports.values()
        shown = frozenset(e.number for e in exports if e.inserted or e.ejected)
        failed = frozenset(e.number for e in exports if e.life is Life.FAILED)
        numbers = Numbers(self._numbers, shown, failed)
        if numbers != self._remembered:
            save(self._numbers_file, numbers)
            self._remembered = numbers


_NONE: frozenset[int] = frozenset()


def _locked(export: Export) -> GadgetError:
    return GadgetError(
        f"{export.name} is in use: the host has locked the medium",
        hint=f"eject it on the host, or force it: gadgetd eject --force {export.number}",
        errno=errno.EBUSY,
    )


def _seen_as(gadget: plan.Gadget) -> OwnGadget:
    return OwnGadget(gadget.vendor_id, gadget.product_id, gadget.serial)


def _who(disk: Disk) -> tuple[str, str]:
    # The same disk under another kernel name is held under the old one, so it is another.
    return disk.name, plan.identity(disk)
