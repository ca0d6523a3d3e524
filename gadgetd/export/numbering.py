"""The order of disks, and the number of each, which it keeps as others come and go. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gadgetd.disks.disk import Disk, Found, Kind, Verdict
from gadgetd.frozen import Frozen
from gadgetd.sysfs import natural_key


class Row(Frozen):
    """A disk and the LUN it has. With `disk` None, or gone from the board, the LUN is empty."""

    number: int
    disk: Disk | None
    read_only: bool = False
    label: str = ""
    gone: bool = False
    """The disk left, and its LUN waits for it: same number, same inquiry string, no medium."""


def order(found: Found) -> tuple[int, tuple[tuple[int, int, str], ...]]:
    """Give what disks are sorted by: kind, as `Kind` has them, then name. `assign` numbers them."""
    return list(Kind).index(found.disk.kind), natural_key(found.disk.name)


def identity(disk: Disk) -> str:
    """Tell a disk from all others, across its going and coming back.

    A disk without a serial number or a place is known by its kernel name alone.
    """
    if disk.serial and disk.location:
        return f"{disk.kind} {disk.location} {disk.model} {disk.serial}"
    return f"{disk.kind} {disk.name} {disk.model} {disk.serial}"


def assign(verdicts: Sequence[Verdict], previous: Mapping[str, int]) -> Mapping[str, int]:
    """Give each exported disk its LUN number: a disk that was known keeps the one it had.

    `previous` is what an earlier call returned, empty at the start. Its numbers stay reserved, so
    that a disk that comes back finds its own; a new disk in the place of one that has left takes
    over its number, as cards in one slot do, or else the first that is not in use. Look a disk's
    number up with `lun_number`.
    """
    numbers = dict(previous)
    present = {key(verdict.disk, numbers) for verdict in verdicts if verdict.exported}
    seen: set[str] = set()
    for verdict in verdicts:
        if not verdict.exported:
            continue
        name = key(verdict.disk, numbers)
        if name in seen:
            name = _twin_key(verdict.disk)
        seen.add(name)
        if name not in numbers:
            numbers[name] = _vacated(verdict.disk, numbers, present)
    return numbers


def key(disk: Disk, numbers: Mapping[str, int]) -> str:
    """Give the name of a disk in what `assign` returns, whether it is there or not."""
    twin = _twin_key(disk)
    return twin if twin in numbers else identity(disk)


def lun_number(disk: Disk, numbers: Mapping[str, int]) -> int | None:
    """Look up a disk in what `assign` returned; None for a disk that was never exported."""
    return numbers.get(key(disk, numbers))


def _vacated(disk: Disk, numbers: dict[str, int], present: set[str]) -> int:
    """Give the number of a disk that was in this disk's place, and forget that disk."""
    place = f"{disk.kind} {disk.location} "
    there = [key for key in numbers if disk.location and key.startswith(place)]
    # More than one are the slots of a card reader, which share a place.
    if len(there) == 1 and there[0] not in present:
        return numbers.pop(there[0])
    taken = set(numbers.values())
    return next(n for n in range(len(taken) + 1) if n not in taken)


def _twin_key(disk: Disk) -> str:
    # The slots of one card reader have everything in common but the kernel name.
    return f"{identity(disk)} {disk.name}"
