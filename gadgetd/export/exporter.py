"""Keeps the gadget as the plan wants it, with the disks that are held.

The gadget is compared with the plan and changed by the mildest means that will do: a LUN in place,
then more LUNs, then all of it anew. So starting, adopting what a killed daemon left, hot-plug and
a new configuration are one and the same step.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

from gadgetd.config.settings import AUTO, Config
from gadgetd.configfs import ConfigFs
from gadgetd.disks.disk import Disk, Verdict
from gadgetd.disks.hold import Hold, hold
from gadgetd.errors import GadgetError
from gadgetd.eventloop import Clock
from gadgetd.export.drive import all_ejected
from gadgetd.export.drives import Drives
from gadgetd.export.lun_memory import FILE, LunMemory
from gadgetd.export.outcome import Exported, Outcome, Waits
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.export.plan import gadget, inquiry, undisturbed
from gadgetd.export.retry import RefusedChange, Unusable
from gadgetd.status import Board
from gadgetd.usb.gadget import Changes, Gadget, Lun, UsbIdentity, compare


class Exporter:
    """All that is exported. Methods but `reconcile` raise GadgetError for what is refused."""

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
        self.gadget = OwnGadget(configfs or ConfigFs(), sys)
        self.drives = Drives(self.gadget, LunMemory(numbers), clock, sys, hold, self._inquiry)
        self._layout: tuple[object, ...] | None = None
        """What of the configuration the gadget that stands was laid out by, if we made it."""
        self._unusable = Unusable()
        self._refused = RefusedChange(clock)
        self._prepared = False

    @property
    def udc(self) -> str:
        """The controller the gadget is bound to; empty if it is not."""
        return self.gadget.udc

    @property
    def exported(self) -> Exported:
        """What is exported at this moment."""
        return Exported(
            self.drives.in_order,
            self.drives.memory.unproved,
            self.drives.memory.torn,
            self.gadget.luns,
            bool(self.udc),
            self.gadget.note,
            0 if self.udc else len(self.gadget.controllers()),
            self.all_ejected,
            tuple(drive.name for drive in self.drives.silent),
        )

    @property
    def all_ejected(self) -> bool:
        """The host has let go of every disk, and all that it wrote is on them."""
        # Without those that the kernel keeps out of the gadget.
        out, luns = self._refused.error is not None, self.gadget.luns
        with_host = [d for n, d in self.drives.items() if d.was_shown or n in luns or not out]
        return self.drives.written and not self.drives.torn and all_ejected(with_host)

    def prepare(self) -> None:
        """Take over the gadget that an earlier run left, if it still serves a host; but once."""
        if self._prepared:
            return
        standing = self.gadget.take_over()
        if standing is not None:
            self.drives.memory.adopt(lun.number for lun in standing.luns if not lun.file)
        self._prepared = True

    def forgive(self) -> None:
        """Try again what was refused, though it may be again."""
        self._refused.clear()
        self._unusable.clear()

    def identities(self, config: Config) -> frozenset[UsbIdentity]:
        """Say how our gadget looks from the host, and how it will with this configuration."""
        new = gadget(config, self._board, (), self._revision).identity
        return frozenset((self.gadget.identity or new, new))

    def reconcile(
        self, config: Config, verdicts: Sequence[Verdict], may_disconnect: Callable[[], bool]
    ) -> Outcome:
        """Hold the disks that are to be exported, bring the gadget to what the plan wants, bind it.

        `may_disconnect` is asked where a step disconnects all disks for a moment. Raises nothing:
        what the kernel refuses is in the outcome.
        """
        wanted = tuple(self._unusable.judge(verdicts))
        done = Outcome(wanted)
        try:
            taken = self.drives.hold_disks(wanted)
            done = self._apply(Outcome(taken, not_held=taken != wanted), config, may_disconnect)
        except GadgetError as error:
            done = done._replace(error=error)
        return done._replace(refusal=self._refused.error, left_out=bool(self._unusable))

    def withdraw(self) -> None:
        """Remove what an earlier run exported, and do not say that all is well with it."""
        self.drives.memory.adopting = False
        self._remove()

    def close(self) -> None:
        """Remove the gadget and let go of all disks, even if the kernel refuses a step.

        As long as it is bound the host has them, and they are held.
        """
        try:
            self._remove()
        finally:
            if not self.udc:
                self.drives.close()
                self._layout = None
                self.gadget.forget_room()

    def _apply(self, done: Outcome, config: Config, may_disconnect: Callable[[], bool]) -> Outcome:
        self.gadget.look_at_controller()
        try:
            standing = self.gadget.read_back()
        except GadgetError:
            return done._replace(waits=Waits.ANSWER, wants_gadget=True)
        # What the host has ejected up to here must not be put back by what follows.
        self.drives.note_ejected(standing)
        wanted = self._wanted(config, standing)
        if not wanted.functions:
            self._remove()
            return done
        # What does not answer stays as it is for now.
        everything, wanted = wanted, self.gadget.spare(wanted)
        rest = Waits.ANSWER if wanted != everything else Waits.NOTHING
        changes = compare(standing, wanted)
        udc = config.usb.udc if config.usb.udc != AUTO else ""
        elsewhere = udc not in ("", self.udc)
        disconnects = bool(self.udc) and (changes.extend or changes.rebuild or elsewhere)
        if disconnects and len(wanted.storage) > self.gadget.room:
            self._refused.rule_out(wanted, self.gadget.no_room)
        refused = self._refused.covers(wanted)
        done = done._replace(wants_gadget=True)
        allowed = disconnects and not refused and may_disconnect()
        silent = allowed and not self.gadget.answers()  # It would disconnect them, and no more.
        if disconnects and (silent or not allowed):
            locked = self._without_disconnecting(standing, changes)
            waits = Waits.IDLE if not refused else Waits.LOCK if locked else rest
            return done._replace(waits=Waits.ANSWER if silent else waits, locked=locked)
        done = done._replace(reconnected=done.reconnected or disconnects)
        try:
            locked = self._make(wanted, changes)
        except GadgetError as error:
            if self.gadget.can_share(wanted, error):
                return self._apply(done, config, lambda: True)
            if disconnects and error.errno != errno.ETIMEDOUT:
                self._refused.refuse(wanted, error)
            self._leave_out(error)
            return done._replace(error=error)
        self._refused.changed(wanted, self.gadget.standing)
        self._layout = _layout(config)
        done = done._replace(waits=Waits.LOCK if locked else rest, locked=locked)
        try:
            if self.udc and elsewhere:
                self.gadget.disconnect()
            if not self.udc and not self.gadget.bind(udc):
                return done._replace(waits=Waits.CONTROLLER)
        except GadgetError as error:
            if not self.udc:
                # Functions that could not be bound are emptied by the kernel, not by a host.
                self._remove()
            if self.gadget.can_share(wanted, error):
                return self._apply(done, config, may_disconnect)
            self.gadget.forget_room()  # It was not for want of it, and no host is disturbed.
            return done._replace(error=error)
        return done

    def _make(self, wanted: Gadget, changes: Changes) -> tuple[str, ...]:
        """Make the gadget what is wanted; returns the disks that the host has locked, by name."""
        locked: tuple[str, ...] = ()
        if changes.rebuild:
            self._remove()
            self.gadget.build(wanted)
        else:
            locked = self._set_luns(changes.luns)
            if changes.extend:
                self.gadget.extend(wanted)
        if changes.rebuild or changes.extend:
            self.gadget.read_back()
        self._note_visible(self.gadget.standing if locked else wanted)
        return locked

    def _without_disconnecting(self, standing: Gadget | None, changes: Changes) -> tuple[str, ...]:
        """Do what does not wait for an idle host; returns the disks that it has locked."""
        if not changes.rebuild:
            locked = self._set_luns(changes.luns)
        else:
            # The disks that are not ours.
            locked, ours = (), {d.verdict.disk.node for d in self.drives.values() if d.has_medium}
            for lun in standing.luns if standing else ():
                if lun.file is not None and lun.file not in ours:
                    self.gadget.take_out(lun.number)
            self.gadget.read_back()
        self._note_visible(self.gadget.standing)
        return locked

    def _set_luns(self, luns: Sequence[Lun]) -> tuple[str, ...]:
        """Change LUNs in place; returns those that the host has locked, to be asked later."""
        locked, late = [], []
        before = frozenset(number for number, drive in self.drives.items() if drive.inserted)
        try:
            for lun in luns:
                self.drives.note_changing(lun.number)
                try:
                    if not self.gadget.set_lun(lun):
                        locked.append(lun.number)
                except GadgetError as error:
                    if error.errno != errno.ETIMEDOUT:
                        raise
                    late.append(lun.number)
        finally:
            if luns:
                try:
                    standing = self.gadget.read_back()
                except GadgetError:
                    self.drives.note_unchanged(before)
                    raise
                if standing is None:
                    self.drives.note_unchanged(before)
                self._note_visible(standing)
        for number in late:
            self.drives.note_under_way(number)
        names = {number: drive.name for number, drive in self.drives.items()}
        return tuple(names.get(number, f"disk {number}") for number in sorted(locked))

    def _note_visible(self, gadget: Gadget | None) -> None:
        if gadget is None and self.gadget.udc:
            return  # It cannot be read, and a host may have all that it had.
        self.gadget.luns = frozenset(lun.number for lun in gadget.luns) if gadget else frozenset()
        self.drives.note_visible(gadget)

    def _remove(self) -> None:
        """Remove the gadget. The disks are still held."""
        self.gadget.remove()
        self.drives.note_removed()

    def _wanted(self, config: Config, standing: Gadget | None) -> Gadget:
        rows = [drive.row for drive in self.drives.values()]
        # Slots that are used up come back with the next start, not by disconnecting the host now.
        kept = standing if self._layout in (None, _layout(config)) else None
        wanted = gadget(
            config,
            self._board,
            rows,
            self._revision,
            luns=len(kept.luns) if kept else None,
            most_functions=self.gadget.most_functions(config.usb),
        )
        return undisturbed(wanted, kept) if kept and self.udc else wanted

    def _leave_out(self, error: GadgetError) -> None:
        """Leave out a disk that the gadget cannot open, so that it keeps no other from the host."""
        drive = self.drives.get(error.lun)
        alone = sum(each.hold is not None for each in self.drives.values()) == 1
        gone = error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV)
        if drive is None or drive.was_shown or alone or gone:
            return
        if self._unusable.refuse(drive.verdict.disk, error.message):
            self.drives.drop(drive)

    def _inquiry(self, verdict: Verdict) -> str:
        text = inquiry(self._board, verdict.disk, verdict.label, self._revision)
        return f"{text[:8].strip()} {text[8:24].strip()}"


def _layout(config: Config) -> tuple[object, ...]:
    return config.slots, config.usb.functions
