"""USB card readers: the kernel looks for a card that is put in only if it is asked to.

udev's rules ask for that on a PC; an initramfs has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gadgetd import sysfs
from gadgetd.disks.disk import Found, Kind

POLL_MS = 2000
"""How often the kernel asks a reader, as with udev's own rules. It wakes nobody here unless
something has changed: that is a uevent (source: disk_check_events in block/disk-events.c)."""
NO_MEDIUM = "no medium (size 0)"


def look(found: Iterable[Found], sys: Path = Path("/sys")) -> bool:
    """Have the readers among these disks watched; returns whether one has a card that is new.

    The kernel reads a card's size when somebody opens the reader (source: sd_open in
    drivers/scsi/sd.c), and nobody else does, so the disks are to be listed again then.
    """
    new = [_has_new_card(each, sys) for each in found if each.disk.kind is Kind.USB]  # All of them.
    return any(new)


def _has_new_card(found: Found, sys: Path) -> bool:
    block = sys / "block" / found.disk.name
    with suppress(OSError):  # It has left, or is no reader.
        if found.refusal not in ("", NO_MEDIUM) or sysfs.read(block / "removable").strip() != "1":
            return False
        if sysfs.read(block / "events_poll_msecs").strip() == "-1":  # The kernel's default: never.
            sysfs.write(block / "events_poll_msecs", f"{POLL_MS}\n")
        if found.refusal:
            os.close(os.open(found.disk.node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            return sysfs.read(block / "size").strip() != "0"
    return False
