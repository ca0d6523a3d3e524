"""Facts and configuration to a value: which disks are exported, and the gadget as data. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gadgetd.disk import Disk, Found, Kind, Verdict
from gadgetd.status import Board

if TYPE_CHECKING:
    from gadgetd.config import Config

LUNS_PER_FUNCTION = 8
"""A Linux host shows eight LUNs of one function at most (it scans SCSI-2 targets to eight)."""

MASS_STORAGE = "mass_storage"
ACM = "acm.usb0"

NO_SERIAL = "000000000000"
"""iSerial of a board whose kernel tells no serial number: USB mass storage wants at least twelve
hexadecimal digits, and zeros are plainly nobody's (source: USB Bulk-Only Transport 1.0, 4.1.1)."""

_ASKED_FOR = (Kind.SATA, Kind.USB, Kind.OTHER)
_INQUIRY = "%-8.8s%-16.16s%-4.4s"


class Lun(NamedTuple):
    """One LUN. `file` is None for an empty removable one, a card reader without a card."""

    number: int
    """Counts across functions: LUN 9 is lun.1 of mass_storage.1."""
    file: Path | None
    inquiry: str
    """28 ASCII characters at most, `%-8.8s%-16.16s%-4.4s`: vendor, product, revision."""
    read_only: bool = False


class Function(NamedTuple):
    """One USB function: `mass_storage.0` with up to eight LUNs, or `acm.usb0` with none."""

    name: str
    luns: tuple[Lun, ...] = ()


class Gadget(NamedTuple):
    """The whole gadget, as it will stand below /sys/kernel/config/usb_gadget."""

    vendor_id: int
    product_id: int
    device_version: int
    manufacturer: str
    product: str
    serial: str
    max_power_ma: int
    functions: tuple[Function, ...]
    name: str = "gadgetd"

    @property
    def luns(self) -> tuple[Lun, ...]:
        """The LUNs of all functions, in order of their numbers."""
        return tuple(lun for function in self.functions for lun in function.luns)


class Row(NamedTuple):
    """A disk and the LUN it has. With `disk` None, or gone from the board, the LUN is empty."""

    number: int
    disk: Disk | None
    read_only: bool = False
    label: str = ""
    gone: bool = False
    """The disk left, and its LUN waits for it: same number, same inquiry string, no medium."""


class Changes(NamedTuple):
    """What it takes to turn one gadget into another, from the mildest to the harshest."""

    luns: tuple[Lun, ...] = ()
    """LUNs that exist and differ: each is set in place, and the others notice nothing."""
    extend: bool = False
    """LUNs or functions are missing: all disks are disconnected for a moment."""
    rebuild: bool = False
    """It must be taken down and built anew: ids, strings, a LUN or a function that has to go."""

    def __bool__(self) -> bool:
        return bool(self.luns) or self.extend or self.rebuild


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that reads digits as numbers, so that nvme2n1 comes before nvme10n1."""
    parts: list[tuple[int, int, str]] = []
    rest = name
    while rest:
        digit = _is_digit(rest[0])
        length = next((i for i, c in enumerate(rest) if _is_digit(c) != digit), len(rest))
        run, rest = rest[:length], rest[length:]
        # Numbers before text; the text of a number tells 01 from 1.
        parts.append((0, int(run), run) if digit else (1, 0, run))
    return tuple(parts)


def choose(found: Sequence[Found], config: Config) -> tuple[Verdict, ...]:
    """Give every disk its verdict and the reason for it, in the order of the LUNs.

    The scan's refusal comes first, then `exclude`, then the first rule of `disks` that matches.
    """
    return tuple(_judge(one, config) for one in sorted(found, key=_order))


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


def _vacated(disk: Disk, numbers: dict[str, int], present: set[str]) -> int:
    """Give the number of a disk that was in this disk's place, and forget that disk."""
    place = f"{disk.kind} {disk.location} "
    there = [key for key in numbers if disk.location and key.startswith(place)]
    # More than one are the slots of a card reader, which share a place.
    if len(there) == 1 and there[0] not in present:
        return numbers.pop(there[0])
    taken = set(numbers.values())
    return next(n for n in range(len(taken) + 1) if n not in taken)


def key(disk: Disk, numbers: Mapping[str, int]) -> str:
    """Give the name of a disk in what `assign` returns, whether it is there or not."""
    twin = _twin_key(disk)
    return twin if twin in numbers else identity(disk)


def lun_number(disk: Disk, numbers: Mapping[str, int]) -> int | None:
    """Look up a disk in what `assign` returned; None for a disk that was never exported."""
    return numbers.get(key(disk, numbers))


def inquiry(board: Board, disk: Disk | None, label: str, revision: str, number: int = 0) -> str:
    """Say what a LUN is, in the 28 characters a host shows: board, disk, version.

    An empty LUN that no disk is known for is named by its number. Characters other than printable
    ASCII become `?`. Source: fsg_lun's inquiry_string in the kernel's storage_common.h.
    """
    product = label or (f"{disk.kind.caption} {disk.name}" if disk else f"slot {number}")
    text = _INQUIRY % (board.tail or "gadgetd", product, revision)
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def gadget(
    config: Config,
    board: Board,
    rows: Sequence[Row],
    revision: str,
    *,
    luns: int | None = None,
    name: str = "gadgetd",
) -> Gadget:
    """Describe the whole gadget: a LUN per row, the configured empty slots, ACM last.

    `revision` is the last part of the inquiry strings. Numbers without a row become empty LUNs,
    for hosts stop looking at the first gap. `luns` is how many a gadget has that stands already:
    a disk that takes one of its empty slots is no reason to add another.
    """
    by_number = {row.number: row for row in rows}
    used = max(by_number, default=-1) + 1
    count = used + config.slots if luns is None else max(used, luns)
    all_luns = [
        _lun(board, by_number.get(number, Row(number, None)), revision) for number in range(count)
    ]
    functions = [
        Function(f"{MASS_STORAGE}.{start // LUNS_PER_FUNCTION}", tuple(group))
        for start in range(0, count, LUNS_PER_FUNCTION)
        if (group := all_luns[start : start + LUNS_PER_FUNCTION])
    ]
    usb = config.usb
    if usb.acm:
        functions.append(Function(ACM))
    return Gadget(
        vendor_id=usb.vendor_id,
        product_id=usb.product_id,
        device_version=usb.device_version,
        manufacturer=usb.manufacturer,
        product=usb.product,
        serial=usb.serial if usb.serial != "auto" else board.serial or NO_SERIAL,
        max_power_ma=usb.max_power_ma,
        functions=tuple(functions),
        name=name,
    )


def compare(current: Gadget | None, wanted: Gadget) -> Changes:
    """Say what it takes to turn the gadget that stands into the one that is wanted."""
    if current is None or _frame(current) != _frame(wanted):
        return Changes(rebuild=True)
    have = {lun.number: lun for lun in current.luns}
    want = {lun.number: lun for lun in wanted.luns}
    functions = {function.name for function in current.functions}
    wanted_functions = {function.name for function in wanted.functions}
    if have.keys() - want.keys() or functions - wanted_functions:
        return Changes(rebuild=True)
    return Changes(
        luns=tuple(lun for n, lun in want.items() if n in have and have[n] != lun),
        extend=have.keys() != want.keys() or functions != wanted_functions,
    )


def shape(gadget: Gadget) -> tuple[object, ...]:
    """Give what of a gadget cannot change without disconnecting the host."""
    luns = [(function.name, len(function.luns)) for function in gadget.functions]
    return (*_frame(gadget), *luns)


def _is_digit(character: str) -> bool:
    # str.isdigit() also takes digits that int() refuses.
    return "0" <= character <= "9"


def _order(found: Found) -> tuple[int, tuple[tuple[int, int, str], ...]]:
    return list(Kind).index(found.disk.kind), natural_key(found.disk.name)


def _judge(found: Found, config: Config) -> Verdict:
    disk = found.disk
    if found.refusal:
        return Verdict(disk, exported=False, reason=found.refusal)
    for match in config.exclude:
        if match.matches(disk):
            return Verdict(disk, exported=False, reason=f"excluded by {config.where(match)}")
    for rule in config.disks:
        if rule.match.matches(disk):
            return Verdict(
                disk,
                exported=True,
                reason=f"exported by {config.where(rule)}",
                read_only=disk.read_only or rule.read_only,
                label=rule.label,
            )
    return Verdict(disk, exported=False, reason=_unmatched(disk))


def _unmatched(disk: Disk) -> str:
    reason = "no rule of disks matches"
    if disk.kind in _ASKED_FOR:
        reason += f"; to export it, add a rule to disks: such as - kind: {disk.kind}"
    return reason


def _twin_key(disk: Disk) -> str:
    # The slots of one card reader have everything in common but the kernel name.
    return f"{identity(disk)} {disk.name}"


def _lun(board: Board, row: Row, revision: str) -> Lun:
    present = row.disk is not None and not row.gone
    return Lun(
        number=row.number,
        file=row.disk.node if row.disk is not None and present else None,
        inquiry=inquiry(board, row.disk, row.label, revision, row.number),
        read_only=row.read_only or (row.disk is not None and row.disk.read_only),
    )


def _frame(gadget: Gadget) -> tuple[object, ...]:
    return (
        gadget.name,
        gadget.vendor_id,
        gadget.product_id,
        gadget.device_version,
        gadget.manufacturer,
        gadget.product,
        gadget.serial,
        gadget.max_power_ma,
    )
