"""What a disk tells of its own wear: an eMMC by sysfs, an NVMe disk by its SMART log.

A disk that tells nothing is not a problem. Imported once the disks are exported: nobody waits.
"""

from __future__ import annotations

import os
import select
import struct
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

from gadgetd import sysfs
from gadgetd.child import Child
from gadgetd.disks.disk import Disk, Health, Kind

LOG_BYTES = 512
_LOG = struct.Struct("<BHBBB154x16s336x")
"""critical_warning, temperature, avail_spare, spare_thresh, percent_used, media_errors.

Source: struct nvme_smart_log in the kernel's include/linux/nvme.h; NVM Express Base Specification
1.4, figure 194."""
_COMMAND = struct.Struct("<BBHIIIQQIIIIIIIIII")
"""Source: struct nvme_passthru_cmd in the kernel's include/uapi/linux/nvme_ioctl.h."""
_ADMIN_COMMAND = 3 << 30 | _COMMAND.size << 16 | ord("N") << 8 | 0x41
"""NVME_IOCTL_ADMIN_CMD of the same file: _IOWR('N', 0x41, struct nvme_passthru_cmd)."""
_GET_LOG_PAGE, _SMART, _ALL_NAMESPACES = 0x02, 0x02, 0xFFFFFFFF
_KELVIN = 273

WARNINGS = ("spare", "temperature", "reliability", "read_only", "backup", "memory_region")
"""The bits of critical_warning, from bit 0 (source: enum nvme_smart_crit_* and figure 194)."""


def of_emmc(life_time: str, pre_eol_info: str) -> Health | None:
    """Read an eMMC's two attributes as the kernel writes them, `0x02 0x01` and `0x01`.

    Life time is in steps of a tenth from 0x01, 0x0b is "exceeded"; of the two kinds of memory
    (A and B) the more worn counts. The other is 0x02 once 80 % of the spare blocks are used, 0x03
    at 90 %. Zero is "not defined", as in any eMMC before 5.0. Source: JEDEC JESD84-B51, 7.4.35
    and 7.4.38; drivers/mmc/core/mmc.c.
    """
    steps = [step for step in map(_hex, life_time.split()) if 1 <= step <= 0x0B]
    worn = 10 * (max(steps) - 1) if steps else None
    reserve = _hex(pre_eol_info.strip())
    if worn is None and reserve not in (1, 2, 3):
        return None
    return Health(worn_percent=worn, warnings=("spare",) if reserve in (2, 3) else ())


def of_nvme(log: bytes) -> Health | None:
    """Read a SMART log; None if it is none, as of a disk that leaves it empty."""
    if len(log) != LOG_BYTES or not any(log):
        return None
    critical, kelvin, spare, low, worn, errors = _LOG.unpack(log)
    warnings = {name for bit, name in enumerate(WARNINGS) if critical >> bit & 1}
    if spare < low:
        warnings.add("spare")
    return Health(
        worn_percent=worn,
        spare_percent=spare,
        spare_low_percent=low,
        media_errors=int.from_bytes(errors, "little"),
        temperature_c=kelvin - _KELVIN if kelvin else None,
        warnings=tuple(name for name in WARNINGS if name in warnings),
    )


def read_emmc(disk: Disk, sys: Path = Path("/sys")) -> Health | None:
    """Give an eMMC's health as it was when the kernel found it. Asks the medium nothing.

    The kernel keeps the registers that it read then (source: mmc_decode_ext_csd in
    drivers/mmc/core/mmc.c).
    """
    device = sys / "block" / disk.name / "device"
    with suppress(OSError):
        return of_emmc(sysfs.read(device / "life_time"), sysfs.read(device / "pre_eol_info"))
    return None


class Question(Child):
    """An NVMe disk is being asked for its SMART log, which a dying one may keep for a minute.

    No limit of our own is put to the command: when one runs out, the driver resets the controller
    (source: nvme_timeout in drivers/nvme/host/pci.c), and a host may be writing to it.
    """

    def __init__(self, disk: Disk) -> None:
        self._answer, question = os.pipe()
        try:
            super().__init__(lambda: _tell(disk.node, question), question)
        except OSError:
            os.close(self._answer)
            raise
        finally:
            os.close(question)

    def health(self) -> Health | None:
        """Wait for the end, release everything and return what the disk tells."""
        self.result()
        try:
            return of_nvme(os.read(self._answer, LOG_BYTES))
        finally:
            os.close(self._answer)


def ask(disks: Sequence[Disk], patience_s: float = 5.0) -> dict[Disk, Health | None]:
    """Ask disks at once and wait for all that answer in time. For a command, not for the loop."""
    health = {disk: read_emmc(disk) for disk in disks if disk.kind is Kind.EMMC}
    asked = {disk: Question(disk) for disk in disks if disk.kind is Kind.NVME}
    deadline = time.monotonic() + patience_s
    for disk, question in asked.items():
        left_s = max(0.0, deadline - time.monotonic())
        if select.select([question], [], [], left_s)[0]:
            health[disk] = question.health()
    return health


def _tell(node: Path, answer: int) -> None:
    """Write a disk's SMART log into a pipe, or nothing if the disk refuses. Raises OSError."""
    disk = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    log = array("B", bytes(LOG_BYTES))
    # The number of dwords, less one, in the upper half; the log's identifier in the lower.
    what = (LOG_BYTES // 4 - 1) << 16 | _SMART
    ask = (_GET_LOG_PAGE, 0, 0, _ALL_NAMESPACES, 0, 0, 0, log.buffer_info()[0], 0, LOG_BYTES, what)
    # A buffer that can change, or the status would not be what is returned.
    if ioctl(disk, _ADMIN_COMMAND, bytearray(_COMMAND.pack(*ask, *bytes(7)))) == 0:
        os.write(answer, log)


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
