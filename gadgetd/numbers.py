"""What outlives a daemon that is killed: which disk has which LUN, and which LUNs it had filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path("/run/gadgetd/luns")
LIMIT = 256
"""No gadget has so many LUNs; a larger number is none of ours."""

_SHOWN, _FAILED, _RESERVED = "shown", "failed", "reserved"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The LUN number of each disk, by its identity (see plan.py).

    `shown` are the LUNs that have been given their disk. If one of them is empty, the host has
    ejected it; an empty LUN that is not among them was being changed, or never filled.
    """

    luns: Mapping[str, int] = field(default_factory=dict)
    shown: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    """LUNs whose disk refused data: a later fsync would succeed and prove nothing."""


def load(path: Path) -> Numbers:
    """Read what `save` wrote; nothing where there is no such file, or a line makes no sense."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return Numbers()
    luns: dict[str, int] = {}
    states: dict[str, set[int]] = {_SHOWN: set(), _FAILED: set()}
    for line in text.split("\n"):
        number, _, rest = line.partition("\t")
        state, _, key = rest.partition("\t")
        if number.isascii() and number.isdigit() and len(number) < 4 and int(number) < LIMIT:
            luns[key] = int(number)
            for each in states.keys() & state.split(","):
                states[each].add(int(number))
    return Numbers(luns, frozenset(states[_SHOWN]), frozenset(states[_FAILED]))


def save(path: Path, numbers: Numbers) -> None:
    """Replace the file as a whole: a daemon killed here leaves the old one or the new one.

    Without a place for it nothing is said: a daemon that is killed then numbers anew.
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
        return


def _states(numbers: Numbers, number: int) -> str:
    states = ((_SHOWN, numbers.shown), (_FAILED, numbers.failed))
    return ",".join(name for name, those in states if number in those) or _RESERVED
