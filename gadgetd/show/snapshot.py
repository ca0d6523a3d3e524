"""Puts the one status value together from what the daemon knows, all in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from gadgetd.config.settings import AUTO, Config, is_lock
from gadgetd.disks.disk import Disk, Health, Pending
from gadgetd.errors import ConfigError, Problem, problem_of
from gadgetd.export.drive import Drive
from gadgetd.export.outcome import Exported, Outcome, Stop, Waits
from gadgetd.frozen import Frozen
from gadgetd.status import Controller, DiskStatus, Life, Phase, Status
from gadgetd.usb.link import Link

_NO_CONTROLLER = "config.txt needs dtoverlay=dwc2,dr_mode=peripheral; see the kernel's log: dmesg"
_TAKEN = "unbind the gadget that has it: see /sys/kernel/config/usb_gadget"
_MISNAMED = "name another one in usb.udc of gadgetd.yaml, or auto; then: gadgetd reload"
_FLUSHED = (
    "stopped: all that arrived is on the disks, what the host still held is not known;"
    " to go on: gadgetd start"
)
_NO_DISK = "no disk to export; waiting for one"
_LATER = "waits until the host lets go of the other disks: adding it disconnects them"

_TORN = (
    "what the host still held is not known: check it, or write it again;"
    " gadgetd stop, then gadgetd start, begins anew"
)
_REFUSED = "the kernel refused the change that was to add it; to try again: gadgetd reload"


class Display:
    """Where each status is shown: nowhere, until there is a `console.Panel`."""

    @property
    def advice(self) -> tuple[Problem, ...]:
        """What is odd about the consoles or the LED that the configuration names."""
        return ()

    def choose(self, config: Config) -> None:
        """Use the consoles and the LED that the configuration names."""

    def show(self, status: Status) -> None:
        """Show a status everywhere."""


class Facts(Frozen):
    """What the daemon knows at one moment."""

    config: Config | None
    config_error: ConfigError | None = None
    """What is wrong with the file now; `config` may be from before."""
    starting: bool = False
    """The disks have not been looked at yet."""
    awaited: Sequence[Pending] = ()
    outcome: Outcome = Outcome()
    exported: Exported = Exported()
    stop: Stop = Stop()
    link: Link = Link()
    locked: Sequence[str] = ()
    """The disks that the host had open when a change that disconnects it was considered."""
    serial_console: str = ""
    health: Mapping[Disk, Health | None] = {}
    """What the disks have told of their wear."""
    advice: Sequence[Problem] = ()
    """What else is wrong on the board: its consoles, the kernel's bounds."""


def status_of(facts: Facts, before: Status) -> Status:
    """Put the status together; the version and the board are those of the one before."""
    phase, message, problem = phase_of(facts)
    return before._replace(
        phase=phase,
        message=message,
        problem=problem,
        advice=tuple(_advice(facts)),
        controller=controller(facts.link, facts.exported.note),
        disks=rows(facts, exported=phase is Phase.EXPORTED),
        safe_to_unplug=facts.stop.safe if facts.stop.begun else facts.exported.all_ejected,
        serial_console=facts.serial_console,
    )


def phase_of(facts: Facts) -> tuple[Phase, str, Problem | None]:
    """Give the phase, the headline and the problem that keeps the disks from the host."""
    if facts.stop.begun:
        refused = facts.exported.bound and facts.stop.error is not None
        message = _stopped(facts.stop, refused=refused)
        return Phase.STOPPED, message, problem_of(facts.stop.error)
    if facts.config is None:
        message = "the configuration is wrong: nothing is exported"
        if facts.config_error is not None and is_lock(facts.config_error):
            message = "locked: this board is not one of boards: nothing is exported"
        return Phase.CONFIG_ERROR, message, _config_problem(facts)
    if facts.starting:
        return Phase.STARTING, "starting", None
    if problem := problem_of(facts.outcome.error):
        return Phase.FAILED, "the disks cannot be exported; trying again", problem
    there = [drive for drive in facts.exported.drives if drive.life is not Life.GONE]
    if facts.exported.bound and there:
        return Phase.EXPORTED, _exported(there, facts.exported.luns), None
    if facts.awaited:
        names = ", ".join(pending.text for pending in facts.awaited)
        return Phase.WAITING_FOR_DISKS, f"waiting for {names}", None
    if facts.exported.bound or not facts.outcome.wants_gadget:
        # Bound to show the host empty LUNs, slots among them, or a serial console.
        return Phase.WAITING_FOR_DISKS, _NO_DISK, None
    named = facts.config.usb.udc
    which = "a USB device controller" if named == AUTO else f"USB device controller {named}"
    message = f"{_count(len(there))} ready; waiting for {which}"
    return Phase.WAITING_FOR_UDC, message, _no_controller(facts, facts.config)


def _stopped(stop: Stop, *, refused: bool) -> str:
    if stop.under_way and stop.error is not None:
        return "stopping: a disk does not answer, do not unplug"
    if stop.under_way:
        return "stopping: flushing the disks, do not unplug"
    if refused:
        return "not stopped: the host still has the disks; to try again: gadgetd stop"
    if stop.flushed and not stop.safe:
        return _FLUSHED
    return "stopped: nothing is exported; to go on: gadgetd start"


def _exported(there: Sequence[Drive], visible: Collection[int]) -> str:
    seen = [drive for drive in there if drive.number in visible]
    ejected = sum(drive.ejected for drive in seen)
    parts = ((len(seen) - ejected, "exported"), (ejected, "ejected"))
    words = [f"{_count(number)} {what}" for number, what in parts if number]
    if waiting := len(there) - len(seen):
        words.append(f"{_count(waiting)} {'waits' if waiting == 1 else 'wait'}")
    return ", ".join(words)


def _no_controller(facts: Facts, config: Config) -> Problem | None:
    limit_s, hint = config.wait.udc_s, _TAKEN
    if facts.link.without_controller_s < limit_s:
        return None
    if not facts.exported.controllers:
        hint = _NO_CONTROLLER
    elif config.usb.udc != AUTO:
        hint = _MISNAMED
    waited = f" after {limit_s:g} s" if limit_s else ""
    # What is missing, for how long, and only then what there is instead.
    return Problem(re.sub("(?=[:;] |$)", waited, facts.exported.note, count=1), hint)


def _config_problem(facts: Facts) -> Problem | None:
    problem = problem_of(facts.config_error)
    if problem is None:
        return None
    return problem._replace(hint=f"{problem.hint}; to use it: gadgetd reload".removeprefix("; "))


def _advice(facts: Facts) -> Iterator[Problem]:
    exported = facts.exported
    if exported.bound and not exported.all_ejected:  # Hosts put to sleep what they have ejected.
        touched = any(each.touched for each in exported.drives)
        touched |= not any(each.has_medium for each in exported.drives)
        yield from about_link(facts.link, touched=touched)
    if facts.config is not None and (problem := _config_problem(facts)):
        yield problem
    yield from about_change(facts.outcome, facts.locked)
    yield from about_silent(exported.silent)
    yield from about_disks(exported.drives, exported.unproved, exported.torn)
    yield from about_health(facts.health)
    yield from facts.advice


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


def rows(facts: Facts, *, exported: bool) -> tuple[DiskStatus, ...]:
    """Give a row for each disk: those that are exported by LUN, then those that are not.

    While nothing is exported, a disk shows the LUN that it will have.
    """
    shown = []
    later = _REFUSED if facts.outcome.refusal else _LATER
    for drive in facts.exported.drives:
        row = drive.to_status()
        if exported and drive.number not in facts.exported.luns:
            row = DiskStatus(row.disk, None, later, row.read_only, row.inquiry, waits=True)
        shown.append(row._replace(health=facts.health.get(row.disk)))
    # A name can be another disk's by now, if the one that had it left.
    names = {row.disk.name for row in shown if row.life is not Life.GONE}
    others = (verdict for verdict in facts.outcome.verdicts if verdict.disk.name not in names)
    rest = (
        DiskStatus(v.disk, reason=v.reason, waits=v.exported, health=facts.health.get(v.disk))
        for v in others
    )
    return (*shown, *rest)


def _count(disks: int) -> str:
    return "1 disk" if disks == 1 else f"{disks} disks"


PATIENCE_S = 5.0
"""How long a state may last before it is called wrong, in seconds: hosts take a while."""

_SLOW = ("low-speed", "full-speed")


def controller(link: Link, note: str) -> Controller | None:
    """Give what to show of the controller in use; `note` says why it is this one."""
    return Controller(link.controller, link.state, link.speed, note) if link.controller else None


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
