"""One frozen value that says all there is to say; the screen, the UART and JSON come from it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from gadgetd.disks.disk import Disk, Health
from gadgetd.errors import ControlError, Problem
from gadgetd.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Phase(StrEnum):
    """What the daemon as a whole is doing."""

    STARTING = "starting"
    CONFIG_ERROR = "config-error"
    WAITING_FOR_DISKS = "waiting-for-disks"
    """A disk is known to be on its way, or there is none yet."""
    WAITING_FOR_UDC = "waiting-for-udc"
    EXPORTED = "exported"
    FAILED = "failed"
    """The gadget could not be built or bound; `problem` says why. It is tried again."""
    STOPPED = "stopped"


class Life(StrEnum):
    """What one LUN is doing."""

    WAITING = "waiting for host"
    IDLE = "idle"
    READING = "reading"
    WRITING = "writing"
    FLUSHING = "flushing"
    FLUSHED = "flushed"
    """Everything the host wrote is on the medium."""
    EJECTING = "ejected, flushing"
    """The host ejected it; what it wrote is not all on the medium yet."""
    EJECTED = "ejected"
    """The host ejected it and everything is on the medium."""
    FAILED = "write error"
    """The disk refused data that the host believes written. Only a new insertion ends this."""
    GONE = "gone"
    """The disk left the board; its LUN number is kept for it."""


MOVING = (Life.READING, Life.WRITING)
"""In these a disk has a rate."""


class Board(Frozen):
    """Which module this is. Both are empty where the kernel tells none."""

    model: str = ""
    serial: str = ""

    @property
    def tail(self) -> str:
        """The last eight characters of the serial number, which tell one module from another."""
        return self.serial[-8:]


class Controller(Frozen):
    """The USB device controller in use."""

    name: str
    state: str = ""
    """As in /sys/class/udc/X/state: `not attached`, `configured`, ..."""
    speed: str = ""
    """As in /sys/class/udc/X/current_speed: `high-speed`, `UNKNOWN`, ..."""
    note: str = ""
    """Why this one, where there was a choice."""


class DiskStatus(Frozen):
    """A disk the daemon knows. `lun` is None for a disk left out, and `reason` says why."""

    disk: Disk
    lun: int | None = None
    reason: str = ""
    read_only: bool = False
    inquiry: str = ""
    """The name the host shows, without padding: `a1b2c3d4 NVMe nvme0n1`."""
    life: Life = Life.WAITING
    read_bytes: int = 0
    """Bytes read from the disk since it was exported."""
    written_bytes: int = 0
    waits: bool = False
    """It has no LUN yet and will be exported; `reason` says what for."""
    rate_bytes_s: int = 0
    """Bytes a second, read and written, over the last refresh interval."""
    health: Health | None = None
    """What the disk tells of its wear; None if it does not, or has not been asked yet."""
    data_lost: bool = False
    """It lacks data that the host had written, whatever it does now, until a person begins anew."""


class Status(Frozen):
    """All of it. Two equal values look the same everywhere."""

    version: str
    phase: Phase
    message: str
    """The headline: one sentence, what is going on."""
    board: Board = Board()
    problem: Problem | None = None
    """Why nothing is exported."""
    advice: tuple[Problem, ...] = ()
    """What is wrong though disks are exported: no cable, a full-speed link, ..."""
    controller: Controller | None = None
    disks: tuple[DiskStatus, ...] = ()
    safe_to_unplug: bool = False
    """The host let go of every disk, and everything it wrote is on the media."""
    serial_console: str = ""
    """The board's end of the serial port that goes over the USB cable: `ttyGS0`; empty for none."""


def find_disk(rows: Iterable[DiskStatus], wanted: str) -> DiskStatus:
    """Find an exported disk by number, kernel name or device node. Raises ControlError."""
    exported = [row for row in rows if row.lun is not None]
    # A name means the disk that is there, not one that left and was called the same.
    for row in sorted(exported, key=lambda row: row.life is Life.GONE):
        if wanted in (str(row.lun), row.disk.name, f"/dev/{row.disk.name}"):
            return row
    there = ", ".join(f"{row.lun} ({row.disk.name})" for row in exported) or "none"
    raise ControlError(f"no disk is called {wanted!r}", hint=f"exported: {there}")


def as_dict(value: Frozen) -> dict[str, Any]:
    """Give a value as a dict of its fields, and those within it likewise."""
    return {name: _plain(each) for name, each in value._asdict().items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return as_dict(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def to_json(status: Status) -> dict[str, Any]:
    """The status as plain JSON values. Paths become strings, enumerations their values.

    The shape is documented in docs/uart.md and does not change within a major version.
    """
    value = as_dict(status)
    for row in value["disks"]:
        disk = row.pop("disk")
        disk["node"] = str(disk["node"])
        if row["lun"] is None:
            row["life"] = None
        row.update(disk | {"read_only": row["read_only"]})
    return value
