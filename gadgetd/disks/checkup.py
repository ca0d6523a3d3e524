"""Asks the disks for their health from the loop, one after the other, and keeps the answers.

How a disk is asked is imported with the first question: nobody's start waits for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from gadgetd.disks.disk import Disk, Health, Kind
from gadgetd.eventloop import Alarms, Loop, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gadgetd.disks.health import Question

SETTLE_S = 3.0
"""How long a disk that has come is left alone: it is exported, and the host looks at it, first."""
HOUR_S = 3600.0
PATIENCE_S = 5.0
"""How long a disk may take before the next is asked. Its answer counts whenever it comes."""


class Checkups:
    """Keeps in `known` what each disk has told. `changed` is called when that is something new."""

    def __init__(
        self,
        loop: Loop,
        changed: Callable[[], None],
        sys: Path = Path("/sys"),
    ) -> None:
        self._loop = loop
        self._alarms = Alarms(loop)
        self._changed = changed
        self._sys = sys
        self.known: dict[Disk, Health | None] = {}
        self._there: tuple[Disk, ...] = ()
        self._asked_at: dict[Disk, float] = {}
        self._waiting: list[Disk] = []
        self._asking: set[Disk] = set()
        """Also those that were not waited for any more: nobody is asked twice at a time."""
        self._turn: Disk | None = None
        self._patience: Timer | None = None

    def follow(self, disks: Iterable[Disk]) -> Mapping[Disk, Health | None]:
        """Give what these have told. New ones are asked a moment from now, old ones forgotten."""
        there = tuple(disk for disk in disks if disk.kind in (Kind.EMMC, Kind.NVME))
        if there != self._there:
            self._change(there)
        return self.known

    def _change(self, there: tuple[Disk, ...]) -> None:
        self._there = there
        self.known = {disk: self.known[disk] for disk in there if disk in self.known}
        self._asked_at = {disk: self._asked_at[disk] for disk in there if disk in self._asked_at}
        self._alarms.set("arrival", SETTLE_S, partial(self.ask, HOUR_S))

    def ask(self, older_than_s: float) -> None:
        """Ask those of the disks that were not asked for so long, and all again in an hour."""
        if self._there:
            self._alarms.set("hour", HOUR_S, partial(self.ask, 0.0), keep=True)
        now = self._loop.clock()
        for disk in self._there:
            busy = disk in self._asking or disk in self._waiting
            if not busy and now - self._asked_at.get(disk, -older_than_s) >= older_than_s:
                self._asked_at[disk] = now
                self._waiting.append(disk)
        self._next()

    def _next(self) -> None:
        from gadgetd.disks.health import read_emmc

        while self._turn is None and self._waiting:
            disk = self._waiting.pop(0)
            if disk.kind is Kind.EMMC:
                self._learn(disk, read_emmc(disk, self._sys))
            elif disk in self._asked_at:
                self._begin(disk)

    def _begin(self, disk: Disk) -> None:
        from gadgetd.disks import health

        try:
            question = health.Question(disk)
        except OSError:
            return  # No room for another process. It is asked again the next time.
        self._turn = disk
        self._asking.add(disk)
        self._loop.watch(question.fileno(), partial(self._end, disk, question))
        self._patience = self._loop.call_later(PATIENCE_S, self._pass_on)

    def _end(self, disk: Disk, question: Question) -> None:
        self._loop.unwatch(question.fileno())
        self._asking.discard(disk)
        self._learn(disk, question.health())
        if self._turn == disk and self._patience is not None:
            self._patience.cancel()
            self._pass_on()

    def _pass_on(self) -> None:
        self._turn = None
        self._next()

    def _learn(self, disk: Disk, health: Health | None) -> None:
        # One that has left meanwhile is forgotten already.
        if disk in self._asked_at and health != self.known.get(disk):
            self.known[disk] = health
            self._changed()
