"""How the gadget is changed, and what of that is known of the disks in it afterwards."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from gadgetd.errors import GadgetError
from gadgetd.export.drives import Drives
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.usb.gadget import Changes, Gadget, Lun


class Change:
    """Brings the gadget from what stands to what is wanted, by the means that `compare` found.

    Methods raise GadgetError for what the kernel refuses.
    """

    def __init__(self, gadget: OwnGadget, drives: Drives) -> None:
        self._gadget = gadget
        self._drives = drives

    def make(self, wanted: Gadget, changes: Changes) -> tuple[str, ...]:
        """Make the gadget what is wanted; returns the disks that the host has locked, by name."""
        locked: tuple[str, ...] = ()
        if changes.rebuild:
            self.remove()
            self._gadget.build(wanted)
        else:
            locked = self._set_luns(changes.luns)
            if changes.extend:
                self._gadget.extend(wanted)
        if changes.rebuild or changes.extend:
            self._gadget.read_back()
        self._note_visible(self._gadget.standing if locked else wanted)
        return locked

    def without_disconnecting(self, standing: Gadget | None, changes: Changes) -> tuple[str, ...]:
        """Do what does not wait for an idle host; returns the disks that it has locked."""
        if not changes.rebuild:
            locked = self._set_luns(changes.luns)
        else:
            # The disks that are not ours.
            locked, ours = (), {d.verdict.disk.node for d in self._drives.values() if d.has_medium}
            for lun in standing.luns if standing else ():
                if lun.file is not None and lun.file not in ours:
                    self._gadget.take_out(lun.number)
            self._gadget.read_back()
        self._note_visible(self._gadget.standing)
        return locked

    def remove(self) -> None:
        """Remove the gadget. The disks are still held."""
        self._gadget.remove()
        self._drives.note_removed()

    def _set_luns(self, luns: Sequence[Lun]) -> tuple[str, ...]:
        """Change LUNs in place; returns those that the host has locked, to be asked later."""
        locked, late = [], []
        before = frozenset(number for number, drive in self._drives.items() if drive.inserted)
        try:
            for lun in luns:
                self._drives.note_changing(lun.number)
                try:
                    if not self._gadget.set_lun(lun):
                        locked.append(lun.number)
                except GadgetError as error:
                    if error.errno != errno.ETIMEDOUT:
                        raise
                    late.append(lun.number)
        finally:
            if luns:
                try:
                    standing = self._gadget.read_back()
                except GadgetError:
                    self._drives.note_unchanged(before)
                    raise
                if standing is None:
                    self._drives.note_unchanged(before)
                self._note_visible(standing)
        for number in late:
            self._drives.note_under_way(number)
        names = {number: drive.name for number, drive in self._drives.items()}
        return tuple(names.get(number, f"disk {number}") for number in sorted(locked))

    def _note_visible(self, gadget: Gadget | None) -> None:
        if gadget is None and self._gadget.udc:
            return  # It cannot be read, and a host may have all that it had.
        self._gadget.luns = frozenset(lun.number for lun in gadget.luns) if gadget else frozenset()
        self._drives.note_visible(gadget)
