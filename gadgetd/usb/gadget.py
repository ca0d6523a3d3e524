"""The gadget as a value: functions and LUNs, and what differs between two of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gadgetd.frozen import Frozen

LUNS_PER_FUNCTION = 8
"""A Linux host shows eight LUNs of one function at most (it scans SCSI-2 targets to eight)."""
MOST_FUNCTIONS = 15
"""Each takes an IN endpoint, and no controller has more beside endpoint 0 (USB 2.0, 9.6.6)."""
NAME = "gadgetd"
"""What ours is called in configfs."""
MASS_STORAGE = "mass_storage"
ACM = "acm.usb0"
NO_SERIAL = "000000000000"
"""iSerial of a board whose kernel tells no serial number: USB mass storage wants at least twelve
hexadecimal digits, and zeros are plainly nobody's (source: USB Bulk-Only Transport 1.0, 4.1.1)."""


class Lun(Frozen):
    """One LUN. `file` is None for an empty removable one, a card reader without a card."""

    number: int
    """Counts over all functions, see `deal`; a host counts anew in each."""
    file: Path | None
    inquiry: str
    """28 ASCII characters at most, `%-8.8s%-16.16s%-4.4s`: vendor, product, revision."""
    read_only: bool = False


class Function(Frozen):
    """One USB function: `mass_storage.0` with one to eight LUNs, or `acm.usb0` with none."""

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
    name: str = NAME

    @property
    def identity(self) -> UsbIdentity:
        """What a host, or this board as one, sees of it."""
        return UsbIdentity(self.vendor_id, self.product_id, self.serial)

    @property
    def luns(self) -> tuple[Lun, ...]:
        """The LUNs of all functions, in order of their numbers."""
        luns = (lun for function in self.functions for lun in function.luns)
        return tuple(sorted(luns, key=lambda lun: lun.number))

    @property
    def storage(self) -> tuple[Function, ...]:
        """The functions that have LUNs, which is what the disks are spread over."""
        return tuple(function for function in self.functions if function.luns)


def deal(luns: Sequence[Lun], most: int) -> tuple[Function, ...]:
    """Spread LUNs, numbered from 0 without a gap, evenly over `most` functions or fewer.

    One function is one kernel thread, which serves its LUNs one after the other; so each has a
    function of its own while there are enough. They are more than `most` only where one would
    come to more LUNs than a host looks at.
    """
    needed = -(-len(luns) // LUNS_PER_FUNCTION)
    count = max(min(len(luns), most), needed)
    # In turn, so that the LUNs that there are stay where they are as more come.
    return tuple(Function(f"{MASS_STORAGE}.{n}", tuple(luns[n::count])) for n in range(count))


def lun_places(there: Mapping[str, Sequence[str]]) -> dict[int, str]:
    """Tell where each LUN is, by number, as in `mass_storage.1/lun.0`.

    `there` names the functions of a gadget, and what is in each of them. ValueError if no gadget of
    ours has LUNs like these.
    """
    counts = {name: len(luns) for name, luns in there.items() if is_storage(name)}
    total, named = sum(counts.values()), {f"{name}/{lun}" for name in counts for lun in there[name]}
    dealt = [range(n, total, len(counts)) for n in range(len(counts))]
    # As gadgetd did before it dealt: each is full before the next begins. Fifteen LUNs in two
    # functions, or sixteen, may be either.
    starts = range(0, total, LUNS_PER_FUNCTION)
    filled = [range(start, min(start + LUNS_PER_FUNCTION, total)) for start in starts]
    for numbers in (dealt, filled):
        places = {
            number: f"{MASS_STORAGE}.{function}/lun.{index}"
            for function, luns in enumerate(numbers)
            for index, number in enumerate(luns)
        }
        if named == set(places.values()) and max(counts.values(), default=0) <= LUNS_PER_FUNCTION:
            return places
    raise ValueError(f"LUNs: {there}")


def is_storage(function: str) -> bool:
    """Tell whether a function, by its name, has LUNs."""
    return function.startswith(f"{MASS_STORAGE}.")


def as_it_stands(wanted: Gadget, standing: Gadget) -> Gadget:
    """Give what is wanted, with each LUN in the function in which one of that number stands.

    LUNs that do not stand are left out, and functions without LUNs are those that are wanted.
    """
    luns = {lun.number: lun for lun in wanted.luns}
    storage = [
        each._replace(luns=tuple(luns[lun.number] for lun in each.luns if lun.number in luns))
        for each in standing.storage
    ]
    others = [function for function in wanted.functions if not function.luns]
    return wanted._replace(functions=(*storage, *others))


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
    there, there_then = _places(current), _places(wanted)
    moved = any(there_then.get(number) != place for number, place in there.items())
    if moved or functions - wanted_functions:
        return Changes(rebuild=True)
    return Changes(
        luns=tuple(lun for n, lun in want.items() if n in have and have[n] != lun),
        extend=have.keys() != want.keys() or functions != wanted_functions,
    )


def shape(gadget: Gadget) -> tuple[object, ...]:
    """Give what of a gadget cannot change without disconnecting the host."""
    luns = [(function.name, len(function.luns)) for function in gadget.functions]
    return (_frame(gadget), *luns)


def _places(gadget: Gadget) -> dict[int, tuple[str, int]]:
    """Tell in which function each LUN is, and which one of its LUNs it is."""
    return {
        lun.number: (function.name, index)
        for function in gadget.functions
        for index, lun in enumerate(function.luns)
    }


def _frame(gadget: Gadget) -> Gadget:
    """Give what of it is neither a function nor a LUN."""
    return gadget._replace(functions=())
