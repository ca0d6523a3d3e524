"""What a person asks for: a disk taken from the host, and given back to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gadgetd.errors import GadgetError
from gadgetd.eventloop import Alarms
from gadgetd.export.drive import Drive, Signal
from gadgetd.export.drives import Drives
from gadgetd.usb.link import Host

EJECT_S = 10.0
"""How long a person who ejects a disk waits for it to answer. It is taken out all the same."""


class ByHand:
    """Ejects disks and inserts them. `changed` and `inserted` are called after each of the two."""

    def __init__(
        self,
        alarms: Alarms,
        drives: Drives,
        host: Host,
        changed: Callable[[], None],
        inserted: Callable[[], None],
    ) -> None:
        self._alarms = alarms
        self._drives = drives
        self._host = host
        self._changed = changed
        self._inserted = inserted
        self._under_way: dict[str, tuple[Drive, Callable[[GadgetError | None], None]]] = {}
        """Ejects that have not come to their end, by the name of their alarm."""

    def eject(
        self,
        drive: Drive,
        *,
        force: bool,
        then: Callable[[GadgetError | None], None] = lambda _error: None,
    ) -> None:
        """Take one disk from the host, as its own eject would. GadgetError if it has locked it.

        `then` is called once it is out, or with the reason why it is not, or not yet.
        """
        if self._drives.eject(drive, force=force):
            then(None)
        else:
            alarm = f"eject {drive.number}"
            self._answer(alarm)  # Somebody has asked for the same.
            self._under_way[alarm] = (drive, then)
            self._alarms.set(alarm, EJECT_S, partial(self._answer, alarm))
        self._changed()

    def answer(self) -> None:
        """Answer those whose disks have come out, or have turned out to be locked."""
        for alarm, (drive, _) in list(self._under_way.items()):
            if not drive.waits:
                self._answer(alarm)

    def insert(self, drive: Drive, *, anew: bool = True) -> None:
        """Give an ejected disk back to the host; `anew`: a person does, who has been told."""
        self._drives.insert(drive, anew=anew)
        if self._host.ready:
            drive.signal(Signal.HOST_READY)
        self._changed()  # The word is taken back before the disk is with the host.
        self._inserted()

    def _answer(self, alarm: str) -> None:
        if alarm in self._under_way:
            drive, then = self._under_way.pop(alarm)
            then(None if drive.ejected else drive.no_answer if drive.waits else drive.in_use)
