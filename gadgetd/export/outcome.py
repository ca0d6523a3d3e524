"""What is exported, what came of bringing it about, and how far its end is. Values only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto

from gadgetd.disks.disk import Disk, Verdict
from gadgetd.errors import GadgetdError, GadgetError
from gadgetd.export.drive import Drive
from gadgetd.frozen import Frozen


class Waits(Enum):
    """What a change of the gadget has to wait for."""

    NOTHING = auto()
    CONTROLLER = auto()
    """None is free, or there is none."""
    IDLE = auto()
    """All disks have to be disconnected for a moment, and the host uses them."""
    ANSWER = auto()
    """A command of the host's does not come to its end, and the kernel does not answer so long."""
    LOCK = auto()
    """The host has locked a medium, as a Linux host does with every disk it has open."""


class Outcome(Frozen):
    """What `Exporter.reconcile` did, and what it could not do."""

    verdicts: tuple[Verdict, ...] = ()
    """Of every disk: one that could not be held is not exported, and says why."""
    put_off: bool = False
    """Nothing was done yet, for the sake of a disk that is on its way."""
    waits: Waits = Waits.NOTHING
    locked: tuple[str, ...] = ()
    """The disks whose LUN is to change and cannot, for the host has locked the medium."""
    wants_gadget: bool = False
    """There is something to export: a disk, an empty slot, a serial console."""
    reconnected: bool = False
    """The host was disconnected for a moment."""
    not_held: bool = False
    """A disk that is to be exported could not be held."""
    error: GadgetdError | None = None
    """The kernel refused a step."""
    refusal: GadgetError | None = None
    """The kernel refused a change for which the host was disconnected. It is not tried again until
    `Exporter.forgive`."""
    left_out: bool = False
    """A disk that the gadget cannot open is not tried again, likewise."""

    @property
    def disks(self) -> tuple[Disk, ...]:
        """All that there are, once they are exported as far as they can be."""
        return () if self.put_off else tuple(verdict.disk for verdict in self.verdicts)

    def after(self, before: Outcome) -> Outcome:
        """Give it as it is after an earlier one: what waited before an error does so still."""
        if self.error is None:
            return self
        return self._replace(waits=before.waits, locked=before.locked)

    @property
    def try_again(self) -> bool:
        """What was not done may work in a while."""
        waits = self.waits in (Waits.LOCK, Waits.ANSWER)
        return self.error is not None or self.not_held or waits

    @property
    def gave_up(self) -> bool:
        """Something is not tried again until `Exporter.forgive`."""
        return self.refusal is not None or self.left_out


class Exported(Frozen):
    """What there is at one moment."""

    drives: Sequence[Drive] = ()
    """The disks that are exported or to be exported, those that were ejected or left included."""
    unproved: Collection[int] = ()
    """LUNs of an earlier run whose disk is out of reach."""
    torn: Collection[int] = ()
    """LUNs whose disk was taken from a host that had it open, and is not exported any more."""
    luns: Collection[int] = ()
    """The LUNs that the host can see, empty ones included."""
    bound: bool = False
    """The gadget has a controller."""
    note: str = ""
    """Why this one, or why there is none."""
    controllers: int = 0
    """How many the board has, whoever uses them; asked only while there is none for the gadget."""
    all_ejected: bool = False
    """The host has let go of every disk, and all that it wrote is on them."""
    silent: Sequence[str] = ()
    """The disks of which one, of each function, keeps the kernel from carrying out a change."""


class Stop(Frozen):
    """How far the end of all exporting has come."""

    begun: bool = False
    """Nothing is to be exported."""
    under_way: bool = False
    """Disks are still being flushed."""
    flushed: bool = False
    """All that arrived from the host is on the disks."""
    safe: bool = False
    """And the host had let go of every disk."""
    error: GadgetdError | None = None
    """The kernel refused a step."""
