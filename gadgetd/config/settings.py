"""/etc/gadgetd.yaml as one frozen value.

The classes hold the defaults; options.py holds everything else about a key.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from gadgetd.disks.disk import Disk, Kind
from gadgetd.errors import ConfigError, Problem
from gadgetd.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Literal

CONFIG = Path("/etc/gadgetd.yaml")

BOARDS = "boards"
AUTO: Final = "auto"
NONE = "none"


class OnEjected(StrEnum):
    """What happens once the host has ejected a disk and it is flushed."""

    STAY = "stay"
    REINSERT = "reinsert"
    POWEROFF = "poweroff"
    REBOOT = "reboot"


class UartLines(StrEnum):
    """Which lines the UART gets for each event."""

    BOTH = "both"
    TEXT = "text"
    JSON = "json"


class DiskMatch(Frozen):
    """What a disk must be like. A field that is None or empty asks nothing."""

    name: str | None = None
    """Globs, as in `fnmatch`, of the kernel name, the model and the serial number."""
    kinds: tuple[Kind, ...] = ()
    model: str | None = None
    serial: str | None = None
    min_size_bytes: int | None = None
    max_size_bytes: int | None = None
    line: int = 0
    """Where it stands in the file, from 1; 0 for a default."""

    def matches(self, disk: Disk) -> bool:
        """True if the disk is all that this asks for."""
        return (
            (self.name is None or fnmatchcase(disk.name, self.name))
            and (not self.kinds or disk.kind in self.kinds)
            and (self.model is None or fnmatchcase(disk.model, self.model))
            and (self.serial is None or fnmatchcase(disk.serial, self.serial))
            and (self.min_size_bytes is None or disk.size_bytes >= self.min_size_bytes)
            and (self.max_size_bytes is None or disk.size_bytes <= self.max_size_bytes)
        )


class DiskRule(Frozen):
    """Disks to export, and how."""

    match: DiskMatch
    read_only: bool = False
    label: str = ""
    on_ejected: OnEjected | None = None
    """STAY or REINSERT; None does what `Config.on_ejected` says."""

    @property
    def line(self) -> int:
        """Where it stands in the file, from 1; 0 for a default."""
        return self.match.line


class Usb(Frozen):
    """How the gadget presents itself. The defaults are those of Raspberry Pi's gadget."""

    udc: str = AUTO
    vendor_id: int = 0x0A5C
    product_id: int = 0x0104
    device_version: int = 0x0100
    """Binary-coded decimal: 0x0100 is 1.00."""
    manufacturer: str = "Raspberry Pi"
    product: str = "Raspberry Pi multi-function USB device"
    serial: str = AUTO
    max_power_ma: int = 250
    functions: int | Literal["auto"] = AUTO
    """How many mass_storage functions disks are spread over at most."""
    acm: bool = False


class Consoles(Frozen):
    """Where the status is shown: `auto`, `none` or a device node."""

    hdmi: str = AUTO
    uart: str = AUTO
    uart_lines: UartLines = UartLines.BOTH


class Wait(Frozen):
    """Upper limits in seconds, not delays; 0 does not wait."""

    disks_s: float = 10
    mmc_s: float = 2
    udc_s: float = 10


class Writeback(Frozen):
    """Bounds on unwritten data, as in vm.dirty_bytes and vm.dirty_background_bytes."""

    dirty_bytes: int = 8 << 20
    dirty_background_bytes: int = 4 << 20


class Config(Frozen):
    """The whole configuration. Without arguments: the defaults."""

    source: Path | None = None
    """The file it came from; None for the defaults."""
    disks: tuple[DiskRule, ...] = (DiskRule(DiskMatch(kinds=(Kind.EMMC, Kind.SD, Kind.NVME))),)
    """The first rule that matches decides; a disk that none matches is not exported."""
    exclude: tuple[DiskMatch, ...] = ()
    """A disk that one of these matches is never exported."""
    boards: tuple[str, ...] = ("*",)
    """Globs of the serial numbers of the boards that may export anything."""
    usb: Usb = Usb()
    slots: int = 0
    on_ejected: OnEjected = OnEjected.STAY
    reinsert_after_s: float = 5
    led: str = AUTO
    consoles: Consoles = Consoles()
    wait: Wait = Wait()
    writeback: Writeback = Writeback()

    def on_ejected_of(self, disk: Disk) -> OnEjected:
        """What happens once the host has ejected this disk: its rule's word, else the general."""
        rule = next((rule for rule in self.disks if rule.match.matches(disk)), None)
        return (rule.on_ejected if rule else None) or self.on_ejected

    def where(self, rule: DiskRule | DiskMatch) -> str:
        """Where a rule of this configuration stands, `/etc/gadgetd.yaml:12`, or `the default`."""
        return f"{self.source}:{rule.line}" if self.source and rule.line else "the default"


def is_lock(error: ConfigError | Problem | None) -> bool:
    """Whether it is the board lock, whose error has no line: nothing in the file is wrong."""
    return error is not None and error.key == BOARDS and not error.line
