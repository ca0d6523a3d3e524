"""What is wrong though the disks are exported, in words, each with what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gadgetd.status import Problem

PATIENCE_S = 5.0
"""How long a state may last before it is called wrong, in seconds: hosts take a while."""

_SLOW = ("low-speed", "full-speed")


class Link(NamedTuple):
    """The USB connection, as far as the board can tell. `for_s` is seconds in this state."""

    state: str
    speed: str
    for_s: float
    resets: int = 0
    """How often the host set the gadget up anew without a cable having been pulled."""
    touched: bool = False
    """A disk has been read or written since it was exported."""


def about_link(link: Link) -> Iterator[Problem]:
    """Say what is wrong with the connection."""
    lasting = link.for_s >= PATIENCE_S
    if link.state == "suspended":
        yield Problem(
            "the host has suspended this board",
            "wake the host, or plug the cable in again",
        )
    elif link.state == "configured":
        if link.speed in _SLOW:
            yield Problem(
                f"the link is {link.speed} only (12 Mb/s at best): it will be very slow",
                "use another cable, or plug into the PC without the hub",
            )
        if lasting and not link.touched:
            yield Problem(
                "the host has set up the disks and has not opened any",
                "look at the host's own log; on Linux: dmesg",
            )
    elif lasting and link.state in ("not attached", "attached", ""):
        yield Problem(
            "no host: no USB cable, or the PC is off",
            "plug the board's USB slave port into a PC; on a carrier board, look at its jumpers",
        )
    elif lasting:
        yield Problem(
            f"a host is there and does not finish setting up this board (state: {link.state})",
            "use another cable or port; try without the hub",
        )
    if link.resets:
        times = "once" if link.resets == 1 else f"{link.resets} times"
        yield Problem(
            f"the host has reset the connection {times}",
            "if it goes on: another cable or port, and check the power supply",
        )
