"""What outlives an export: whether all that the host wrote is on the disk, and who ejected it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from gadgetd.export import Export
from gadgetd.life import Signal
from gadgetd.numbers import load, record, save
from gadgetd.status import Life


class Doubts:
    """Kept by LUN number; of a disk whose number another has taken, by its name in `plan.assign`.

    The file is what the next daemon reads if this one is killed.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._remembered = load(file)
        self._ejected: set[int] = set()
        self._displaced: set[str] = set()
        self.numbers = self._remembered.luns
        """The LUN numbers that an earlier run had given."""
        self.unproved = set(self._remembered.in_doubt)
        """LUNs of an earlier run that we have not had: what the host wrote there may be lost."""
        self.adopting = False
        """The gadget that stands is an earlier run's, with a host on it."""

    def adopt(self, empty: Iterable[int]) -> None:
        """Go on where an earlier run was; `empty` are the LUNs that have no medium now."""
        self.adopting = True
        self._ejected = set(empty) & self._remembered.shown

    def displace(
        self, known: Mapping[str, int], new: Mapping[str, int], exports: Mapping[int, Export]
    ) -> None:
        """Note the disks whose number another disk in their place has taken."""
        for name in known.keys() - new.keys():
            export = exports.get(known[name])
            if known[name] in self.unproved or (export is not None and export.lost):
                self._displaced.add(name)
            self.unproved.discard(known[name])

    def settle(self, export: Export, name: str, *, was_known: bool) -> None:
        """Have a disk begin where it was, if we or an earlier run exported it before."""
        number = export.number
        if was_known and number in self._ejected:
            export.ejected_by_host = number not in self._remembered.withdrawn
            export.signal(Signal.EJECT)
        elif was_known and number in self.unproved:
            # An earlier daemon may have died before it flushed what the host wrote.
            export.adopted = self.adopting
            export.signal(Signal.WRITE)
        if (was_known and number in self._remembered.failed) or name in self._displaced:
            export.life, export.lost = Life.FAILED, True
        self._displaced.discard(name)
        self._ejected.discard(number)
        if was_known:
            self.unproved.discard(number)

    def remember(self, luns: Mapping[str, int], exports: Iterable[Export]) -> None:
        """Write down what a daemon needs that comes after us, if it has changed."""
        numbers = record(luns, exports, self.unproved, self._remembered.failed & self.unproved)
        if numbers != self._remembered and save(self._file, numbers):
            self._remembered = numbers

    def clear(self) -> None:
        """Begin anew: a person has been told."""
        self.unproved.clear()
        self._ejected.clear()
        self._displaced.clear()
