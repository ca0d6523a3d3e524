"""Where the start's time goes: imports one by one, then the steps up to the bind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from bench.boards import NO_HOST, TOOLS, booted, options
from bench.sheet import Sheet
from bench.start import DISKS_THERE, READY

LINE = re.compile(r"import time: +(\d+) \| +(\d+) \| ( *)(\S+)")
SHARES: Mapping[str, str] = {
    "pyudev": "pyudev, with ctypes and what else it brings",
    "dataclasses": "dataclasses, with inspect",
    "typing": "typing",
    "pathlib": "pathlib, with re and urllib",
    "socket": "socket, selectors",
    "gadgetd": "gadgetd's own modules",
    "site": "Python itself, with site",
    "encodings": "Python itself, with site",
    "io": "Python itself, with site",
}
"""Whose time an import is, if that module asked for it first, directly or not."""
REST = "the rest of the standard library"
LIMIT_S = 120


class Import(NamedTuple):
    """A line of -X importtime: what a module took itself, and how deep it stands."""

    name: str
    self_ms: float
    depth: int


def imports(text: str) -> list[Import]:
    """The lines of -X importtime. A module comes after those that it imports."""
    matches = (LINE.match(line) for line in text.splitlines())
    return [Import(m[4], int(m[1]) / 1000, len(m[3]) // 2) for m in matches if m]


def shares(found: Iterable[Import]) -> dict[str, float]:
    """Milliseconds by SHARES: each module's own time goes to the nearest one that asked for it."""
    owners: list[tuple[int, str]] = []  # those that stand open above, outermost first
    sums: dict[str, float] = {}
    for module in reversed(list(found)):
        while owners and owners[-1][0] >= module.depth:
            owners.pop()
        top = module.name.partition(".")[0]
        owner = SHARES.get(top) or (owners[-1][1] if owners else "")
        if owner == SHARES["gadgetd"] and top != "gadgetd":
            owner = REST  # asked for by our own modules
        owners.append((module.depth, owner or REST))
        sums[owner or REST] = sums.get(owner or REST, 0.0) + module.self_ms
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def measure(sheet: Sheet) -> None:
    """Have Python time its imports, and the daemon its steps, on a board at rest."""
    count = sheet.effort.rounds
    with booted(options(None, udcs=0, hook=NO_HOST)) as board:
        board.wait_until(DISKS_THERE)
        board.wait_until(READY)
        by_share, by_step, modules = [], [], []
        for number in range(count):
            sheet.say(f"round {number + 1} of {count}")
            begin = f"rm -rf /run/gadgetd; python3 {TOOLS}/steps.py"
            said = board.host.check(begin.replace("python3", "python3 -X importtime"), LIMIT_S)
            modules.append(imports(said))
            by_share.append(shares(modules[-1]))
            said = board.host.check(begin, LIMIT_S)
            by_step.append(dict(json.loads(said.splitlines()[-1])))
    sheet.pictures["imports"] = _medians(by_share)
    sheet.pictures["steps"] = _medians(by_step)
    slowest = _medians([{m.name: m.self_ms for m in each} for each in modules])
    sheet.pictures["modules"] = sorted(slowest, key=lambda pair: -float(pair[1]))[:20]
    for name, milliseconds in sheet.pictures["imports"]:
        sheet.say(f"  {milliseconds:7.1f} ms  {name}")
    sheet.say("steps:")
    for name, milliseconds in sheet.pictures["steps"]:
        sheet.say(f"  {milliseconds:7.1f} ms  {name}")


def _medians(found: list[dict[str, float]]) -> list[tuple[str, float]]:
    """The median of each name's values, in the order of the first."""
    return [(name, round(median(each.get(name, 0.0) for each in found), 2)) for name in found[0]]
