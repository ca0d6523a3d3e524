"""Puts the one status value together from what the daemon knows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from gadgetd.blockscan import Pending
from gadgetd.config import Config
from gadgetd.disk import Verdict
from gadgetd.errors import ConfigError, GadgetdError
from gadgetd.export import Export, Waits
from gadgetd.status import DiskStatus, Life, Phase, Problem

_NO_CONTROLLER = "config.txt needs dtoverlay=dwc2,dr_mode=peripheral; see the kernel's log: dmesg"
_LATER = "waits until the host is idle: adding it disconnects all disks for a moment"


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides the phase. Times are in seconds."""

    config: Config | None
    config_problem: Problem | None = None
    problem: Problem | None = None
    """The kernel refused a step."""
    awaited: Sequence[Pending] = ()
    disks: int = 0
    bound: bool = False
    wants_gadget: bool = False
    """There is something to export: a disk, an empty slot, a serial console."""
    note: str = ""
    """Why there is no controller."""
    without_controller_s: float = 0.0
    stopped: bool = False
    stopping: bool = False
    """Stopped, and disks are still being flushed."""


def phase_of(facts: Facts) -> tuple[Phase, str, Problem | None]:
    """Give the phase, the headline and the problem that keeps the disks from the host."""
    if facts.stopping:
        return Phase.STOPPED, "stopping: flushing the disks, do not unplug", facts.problem
    if facts.stopped:
        return Phase.STOPPED, "stopped: nothing is exported; to go on: gadgetd start", facts.problem
    if facts.config is None:
        message = "the configuration is wrong: nothing is exported"
        return Phase.CONFIG_ERROR, message, facts.config_problem
    if facts.problem is not None:
        return Phase.FAILED, "the disks cannot be exported; trying again", facts.problem
    if facts.bound:
        return Phase.EXPORTED, f"{_count(facts.disks)} exported", None
    if facts.awaited:
        names = ", ".join(pending.text for pending in facts.awaited)
        return Phase.WAITING_FOR_DISKS, f"waiting for {names}", None
    if not facts.wants_gadget:
        return Phase.WAITING_FOR_DISKS, "no disk to export; waiting for one", None
    problem = None
    if facts.without_controller_s >= facts.config.wait.udc_s:
        waited = f" after {facts.config.wait.udc_s:g} s" if facts.config.wait.udc_s else ""
        problem = Problem(f"{facts.note}{waited}", _NO_CONTROLLER)
    message = f"{_count(facts.disks)} ready; waiting for a USB device controller"
    return Phase.WAITING_FOR_UDC, message, problem


def problem_of(error: GadgetdError) -> Problem:
    """Give what a status shows of an error."""
    if isinstance(error, ConfigError):
        where = (str(error.file), error.line, error.column, error.key, error.expected)
        return Problem(error.message, error.hint, *where)
    return Problem(error.message, error.hint)


def about_change(
    waits: Waits, locked: Sequence[str], refusal: GadgetdError | None
) -> Iterator[Problem]:
    """Say what keeps the gadget from being changed; `locked` are the names of disks."""
    if waits is Waits.IDLE:
        yield Problem(
            "a change waits until the host is idle: it disconnects all disks for a moment",
            "it comes by itself; to have it now, eject the disks on the host",
        )
    elif waits is Waits.LOCK:
        yield Problem(
            f"a change of {', '.join(locked)} waits: the host has locked the medium",
            "eject it on the host, or force it: gadgetd eject --force",
        )
    if refusal is not None:
        hint = f"{refusal.hint}; to try again: gadgetd reload".lstrip("; ")
        yield Problem(refusal.message, hint)


def about_disks(exports: Sequence[Export], unproved: Collection[int] = ()) -> Iterator[Problem]:
    """Say which disks had I/O errors, how many, and which may lack data.

    `unproved` are LUNs of an earlier run.
    """
    for number in sorted(unproved):
        yield Problem(
            f"LUN {number}: gadgetd was killed before its disk was flushed, and has no hold of it",
            "do not trust what was written; gadgetd stop, then gadgetd start, begins anew",
        )
    for export in exports:
        if export.io_errors:
            plural = "" if export.io_errors == 1 else "s"
            yield Problem(
                f"{export.name}: {export.io_errors} I/O error{plural}",
                "do not trust what was written; see dmesg, and replace the disk",
            )
        if export.lost:
            yield Problem(
                f"{export.name} does not have all that the host had written",
                "do not trust what was written; write it again",
            )


def rows(
    exports: Sequence[Export], verdicts: Sequence[Verdict], visible: frozenset[int] | None
) -> tuple[DiskStatus, ...]:
    """Give a row for each disk: those that are exported by LUN, then those that are not.

    `visible` are the LUNs that the host can see, or None while nothing is exported.
    """
    shown = []
    for export in exports:
        row = export.to_status()
        if visible is not None and export.number not in visible:
            row = DiskStatus(row.disk, None, _LATER, row.read_only, row.inquiry, waits=True)
        shown.append(row)
    # A name can be another disk's by now, if the one that had it left.
    names = {row.disk.name for row in shown if row.life is not Life.GONE}
    others = (verdict for verdict in verdicts if verdict.disk.name not in names)
    return (*shown, *(DiskStatus(v.disk, reason=v.reason, waits=v.exported) for v in others))


def _count(disks: int) -> str:
    return "1 disk" if disks == 1 else f"{disks} disks"
