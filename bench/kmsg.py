"""The board's kernel log as a clock: what happened when, in seconds since the kernel started.

Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from emulator import EmulatorError

LINE = re.compile(r"\[\s*(\d+\.\d+)\] (.*)")

INIT = "bench: init"
"""Written just before the board's init is executed; see board/init."""
UDEV_BEGINS, UDEV_SETTLED, LED_DONE = "bench: udev", "bench: settled", "bench: led"
"""Written by the peer's init scripts."""
ATTACHED = r"Attached SCSI (?:removable )?disk"
"""The host is done with a disk: it has read its partition table."""
FOUND_BY_HOST = r"usb .*: new \S+-speed USB device"
NVME_THERE = r"nvme nvme\d+: \d+/\d+/\d+ default/read/poll queues"
DISK_THERE = rf"mmcblk\d+: mmc|{NVME_THERE}"
"""The last lines of the drivers of the board's own disks before these can be opened."""
TROUBLE = r"reset \S+-speed USB|I/O error|can't set config|USB disconnect|timed out|offlined"


class Stamp(NamedTuple):
    """A line of the kernel's log."""

    at_s: float
    text: str


class MissingLineError(EmulatorError):
    """The log has no such line: what it would tell has not happened."""


def parse(text: str) -> list[Stamp]:
    """The lines of dmesg; what is no line of the log is left out."""
    matches = (LINE.match(line) for line in text.splitlines())
    return [Stamp(float(match[1]), match[2]) for match in matches if match]


def every(stamps: Iterable[Stamp], pattern: str) -> list[Stamp]:
    """The lines that match."""
    return [stamp for stamp in stamps if re.search(pattern, stamp.text)]


def first(stamps: Iterable[Stamp], pattern: str) -> float:
    """When a line first matched. Raises MissingLineError."""
    for stamp in stamps:
        if re.search(pattern, stamp.text):
            return stamp.at_s
    raise MissingLineError(f"no line of the kernel's log is like {pattern}")


def last(stamps: Iterable[Stamp], pattern: str, count: int) -> float:
    """When the last of `count` lines matched. Raises MissingLineError if there are not as many."""
    found = every(stamps, pattern)
    if len(found) < count:
        raise MissingLineError(f"{len(found)} lines, not {count}, are like {pattern}")
    return found[count - 1].at_s


def since(stamps: Iterable[Stamp], at_s: float) -> list[Stamp]:
    """The lines after a moment."""
    return [stamp for stamp in stamps if stamp.at_s > at_s]
