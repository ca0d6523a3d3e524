"""What outlives an export, and a daemon that is killed: each disk's LUN, and what is in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from gadgetd.export.drive import Drive, Signal
from gadgetd.frozen import Frozen
from gadgetd.status import Life

FILE = Path("/run/gadgetd/luns")
LIMIT = 128
"""No controller has endpoints for so many LUNs; a larger number is none of ours."""

_STATES = ("shown", "failed", "unproved", "withdrawn", "safe", "torn", "opened", "reset", "refused")
_RESERVED = "reserved"
_DISPLACED = "-"
"""Stands where a disk has no number any more."""
_DOUBTS = frozenset(("failed", "torn", "refused"))


class LunRecord(Frozen):
    """The LUN number of each disk, by its identity (see numbering.py), and sets of LUN numbers.

    `shown` are the LUNs that have been given their disk. If one of them is empty, the host has
    ejected it; an empty LUN that is not among them was being changed, or never filled.
    """

    luns: Mapping[str, int] = MappingProxyType({})
    displaced: Mapping[str, frozenset[str]] = MappingProxyType({})
    """Disks whose number another has taken: which of `failed`, `torn` and `refused` they are."""
    shown: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    """Their disk refused data, or left with some: a later fsync would prove nothing."""
    unproved: frozenset[int] = frozenset()
    """An earlier run had them, and nobody has flushed them since."""
    withdrawn: frozenset[int] = frozenset()
    """They were emptied on the board and not by the host."""
    safe: frozenset[int] = frozenset()
    """They were emptied, and flushed after that."""
    torn: frozenset[int] = frozenset()
    """They were emptied by force while the host had them open."""
    opened: frozenset[int] = frozenset()
    """The host was seen to have them open, and has not ejected them since."""
    reset: frozenset[int] = frozenset()
    """The host has reset the bus since they were put in."""
    refused: frozenset[int] = frozenset()
    """They were taken from the host since they lost data; a person puts them back."""

    @property
    def in_doubt(self) -> frozenset[int]:
        """The LUNs of which a daemon that starts does not know whether all is on the disk."""
        return (self.shown | self.failed | self.unproved) - self.safe


def load(path: Path) -> LunRecord:
    """Read what `save` wrote; nothing where there is no such file, or a line makes no sense."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return LunRecord()
    luns: dict[str, int] = {}
    states: dict[str, set[int]] = {name: set() for name in _STATES}
    displaced: dict[str, frozenset[str]] = {}
    for line in text.split("\n"):
        digits, _, rest = line.partition("\t")
        state, _, key = rest.partition("\t")
        if digits == _DISPLACED and (doubts := _DOUBTS.intersection(state.split(","))):
            displaced[_unescaped(key)] = doubts
        if not (digits.isascii() and digits.isdigit() and len(digits) < 4):
            continue
        number = int(digits)
        key = _unescaped(key)
        if number < LIMIT and number not in luns.values() and key not in luns:
            luns[key] = number
            for each in states.keys() & state.split(","):
                states[each].add(number)
    found = {name: frozenset(numbers) for name, numbers in states.items()}
    return LunRecord(luns, displaced, **found)


def save(path: Path, numbers: LunRecord) -> bool:
    """Replace the file as a whole: a daemon killed here leaves the old one or the new one.

    Returns whether there was a place for it. Nothing is said if not: a daemon that is killed then
    numbers anew.
    """
    lines = "".join(
        f"{number}\t{_states(numbers, number)}\t{_escaped(key)}\n"
        for key, number in numbers.luns.items()
    )
    lines += "".join(
        f"{_DISPLACED}\t{','.join(sorted(doubts))}\t{_escaped(key)}\n"
        for key, doubts in numbers.displaced.items()
    )
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_bytes(lines.encode("utf-8", "surrogateescape"))
        new.replace(path)
    except OSError:
        return False
    return True


def _escaped(key: str) -> str:
    """In one line: a disk's serial number may hold anything, and must not be forgotten for it."""
    return key.replace("\\", r"\\").replace("\n", r"\n")


def _unescaped(text: str) -> str:
    return "\\".join(part.replace(r"\n", "\n") for part in text.split(r"\\"))


def _states(numbers: LunRecord, number: int) -> str:
    return ",".join(name for name in _STATES if number in getattr(numbers, name)) or _RESERVED


class LunMemory:
    """Kept by LUN number; where another disk has taken it, by the disk's name in numbering.py.

    The file is what the next daemon reads if this one is killed.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._remembered = load(file)
        self._ejected: set[int] = set()
        self._displaced = dict(self._remembered.displaced)
        self._refused = set(self._remembered.refused)
        self.numbers = self._remembered.luns
        """The LUN numbers of all disks that we, or an earlier run, have exported."""
        self.unproved = set(self._remembered.in_doubt)
        """LUNs of an earlier run that we have not had: what the host wrote there may be lost."""
        self.torn = set(self._remembered.torn)
        """LUNs that we do not have (yet), taken from a host that had them open."""
        self.adopting = False
        """The gadget that stands is an earlier run's, with a host on it."""

    def adopt(self, empty: Iterable[int]) -> None:
        """Go on where an earlier run was; `empty` are the LUNs that have no medium now."""
        self.adopting = True
        self._ejected = set(empty) & self._remembered.shown

    def renumber(self, new: Mapping[str, int], drives: Mapping[int, Drive]) -> None:
        """Use these numbers, and note the disks whose own another in their place has taken."""
        known, self.numbers = self.numbers, new
        for name in known.keys() - new.keys():
            drive = drives.get(known[name])
            lost = known[name] in self.unproved or (drive is not None and drive.lost)
            torn = known[name] in self.torn or (drive is not None and drive.torn)
            refused = known[name] in self._refused or (drive is not None and drive.refused)
            doubts = ("failed",) * lost + ("torn",) * torn + ("refused",) * refused
            if doubts:
                self._displaced[name] = frozenset(doubts)
            self.unproved.discard(known[name])
            self.torn.discard(known[name])
            self._refused.discard(known[name])

    def keep_doubts(self, drive: Drive) -> None:
        """Have a disk that has left, or is let go, begin with what is in doubt of it now."""
        if drive.torn:
            self.torn.add(drive.number)
        if drive.refused:
            self._refused.add(drive.number)

    def settle(self, drive: Drive, name: str, *, was_known: bool) -> None:
        """Have a disk begin where it was, if we or an earlier run exported it before."""
        number = drive.number
        if was_known and number in self._ejected:
            drive.ejected_by_host = number not in self._remembered.withdrawn
            drive.signal(Signal.EJECT)
        elif was_known and number in self.unproved:
            # An earlier daemon may have died before it flushed what the host wrote.
            drive.adopted = self.adopting
            drive.signal(Signal.WRITE)
            drive.opened = self.adopting and number in self._remembered.opened
            drive.reset = self.adopting and number in self._remembered.reset
        doubts = self._displaced.pop(name, frozenset())
        if (was_known and number in self._refused) or "refused" in doubts:
            drive.refused = True
            drive.signal(Signal.EJECT)
        if (was_known and number in self._remembered.failed) or "failed" in doubts:
            drive.life, drive.lost = Life.FAILED, True
        drive.torn = (was_known and number in self.torn) or "torn" in doubts
        self._ejected.discard(number)
        if was_known:
            self.unproved.discard(number)
            self.torn.discard(number)
            self._refused.discard(number)

    def remember(self, drives: Iterable[Drive]) -> None:
        """Write down what a daemon needs that comes after us, if it has changed."""
        drives = tuple(drives)
        failed = {e.number for e in drives if e.life is Life.FAILED or e.lost}
        failed |= self._remembered.failed & self.unproved
        # On their way out of their LUN, or changed in it.
        between = {e.number for e in drives if not (e.written or e.inserted or e.ejected)}
        found = LunRecord(
            self.numbers,
            dict(self._displaced),
            shown=frozenset(e.number for e in drives if e.inserted or e.ejected),
            failed=frozenset(failed),
            unproved=frozenset(between | self.unproved),
            withdrawn=frozenset(e.number for e in drives if e.ejected and not e.ejected_by_host),
            safe=frozenset(e.number for e in drives if e.life is Life.EJECTED),
            torn=frozenset(self.torn.union(e.number for e in drives if e.torn)),
            opened=frozenset(e.number for e in drives if e.opened),
            reset=frozenset(e.number for e in drives if e.reset),
            refused=frozenset(self._refused.union(e.number for e in drives if e.refused)),
        )
        if found != self._remembered and save(self._file, found):
            self._remembered = found

    def leave(self, drives: Iterable[Drive]) -> None:
        """End all exporting: begin anew here, and leave to another daemon what is in doubt."""
        drives = tuple(drives)
        failed = {e.number for e in drives if not e.written}
        failed |= self._remembered.failed & self.unproved
        torn = self.torn | {e.number for e in drives if e.torn}
        refused = self._refused | {e.number for e in drives if e.refused}
        doubted = {*failed, *torn, *refused, *self.unproved}
        kept = {name: number for name, number in self.numbers.items() if number in doubted}
        if self.numbers:  # Else this is a second end, and the first has left what there is.
            self._remembered = LunRecord(
                kept,
                dict(self._displaced),
                failed=frozenset(failed),
                unproved=frozenset(self.unproved),
                torn=frozenset(torn),
                refused=frozenset(refused),
            )
            save(self._file, self._remembered)
        self.numbers = {}
        self.unproved.clear()
        self.torn.clear()
        self._ejected.clear()
        self._refused.clear()
        self._displaced.clear()
