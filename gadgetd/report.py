"""Puts the one status value together from what the daemon knows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gadgetd.blockscan import Pending
from gadgetd.config import Config
from gadgetd.disk import Verdict
from gadgetd.export import Export
from gadgetd.status import DiskStatus, Phase, Problem

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


def phase_of(facts: Facts) -> tuple[Phase, str, Problem | None]:
    """Give the phase, the headline and the problem that keeps the disks from the host."""
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
            row = DiskStatus(row.disk, None, _LATER, row.read_only, row.inquiry)
        shown.append(row)
    names = {row.disk.name for row in shown}
    left_out = [DiskStatus(v.disk, reason=v.reason) for v in verdicts if v.disk.name not in names]
    return (*shown, *left_out)


def _count(disks: int) -> str:
    return "1 disk" if disks == 1 else f"{disks} disks"
