"""How much was read from and written to a disk, from the kernel's own counters."""

from __future__ import annotations

from pathlib import Path

from gadgetd import sysfs
from gadgetd.disks.disk import SECTOR_BYTES
from gadgetd.frozen import Frozen


class Counters(Frozen):
    """Bytes read and written since the disk appeared."""

    read_bytes: int = 0
    written_bytes: int = 0

    def __sub__(self, earlier: Counters) -> Counters:
        """Give what happened since `earlier`; a counter that started anew counts from zero."""
        return Counters(
            max(0, self.read_bytes - earlier.read_bytes),
            max(0, self.written_bytes - earlier.written_bytes),
        )


def read_counters(name: str, sys: Path = Path("/sys")) -> Counters | None:
    """Read the counters of the disk with this kernel name; None if the disk is gone.

    Source: Documentation/block/stat.rst, fields 3 and 7, in units of 512 bytes.
    """
    try:
        fields = sysfs.read(f"{sys}/block/{name}/stat").split()
        return Counters(int(fields[2]) * SECTOR_BYTES, int(fields[6]) * SECTOR_BYTES)
    except (OSError, ValueError, IndexError):
        return None
