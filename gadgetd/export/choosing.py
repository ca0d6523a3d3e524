"""Which disks are exported, and why: facts and configuration to verdicts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gadgetd.config.settings import Config
from gadgetd.disks.disk import Disk, Found, Kind, Verdict
from gadgetd.export import numbering

_ASKED_FOR = (Kind.SATA, Kind.USB, Kind.OTHER)


def choose(found: Sequence[Found], config: Config) -> tuple[Verdict, ...]:
    """Give every disk its verdict and the reason for it, in the order of the LUNs.

    The scan's refusal comes first, then `exclude`, then the first rule of `disks` that matches.
    """
    return tuple(_judge(one, config) for one in sorted(found, key=numbering.order))


def choose_none(found: Sequence[Found], reason: str) -> tuple[Verdict, ...]:
    """Export no disk; `reason` is that of those which the scan does not refuse."""
    return tuple(Verdict(one.disk, exported=False, reason=one.refusal or reason) for one in found)


def _judge(found: Found, config: Config) -> Verdict:
    disk = found.disk
    if found.refusal:
        return Verdict(disk, exported=False, reason=found.refusal)
    for match in config.exclude:
        if match.matches(disk):
            return Verdict(disk, exported=False, reason=f"excluded by {config.where(match)}")
    for rule in config.disks:
        if rule.match.matches(disk):
            return Verdict(
                disk,
                exported=True,
                reason=f"exported by {config.where(rule)}",
                read_only=disk.read_only or rule.read_only,
                label=rule.label,
            )
    return Verdict(disk, exported=False, reason=_unmatched(disk))


def _unmatched(disk: Disk) -> str:
    reason = "no rule of disks matches"
    if disk.kind in _ASKED_FOR:
        reason += f"; to export it, add a rule to disks: such as - kind: {disk.kind}"
    return reason
