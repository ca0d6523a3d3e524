"""Puts the one status value together from what the daemon knows, all in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from gadgetd.config.settings import AUTO, Config, is_lock
from gadgetd.disks.disk import Disk, Health, Pending
from gadgetd.errors import ConfigError, Problem, problem_of
from gadgetd.export.drive import Drive
from gadgetd.export.outcome import Exported, Outcome, Stop
from gadgetd.frozen import Frozen
from gadgetd.show import advice
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
        yield from advice.about_link(facts.link, touched=touched)
    if facts.config is not None and (problem := _config_problem(facts)):
        yield problem
    yield from advice.about_change(facts.outcome, facts.locked)
    yield from advice.about_silent(exported.silent)
    yield from advice.about_disks(exported.drives, exported.unproved, exported.torn)
    yield from advice.about_health(facts.health)
    yield from facts.advice


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


def controller(link: Link, note: str) -> Controller | None:
    """Give what to show of the controller in use; `note` says why it is this one."""
    return Controller(link.controller, link.state, link.speed, note) if link.controller else None
