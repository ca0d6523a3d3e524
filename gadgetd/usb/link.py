"""Follows the host on the other end of the cable: the link, and whether it uses the disks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gadgetd import sysfs
from gadgetd.eventloop import URGENT, Loop
from gadgetd.frozen import Frozen
from gadgetd.usb import controllers as udcs

_CABLE_OUT = ("", "not attached", "attached", "powered")

INTERRUPTION_S = 2.0
"""A connection that is back within this time, in seconds, was interrupted; later it is a new one.

usbip-vudc stays at `default` when the cable is pulled, where a reset leaves it for a moment only
(docs/kernel.md). A person takes longer than a reset, and the time between the two is a choice.
"""


GONE_S = 5.0
"""A host that has reset the board sets it up again sooner, in seconds."""


class Link(Frozen):
    """The USB connection, as far as the board can tell. `for_s` is seconds in this state."""

    state: str = ""
    """`suspended` also where only the gadget's attribute of that name tells of it."""
    speed: str = ""
    for_s: float = 0.0
    interruptions: int = 0
    """How often the gadget was set up anew at once: a reset by the host, or a loose cable."""
    controller: str = ""
    """The controller's name; empty if there is none."""
    without_controller_s: float = 0.0
    """For how long there has been none to follow, in seconds."""


class Host:
    """The state of one controller at a time; `follow` chooses it.

    `arrived` is called whenever a host has set the gadget up, `left` when it is no longer set up,
    and after either, or any other change, `changed`.
    """

    def __init__(
        self,
        loop: Loop,
        controllers: Callable[[], tuple[udcs.Udc, ...]],
        *,
        arrived: Callable[[], None],
        left: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._controllers = controllers
        self._arrived = arrived
        self._left = left
        self._changed = changed
        self._fd = -1
        self._name = ""
        self._udc: udcs.Udc | None = None
        self._since = self._with_controller_at = loop.clock()
        self._was_ready = False
        self._interruptions = 0
        self._lost_at = float("-inf")
        self._speed = ""
        self._asleep = False
        self.away_s = float("inf")
        """How long there was no host, in seconds, before this one set the gadget up."""
        self.state = ""
        """As in /sys/class/udc/X/state; empty without a controller."""

    @property
    def ready(self) -> bool:
        """A host has set the gadget up. It may be asleep."""
        return self.state in ("configured", "suspended")

    @property
    def awake(self) -> bool:
        """A host has set the gadget up and can read and write."""
        return self.state == "configured"

    @property
    def up(self) -> bool:
        """It can read and write, and is not asleep as far as the driver tells."""
        self.refresh()
        return self.awake and not self._asleep

    @property
    def lately(self) -> bool:
        """A host is there, or was a moment ago and may be resetting the bus."""
        return self.ready or self._loop.clock() - self._lost_at < GONE_S

    @property
    def gone(self) -> bool:
        """No host is there, and not only for the moment of a bus reset.

        dwc2 takes a reset for a pulled cable (source: dwc2_hsotg_irq in drivers/usb/dwc2/gadget.c
        calls dwc2_hsotg_disconnect, which sets `not attached`), and a host resets to recover.
        """
        return not self.ready and self._loop.clock() - self._since >= GONE_S

    def follows(self, name: str) -> bool:
        """Whether `follow` chose this controller last."""
        return name == self._name

    def follow(self, name: str) -> None:
        """Watch the controller of this name from now on; an empty one for none."""
        if name or self._name:
            self._with_controller_at = self._loop.clock()
        if name == self._name and (self._fd >= 0 or not name):
            # A busy loop may not have come to the event yet, and this costs one read.
            self._look()
            if self._fd >= 0 or not name:
                return
            # The controller has left, and may be there again, as another one of that name.
        self._forget_fd()
        self._name = name
        self._was_ready = False
        controller = next((each for each in self._controllers() if each.name == name), None)
        if controller is not None:
            try:
                self._fd = udcs.open_state(controller)
            except OSError:
                pass  # It has gone again, which raises a uevent.
            else:
                self._udc = controller
                self._loop.watch(self._fd, self._look, URGENT)
        self._look()

    def expect_anew(self) -> None:
        """Do not count it if the host sets the gadget up again: it was our doing."""
        self._was_ready = False

    @property
    def link(self) -> Link:
        """What there is to say about the connection."""
        for_s = self._loop.clock() - self._since
        interruptions = self._interruptions if self._same_cable else 0
        state = "suspended" if self.awake and self._asleep else self.state
        name = self._udc.name if self._udc is not None else ""
        without_s = self._loop.clock() - self._with_controller_at
        return Link(state, self._speed, for_s, interruptions, name, without_s)

    def refresh(self) -> None:
        """Look at what raises no event, for `link`.

        Not every controller driver reports a suspend as a state of its own.
        """
        self._speed = udcs.current_speed(self._udc) if self._udc is not None else ""
        self._asleep = self.awake and self._udc is not None and udcs.suspended(self._udc)

    @property
    def _same_cable(self) -> bool:
        """The cable was not out for as long as a person takes, as far as the driver tells."""
        return self.ready or self._loop.clock() - self._lost_at <= INTERRUPTION_S

    def _look(self) -> None:
        before, was_ready, same_cable = self.state, self.ready, self._same_cable
        # Reading also arms the next event.
        self.state = udcs.read_state(self._fd) if self._fd >= 0 else ""
        if not self.state:
            # The controller has left. The kernel would report that without end.
            self._forget_fd()
        if self.state == before:
            return
        self._since = self._loop.clock()
        if self.awake and before != "suspended":
            if not same_cable:
                self._interruptions = 0
            # Set up anew though the cable was not out in between.
            elif before not in _CABLE_OUT:
                self._interruptions += self._was_ready
            # A state that was there at the first look may be of before the gadget was bound: some
            # drivers keep it. The host that then sets us up has interrupted nothing.
            self._was_ready = bool(before)
            self.away_s = self._since - self._lost_at
            self._arrived()
        elif not self.ready:
            if was_ready:
                self._lost_at = self._since
            if self.state in _CABLE_OUT:
                # Another cable, or another host: its own record.
                self._was_ready, self._interruptions = False, 0
            self._left()
        self._changed()

    def _forget_fd(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
        self._fd, self._udc = -1, None


THREAD = "file-storage"
"""One a mass-storage function (source: f_mass_storage.c). It wakes for each command."""
POLLING = 3
"""Wake-ups a LUN between two looks that are no use: a host asks empty drives, and not only those,
each second or two whether there is a medium, which is one. The shortest read is three."""
_FIELD = "voluntary_ctxt_switches:"


class Activity:
    """Whether the host uses the gadget at this moment, told by the threads that serve it.

    Each one's wake-ups are counted from one `look` to the next; the busiest one tells. A disk's
    counters tell it late, or never: a write stays in RAM for a second or two before it moves them,
    and a read of what RAM remembers does not move them at all.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._threads: list[str] = []
        self._seen: list[int] = []
        self._asked: list[int] = []

    def look(self) -> int:
        """Begin to count anew; returns the wake-ups since the last look."""
        counts = self._count()
        woken, self._seen = self._most(counts), counts
        return woken

    def stirs(self) -> bool:
        """Tell whether a thread has been woken since this was last asked, or none is known."""
        before, self._asked = self._asked, self._count()
        return not self._threads or self._asked != before

    def forget(self) -> None:
        """Look for the threads anew, since a function may have been added."""
        self._threads = []

    def busy(self, luns: int) -> bool:
        """Tell whether the host has read or written since the last look; see `is_use`."""
        return is_use(self._most(self._count()), luns)

    def _most(self, counts: list[int]) -> int:
        woken = (now - before for now, before in zip(counts, self._seen, strict=True))
        return max(woken, default=0)

    def _count(self) -> list[int]:
        try:
            if self._threads:
                return [_wake_ups(each) for each in self._threads]
        except OSError:
            pass  # The gadget was taken down; another one has threads of its own.
        comms = self._proc.glob("[0-9]*/comm")
        self._threads = [f"{each.parent}/status" for each in comms if _serves(each)]
        try:
            self._seen = [_wake_ups(each) for each in self._threads]
        except OSError:
            self._threads, self._seen = [], []
        return self._seen


def is_use(wake_ups: int, luns: int) -> bool:
    """Tell whether so many wake-ups of a thread between two looks are more than asking for media.

    `luns`: as many of one function as a host asks.
    """
    return wake_ups > POLLING * luns


def _serves(comm: Path) -> bool:
    try:
        return sysfs.read(comm).strip() == THREAD
    except OSError:
        return False


def _wake_ups(status: str) -> int:
    return int(sysfs.read(status).partition(_FIELD)[2].split(None, 1)[0])
