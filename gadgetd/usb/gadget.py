"""The gadget as a value: functions and LUNs, and what differs between two of them. Pure."""

from __future__ import annotations

from pathlib import Path

from gadgetd.frozen import Frozen

LUNS_PER_FUNCTION = 8
"""A Linux host shows eight LUNs of one function at most (it scans SCSI-2 targets to eight)."""
MASS_STORAGE = "mass_storage"
ACM = "acm.usb0"
NO_SERIAL = "000000000000"
"""iSerial of a board whose kernel tells no serial number: USB mass storage wants at least twelve
hexadecimal digits, and zeros are plainly nobody's (source: USB Bulk-Only Transport 1.0, 4.1.1)."""


class Lun(Frozen):
    """One LUN. `file` is None for an empty removable one, a card reader without a card."""

    number: int
    """Counts across functions: LUN 9 is lun.1 of mass_storage.1."""
    file: Path | None
    inquiry: str
    """28 ASCII characters at most, `%-8.8s%-16.16s%-4.4s`: vendor, product, revision."""
    read_only: bool = False


class Function(Frozen):
    """One USB function: `mass_storage.0` with up to eight LUNs, or `acm.usb0` with none."""

    name: str
    luns: tuple[Lun, ...] = ()


class UsbIdentity(Frozen):
    """What a host tells a gadget from all others by, and this board its own."""

    vendor_id: int
    product_id: int
    serial: str


class Gadget(Frozen):
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
    def identity(self) -> UsbIdentity:
        """What a host, or this board as one, sees of it."""
        return UsbIdentity(self.vendor_id, self.product_id, self.serial)

    @property
    def luns(self) -> tuple[Lun, ...]:
        """The LUNs of all functions, in order of their numbers."""
        return tuple(lun for function in self.functions for lun in function.luns)


class Changes(Frozen):
    """What it takes to turn one gadget into another, from the mildest to the harshest."""

    luns: tuple[Lun, ...] = ()
    """LUNs that exist and differ: each is set in place, and the others notice nothing."""
    extend: bool = False
    """LUNs or functions are missing: all disks are disconnected for a moment."""
    rebuild: bool = False
    """It must be taken down and built anew: ids, strings, a LUN or a function that has to go."""

    def __bool__(self) -> bool:
        return bool(self.luns) or self.extend or self.rebuild


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
