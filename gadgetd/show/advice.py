"""What is odd and what a person can do about it, in words: the link, changes, disks. Pure.

The state itself, such as that of a pulled cable, is in `wording`, and in large letters in `sign`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from gadgetd.disks.disk import Disk, Health
from gadgetd.errors import Problem
from gadgetd.export.drive import Drive
from gadgetd.export.outcome import Outcome, Waits
from gadgetd.usb.link import Link

PATIENCE_S = 5.0
"""How long a state may last before it is called wrong, in seconds: hosts take a while."""

_SLOW = ("low-speed", "full-speed")

_TORN = (
    "what the host still held is not known: check it, or write it again;"
    " gadgetd stop, then gadgetd start, begins anew"
)


def about_link(link: Link, *, touched: bool) -> Iterator[Problem]:
    """Say what is wrong with the connection, and no more than the controller's driver tells of it.

    Which driver tells what: docs/kernel.md. `touched`: a host has read or written a disk.
    """
    lasting = link.for_s >= PATIENCE_S
    if link.state == "suspended":
        yield Problem(
            "suspended: the host is asleep, or the cable is out",
            "wake the host, or plug the cable in again",
        )
    elif link.state == "configured":
        if link.speed in _SLOW:
            yield Problem(
                f"the link is {link.speed} only (12 Mb/s at best): it will be very slow",
                "use another cable, or plug into the PC without the hub",
            )
        if lasting and not touched:
            yield Problem(
                "the host has set up the disks and has not opened any",
                "look at the host's own log; on Linux: dmesg",
            )
    elif lasting and link.state in ("not attached", ""):
        yield Problem(
            "no host: no USB cable, or the PC is off",
            "plug the board's USB slave port into a PC; on a carrier board, look at its jumpers",
        )
    elif lasting:
        yield Problem(
            f"no host has set this board up (state: {link.state}):"
            " the cable may be out, or the PC off or asleep",
            "plug the cable in, wake the PC; if both are so, try another cable or port",
        )
    if link.interruptions:
        times = "once" if link.interruptions == 1 else f"{link.interruptions} times"
        yield Problem(
            f"the connection was interrupted {times}",
            "a reset by the host, or a loose cable; if it goes on: another cable or port, and"
            " check the power supply",
        )


def about_change(outcome: Outcome, locked: Sequence[str]) -> Iterator[Problem]:
    """Say what keeps the gadget from being changed; `locked` are disks that the host has open."""
    if outcome.waits is Waits.IDLE:
        which = f" ({', '.join(locked)} open there)" if locked else ""
        yield Problem(
            f"a change waits until the host lets go of the disks{which}: it disconnects them all",
            "eject them on the host; or now, and the host may lose what it has not written yet:"
            " gadgetd attach",
        )
    elif outcome.waits is Waits.ANSWER:
        yield Problem(
            "a change waits: a disk does not answer, a command of the host's goes on and on",
            "see the kernel's log: dmesg",
        )
    elif outcome.waits is Waits.LOCK:
        yield Problem(
            f"a change of {', '.join(outcome.locked)} waits: the host has locked the medium",
            "eject it on the host, or force it: gadgetd eject --force",
        )
    if outcome.refusal is not None:
        hint = f"{outcome.refusal.hint}; to try again: gadgetd reload".lstrip("; ")
        yield Problem(outcome.refusal.message, hint)


def about_silent(silent: Sequence[str]) -> Iterator[Problem]:
    """Say which disks keep the kernel from carrying out what was asked for."""
    if silent:
        which = silent[0] if len(silent) == 1 else f"one of {', '.join(silent)}"
        yield Problem(
            f"{which} does not answer: a command of the host's has not come to its end",
            "see the kernel's log: dmesg; a disk that goes on like that is broken",
        )


def about_disks(
    drives: Sequence[Drive], unproved: Collection[int] = (), torn: Collection[int] = ()
) -> Iterator[Problem]:
    """Say which disks had I/O errors, how many, and which may lack data.

    `unproved` are LUNs of an earlier run, `torn` those whose disk was taken from a host that had
    it open and is not exported any more.
    """
    for number in sorted(torn):
        yield Problem(f"disk {number} was taken from the host while it was open there", _TORN)
    for number in sorted(unproved):
        yield Problem(
            f"disk {number} is out of reach, and may lack what the host had written",
            "do not trust what was written; gadgetd stop, then gadgetd start, begins anew",
        )
    for drive in drives:
        if drive.refused:
            yield Problem(
                f"{drive.name} does not take all that the host writes, and was taken from it",
                "do not trust what was written, and replace the disk; to try it once more:"
                f" gadgetd insert {drive.name}",
            )
            continue
        if drive.io_errors:
            written = drive.write_errors
            doubt = "do not trust what was written" if written else "not all can be read"
            yield Problem(
                f"{drive.name}: {_errors(drive.io_errors)}",
                f"{doubt}; see dmesg, and replace the disk",
            )
        if drive.torn and not drive.lost:
            yield Problem(f"{drive.name} was taken from the host while it was open there", _TORN)
        if drive.lost:
            yield Problem(
                f"{drive.name} does not have all that the host had written",
                "do not trust what was written; write it again",
            )


WORN_PERCENT = 90
"""From here on a person is told: the life that the maker reckons with is nearly used up."""
_REPLACE = "copy what you need from it, and replace it"
_ALARMS = {
    "spare": ("its spare blocks are nearly used up", _REPLACE),
    "temperature": ("it is too hot, or too cold, to work well", "see to its cooling"),
    "reliability": ("it says that it has become unreliable", _REPLACE),
    "read_only": ("it takes no more data", _REPLACE),
    "backup": ("what it holds in its own RAM would not survive a power cut", _REPLACE),
    "memory_region": ("its persistent memory region is read-only or unreliable", _REPLACE),
}


def about_health(health: Mapping[Disk, Health | None]) -> Iterator[Problem]:
    """Say what the disks themselves give as a reason to worry, and which are nearly worn out."""
    for disk, told in health.items():
        if told is None:
            continue
        for name in told.warnings:
            words, hint = _ALARMS[name]
            yield Problem(f"{disk.name} warns: {words}", hint)
        if told.worn_percent is not None and told.worn_percent >= WORN_PERCENT:
            yield Problem(
                f"{disk.name} is worn out to {told.worn_percent} % of the life its maker gives it",
                f"it may fail before long: {_REPLACE}",
            )


def _errors(number: int) -> str:
    """Give a count that stays the same for long: each change is two events in a log of 500 lines.

    The kernel limits what it prints, so it is a lower bound anyway.
    """
    if number == 1:
        return "1 I/O error"
    return f"at least {max(2, 10 ** (len(str(number)) - 1))} I/O errors"
