"""Which disks exist, which can never be exported, and which are known to be on their way.

Facts come from the kernel by way of pyudev; nothing here writes anything. udevd is not needed:
the monitor listens to the kernel's own uevents, and all attributes are read from sysfs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import pyudev

from gadgetd.disks.disk import SECTOR_BYTES, Disk, Found, Kind, Pending
from gadgetd.usb.gadget import UsbIdentity

_SUBSYSTEMS = ("block", "nvme", "mmc", "mmc_host", "pci", "udc", "leds")
_BUFFER_BYTES = 4 << 20
_NVME_CLASS = "0x0108"
_SDHCI_CLASS = "0x0805"

# Whole disks to udev, but no place for a user's data.
_NEVER = (
    ("mmcblk*boot[0-9]*", "boot area of an eMMC"),
    ("mmcblk*rpmb", "replay-protected area of an eMMC"),
    ("mmcblk*gp[0-9]*", "general-purpose area of an eMMC"),
    ("loop*", "loop device"),
    ("ram*", "RAM disk"),
    ("zram*", "compressed RAM disk"),
)


class BlockScan:
    """The kernel's disks. Create it before the first `disks` call: it listens from then on.

    `context` and `monitor` are pyudev's; `proc` is where mountinfo and swaps are read.
    """

    def __init__(
        self,
        context: pyudev.Context | None = None,
        monitor: pyudev.Monitor | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._context = context or pyudev.Context()
        if monitor is None:
            # Before any enumeration, or a disk that appears between the two is lost. The kernel's
            # own events need no udevd; with devtmpfs the nodes are there before the event is.
            monitor = pyudev.Monitor.from_netlink(self._context, source="kernel")
            for subsystem in _SUBSYSTEMS:
                monitor.filter_by(subsystem)
            # Fifty disks at once are a flood of events. Only root may ask for so much.
            with suppress(OSError):
                monitor.set_receive_buffer_size(_BUFFER_BYTES)
            monitor.start()
        self._monitor = monitor
        self._proc = proc

    def fileno(self) -> int:
        """Give the descriptor that is readable when a uevent has come."""
        return int(self._monitor.fileno())

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

        An overflow of the socket loses events, so it counts as an event of every subsystem.
        """
        changed: set[str] = set()
        while True:
            try:
                device = self._monitor.poll(timeout=0)
            except OSError:
                # An overflow: pyudev tells it without its errno, and it stays until it is read.
                _clear_error(self.fileno())
                return frozenset(_SUBSYSTEMS)
            if device is None:
                return frozenset(changed)
            changed.add(str(device.subsystem))

    def disks(self, own: Collection[UsbIdentity] = ()) -> tuple[Found, ...]:
        """List all whole disks, in no particular order, each with the scan's refusal if any.

        `own` is what our gadget shows of itself, and what it showed if that has just changed.
        """
        uses = _uses(self._proc)
        partitions: dict[str, list[str]] = {}
        whole: list[pyudev.Device] = []
        for device in self._list("block"):
            if device.device_type == "partition":
                parent = device.parent  # None if the disk has left since it was listed.
                if parent is not None:
                    partitions.setdefault(parent.sys_name, []).append(device.sys_name)
            else:
                whole.append(device)
        found = []
        for device in whole:
            disk = _describe(device)
            names = (disk.name, *partitions.get(disk.name, ()))
            found.append(Found(disk, _refusal(device, disk, own) or _in_use(device, names, uses)))
        return tuple(found)

    def pending(self) -> tuple[Pending, ...]:
        """List the disks that are known to be on their way."""
        owners = self._owners("block")
        return (*self._pending_pci(owners), *self._pending_mmc(owners))

    def _pending_pci(self, owners: set[str]) -> Iterator[Pending]:
        for device in self._list("pci"):
            pci_class = _text(device, "class")
            name = device.sys_name
            if pci_class.startswith(_NVME_CLASS) and name not in owners:
                if _nvme_state(Path(device.sys_path)) not in ("dead", "deleting"):
                    yield Pending(name, Kind.NVME, f"NVMe at {name}")
            elif pci_class.startswith(_SDHCI_CLASS) and not device.driver:
                yield Pending(name, Kind.SD, f"SD host at {name}", certain=False)

    def _pending_mmc(self, owners: set[str]) -> Iterator[Pending]:
        for card in self._list("mmc"):
            if _text(card, "type") in ("MMC", "SD") and card.sys_name not in owners:
                yield Pending(card.sys_name, Kind.SD, f"card {card.sys_name}")
        occupied = self._owners("mmc")
        for host in self._list("mmc_host"):
            if host.sys_name not in occupied:
                yield Pending(host.sys_name, Kind.SD, f"card in {host.sys_name}", certain=False)

    def _list(self, subsystem: str) -> list[pyudev.Device]:
        # By name: for a list of one subsystem libudev reads through all of /sys/class and /sys/bus.
        devices = []
        for link in sorted(self._links(subsystem)):
            name = link.rpartition("/")[2]
            # One that has vanished since; its removal is an event of its own.
            with suppress(pyudev.DeviceNotFoundError):
                devices.append(pyudev.Devices.from_name(self._context, subsystem, name))
        return devices

    def _owners(self, subsystem: str) -> set[str]:
        """Names of all that a device of the subsystem is part of, which its path in sysfs has."""
        owners: set[str] = set()
        for link in self._links(subsystem):
            with suppress(OSError):
                owners.update(os.readlink(link).split("/"))  # noqa: PTH115 - for the speed of it
        return owners

    def _links(self, subsystem: str) -> Iterator[str]:
        sys = self._context.sys_path
        for directory in (f"{sys}/class/{subsystem}", f"{sys}/bus/{subsystem}/devices"):
            with suppress(OSError):
                for name in os.listdir(directory):  # noqa: PTH208 - likewise
                    yield f"{directory}/{name}"


def _clear_error(fd: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
        copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _describe(device: pyudev.Device) -> Disk:
    name = device.sys_name
    kind = _kind(device)
    model, serial = _identity(device, kind)
    return Disk(
        name=name,
        kind=kind,
        node=Path(device.device_node or f"/dev/{name}"),
        size_bytes=_number(device, "size") * SECTOR_BYTES,
        block_size=_number(device, "queue/logical_block_size") or SECTOR_BYTES,
        read_only=_number(device, "ro") == 1,
        model=model,
        serial=serial,
        location=_location(device),
    )


def _kind(device: pyudev.Device) -> Kind:
    name = device.sys_name
    if name.startswith("nvme"):
        return Kind.NVME
    if name.startswith("mmcblk"):
        # The eMMC's boot areas and the like have no type of their own and are left out by name.
        return Kind.SD if _text(device, "device/type") == "SD" else Kind.EMMC
    if name.startswith("sd"):
        if device.find_parent("usb", "usb_device") is not None:
            return Kind.USB
        return Kind.SATA if "/ata" in device.sys_path else Kind.OTHER
    return Kind.OTHER


def _identity(device: pyudev.Device, kind: Kind) -> tuple[str, str]:
    if device.sys_name.startswith("mmcblk"):
        return _text(device, "device/name"), _text(device, "device/serial")
    if kind is Kind.NVME:
        return _text(device, "device/model"), _text(device, "device/serial")
    model = f"{_text(device, 'device/vendor')} {_text(device, 'device/model')}".strip()
    usb = device.find_parent("usb", "usb_device")
    if usb is not None:
        return model, _text(usb, "serial")
    return model, _unit_serial(Path(device.sys_path) / "device" / "vpd_pg80")


def _unit_serial(path: Path) -> str:
    # VPD page 0x80: four bytes of header, then the serial number in ASCII (source: SPC-4, 7.8).
    try:
        return path.read_bytes()[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def _location(device: pyudev.Device) -> str:
    for parent in device.ancestors:
        if parent.subsystem in ("usb", "pci", "platform"):
            # Namespaces of one NVMe controller share everything else.
            namespace = _text(device, "nsid")
            return f"{parent.sys_name} n{namespace}" if namespace else str(parent.sys_name)
    return ""


def _refusal(device: pyudev.Device, disk: Disk, own: Collection[UsbIdentity]) -> str:
    for pattern, what in _NEVER:
        if fnmatchcase(disk.name, pattern):
            return f"{what}: never exported"
    if not disk.name.startswith(("mmcblk", "nvme", "sd")):
        return "not an eMMC, SD, NVMe, SATA or USB disk"
    if _number(device, "hidden") == 1:
        return "hidden path of a multipath NVMe disk"
    if disk.kind is Kind.USB and _seen_as(device) in own:
        return "comes from this gadget itself"
    if disk.size_bytes == 0:
        return "no medium (size 0)"
    return ""


def _seen_as(device: pyudev.Device) -> UsbIdentity:
    usb = device.find_parent("usb", "usb_device")
    return UsbIdentity(_hex(usb, "idVendor"), _hex(usb, "idProduct"), _text(usb, "serial"))


def _in_use(device: pyudev.Device, names: tuple[str, ...], uses: Mapping[str, str]) -> str:
    for name in names:
        if name in uses:
            return uses[name]
        partition = name if name != device.sys_name else ""
        holders = Path(device.sys_path, partition, "holders")
        try:
            held_by = sorted(os.listdir(holders))  # noqa: PTH208 - names are all that is wanted
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


def _text(device: pyudev.Device, attribute: str) -> str:
    value = device.attributes.get(attribute)
    return value.decode("utf-8", "replace").strip() if value is not None else ""


def _number(device: pyudev.Device, attribute: str) -> int:
    text = _text(device, attribute)
    # Digits of other scripts, and more than a kernel's number has, are none to int().
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def _hex(device: pyudev.Device, attribute: str) -> int:
    try:
        return int(_text(device, attribute), 16)
    except ValueError:
        return -1
