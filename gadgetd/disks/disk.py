"""What a disk is to gadgetd. Values only: the PC's tool has them too, where there is no Unix."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from gadgetd.frozen import Frozen

SECTOR_BYTES = 512
"""The unit of the kernel's sizes and counters, whatever the disk's own block size is."""


class Kind(StrEnum):
    """How a disk is attached. The order of the members is the order of the LUNs."""

    EMMC = "emmc"
    SD = "sd"
    NVME = "nvme"
    SATA = "sata"
    USB = "usb"
    OTHER = "other"

    @property
    def caption(self) -> str:
        """The kind as a person writes it: `eMMC`, `NVMe`, `SD`."""
        return _CAPTIONS[self]


_CAPTIONS = {
    Kind.EMMC: "eMMC",
    Kind.SD: "SD",
    Kind.NVME: "NVMe",
    Kind.SATA: "SATA",
    Kind.USB: "USB",
    Kind.OTHER: "disk",
}


class Disk(Frozen):
    """A whole disk as the kernel describes it. Model and serial are empty where it tells none."""

    name: str
    """Kernel name, `mmcblk0`."""
    kind: Kind
    node: Path
    """Device node, `/dev/mmcblk0`."""
    size_bytes: int
    block_size: int = 512
    """Logical block size in bytes; the host sees the same."""
    read_only: bool = False
    """The kernel refuses writes: a locked SD card, BLKROSET."""
    model: str = ""
    serial: str = ""
    location: str = ""
    """What it hangs on, by its name in sysfs: `0000:01:00.0 n1`; may be empty."""


class Health(Frozen):
    """What a disk tells of itself. None is what it does not tell."""

    worn_percent: int | None = None
    """How much of the life that its maker reckons with is used; it can exceed 100. An eMMC tells
    tenths, and this is the lower end."""
    spare_percent: int | None = None
    """What is left of the blocks that stand in for worn ones."""
    spare_low_percent: int | None = None
    """Below which the disk calls that too little."""
    media_errors: int | None = None
    """How often data could not be read or kept, over the disk's whole life."""
    temperature_c: int | None = None
    warnings: tuple[str, ...] = ()
    """What the disk itself gives as a reason to worry, by the names in health.py."""


class Found(Frozen):
    """A disk that the scan saw. `refusal` says why it can never be exported; empty if it can."""

    disk: Disk
    refusal: str = ""


class Pending(Frozen):
    """A disk that is on its way: its controller is there, the disk is not. `key` is unique."""

    key: str
    kind: Kind
    text: str
    """What is waited for, in words: `NVMe at 0000:01:00.0`."""
    certain: bool = True
    """False where there may be nothing at all, as in an SD slot that looks empty so far."""


class Verdict(Frozen):
    """A disk and what becomes of it: exported (then `reason` says by which rule) or why not."""

    disk: Disk
    exported: bool
    reason: str
    read_only: bool = False
    """The host may not write: the disk is read-only, or the configuration says so."""
    label: str = ""
    """The person's own name for the disk, at most 16 printable ASCII characters; may be empty."""
    health: Health | None = None
    """What the disk tells of its wear, where `gadgetd scan` has asked it."""
