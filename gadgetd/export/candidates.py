"""The disks that there are, judged by the configuration, and those that are on their way."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from gadgetd import sysfs
from gadgetd.blockscan import NO_MEDIUM, BlockScan
from gadgetd.config.settings import Config
from gadgetd.disks.disk import Found, Kind, Pending, Verdict
from gadgetd.eventloop import Clock
from gadgetd.export import choosing
from gadgetd.usb.gadget import UsbIdentity


class Candidates:
    """Looks at all disks. One that is on its way is waited for, in seconds of `clock`."""

    def __init__(self, scan: BlockScan, sys: Path, clock: Clock) -> None:
        self._scan = scan
        self._sys = sys
        self._clock = clock
        self._since: dict[str, float] = {}
        """Since when each disk has been on its way."""
        self.awaited: tuple[Pending, ...] = ()
        """Those whose time was not over at the last look."""
        self.left_s = 0.0
        """In how long the time of the first of them is over."""

    def none(self, reason: str) -> tuple[Verdict, ...]:
        """List the disks that there are, of which none is to be exported."""
        return choosing.choose_none(self._scan.disks(), reason)

    def look(self, config: Config, own: Collection[UsbIdentity]) -> tuple[Verdict, ...]:
        """Judge the disks that there are; `own`: how our gadget shows where host is board."""
        # In this order: a disk that comes between the two looks awaited for a moment more, while
        # the other way round it would be neither there nor on its way.
        self._look_at_pending(config.wait.disks_s, config.wait.mmc_s)
        found = self._scan.disks(own)
        if find_cards(found, self._sys):
            found = self._scan.disks(own)
        return choosing.choose(found, config)

    def _look_at_pending(self, certain_s: float, uncertain_s: float) -> None:
        pending, now = self._scan.pending(), self._clock()
        self._since = {each.key: self._since.get(each.key, now) for each in pending}
        left_s = {
            each.key: (certain_s if each.certain else uncertain_s) - (now - self._since[each.key])
            for each in pending
        }
        self.awaited = tuple(each for each in pending if left_s[each.key] > 0)
        self.left_s = min((left_s[each.key] for each in self.awaited), default=0.0)


POLL_MS = 2000
"""How often the kernel asks a reader, as with udev's own rules. It wakes nobody here unless
something has changed: that is a uevent (source: disk_check_events in block/disk-events.c)."""


def find_cards(found: Iterable[Found], sys: Path = Path("/sys")) -> bool:
    """Have the card readers among these disks watched; returns whether one has a card that is new.

    The kernel looks for a card only if it is asked to, which on a PC udev's rules do; and it reads
    the card's size when somebody opens the reader (source: sd_open in drivers/scsi/sd.c), which
    nobody else does, so the disks are to be listed again then.
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
