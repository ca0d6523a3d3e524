"""Disks and configuration to the gadget as a value, as it ought to stand. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gadgetd.config.settings import AUTO, Config
from gadgetd.disks.disk import Disk
from gadgetd.export.numbering import Row
from gadgetd.status import Board
from gadgetd.usb.gadget import (
    ACM,
    MOST_FUNCTIONS,
    NO_SERIAL,
    Function,
    Gadget,
    Lun,
    as_it_stands,
    compare,
    deal,
)

_INQUIRY = "%-8.8s%-16.16s%-4.4s"


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
    most_functions: int = MOST_FUNCTIONS,
) -> Gadget:
    """Describe the whole gadget: a LUN per row, the configured empty slots, ACM last.

    The LUNs have a mass_storage function each, or share the most that there may be.

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
    functions = [*deal(all_luns, most_functions)]
    usb = config.usb
    if usb.acm:
        functions.append(Function(ACM))
    return Gadget(
        vendor_id=usb.vendor_id,
        product_id=usb.product_id,
        device_version=usb.device_version,
        manufacturer=usb.manufacturer,
        product=usb.product,
        serial=usb.serial if usb.serial != AUTO else board.serial or NO_SERIAL,
        max_power_ma=usb.max_power_ma,
        functions=tuple(functions),
    )


def undisturbed(wanted: Gadget, standing: Gadget) -> Gadget:
    """Give what is wanted, with each LUN in the function where it stands if that will do.

    No disk is given a function of its own at the price of a host that is disconnected, as where an
    earlier gadgetd has put all of them into one.
    """
    as_now = as_it_stands(wanted, standing)
    left = compare(standing, as_now)
    fewer = len(as_now.storage) <= len(wanted.storage)
    same = fewer and as_now.luns == wanted.luns and not (left.extend or left.rebuild)
    return as_now if same else wanted


def _lun(board: Board, row: Row, revision: str) -> Lun:
    present = row.disk is not None and not row.gone
    return Lun(
        number=row.number,
        file=row.disk.node if row.disk is not None and present else None,
        inquiry=inquiry(board, row.disk, row.label, revision, row.number),
        read_only=row.read_only or (row.disk is not None and row.disk.read_only),
    )
