"""Which disks exist, which can never be exported, and which are known to be on their way.

pyudev tells that something has come or gone, by the kernel's own uevents, so no udevd is needed.
What there is stands in sysfs: a device is its directory there. Nothing here writes anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from gadgetd import sysfs
from gadgetd.disks.disk import SECTOR_BYTES, Disk, Found, Kind, Pending
from gadgetd.usb.gadget import UsbIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pyudev

_SUBSYSTEMS = ("block", "nvme", "mmc", "mmc_host", "pci", "udc", "leds")
_BUFFER_BYTES = 4 << 20
_MONITOR_ERRORS = (OSError, ValueError, OverflowError, MemoryError)
"""All that pyudev makes of an errno. Source: pyudev 0.24, _ctypeslib/_errorcheckers.py."""
NO_MEDIUM = "no medium (size 0)"
_NVME_CLASS = "0x0108"
_SDHCI_CLASS = "0x0805"

# Whole disks to the kernel, but no place for a user's data: what a name begins with, what is in it.
_NEVER = (
    ("mmcblk", "boot", "boot area of an eMMC"),
    ("mmcblk", "rpmb", "replay-protected area of an eMMC"),
    ("mmcblk", "gp", "general-purpose area of an eMMC"),
    ("loop", "", "loop device"),
    ("ram", "", "RAM disk"),
    ("zram", "", "compressed RAM disk"),
)


class BlockScan:
    """The kernel's disks. Look once more after `listen`: what came in between, nobody tells of.

    `proc` is where mountinfo and swaps are read, `sys` where devices are.
    """

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._proc = proc
        self._sys = str(sys)
        self._monitor: pyudev.Monitor | None = None

    def listen(self, monitor: pyudev.Monitor | None = None) -> None:
        """Hear of uevents from now on, by that monitor or one of our own."""
        # Imported here: it takes longer than to give the host the disks that are there.
        import pyudev

        if monitor is None:
            # The kernel's own events: with devtmpfs the nodes are there before the event is.
            monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
            for subsystem in _SUBSYSTEMS:
                monitor.filter_by(subsystem)
            # Fifty disks at once are a flood of events. Only root may ask for so much.
            with suppress(OSError):
                monitor.set_receive_buffer_size(_BUFFER_BYTES)
            monitor.start()
        self._monitor = monitor

    def fileno(self) -> int:
        """Give the descriptor that is readable when a uevent has come; -1 before `listen`."""
        return int(self._monitor.fileno()) if self._monitor is not None else -1

    def open_mounts(self) -> int:
        """Open the table of mounts, of which poll(2) tells a change; -1 without the kernel's own.

        A disk that is unmounted on the board can be exported from then on.
        """
        try:
            return os.open(self._proc / "self" / "mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1

    def drain(self) -> frozenset[str]:
        """Read all events that have come and tell the subsystems they were about.

        An overflow of the socket loses events, so it counts as an event of every subsystem. So does
        what pyudev calls an error: with eudev's libudev that is also an event which the library
        leaves out, and then it is named by an errno that some older call has left.
        """
        changed: set[str] = set()
        while self._monitor is not None:
            try:
                device = self._monitor.poll(timeout=0)
            except _MONITOR_ERRORS:
                # An overflow: pyudev tells it without its errno, and it stays until it is read.
                _clear_error(self.fileno())
                return frozenset(_SUBSYSTEMS)
            if device is None:
                break
            changed.add(str(device.subsystem))
        return frozenset(changed)

    def disks(self, own: Collection[UsbIdentity] = ()) -> tuple[Found, ...]:
        """List all whole disks, in no particular order, each with the scan's refusal if any.

        `own` is what our gadget shows of itself, and what it showed if that has just changed.
        """
        uses = _uses(self._proc)
        partitions: dict[str, list[str]] = {}
        whole: list[str] = []
        for device in self._list("block"):
            uevent = _text(device, "uevent")
            if "DEVTYPE=partition" in uevent:
                disk, _, name = device.rpartition("/")
                partitions.setdefault(_name(disk), []).append(name)
            elif uevent:  # Else it has vanished since; its removal is an event of its own.
                whole.append(device)
        found = []
        for device in whole:
            described = _describe(device)
            names = (described.name, *partitions.get(described.name, ()))
            refusal = _refusal(device, described, own) or _in_use(device, names, uses)
            found.append(Found(described, refusal))
        return tuple(found)

    def pending(self) -> tuple[Pending, ...]:
        """List the disks that are known to be on their way."""
        owners = self._owners("block")
        return (*self._pending_pci(owners), *self._pending_mmc(owners))

    def _pending_pci(self, owners: set[str]) -> Iterator[Pending]:
        for device in self._list("pci"):
            pci_class, name = _text(device, "class"), _name(device)
            if pci_class.startswith(_NVME_CLASS) and name not in owners:
                if _nvme_state(Path(device)) not in ("dead", "deleting"):
                    yield Pending(name, Kind.NVME, f"NVMe at {name}")
            elif pci_class.startswith(_SDHCI_CLASS) and not _link(device, "driver"):
                yield Pending(name, Kind.SD, f"SD host at {name}", certain=False)

    def _pending_mmc(self, owners: set[str]) -> Iterator[Pending]:
        for card in self._list("mmc"):
            name = _name(card)
            if _text(card, "type") in ("MMC", "SD") and name not in owners:
                yield Pending(name, Kind.SD, f"card {name}")
        occupied = self._owners("mmc")
        for host in self._list("mmc_host"):
            name = _name(host)
            if name not in occupied:
                yield Pending(name, Kind.SD, f"card in {name}", certain=False)

    def _owners(self, subsystem: str) -> set[str]:
        """Names of all that a device of the subsystem is part of, which its path in sysfs has."""
        return {name for device in self._list(subsystem) for name in device.split("/")}

    def _list(self, subsystem: str) -> list[str]:
        """The directories of a subsystem's devices, to which its class or its bus has links."""
        found = []
        for place in (f"class/{subsystem}", f"bus/{subsystem}/devices"):
            with suppress(OSError):
                for name in sorted(os.listdir(f"{self._sys}/{place}")):  # noqa: PTH208 - for speed
                    with suppress(OSError):
                        link = os.readlink(f"{self._sys}/{place}/{name}")  # noqa: PTH115
                        # As in ../../devices/platform/...: relative, with nothing else before it.
                        found.append(f"{self._sys}/{link.lstrip('./')}")
        return found


def _clear_error(fd: int) -> None:
    import socket

    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
        copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _describe(device: str) -> Disk:
    name = _name(device)
    kind = _kind(device)
    model, serial = _identity(device, kind)
    return Disk(
        name=name,
        kind=kind,
        # Source: device_get_devnode in the kernel's drivers/base/core.c.
        node=Path("/dev", name.replace("!", "/")),
        size_bytes=_number(device, "size") * SECTOR_BYTES,
        block_size=_number(device, "queue/logical_block_size") or SECTOR_BYTES,
        read_only=_number(device, "ro") == 1,
        model=model,
        serial=serial,
        location=_location(device),
    )


def _kind(device: str) -> Kind:
    name = _name(device)
    if name.startswith("nvme"):
        return Kind.NVME
    if name.startswith("mmcblk"):
        # The eMMC's boot areas and the like have no type of their own and are left out by name.
        return Kind.SD if _text(device, "device/type") == "SD" else Kind.EMMC
    if name.startswith("sd"):
        if _usb(device):
            return Kind.USB
        return Kind.SATA if "/ata" in device else Kind.OTHER
    return Kind.OTHER


def _identity(device: str, kind: Kind) -> tuple[str, str]:
    if _name(device).startswith("mmcblk"):
        return _text(device, "device/name"), _text(device, "device/serial")
    if kind is Kind.NVME:
        return _text(device, "device/model"), _text(device, "device/serial")
    model = f"{_text(device, 'device/vendor')} {_text(device, 'device/model')}".strip()
    if usb := _usb(device):
        return model, _text(usb, "serial")
    return model, _unit_serial(Path(device) / "device" / "vpd_pg80")


def _unit_serial(path: Path) -> str:
    # VPD page 0x80: four bytes of header, then the serial number in ASCII (source: SPC-4, 7.8).
    try:
        return path.read_bytes()[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def _location(device: str) -> str:
    for parent in _above(device):
        if _link(parent, "subsystem") in ("usb", "pci", "platform"):
            # Namespaces of one NVMe controller share everything else.
            namespace = _text(device, "nsid")
            return f"{_name(parent)} n{namespace}" if namespace else _name(parent)
    return ""


def _refusal(device: str, disk: Disk, own: Collection[UsbIdentity]) -> str:
    for beginning, inside, what in _NEVER:
        if disk.name.startswith(beginning) and inside in disk.name:
            return f"{what}: never exported"
    if not disk.name.startswith(("mmcblk", "nvme", "sd")):
        return "not an eMMC, SD, NVMe, SATA or USB disk"
    if _number(device, "hidden") == 1:
        return "hidden path of a multipath NVMe disk"
    if disk.kind is Kind.USB and _seen_as(device) in own:
        return "comes from this gadget itself"
    if disk.size_bytes == 0:
        return NO_MEDIUM
    return ""


def _seen_as(device: str) -> UsbIdentity:
    usb = _usb(device)
    return UsbIdentity(_hex(usb, "idVendor"), _hex(usb, "idProduct"), _text(usb, "serial"))


def _in_use(device: str, names: tuple[str, ...], uses: Mapping[str, str]) -> str:
    for name in names:
        if name in uses:
            return uses[name]
        part = device if name == _name(device) else f"{device}/{name}"
        try:
            held_by = sorted(os.listdir(f"{part}/holders"))  # noqa: PTH208 - names alone
        except OSError:
            held_by = []
        if held_by:
            return f"in use by {', '.join(held_by)}"
    return ""


def _uses(proc: Path) -> dict[str, str]:
    """Kernel name of each mounted or swapped-to block device -> what it is used for."""
    uses = {}
    for line in _lines(proc / "self" / "mountinfo"):
        # Source: proc(5). Fields before the lone "-" vary in number, those after it do not.
        fields, _, rest = line.partition(" - ")
        source = rest.split(" ")[1] if rest.count(" ") else ""
        if source.startswith("/dev/"):
            # Spaces and the like stand as octal escapes, which a person reads well enough.
            uses[os.path.basename(source)] = f"mounted at {fields.split(' ')[4]}"  # noqa: PTH119
    for line in _lines(proc / "swaps")[1:]:
        name = line.partition(" ")[0].partition("\t")[0]
        uses[os.path.basename(name)] = "in use as swap"  # noqa: PTH119
    return uses


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _nvme_state(pci: Path) -> str:
    # The controller may leave at any of these steps.
    with suppress(OSError):
        for state in pci.glob("nvme/nvme*/state"):
            return state.read_text().strip()
    return ""


def _name(device: str) -> str:
    return device.rpartition("/")[2]


def _above(device: str) -> Iterator[str]:
    """All that the device is part of, the nearest first."""
    while "/devices/" in device:
        device = device.rpartition("/")[0]
        yield device


def _link(device: str, name: str) -> str:
    """The name of what one of a device's links leads to, such as its driver; empty without it."""
    try:
        return _name(os.readlink(f"{device}/{name}"))  # noqa: PTH115
    except OSError:
        return ""


def _usb(device: str) -> str:
    """The USB device that this one is a part of; empty if it is of none."""
    for parent in _above(device):
        if _link(parent, "subsystem") == "usb" and "DEVTYPE=usb_device" in _text(parent, "uevent"):
            return parent
    return ""


def _text(device: str, attribute: str) -> str:
    try:
        return sysfs.read(f"{device}/{attribute}").strip()
    except OSError:
        return ""


def _number(device: str, attribute: str) -> int:
    text = _text(device, attribute)
    # Digits of other scripts, and more than a kernel's number has, are none to int().
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def _hex(device: str, attribute: str) -> int:
    try:
        return int(_text(device, attribute), 16)
    except ValueError:
        return -1
