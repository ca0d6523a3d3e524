"""How the board stands, in one word and its colour: what a person reads from across the room."""

from __future__ import annotations

from gadgetd.config.settings import is_lock
from gadgetd.frozen import Frozen
from gadgetd.status import Life, Phase, Status


class Sign(Frozen):
    """A word and its colour (SGR). Words differ by more than the colour, which not all can see."""

    word: str
    style: str
    broken: tuple[str, ...] = ()
    """The word in several lines, for larger letters."""
    short: str = ""
    """What is written large where the whole word has no room; the text says it whole."""

    @property
    def spellings(self) -> tuple[tuple[str, ...], ...]:
        """Each way to write all of it."""
        return ((self.word,), self.broken) if self.broken else ((self.word,),)


STARTING = Sign("STARTING", "37")
WAITING = Sign("WAITING", "37")
"""There is no disk to export, or it is still on its way."""
NO_HOST = Sign("NO HOST", "1;34", ("NO", "HOST"))
"""No cable and no PC look the same to the board."""
SUSPENDED = Sign("SUSPENDED", "1;34")
"""The PC sleeps, or the cable is out."""
READY = Sign("READY", "1;36")
READING = Sign("READING", "36")
WRITING = Sign("WRITING", "1;33")
FLUSHING = Sign("FLUSHING", "1;35")
EJECTED = Sign("EJECTED", "1;37")
"""Every disk is out of its LUN, and whether all that the host had written is on it is not known."""
SAFE = Sign("SAFE TO UNPLUG", "1;32", ("SAFE TO", "UNPLUG"), "SAFE")
STOPPED = Sign("STOPPED", "1;37")
LOCKED = Sign("LOCKED", "33")
"""This board is not one of those that the configuration names."""
ERROR = Sign("ERROR", "1;31")

_BUSY = (Life.WRITING, Life.FLUSHING, Life.EJECTING)


def sign_of(status: Status) -> Sign:
    """Give the word for a status, and none that says more than it knows."""
    lives = {row.life for row in status.disks if row.lun is not None} - {Life.GONE}
    if status.phase is Phase.CONFIG_ERROR:
        return LOCKED if is_lock(status.problem) else ERROR
    lost = any(row.data_lost for row in status.disks)  # Also by one that has left since.
    if status.phase is Phase.FAILED or Life.FAILED in lives or lost:
        return ERROR
    if status.safe_to_unplug:
        return SAFE
    if status.problem is not None:
        return ERROR
    if status.phase is Phase.STOPPED:
        # The disks keep their LUNs until each of them is flushed.
        return FLUSHING if lives else STOPPED
    if lives.intersection(_BUSY):
        return WRITING if Life.WRITING in lives else FLUSHING
    if status.phase in (Phase.STARTING, Phase.WAITING_FOR_UDC):
        return STARTING
    if status.phase is Phase.WAITING_FOR_DISKS or not lives:
        return WAITING
    return _exported(status, lives)


def _exported(status: Status, lives: set[Life]) -> Sign:
    state = status.controller.state if status.controller else ""
    if lives == {Life.EJECTED}:
        return EJECTED
    if state == "suspended":
        return SUSPENDED
    if state != "configured":
        return NO_HOST
    return READING if Life.READING in lives else READY
