"""Slow media: 160 MB from the host to a disk that takes 4 MB/s."""

from __future__ import annotations

import json
from typing import Any

from bench import kmsg
from bench.boards import GADGETD, PEER, PYTHON, TOOLS, booted, options
from bench.row import Judged, Kind, Row, Target
from bench.sheet import Sheet
from emulator import Drive
from emulator.options import MIB

FLUSH = Target(3.0, Judged.VALUE)
RESETS = Target(0, Judged.VALUE)
SIZE = 160_000_000
RATE = 4_000_000
"""Bytes a second."""
DISK = Drive(256 * MIB, write_bytes_per_s=RATE)
LIMIT_S = 400
WAIT_S = 120
TRIES = 3


def measure(sheet: Sheet) -> None:
    """Fill the disk of both sides; the peer's only when there is time for it."""
    ours = [_fill(sheet, GADGETD) for _ in range(TRIES if sheet.effort.whole else 1)]
    theirs = _fill(sheet, PEER) if sheet.effort.whole else None
    flushes = tuple(each["flush_s"] for each in ours if each["flush_s"] is not None)
    peers_flush: tuple[float, ...] = ()
    peer_says = ""
    if theirs and theirs["error"]:
        peer_says = _says(theirs)
    elif theirs:
        peers_flush = (theirs["flush_s"],)
    sheet.add(Row("slow media: flush after 160 MB at 4 MB/s", "s", flushes, peers_flush,
                  FLUSH, peer_says=peer_says))  # fmt: skip
    sheet.add(Row("slow media: the host's longest stall", "s",
                  tuple(each["stall_s"] for each in ours),
                  (theirs["stall_s"],) if theirs else ()))  # fmt: skip
    sheet.add(Row("slow media: USB resets and errors", "", tuple(each["trouble"] for each in ours),
                  (theirs["trouble"],) if theirs else (), RESETS))  # fmt: skip
    sheet.add(Row("slow media: the write alone", "s", tuple(each["write_s"] for each in ours),
                  kind=Kind.DETAIL))  # fmt: skip


def _fill(sheet: Sheet, side: str) -> dict[str, Any]:
    """Write to one side's disk; gives what board/disks.py says, and `trouble`."""
    sheet.say(f"160 MB at 4 MB/s to {side}'s disk")
    with booted(options(side, sd=None, nvme=(DISK,))) as board:
        (block,) = board.host.wait_for_blocks(1, WAIT_S)
        before = board.log()[-1].at_s
        command = f"{PYTHON} {TOOLS}/disks.py fill {SIZE} {block.device}"
        said: dict[str, Any] = json.loads(board.host.check(command, LIMIT_S))
        said["trouble"] = len(kmsg.every(kmsg.since(board.log(), before), kmsg.TROUBLE))
    sheet.say(_says(said))
    return said


def _says(found: dict[str, Any]) -> str:
    """What has become of the write, in words."""
    if found["error"]:
        return f"disk lost at {found['written'] / 1e6:.0f} MB ({found['error']})"
    return f"written in {found['write_s']:.0f} s, flushed in {found['flush_s']:.1f} s"
