"""Late NVMe: a disk that appears a second after gadgetd is there, or after another was exported."""

from __future__ import annotations

import time
from typing import NamedTuple

from bench import kmsg
from bench.boards import GADGETD, PEER, Booted, booted, options
from bench.row import Judged, Kind, Row, Target
from bench.sheet import Sheet
from emulator import Drive, EmulatorError
from emulator.options import MIB

AT_MOST = Target(0.4, Judged.VALUE)
AFTER_S = 1.0
LIMIT_S = 60
NEVER_S = 20
"""The peer's script has ended before: nothing is left that could look again."""
DISK = Drive(48 * MIB)
ALONE, BESIDE = "no other disk", "beside one that the host has just read"


class Arrival(NamedTuple):
    """Seconds from a disk's appearance until the host notices, and until it can be used."""

    found_s: float
    usable_s: float


def measure(sheet: Sheet) -> None:
    """Boot boards without a disk; plug one in, and a second later another."""
    count = sheet.effort.arrivals
    found: dict[str, list[Arrival]] = {ALONE: [], BESIDE: []}
    for boot in range(count):
        with booted(options(GADGETD, sd=None, nvme=(), spare_ports=2)) as board:
            board.uart.line.expect('"event":"phase"', LIMIT_S)
            for number, how in enumerate(found, start=1):
                found[how].append(_arrival(board, number))
                sheet.say(f"boot {boot + 1} of {count}, {how}: {found[how][-1].usable_s:.2f} s")
    peer_says = _of_peer(sheet) if sheet.effort.whole else ""
    for how, arrivals in found.items():
        sheet.add(
            Row(
                f"late NVMe, {how}: appears → the host finds it and begins to enumerate",
                "s",
                tuple(each.found_s for each in arrivals),
                # Beside another disk it waits until the host lets go of that, on purpose.
                target=AT_MOST if how == ALONE else None,
                peer_says=peer_says,
            )
        )
        usable = tuple(each.usable_s for each in arrivals)
        name = f"late NVMe, {how}: appears → usable on the host"
        sheet.add(Row(name, "s", usable, kind=Kind.DETAIL))


def _arrival(board: Booted, number: int) -> Arrival:
    """Have the `number`-th disk appear a second from now, and time what follows."""
    log = _plug(board, number)
    # When a LUN is added all disks are enumerated anew: the last of them is the late one.
    if not board.wait_for_attached(_attached(log) + number, LIMIT_S):
        raise EmulatorError(f"the late disk is not at the host after {LIMIT_S} s")
    since = kmsg.since(board.log(), log[-1].at_s)
    # The driver's last line before the disk is there: what is measured is a little too long.
    appeared = kmsg.first(since, kmsg.NVME_THERE)
    usable = kmsg.last(since, kmsg.ATTACHED, number)
    return Arrival(kmsg.first(since, kmsg.FOUND_BY_HOST) - appeared, usable - appeared)


def _plug(board: Booted, number: int) -> list[kmsg.Stamp]:
    """Plug a disk in, a second from now; gives the log up to then."""
    time.sleep(AFTER_S)  # That is what is measured: a disk that comes later by so much.
    log = board.log()
    board.machine.plug_nvme(f"late{number}", DISK)
    return log


def _attached(log: list[kmsg.Stamp]) -> int:
    return len(kmsg.every(log, kmsg.ATTACHED))


def _of_peer(sheet: Sheet) -> str:
    """Whether the peer ever exports such a disk."""
    with booted(options(PEER, nvme=(), spare_ports=1)) as board:
        if not board.wait_for_attached(1, LIMIT_S):
            return "exports nothing at all"
        log = _plug(board, 1)
        board.wait_until("[ -b /dev/nvme0n1 ]", LIMIT_S)
        sheet.say(f"the peer has {NEVER_S} s to export its late disk")
        came = board.wait_for_attached(_attached(log) + 1, NEVER_S)
        return "exports it" if came else "never"
