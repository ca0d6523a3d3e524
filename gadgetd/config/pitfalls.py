"""What is right in a configuration and hardly meant: rules that never match, a label on several.

Nothing is said that is not certain: of two patterns, one includes the other only if it is plain to
see. For `gadgetd check`; the daemon does not ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from gadgetd.config.settings import Config, DiskMatch
from gadgetd.disks.disk import Kind

_WILD = re.compile(r"[*?\[]")
_NAMES = (
    ("mmcblk", {Kind.EMMC, Kind.SD}),
    ("nvme", {Kind.NVME}),
    ("sd", {Kind.USB, Kind.SATA, Kind.OTHER}),
)
"""How the kernel names disks that can be exported, as blockscan.py has it."""
_ONE_ON_A_BOARD = {Kind.EMMC, Kind.SD}


def pitfalls(config: Config) -> Iterator[str]:
    """Give a sentence for each, with its place: `gadgetd.yaml:7: this rule can never match: ...`"""
    earlier: list[DiskMatch] = []
    for match in config.exclude:
        if why := _never(match, earlier):
            yield f"{config.where(match)}: this rule of exclude has no effect: {why}"
        earlier.append(match)
    for rule in config.disks:
        if why := _never(rule.match, earlier):
            yield f"{config.where(rule)}: this rule can never match: {why}"
        earlier.append(rule.match)
    yield from _labels(config)


def _labels(config: Config) -> Iterator[str]:
    labelled = [rule for rule in config.disks if rule.label]
    for at, rule in enumerate(labelled):
        alike = "which look alike on the host then"
        first = next((each for each in labelled[:at] if each.label == rule.label), None)
        if first is not None:
            yield (
                f'{config.where(rule)}: the label "{rule.label}" stands in line {first.line} too:'
                f" it is for several disks, {alike}"
            )
        elif _kinds(rule.match) - _ONE_ON_A_BOARD and not _is_one(rule.match):
            yield (
                f'{config.where(rule)}: the label "{rule.label}" goes to every disk that this rule'
                f" matches, {alike}: ask for one name or serial number"
            )


def _is_one(match: DiskMatch) -> bool:
    return any(text is not None and not _WILD.search(text) for text in (match.name, match.serial))


def _never(match: DiskMatch, earlier: Sequence[DiskMatch]) -> str:
    """Why no disk can get as far as this rule; empty if one may."""
    kinds = _kinds(match)
    if not kinds:
        if not match.kinds or not _kinds(match._replace(kinds=())):
            return "no disk that can be exported has such a name"
        return "no disk has both this name and this kind"
    lines = set()
    for kind in kinds:
        cover = next((each for each in earlier if _covers(each, match, kind)), None)
        if cover is None:
            return ""
        lines.add(cover.line)
    which = " and ".join(map(str, sorted(lines)))
    return f"all that it asks for, line{'s' * (len(lines) > 1)} {which} took already"


def _kinds(match: DiskMatch) -> set[Kind]:
    """The kinds that a disk can have which this matches."""
    kinds = set(match.kinds or Kind)
    if match.name is None:
        return kinds
    begin, wild = _literal(match.name)
    possible: set[Kind] = set()
    for prefix, named in _NAMES:
        if begin.startswith(prefix) or (wild and prefix.startswith(begin)):
            possible |= named
    return kinds & possible


def _covers(wide: DiskMatch, narrow: DiskMatch, kind: Kind) -> bool:
    """Whether every disk of this kind that `narrow` matches is matched by `wide`."""
    low, high = narrow.min_size_bytes or 0, narrow.max_size_bytes
    return (
        (not wide.kinds or kind in wide.kinds)
        and _includes(wide.name, narrow.name)
        and _includes(wide.model, narrow.model)
        and _includes(wide.serial, narrow.serial)
        and (wide.min_size_bytes or 0) <= low
        and (wide.max_size_bytes is None or (high is not None and high <= wide.max_size_bytes))
    )


def _includes(wide: str | None, narrow: str | None) -> bool:
    """Whether `wide` matches every text that `narrow` does; False where that is not plain."""
    if wide is None or wide == narrow or not wide.strip("*"):
        return True
    if narrow is None:
        return False
    begin, wild = _literal(narrow)
    if not wild:
        return fnmatchcase(narrow, wide)
    prefix, _ = _literal(wide)
    return wide == f"{prefix}*" and begin.startswith(prefix)


def _literal(pattern: str) -> tuple[str, bool]:
    """What a pattern begins with before its first wildcard, and whether it has one."""
    found = _WILD.search(pattern)
    return (pattern[: found.start()], True) if found else (pattern, False)
