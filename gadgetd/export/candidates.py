"""The disks that there are, judged by the configuration, and those that are on their way."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from gadgetd.blockscan import BlockScan
from gadgetd.config.settings import Config
from gadgetd.disks import card_readers
from gadgetd.disks.disk import Pending, Verdict
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
        if card_readers.look(found, self._sys):
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
