"""What outlives a daemon that is killed: which disk has which LUN, and which LUNs it had filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from gadgetd.export import Export
from gadgetd.status import Life

FILE = Path("/run/gadgetd/luns")
LIMIT = 128
"""No controller has endpoints for so many LUNs; a larger number is none of ours."""

_STATES = ("shown", "failed", "unproved", "withdrawn", "safe")
_RESERVED = "reserved"


class Numbers(NamedTuple):
    """The LUN number of each disk, by its identity (see plan.py), and sets of LUN numbers.

    `shown` are the LUNs that have been given their disk. If one of them is empty, the host has
    ejected it; an empty LUN that is not among them was being changed, or never filled.
    """

    luns: Mapping[str, int] = MappingProxyType({})
    shown: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    """Their disk refused data, or left with some: a later fsync would prove nothing."""
    unproved: frozenset[int] = frozenset()
    """An earlier run had them, and nobody has flushed them since."""
    withdrawn: frozenset[int] = frozenset()
    """They were emptied on the board and not by the host."""
    safe: frozenset[int] = frozenset()
    """They were emptied, and flushed after that."""

    @property
    def in_doubt(self) -> frozenset[int]:
        """The LUNs of which a daemon that starts does not know whether all is on the disk."""
        return (self.shown | self.failed | self.unproved) - self.safe


def record(
    luns: Mapping[str, int], exports: Iterable[Export], unproved: Set[int], failed: Set[int]
) -> Numbers:
    """Put together what is to be remembered; `failed` are more than those among the exports."""
    exports = tuple(exports)
    lost = {export.number for export in exports if export.life is Life.FAILED or export.lost}
    return Numbers(
        luns,
        shown=frozenset(e.number for e in exports if e.inserted or e.ejected),
        failed=frozenset(lost | failed),
        unproved=frozenset(unproved),
        withdrawn=frozenset(e.number for e in exports if e.ejected and not e.ejected_by_host),
        safe=frozenset(e.number for e in exports if e.life is Life.EJECTED),
    )


def load(path: Path) -> Numbers:
    """Read what `save` wrote; nothing where there is no such file, or a line makes no sense."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return Numbers()
    luns: dict[str, int] = {}
    states: dict[str, set[int]] = {name: set() for name in _STATES}
    for line in text.split("\n"):
        digits, _, rest = line.partition("\t")
        state, _, key = rest.partition("\t")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 4):
            continue
        number = int(digits)
        if number < LIMIT and number not in luns.values() and key not in luns:
            luns[key] = number
            for each in states.keys() & state.split(","):
                states[each].add(number)
    return Numbers(luns, **{name: frozenset(numbers) for name, numbers in states.items()})


def save(path: Path, numbers: Numbers) -> bool:
    """Replace the file as a whole: a daemon killed here leaves the old one or the new one.

    Returns whether there was a place for it. Nothing is said if not: a daemon that is killed then
    numbers anew.
    """
    lines = "".join(
        f"{number}\t{_states(numbers, number)}\t{key}\n"
        for key, number in numbers.luns.items()
        if "\n" not in key
    )
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_bytes(lines.encode("utf-8", "surrogateescape"))
        new.replace(path)
    except OSError:
        return False
    return True


def _states(numbers: Numbers, number: int) -> str:
    return ",".join(name for name in _STATES if number in getattr(numbers, name)) or _RESERVED
